"""
Sends a message to an incoming webhook of Slack, or of a server that speaks the same (Mattermost, Rocket.Chat).

Sources: Slack's documents "Sending messages using incoming webhooks" and "Formatting message text".
"""

import json
import re
from typing import Final

from phasesync.adapters.channels.http import Answer, check, post
from phasesync.core.channels import Slack
from phasesync.core.notification_message import Message, Step

MAX_CHARACTERS: Final = 4_000
"""Slack recommends no more, and cuts off what is beyond 40,000."""

_ICONS: Final = {Step.RECOVERED: ":large_green_circle:", Step.TEST: ":white_circle:"}
_PROBLEM_ICON: Final = ":red_circle:"
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
"""The three control characters of Slack: unescaped, a name could mention everybody or be a link to elsewhere."""
_WORD: Final = re.compile(rb"[a-z_]{1,40}")
_FIXES_BY_WORD: Final = {
    "action_prohibited": "an administrator of the workspace has forbidden the webhook",
    "channel_is_archived": "the Slack channel is archived: make a webhook for another one",
    "channel_not_found": "the Slack channel is gone: make a webhook for another one",
    "invalid_token": "the webhook was removed or renewed in Slack: copy its new URL",
    "no_active_hooks": "the webhook is switched off in Slack",
    "no_service": "the webhook was removed or renewed in Slack: copy its new URL",
    "no_service_id": "copy the whole webhook URL from Slack",
    "no_team": "copy the whole webhook URL from Slack",
    "posting_to_general_channel_denied": "an administrator has restricted that Slack channel: use another one",
    "team_disabled": "the Slack workspace is disabled",
    "user_not_found": "who made the webhook has left Slack: make a new one",
}
"""What Slack answers in the body of a refusal -> what a person can do. No other body is looked at."""


def send_to_slack(channel: Slack, message: Message) -> None:
    """Send a message. ChannelUnavailableError, ChannelRejectedError."""
    body = json.dumps({"text": slack_text(message), "unfurl_links": False, "unfurl_media": False}).encode()
    to = f"the Slack webhook {channel.shown}"
    answer = post(channel.http_url, body, {"content-type": "application/json"}, to=to)
    check(answer, to=to, fixes=_fixes(answer))


def slack_text(message: Message) -> str:
    """Return the text of a message in Slack's markup: its title in bold, and its lines, cut to Slack's length."""
    icon = _ICONS.get(message.step, _PROBLEM_ICON)
    title = _escaped(" ".join(message.title.split())).replace("*", "∗")
    lines = _escaped(message.text.removeprefix(message.title).strip("\n"))
    return _cut(f"{icon} *{title}*\n{lines}".rstrip())


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text if character == "\n" or character >= " ")


def _cut(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    # An escape that is cut in half would be shown as it is.
    return re.sub(r"&[a-z]*$", "", text[: MAX_CHARACTERS - 1]) + "…"


def _fixes(answer: Answer) -> dict[int, str]:
    match = _WORD.fullmatch(answer.start.strip())
    fix = _FIXES_BY_WORD.get(match[0].decode()) if match else None
    return {answer.status: fix} if fix else {404: "copy the webhook URL from Slack again"}
