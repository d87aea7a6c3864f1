"""
Messages of notifications: made from alerts, claimed, and sent once.

    alerts ──make──▶ messages ──claim──▶ a channel ──sent | failed──▶ messages

`make` is one transaction: how far each notification is with each alert, and the messages that follow, are stored
together or not at all. One process makes messages at a time. A message is claimed before it is sent; if its sender
dies, the claim expires and the message is sent again, under the same id. `core.notices` decides what is said, and when.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.alert import Alert, Ended, SubjectKind
from phasesync.core.notices import (
    GATHER_MORE,
    LOOK_AGAIN,
    Candidate,
    Group,
    Notice,
    Reported,
    holds_now,
    is_about,
    on_news,
    one_end_each,
    said,
    step_of,
    together,
)
from phasesync.core.notification import Notification, Rules
from phasesync.core.notification_message import Condition, Message, Step
from phasesync.core.notification_text import NAMES_SHOWN, Story, cause_of, compose
from phasesync.errors import CiphertextError
from phasesync.store.alert_facts import UNKNOWN, Known, load_facts, load_held
from phasesync.store.base import BaseStore, new_id
from phasesync.store.db_time import LONGEST_WAIT, after, before, from_microseconds, now
from phasesync.store.key_ring import CREDENTIALS_KEY, UNVERSIONED, KeyRing
from phasesync.store.notifications import Loaded, load_notifications
from phasesync.store.tables import alerts, messages, notices

_NEWS_AT_ONCE: Final = 1_000
"""Alerts looked at in one transaction: on SQLite other writes wait for it."""
_MESSAGES_AT_ONCE: Final = 200
"""Messages made in one transaction, for the same reason; the next round makes the others."""
_PART: Final = 500
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
            _take_news(connection, loaded, clock)
            count = self._make_due(connection, loaded, clock)
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
            due = _select_due(_PART if only is None else 1)
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
                    quiet[row.notification_id] = None if notification is None else _quiet_until(notification, clock)
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

    # --- messages that are due

    def _make_due(self, connection: sa.Connection, loaded: Loaded, clock: datetime) -> int:
        due = connection.execute(_select_notices().where(notices.c.next_at <= clock)).all()
        if not due:
            return 0
        by_notification = {row.notification_id for row in due}
        if unusable := by_notification - loaded.usable.keys():
            # Its update looks at everything anew. Until then there is nothing to do.
            late = notices.c.notification_id.in_(unusable) & (notices.c.next_at <= clock)
            connection.execute(notices.update().where(late).values(next_at=clock + LOOK_AGAIN))
        quiet = {
            notification.id: until
            for notification in loaded.usable.values()
            if notification.id in by_notification and (until := _quiet_until(notification, clock)) is not None
        }
        for notification_id, until in quiet.items():
            late = (notices.c.notification_id == notification_id) & (notices.c.next_at <= clock)
            connection.execute(notices.update().where(late).values(next_at=until))
        speaking = [key for key in by_notification if key in loaded.usable and key not in quiet]
        if not speaking:
            return 0
        rows = connection.execute(
            _select_notices().where(notices.c.notification_id.in_(speaking), notices.c.next_at.is_not(None))
        ).all()
        known = load_facts(connection, [_alert(row) for row in rows if row.next_at <= clock])
        candidates, over = _candidates(connection, rows, loaded, known)
        batches = together(candidates, clock, _reported(connection, speaking))
        postponed = [_next_values(one.group.notification_id, one.alert.id, at) for one, at in batches.later]
        if steps := [*postponed, *over]:
            connection.execute(_STORE_NEXT, steps)
        first = sorted(batches.now, key=lambda batch: min(one.notice.next_at or clock for one in batch))
        first = first[:_MESSAGES_AT_ONCE]
        self._store_batches(connection, first, loaded, known, clock)
        return len(first)

    def _store_batches(
        self,
        connection: sa.Connection,
        batches: Sequence[Sequence[Candidate]],
        loaded: Loaded,
        known: Mapping[str, Known],
        clock: datetime,
    ) -> None:
        """Store a message for each batch, and how far its notification is with the alerts in it."""
        if not batches:
            return
        named = [candidate.alert for batch in batches for candidate in batch[:NAMES_SHOWN]]
        known = {**load_facts(connection, [alert for alert in named if alert.subject_id not in known]), **known}
        held = load_held(
            connection,
            self._keys,
            {
                one.alert.subject_id
                for batch in batches
                for one in batch[:NAMES_SHOWN]
                if one.alert.condition is Condition.HELD and one.step is not Step.RECOVERED
            },
        )
        former = _unsent(connection, [candidate for batch in batches for candidate in batch])
        rows, steps = [], []
        for batch in batches:
            first = batch[0]
            group = first.group
            notification = loaded.usable[group.notification_id]
            message = compose(
                id=new_id(),
                notification=notification.name,
                step=first.step,
                condition=group.condition,
                cause=group.cause,
                stories=[_story(one.alert, known, held) for one in batch[:NAMES_SHOWN]],
                count=len(batch),
                now=clock,
            )
            waits_for = [former[key] for one in batch if (key := (group.notification_id, one.alert.id)) in former]
            context = _context(message.id, group.notification_id)
            rows.append(
                {
                    "id": message.id,
                    "notification_id": group.notification_id,
                    "step": message.step.value,
                    "condition": group.condition.value,
                    "payload": self._keys.encrypt_json(self._keys.data_key(CREDENTIALS_KEY), context, message),
                    "created_at": clock,
                    "next_at": clock,
                    "after_id": max(waits_for)[1] if waits_for else None,
                    "attempts": 0,
                }
            )
            for one in batch:
                next_one = said(one.rules, one.alert, one.notice, clock)
                steps.append(
                    {
                        "of_notification": group.notification_id,
                        "of_alert": one.alert.id,
                        "new_number": next_one.number,
                        "new_next_at": next_one.next_at,
                        "new_made_at": clock,
                        "new_message": message.id,
                        "new_cause": group.cause,
                    }
                )
        connection.execute(messages.insert(), rows)
        connection.execute(_STORE_SAID, steps)

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


def _take_news(connection: sa.Connection, loaded: Loaded, clock: datetime) -> None:
    """Note which notifications have something to say of the alerts that opened or ended."""
    rows = connection.execute(_SELECT_NEWS).all()
    if not rows:
        return
    news = [_alert(row) for row in rows]
    known = load_facts(connection, news)
    stored: dict[tuple[str, str], sa.Row[Any]] = {}
    for n in range(0, len(news), _PART):
        ids = [alert.id for alert in news[n : n + _PART]]
        for row in connection.execute(sa.select(notices).where(notices.c.alert_id.in_(ids))):
            stored[row.notification_id, row.alert_id] = row
    new: list[dict[str, Any]] = []
    changed: list[tuple[str, str, datetime | None]] = []
    dropped: list[tuple[str, str]] = []
    for alert in news:
        subject = known.get(alert.subject_id, UNKNOWN)
        for notification in loaded.usable.values():
            key = (notification.id, alert.id)
            former = stored.get(key)
            notice = None if former is None else _notice(former)
            rules = notification.rules or _SILENT
            if notification.app_id is not None and notification.app_id != subject.app_id and subject.app_id is not None:
                rules = _SILENT
            elif notice is None and notification.app_id is not None and subject.app_id is None:
                continue
            next_one = on_news(rules, alert, notice, clock)
            if next_one is None:
                dropped += [key] if former is not None else []
            elif former is None:
                cause = cause_of(alert.condition, subject.facts)
                new.append(
                    {
                        "notification_id": notification.id,
                        "alert_id": alert.id,
                        "number": 0,
                        "next_at": next_one.next_at,
                        "cause": None if cause is None else cause[:128],
                    }
                )
            elif next_one != notice:
                changed.append((*key, next_one.next_at))
    for n in range(0, len(dropped), _PART):
        pairs = sa.tuple_(notices.c.notification_id, notices.c.alert_id).in_(dropped[n : n + _PART])
        connection.execute(notices.delete().where(pairs))
    if new:
        connection.execute(notices.insert(), new)
    if changed:
        connection.execute(_STORE_NEXT, [_next_values(*change) for change in changed])
    # Of an alert that has ended since it was read, the news stays.
    seen = sa.tuple_(alerts.c.id, sa.type_coerce(alerts.c.news_at, sa.BigInteger))
    for n in range(0, len(rows), _PART):
        pairs_seen = [(row.id, row.news) for row in rows[n : n + _PART]]
        connection.execute(alerts.update().where(seen.in_(pairs_seen)).values(news_at=None))


_SILENT: Final = Rules(on=())


def _candidates(
    connection: sa.Connection, rows: Sequence[sa.Row[Any]], loaded: Loaded, known: Mapping[str, Known]
) -> tuple[list[Candidate], list[dict[str, Any]]]:
    """Return what may be said, and the parameters of `_STORE_NEXT` for that of which nothing is said any more."""
    reported, waiting = _reported_otherwise(connection, rows), _waiting(connection, rows)
    again = _reported_again(connection, rows)
    candidates: list[Candidate] = []
    over: list[dict[str, Any]] = []
    for row in rows:
        notification = loaded.usable[row.notification_id]
        rules, alert, notice = notification.rules or _SILENT, _alert(row), _notice(row)
        group = Group(notification_id=notification.id, condition=alert.condition, cause=row.cause)
        step = step_of(rules, alert, notice)
        if step is None or (notice.number == 0 and not is_about(rules, alert.condition)):
            over.append(_next_values(notification.id, alert.id, None))
            continue
        subject = known.get(alert.subject_id, UNKNOWN)
        waits = alert.ended_at is None and (
            not holds_now(alert.condition, subject.settled)
            or (step is Step.FIRST and (notification.id, alert.subject_id) in reported and _is_stale(alert))
            # Reminders do not pile up while a channel takes nothing.
            or (step is Step.STILL and row.message_id in waiting)
        )
        # The recovery follows once the subject has recovered from everything.
        waits = waits or (step is Step.RECOVERED and (notification.id, alert.subject_id) in again)
        candidates.append(Candidate(group=group, rules=rules, alert=alert, notice=notice, step=step, waits=waits))
    left, told_by_others = one_end_each(candidates)
    over += [_next_values(one.group.notification_id, one.alert.id, None) for one in told_by_others]
    return left, over


def _waiting(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> set[str]:
    """Return the ids of the newest messages about alerts that wait to be sent."""
    ids = sorted({row.message_id for row in rows if row.message_id is not None})
    found: set[str] = set()
    for n in range(0, len(ids), _PART):
        waits = sa.select(messages.c.id).where(messages.c.id.in_(ids[n : n + _PART]), messages.c.next_at.is_not(None))
        found |= set(connection.scalars(waits))
    return found


def _is_stale(alert: Alert) -> bool:
    return alert.condition is Condition.STALE


def _reported_otherwise(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> set[tuple[str, str]]:
    """Return notification and subject, of stale subjects, where something else that is wrong was reported."""
    subjects = sorted({row.subject_id for row in rows if row.condition == Condition.STALE and row.number == 0})
    return _reported_open(connection, subjects, alerts.c.condition != Condition.STALE.value)


def _reported_again(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> set[tuple[str, str]]:
    """Return notification and subject, of subjects with an end to tell, where something is wrong that was reported."""
    return _reported_open(connection, sorted({row.subject_id for row in rows if row.ended_at is not None}))


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
    again = _reported_open(connection, sorted({subject for pairs in about.values() for _, subject in pairs}))
    return {message_id for message_id, pairs in about.items() if pairs <= again}


def _reported_open(
    connection: sa.Connection, subjects: Sequence[str], *which: sa.ColumnElement[bool]
) -> set[tuple[str, str]]:
    """Return notification and subject where an open alert of the subject was reported."""
    pairs: set[tuple[str, str]] = set()
    for n in range(0, len(subjects), _PART):
        statement = (
            sa.select(notices.c.notification_id, alerts.c.subject_id)
            .join_from(alerts, notices, notices.c.alert_id == alerts.c.id)
            .where(
                alerts.c.subject_id.in_(subjects[n : n + _PART]),
                alerts.c.ended_at.is_(None),
                notices.c.number > 0,
                _READABLE,
                *which,
            )
        )
        pairs |= {(row.notification_id, row.subject_id) for row in connection.execute(statement)}
    return pairs


def _reported(connection: sa.Connection, speaking: Sequence[str]) -> dict[Any, Reported]:
    """Return group and step -> what was said lately."""
    is_first = alerts.c.ended_at.is_(None) | (alerts.c.ended_by == Ended.REPAIRED.value)
    step = sa.case(
        ((notices.c.number == 1) & is_first, Step.FIRST.value),
        (alerts.c.ended_at.is_not(None) & notices.c.next_at.is_(None), Step.RECOVERED.value),
    )
    group = (notices.c.notification_id, alerts.c.condition, notices.c.cause)
    statement = (
        sa.select(
            *group, step.label("step"), sa.func.count().label("said"), sa.func.max(notices.c.made_at).label("newest")
        )
        .join_from(notices, alerts, alerts.c.id == notices.c.alert_id)
        .where(notices.c.notification_id.in_(speaking), notices.c.made_at > before(GATHER_MORE))
        .group_by(*group, "step")
    )
    return {
        (
            Group(notification_id=row.notification_id, condition=Condition(row.condition), cause=row.cause),
            Step(row.step),
        ): Reported(count=row.said, newest_at=row.newest)
        for row in connection.execute(statement)
        if row.step is not None and row.condition in tuple(Condition)
    }


def _unsent(connection: sa.Connection, candidates: Sequence[Candidate]) -> dict[tuple[str, str], tuple[datetime, str]]:
    """Return notification and alert -> when the newest message about it was made, and its id, where it is not sent."""
    ids = [one.alert.id for one in candidates if one.notice.number > 0]
    found: dict[tuple[str, str], tuple[datetime, str]] = {}
    for n in range(0, len(ids), _PART):
        statement = (
            sa.select(notices.c.notification_id, notices.c.alert_id, messages.c.created_at, messages.c.id)
            .join_from(notices, messages, messages.c.id == notices.c.message_id)
            .where(notices.c.alert_id.in_(ids[n : n + _PART]), messages.c.sent_at.is_(None))
        )
        for row in connection.execute(statement):
            found[row.notification_id, row.alert_id] = (row.created_at, row.id)
    return found


def _story(alert: Alert, known: Mapping[str, Known], held: Mapping[str, str]) -> Story:
    facts = known.get(alert.subject_id, UNKNOWN).facts
    return Story(alert=alert, facts=replace(facts, held=held.get(alert.subject_id)))


def _next_values(notification_id: str, alert_id: str, next_at: datetime | None) -> dict[str, Any]:
    return {"of_notification": notification_id, "of_alert": alert_id, "new_next_at": next_at}


def _quiet_until(notification: Notification, at: datetime) -> datetime | None:
    if notification.rules is None or not notification.rules.quiet:
        return None
    from phasesync.core.quiet_hours import quiet_until

    return quiet_until(notification.rules.quiet, at)


def _alert(row: sa.Row[Any]) -> Alert:
    return Alert(
        id=row.id,
        condition=Condition(row.condition),
        subject_kind=SubjectKind(row.subject_kind),
        subject_id=row.subject_id,
        subject=row.subject,
        since=row.since,
        ended_at=row.ended_at,
        ended_by=None if row.ended_by is None else Ended(row.ended_by),
    )


def _notice(row: sa.Row[Any]) -> Notice:
    return Notice(number=row.number, next_at=row.next_at, made_at=row.made_at)


def open_message(row: sa.Row[Any], keys: KeyRing) -> Message:
    """Decrypt a row of messages. CiphertextError; TypeError if the column holds no bytes, which SQLite allows."""
    return keys.decrypt_json(Message, _context(row.id, row.notification_id), row.payload)


def _held(claimed: ClaimedMessage) -> sa.ColumnElement[bool]:
    return (messages.c.id == claimed.id) & (messages.c.claim_owner == claimed.owner)


def _context(message_id: str, notification_id: str) -> tuple[str, ...]:
    return ("messages", message_id, "payload", UNVERSIONED, notification_id)


_READABLE: Final = (
    alerts.c.condition.in_([condition.value for condition in Condition])
    & alerts.c.subject_kind.in_([kind.value for kind in SubjectKind])
    & (alerts.c.ended_by.is_(None) | alerts.c.ended_by.in_([ended.value for ended in Ended]))
)
"""Words that phasesync writes: a row with another one was altered, and is not looked at."""

_SELECT_NEWS: Final = (
    sa.select(alerts, sa.type_coerce(alerts.c.news_at, sa.BigInteger).label("news"))
    .where(alerts.c.news_at.is_not(None), _READABLE)
    .order_by(alerts.c.news_at)
    .limit(_NEWS_AT_ONCE)
)


@cache
def _select_notices() -> sa.Select[Any]:
    own = [column for column in notices.c if column.name != "alert_id"]
    return sa.select(*own, alerts).join_from(notices, alerts, alerts.c.id == notices.c.alert_id).where(_READABLE)


_of_notice: Final = (notices.c.notification_id == sa.bindparam("of_notification")) & (
    notices.c.alert_id == sa.bindparam("of_alert")
)
_STORE_NEXT: Final = notices.update().where(_of_notice).values(next_at=sa.bindparam("new_next_at"))
_STORE_SAID: Final = (
    notices.update()
    .where(_of_notice)
    .values(
        number=sa.bindparam("new_number"),
        next_at=sa.bindparam("new_next_at"),
        made_at=sa.bindparam("new_made_at"),
        message_id=sa.bindparam("new_message"),
        cause=sa.bindparam("new_cause"),
    )
)

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
    sa.exists().where(alerts.c.news_at.is_not(None), _READABLE)
    | sa.exists().where(notices.c.next_at <= now(), sa.exists().where(alerts.c.id == notices.c.alert_id, _READABLE))
    | sa.exists().where(_MAY_BE_SENT)
)
