"""Notifications and what they say, in tests: time that passes, runs that fail and succeed, messages that were sent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from phasesync.core.alert import SubjectKind
from phasesync.core.channels import parse_channel
from phasesync.core.model import SecretValue
from phasesync.core.notification import Notification, NotificationDraft, Rules
from phasesync.core.notification_message import Condition, Message
from phasesync.core.run import Outcome, RunError
from phasesync.core.sync import SyncStatus, Trigger
from phasesync.store import Store
from phasesync.store.alert_rows import open_alert
from phasesync.store.outbox import ClaimedMessage
from phasesync.store.tables import alerts, chores, messages, notices, syncs
from tests.support.stores import ACTOR, TTL, after, run_of

SIGNING_SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CANARY = "kanarienvogel7f3a9c"
"""Stands in every error and reason of a run here, as names of keys and remote objects do."""
GATHERED = timedelta(seconds=4)
"""Longer than messages are gathered."""


def draft(
    *on: Condition, url: str = "https://hooks.example.com/a", app: str | None = None, **rules: Any
) -> NotificationDraft:
    """A notification that reports everything by default."""
    channel = parse_channel(url, signing_secret=SecretValue(SIGNING_SECRET) if url.startswith("http") else None)
    return NotificationDraft(channel=channel, rules=Rules(on=on or tuple(Condition), **rules), app=app)


def notify(store: Store, name: str = "ops", *on: Condition, **changes: Any) -> Notification:
    """Add a notification."""
    return store.notifications.add(name, draft(*on, **changes))


def run_ends(
    store: Store, name: str, status: SyncStatus, error: str | None = None, held: str | None = None, **changes: Any
) -> None:
    """A run of a sync ends and leaves a status."""
    sync = store.syncs.get_sync(name)
    claim = store.claims.claim(sync.id, "daemon-1", trigger=Trigger.SCHEDULE, actor=ACTOR, ttl=TTL)
    if error is None and status in (SyncStatus.FAILING, SyncStatus.HALTED):
        error = "CredentialRejectedError"
    failed = None
    if error is not None:
        failed = RunError(cls=error, code=None, message=CANARY, request_id=None, hint=CANARY, held=held)
    outcome = Outcome.UNCHANGED if error is None else Outcome.FAILED
    store.runs.finish(
        claim, run_of(claim, outcome=outcome, error=failed), after(status=status, reason=CANARY, **changes)
    )


def time_passes(store: Store, by: timedelta) -> None:
    """Let time pass: everything that was stored is older by as much."""
    step = by // timedelta(microseconds=1)
    moved = {
        alerts: ("since", "ended_at", "news_at"),
        notices: ("next_at", "made_at"),
        messages: ("created_at", "next_at", "claim_until", "sent_at"),
        syncs: ("status_since", "behind_since", "woken_at"),
        chores: ("claimed_at",),
    }
    with store.database.write() as connection:
        for table, names in moved.items():
            earlier = {name: sa.type_coerce(table.c[name], sa.BigInteger) - step for name in names}
            connection.execute(table.update().values(**earlier))


def said(store: Store, after: timedelta = GATHERED) -> list[Message]:
    """Make the messages that are due after some time, send them, and return them in the order in which they go."""
    store.outbox.make()
    time_passes(store, after)
    store.outbox.make()
    return sent(store)


def sent(store: Store) -> list[Message]:
    """Send what waits; return the messages."""
    gone: list[Message] = []
    while claimed := claim(store):
        for one in claimed:
            assert one.message is not None
            gone.append(one.message)
            store.outbox.sent(one)
    return gone


def claim(store: Store, owner: str = "daemon-1", **changes: Any) -> list[ClaimedMessage]:
    """Claim what is to be sent."""
    return store.outbox.claim(owner, **{"ttl": TTL, "limit": 16, **changes})


def short(message: Message) -> str:
    """A message in a few words: step, condition and names."""
    names = ",".join(subject.name for subject in message.subjects)
    return f"{message.step} {message.condition} {names}"


def leave_a_message(store: Store) -> None:
    """Have a notification `ops` with a message that waits to be sent: about a sync that was removed since."""
    if not store.notifications.list_all():
        notify(store)
    with store.database.write() as connection:
        open_alert(connection, Condition.FAILING, SubjectKind.SYNC, "an-id", "gone")
    store.outbox.make()
    time_passes(store, GATHERED)
    assert store.outbox.make().messages >= 1
