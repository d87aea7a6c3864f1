"""
Makes messages of notifications from alerts, in a transaction of the caller.

How far each notification is with each alert (`notices`) and the messages that follow are stored together or not at all.
`core.notices` decides what is said, and when.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
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
from phasesync.core.notification_message import Condition, Step
from phasesync.core.notification_text import NAMES_SHOWN, Story, cause_of, compose
from phasesync.store.alert_facts import UNKNOWN, Known, load_facts, load_held
from phasesync.store.base import new_id
from phasesync.store.db_time import before
from phasesync.store.key_ring import CREDENTIALS_KEY, UNVERSIONED, KeyRing
from phasesync.store.notifications import Loaded
from phasesync.store.tables import alerts, messages, notices

_NEWS_AT_ONCE: Final = 1_000
"""Alerts looked at in one transaction: on SQLite other writes wait for it."""
_MESSAGES_AT_ONCE: Final = 200
"""Messages made in one transaction, for the same reason; the next round makes the others."""
PART: Final = 500
"""Ids in one statement."""


def make_messages(connection: sa.Connection, keys: KeyRing, loaded: Loaded, clock: datetime) -> int:
    """
    Make the messages that are due; return how many.

    Args:
        connection: of a transaction in which no other process makes messages.
        keys: encrypt what messages say.
        loaded: the notifications.
        clock: the database's time.
    """
    _take_news(connection, loaded, clock)
    return _make_due(connection, keys, loaded, clock)


def _make_due(connection: sa.Connection, keys: KeyRing, loaded: Loaded, clock: datetime) -> int:
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
        if notification.id in by_notification and (until := silent_until(notification, clock)) is not None
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
    _store_batches(connection, keys, first, loaded, known, clock)
    return len(first)


def _store_batches(
    connection: sa.Connection,
    keys: KeyRing,
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
        keys,
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
        context = message_context(message.id, group.notification_id)
        rows.append(
            {
                "id": message.id,
                "notification_id": group.notification_id,
                "step": message.step.value,
                "condition": group.condition.value,
                "payload": keys.encrypt_json(keys.data_key(CREDENTIALS_KEY), context, message),
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


def _take_news(connection: sa.Connection, loaded: Loaded, clock: datetime) -> None:
    """Note which notifications have something to say of the alerts that opened or ended."""
    rows = connection.execute(_SELECT_NEWS).all()
    if not rows:
        return
    news = [_alert(row) for row in rows]
    known = load_facts(connection, news)
    stored: dict[tuple[str, str], sa.Row[Any]] = {}
    for n in range(0, len(news), PART):
        ids = [alert.id for alert in news[n : n + PART]]
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
    for n in range(0, len(dropped), PART):
        pairs = sa.tuple_(notices.c.notification_id, notices.c.alert_id).in_(dropped[n : n + PART])
        connection.execute(notices.delete().where(pairs))
    if new:
        connection.execute(notices.insert(), new)
    if changed:
        connection.execute(_STORE_NEXT, [_next_values(*change) for change in changed])
    # Of an alert that has ended since it was read, the news stays.
    seen = sa.tuple_(alerts.c.id, sa.type_coerce(alerts.c.news_at, sa.BigInteger))
    for n in range(0, len(rows), PART):
        pairs_seen = [(row.id, row.news) for row in rows[n : n + PART]]
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
    for n in range(0, len(ids), PART):
        waits = sa.select(messages.c.id).where(messages.c.id.in_(ids[n : n + PART]), messages.c.next_at.is_not(None))
        found |= set(connection.scalars(waits))
    return found


def _is_stale(alert: Alert) -> bool:
    return alert.condition is Condition.STALE


def _reported_otherwise(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> set[tuple[str, str]]:
    """Return notification and subject, of stale subjects, where something else that is wrong was reported."""
    subjects = sorted({row.subject_id for row in rows if row.condition == Condition.STALE and row.number == 0})
    return reported_open(connection, subjects, alerts.c.condition != Condition.STALE.value)


def _reported_again(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> set[tuple[str, str]]:
    """Return notification and subject, of subjects with an end to tell, where something is wrong that was reported."""
    return reported_open(connection, sorted({row.subject_id for row in rows if row.ended_at is not None}))


def reported_open(
    connection: sa.Connection, subjects: Sequence[str], *which: sa.ColumnElement[bool]
) -> set[tuple[str, str]]:
    """Return notification and subject where an open alert of the subject was reported."""
    pairs: set[tuple[str, str]] = set()
    for n in range(0, len(subjects), PART):
        statement = (
            sa.select(notices.c.notification_id, alerts.c.subject_id)
            .join_from(alerts, notices, notices.c.alert_id == alerts.c.id)
            .where(
                alerts.c.subject_id.in_(subjects[n : n + PART]),
                alerts.c.ended_at.is_(None),
                notices.c.number > 0,
                READABLE,
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
    for n in range(0, len(ids), PART):
        statement = (
            sa.select(notices.c.notification_id, notices.c.alert_id, messages.c.created_at, messages.c.id)
            .join_from(notices, messages, messages.c.id == notices.c.message_id)
            .where(notices.c.alert_id.in_(ids[n : n + PART]), messages.c.sent_at.is_(None))
        )
        for row in connection.execute(statement):
            found[row.notification_id, row.alert_id] = (row.created_at, row.id)
    return found


def _story(alert: Alert, known: Mapping[str, Known], held: Mapping[str, str]) -> Story:
    facts = known.get(alert.subject_id, UNKNOWN).facts
    return Story(alert=alert, facts=replace(facts, held=held.get(alert.subject_id)))


def _next_values(notification_id: str, alert_id: str, next_at: datetime | None) -> dict[str, Any]:
    return {"of_notification": notification_id, "of_alert": alert_id, "new_next_at": next_at}


def silent_until(notification: Notification, at: datetime) -> datetime | None:
    """Return the end of the quiet hours of a notification; None outside of them."""
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


def message_context(message_id: str, notification_id: str) -> tuple[str, ...]:
    """Return the context of the ciphertext of a message."""
    return ("messages", message_id, "payload", UNVERSIONED, notification_id)


READABLE: Final = (
    alerts.c.condition.in_([condition.value for condition in Condition])
    & alerts.c.subject_kind.in_([kind.value for kind in SubjectKind])
    & (alerts.c.ended_by.is_(None) | alerts.c.ended_by.in_([ended.value for ended in Ended]))
)
"""Words that phasesync writes: a row with another one was altered, and is not looked at."""

_SELECT_NEWS: Final = (
    sa.select(alerts, sa.type_coerce(alerts.c.news_at, sa.BigInteger).label("news"))
    .where(alerts.c.news_at.is_not(None), READABLE)
    .order_by(alerts.c.news_at)
    .limit(_NEWS_AT_ONCE)
)


@cache
def _select_notices() -> sa.Select[Any]:
    own = [column for column in notices.c if column.name != "alert_id"]
    return sa.select(*own, alerts).join_from(notices, alerts, alerts.c.id == notices.c.alert_id).where(READABLE)


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
