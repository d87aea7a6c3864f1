"""
Messages of notifications: made from alerts, claimed, and sent once.

    alerts ──make──▶ messages ──claim──▶ a channel ──sent | failed──▶ messages

`make` is one transaction: how far each notification is with each alert, and the messages that follow, are stored
together or not at all. One process makes messages at a time. A message is claimed before it is sent; if its sender
dies, the claim expires and the message is sent again, under the same id. `core.notices` decides what is said, and when.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.notification import Notification
from phasesync.core.notification_message import Message, Step
from phasesync.errors import CiphertextError
from phasesync.store.base import BaseStore
from phasesync.store.db_time import LONGEST_WAIT, after, before, from_microseconds, now
from phasesync.store.key_ring import KeyRing
from phasesync.store.message_making import PART, READABLE, make_messages, message_context, reported_open, silent_until
from phasesync.store.notifications import Loaded, load_notifications
from phasesync.store.tables import alerts, messages, notices

_MAKING: Final = 0x70_68_61_73_65_6D_73_67
"""Advisory lock of PostgreSQL ("phasemsg"): one process makes messages at a time."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """
    What one round made.

    Attributes:
        messages: how many messages.
        refused: notifications that are used for nothing, one line each.
    """

    messages: int = 0
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ClaimedMessage:
    """
    A message that this process sends now.

    Attributes:
        notification: where it goes; None if it or the message does not authenticate.
        message: None likewise.
        attempts: how often it was tried before.
        created_at: when it was made.
        at: the time of the claim, by the database's clock.
        owner: who holds the claim.
    """

    id: str
    notification_id: str
    notification: Notification | None
    message: Message | None
    attempts: int
    created_at: datetime
    at: datetime
    owner: str


class OutboxStore(BaseStore):
    """Messages of notifications."""

    def has_work(self) -> bool:
        """Return whether there is anything to make or to send now: one statement, three ends of indexes."""
        with self._database.read_once() as connection:
            return bool(connection.scalar(_HAS_WORK))

    def make(self) -> Made:
        """Make the messages that are due, from what happened and from the time."""
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql" and not connection.scalar(_TRY_LOCK):
                return Made()
            clock = from_microseconds(connection.scalar(sa.select(now())) or 0)
            loaded = load_notifications(connection, self._keys)
            count = make_messages(connection, self._keys, loaded, clock)
        return Made(messages=count, refused=loaded.refused)

    def claim(
        self, owner: str, *, ttl: timedelta, limit: int, busy: Collection[str] = (), only: str | None = None
    ) -> list[ClaimedMessage]:
        """
        Claim messages that are due: at most one of each notification, the longest due first.

        In quiet hours of its notification a message is postponed to their end. One whose predecessor was given up is
        given up too: there is no recovery without a failure that was reported. So is a recovery that waited until
        something else that is wrong was reported: the next recovery counts for both.

        Args:
            owner: claims them.
            ttl: life of the claims: longer than it takes to send one.
            limit: how many at most.
            busy: ids of notifications for which this process is sending already.
            only: id of the notification whose message is claimed; None: of all.
        """
        if limit < 1:
            return []
        with self._database.write() as connection:
            connection.execute(_GIVE_UP_ORPHANS)
            due = _select_due(PART if only is None else 1)
            if only is not None:
                due = due.where(messages.c.notification_id == only)
            if busy:
                due = due.where(messages.c.notification_id.not_in(list(busy)))
            rows = connection.execute(due).all()
            if not rows:
                return []
            clock = from_microseconds(connection.scalar(sa.select(now())) or 0)
            loaded = load_notifications(connection, self._keys)
            first: dict[str, sa.Row[Any]] = {}
            quiet: dict[str, datetime | None] = {}
            for row in rows:
                notification = loaded.usable.get(row.notification_id)
                if row.notification_id not in quiet:
                    quiet[row.notification_id] = None if notification is None else silent_until(notification, clock)
                if quiet[row.notification_id] is None and len(first) < limit:
                    first.setdefault(row.notification_id, row)
            for notification_id, until in quiet.items():
                if until is not None:
                    late = (messages.c.notification_id == notification_id) & (messages.c.next_at <= clock)
                    connection.execute(messages.update().where(late).values(next_at=until))
            ends = [row.id for row in first.values() if row.step == Step.RECOVERED.value]
            if ends and (overtaken := _overtaken(connection, ends)):
                connection.execute(messages.update().where(messages.c.id.in_(overtaken)).values(next_at=None))
                first = {key: row for key, row in first.items() if row.id not in overtaken}
            ids = [row.id for row in first.values()]
            if ids:
                connection.execute(
                    messages.update().where(messages.c.id.in_(ids)).values(claim_owner=owner, claim_until=after(ttl))
                )
            return [self._claimed(row, loaded, owner, clock) for row in first.values()]

    def sent(self, claimed: ClaimedMessage) -> None:
        """Store that a message was sent."""
        self._end_attempt(claimed, sent_at=now(), next_at=None, error_class=None, error_code=None)

    def failed(
        self, claimed: ClaimedMessage, *, error: str, code: str | None = None, retry_in: timedelta | None
    ) -> None:
        """
        Store that a message could not be sent.

        Args:
            claimed: the message.
            error: class of the error.
            code: what the receiver answered, as a code; None if that is not known.
            retry_in: until the next attempt; None: it is given up.
        """
        next_at = None if retry_in is None else after(retry_in)
        self._end_attempt(claimed, next_at=next_at, error_class=error, error_code=code)

    def release(self, claimed: ClaimedMessage) -> None:
        """Release a claim; the message stays as due as it was."""
        with self._database.write() as connection:
            connection.execute(messages.update().where(_held(claimed)).values(claim_owner=None, claim_until=None))

    def prune(self, *, older_than: timedelta, limit: int) -> int:
        """Delete messages that were sent or given up, and alerts that ended, longer ago than this; return how many."""
        old = sa.select(messages.c.id).where(messages.c.created_at < before(older_than), messages.c.next_at.is_(None))
        ended = sa.select(alerts.c.id).where(alerts.c.ended_at < before(older_than), alerts.c.news_at.is_(None))
        with self._database.write() as connection:
            count = 0
            for table, which in ((messages, old), (alerts, ended)):
                ids = which.limit(limit).with_for_update(skip_locked=True, of=table)
                count += connection.execute(table.delete().where(table.c.id.in_(ids))).rowcount
        return count

    # --- rows

    def _claimed(self, row: sa.Row[Any], loaded: Loaded, owner: str, clock: datetime) -> ClaimedMessage:
        notification = loaded.usable.get(row.notification_id)
        message = None
        if notification is not None:
            try:
                message = open_message(row, self._keys)
            except (CiphertextError, TypeError):  # SQLite stores a value of any type in any column.
                notification = None
        return ClaimedMessage(
            id=row.id,
            notification_id=row.notification_id,
            notification=notification,
            message=message,
            attempts=row.attempts,
            created_at=row.created_at,
            at=clock,
            owner=owner,
        )

    def _end_attempt(self, claimed: ClaimedMessage, **values: Any) -> None:
        """Store the end of an attempt; one whose claim was lost meanwhile is another process's to store."""
        with self._database.write() as connection:
            connection.execute(
                messages.update()
                .where(_held(claimed))
                .values(**values, attempts=messages.c.attempts + 1, claim_owner=None, claim_until=None)
            )


def _overtaken(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Return which of some recoveries are only about subjects of which something else that is wrong was reported."""
    about: dict[str, set[tuple[str, str]]] = {}
    statement = (
        sa.select(notices.c.message_id, notices.c.notification_id, alerts.c.subject_id)
        .join_from(notices, alerts, alerts.c.id == notices.c.alert_id)
        .where(notices.c.message_id.in_(ids))
    )
    for row in connection.execute(statement):
        about.setdefault(row.message_id, set()).add((row.notification_id, row.subject_id))
    again = reported_open(connection, sorted({subject for pairs in about.values() for _, subject in pairs}))
    return {message_id for message_id, pairs in about.items() if pairs <= again}


def open_message(row: sa.Row[Any], keys: KeyRing) -> Message:
    """Decrypt a row of messages. CiphertextError; TypeError if the column holds no bytes, which SQLite allows."""
    return keys.decrypt_json(Message, message_context(row.id, row.notification_id), row.payload)


def _held(claimed: ClaimedMessage) -> sa.ColumnElement[bool]:
    return (messages.c.id == claimed.id) & (messages.c.claim_owner == claimed.owner)


_other: Final = messages.alias("predecessor")
_is_free: Final = (
    messages.c.claim_owner.is_(None)
    | messages.c.claim_until.is_(None)
    | (messages.c.claim_until < now())
    | (messages.c.claim_until > after(LONGEST_WAIT))
)

_MAY_BE_SENT: Final = (
    (messages.c.next_at <= now())
    & _is_free
    & ~sa.exists().where(_other.c.id == messages.c.after_id, _other.c.next_at.is_not(None))
)


@cache
def _select_due(limit: int) -> sa.Select[Any]:
    return (
        sa.select(messages)
        .where(_MAY_BE_SENT)
        .order_by(messages.c.next_at, messages.c.created_at, messages.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=messages)
    )


_GIVE_UP_ORPHANS: Final = (
    messages.update()
    .where(
        messages.c.next_at <= now(),
        messages.c.step == Step.RECOVERED.value,
        messages.c.after_id.in_(sa.select(_other.c.id).where(_other.c.next_at.is_(None), _other.c.sent_at.is_(None))),
    )
    .values(next_at=None)
)
_TRY_LOCK: Final = sa.select(sa.func.pg_try_advisory_xact_lock(sa.literal(_MAKING, sa.BigInteger())))
_HAS_WORK: Final = sa.select(
    sa.exists().where(alerts.c.news_at.is_not(None), READABLE)
    | sa.exists().where(notices.c.next_at <= now(), sa.exists().where(alerts.c.id == notices.c.alert_id, READABLE))
    | sa.exists().where(_MAY_BE_SENT)
)
