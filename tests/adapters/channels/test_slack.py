"""The text that Slack gets, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from phasesync.adapters.channels import ChannelSenders
from phasesync.adapters.channels.mail import MailSettings
from phasesync.adapters.channels.slack import MAX_CHARACTERS, slack_text
from phasesync.core.channels import parse_channel
from phasesync.core.notification_message import Step
from phasesync.errors import ChannelRejectedError
from tests.support.aws_builders import HandClock
from tests.support.messages import CANARY, MESSAGE, NOW
from tests.support.receivers import HttpReceiver


def none(*_: object) -> Any:
    raise AssertionError("Slack needs no credential")


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as made:
        yield made


def send(receiver: HttpReceiver) -> None:
    """Send the message."""
    senders = ChannelSenders(clock=HandClock(NOW), clients=none, credential_of=none, mail=MailSettings)
    senders.send(parse_channel(f"slack://127.0.0.1:{receiver.port}/services/T0/B0/{CANARY}"), MESSAGE)


def test_slack_gets_the_title_in_bold_once_and_the_lines(receiver: HttpReceiver) -> None:
    """With no previews of links."""
    send(receiver)

    assert receiver.requests[0].path == f"/services/T0/B0/{CANARY}"
    assert receiver.requests[0].document == {
        "text": ":red_circle: *phasesync: shop-production is held*\n"
        "since 2026-11-29 08:00:00Z\nphasesync syncs approve shop-production",
        "unfurl_links": False,
        "unfurl_media": False,
    }


@pytest.mark.parametrize(
    ("step", "icon"),
    [(Step.STILL, "red"), (Step.RECOVERED, "large_green"), (Step.TEST, "white")],
)
def test_the_colour_says_whether_it_is_over(step: Step, icon: str) -> None:
    """A person sees it before reading."""
    assert slack_text(replace(MESSAGE, step=step)).startswith(f":{icon}_circle:")


def test_no_text_can_mention_anybody_or_be_a_link() -> None:
    """Slack's three control characters are escaped."""
    text = slack_text(replace(MESSAGE, title="<!channel> & *x*", text="<https://example.com|fine> a\r\x1b b"))

    assert text == ":red_circle: *&lt;!channel&gt; &amp; ∗x∗*\n&lt;https://example.com|fine&gt; a b"


@pytest.mark.parametrize("spare", range(8))
def test_a_long_text_is_cut_and_no_escape_with_it(spare: int) -> None:
    """Half an escape would be shown as it is."""
    text = slack_text(replace(MESSAGE, text="x" * spare + "&" * 9_000))

    assert len(text) <= MAX_CHARACTERS
    assert text.endswith("&amp;…")


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (404, "no_service", "copy its new URL"),
        (410, "channel_is_archived", "another one"),
        (403, "action_prohibited", "administrator"),
        (404, f"<html>{CANARY}", "copy the webhook URL from Slack again"),
    ],
)
def test_a_refusal_of_slack_says_what_to_do(receiver: HttpReceiver, status: int, body: str, hint: str) -> None:
    """By Slack's own word for it; any other body is not looked at."""
    receiver.status, receiver.body = status, body.encode()
    with pytest.raises(ChannelRejectedError) as caught:
        send(receiver)

    assert hint in str(caught.value.hint)
    assert CANARY not in f"{caught.value.message} {caught.value.hint}"
