"""Two daemons on one PostgreSQL, a webhook that hangs, and kill -9: nothing is lost, and a repetition has its id."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from phasesync.core.model import SecretValue
from phasesync.core.webhook_signature import signature_headers
from phasesync.engine.notification_admin import NotificationChanges
from tests.support.aws import Aws
from tests.support.installation import Installation
from tests.support.receivers import HttpReceiver
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True),
]


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as started:
        yield started


def add_notification(installation: Installation, receiver: HttpReceiver) -> SecretValue:
    """Add one for everything; return the secret that signs its messages."""
    to = SecretValue(f"http://127.0.0.1:{receiver.port}/hook")
    with installation.application() as application:
        added = application.notification_operations.add("ops", NotificationChanges(to=to))
    assert added.new_secret is not None
    return added.new_secret


def test_a_message_leaves_within_ten_seconds_once_over_all_daemons_and_survives_a_killed_sender(
    installation: Installation, aws: Aws, receiver: HttpReceiver
) -> None:
    secret = add_notification(installation, receiver)
    aws.server.outside.call("CreateSecret", Name="shop/web", SecretString="another's")
    receiver.answers.clear()
    daemons = [installation.start_daemon() for _ in range(2)]
    began = time.monotonic()
    installation.add_syncs("web", "api")

    wait_until(lambda: receiver.requests, what="the message of the sync that is refused")
    assert time.monotonic() - began < 10
    wait_until(lambda: installation.sync("api").last_run_id, what="the other sync runs while the channel hangs")

    with installation.database() as connection:
        owner = connection.scalar(sa.text("SELECT claim_owner FROM messages WHERE next_at IS NOT NULL"))
    sender = next(daemon for daemon in daemons if f"-{daemon.pid}-" in str(owner))
    sender.kill()
    receiver.answers.set()
    installation.let_time_pass_for(sender)
    with installation.database() as connection:
        connection.execute(sa.text("UPDATE messages SET claim_until = 1"))
    wait_until(lambda: len(receiver.requests) == 2, what="the other daemon sends it again")
    first, again = receiver.requests
    assert first.document["data"] == again.document["data"]
    assert (first.document["data"]["step"], first.document["data"]["condition"]) == ("first", "halted")
    at = datetime.fromtimestamp(int(again.headers["webhook-timestamp"]), UTC)
    signed = signature_headers(secret, id=first.document["data"]["id"], at=at, body=again.body)
    assert signed.items() <= dict(again.headers).items()

    installation.done("syncs", "adopt", "web", "--yes")
    wait_until(lambda: len(receiver.requests) == 3, what="that it is in step again")
    recovered = receiver.requests[2].document["data"]
    assert (recovered["step"], [subject["name"] for subject in recovered["subjects"]]) == ("recovered", ["web"])
    state = installation.json("notifications", "show", "ops")
    assert (state["pending"], state["last_error"]) == (0, None)
