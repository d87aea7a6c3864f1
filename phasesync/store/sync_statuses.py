"""
The status of syncs in SQL: counting by status, and finding the syncs of a status, without reading every sync.

`core.sync_status.status_of` decides for one sync that was read; the expression here is the same rule. Most syncs have
the status that their newest run left (`settled_status`). The others are few, and each kind of them is a range of an
index: paused, claimed, requested, behind an environment, on an incomplete credential. So a count costs one pass over a
narrow index, plus the others; a list of one status costs what it shows.

Rows are not authenticated here: a sync with an altered row counts with the status that the row has. Lists and runs find
the alteration.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.credential import CredentialStatus
from phasesync.core.sync import SyncStatus
from phasesync.core.sync_status import OVERTAKEN
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.run_requests import WAITS_FOR_WINDOW
from phasesync.store.sync_rows import has_newer_revision
from phasesync.store.tables import credentials, environments, sync_reads, syncs

_PAUSED: Final = syncs.c.paused_at.is_not(None) & (syncs.c.paused_until.is_(None) | (syncs.c.paused_until > now()))
_INCOMPLETE: Final = syncs.c.credential_id.in_(
    sa.select(credentials.c.id).where(credentials.c.status == CredentialStatus.INCOMPLETE)
)
_RUNNING: Final = syncs.c.claim_owner.is_not(None) & (syncs.c.claim_until >= now())
IS_BEHIND: Final = syncs.c.id.in_(
    sa.select(sync_reads.c.sync_id)
    # The empty text keeps SQLite from going through all that was read: it goes through the environments, of which there
    # are fewer, and what is behind each of them is a range of an index.
    .join_from(environments, sync_reads, sync_reads.c.environment_id == environments.c.id.concat(""))
    .where(sync_reads.c.revision < environments.c.revision)
)
"""The condition that an environment that a sync reads has a newer revision; for finding all such syncs at once."""

_STATUS: Final = sa.case(
    (_PAUSED, SyncStatus.PAUSED.value),
    (_INCOMPLETE, SyncStatus.INCOMPLETE.value),
    (_RUNNING, SyncStatus.RUNNING.value),
    (
        syncs.c.settled_status.in_(OVERTAKEN) & (syncs.c.requested.is_not(None) | has_newer_revision()),
        SyncStatus.PENDING.value,
    ),
    # A word that is no status can only be an alteration, which lists show as halted.
    (syncs.c.settled_status.in_(list(SyncStatus)), syncs.c.settled_status),
    else_=SyncStatus.HALTED.value,
)


def _number(instant: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.type_coerce(instant, sa.BigInteger())


_SINCE: Final = sa.case(
    *(
        (condition, _number(since))
        for condition, since in (
            (_PAUSED, syncs.c.paused_at),
            (_INCOMPLETE, syncs.c.status_since),
            (_RUNNING, syncs.c.claimed_at),
            (
                syncs.c.settled_status.in_(OVERTAKEN) & (syncs.c.requested.is_not(None) | has_newer_revision()),
                sa.func.coalesce(syncs.c.behind_since, syncs.c.woken_at, syncs.c.status_since),
            ),
        )
    ),
    else_=_number(syncs.c.status_since),
)
"""Since when a sync has its status."""
_LOOKED_AT: Final = 500
"""How many syncs of a status are looked at for the one that has had it for the longest time: those that have another
status since their runs, such as paused ones, are passed over."""

_REQUESTED: Final = syncs.c.urgency == 0
"""The same as `requested IS NOT NULL`, as the index has it."""
_SINCE_THE_RUN: Final[Mapping[SyncStatus, tuple[sa.ColumnElement[bool], ...]]] = {
    SyncStatus.PAUSED: (syncs.c.paused_at.is_not(None),),
    SyncStatus.INCOMPLETE: (_INCOMPLETE,),
    SyncStatus.RUNNING: (syncs.c.claim_until >= now(),),
    SyncStatus.PENDING: (_REQUESTED, IS_BEHIND),
}
"""Status -> conditions, each with an index, of which one holds for every sync that has the status since its run."""


def count_by_status(connection: sa.Connection) -> dict[SyncStatus, int]:
    """Return status -> number of syncs, without those that no sync has."""
    counts = dict.fromkeys(SyncStatus, 0)
    for word, count in connection.execute(_COUNT_SETTLED):
        counts[_to_status(word)] += count
    for word, status, count in connection.execute(_COUNT_CHANGED):
        counts[_to_status(word)] -= count
        counts[_to_status(status)] += count
    return {status: count for status, count in counts.items() if count > 0}


def count_with_longest(connection: sa.Connection) -> tuple[dict[SyncStatus, int], dict[SyncStatus, datetime]]:
    """
    Return status -> number of syncs, as `count_by_status` does, and status -> since when the sync has it that has had
    it for the longest time, where that is known.
    """
    counts = dict.fromkeys(SyncStatus, 0)
    longest: dict[SyncStatus, int] = {}

    def note(status: SyncStatus, since: object) -> None:
        if isinstance(since, int):  # SQLite may hold text in any column.
            longest[status] = min(since, longest.get(status, since))

    for word, count in connection.execute(_COUNT_SETTLED):
        counts[_to_status(word)] += count
    for word, status, count, since in connection.execute(_CHANGED_WITH_SINCE):
        counts[_to_status(word)] -= count
        counts[_to_status(status)] += count
        note(_to_status(status), since)
    for status, since in connection.execute(_LONGEST_SETTLED):
        note(_to_status(status), since)
    found = {status: count for status, count in counts.items() if count > 0}
    return found, {status: from_microseconds(since) for status, since in longest.items()}


def select_each(most: int) -> sa.Select[Any]:
    """Return the select of name, status, since and behind_since of up to `most` syncs; those in step come last."""
    in_step = sa.case((syncs.c.settled_status == SyncStatus.IN_SYNC.value, 1), else_=0)
    behind_since = _number(syncs.c.behind_since)
    return (
        sa.select(syncs.c.name, _STATUS.label("status"), _SINCE.label("since"), behind_since.label("behind_since"))
        .order_by(in_step, syncs.c.name_key)
        .limit(most)
    )


def is_deferred() -> sa.ColumnElement[bool]:
    """
    Return the condition that a person has deferred a sync: it is paused, its maintenance window is closed, or its
    credential is not complete yet.
    """
    return _PAUSED | _INCOMPLETE | (sa.func.coalesce(syncs.c.error_class, "") == WAITS_FOR_WINDOW)


def is_running() -> sa.ColumnElement[bool]:
    """Return the condition that a sync is claimed."""
    return _RUNNING


def has_status(wanted: Collection[SyncStatus]) -> sa.ColumnElement[bool]:
    """Return the condition that a sync has one of these statuses now; it is looked for through indexes."""
    since = [condition for status in wanted for condition in _SINCE_THE_RUN.get(status, ())]
    candidates: sa.ColumnElement[bool] = syncs.c.settled_status.in_(list(wanted))
    if since:
        candidates |= syncs.c.id.in_(_ids(since))
    return candidates & _STATUS.in_(list(wanted))


def _ids(conditions: Collection[sa.ColumnElement[bool]]) -> sa.CompoundSelect[Any]:
    return sa.union(*(sa.select(syncs.c.id).where(condition) for condition in conditions))


def _to_status(word: str) -> SyncStatus:
    return SyncStatus(word) if word in tuple(SyncStatus) else SyncStatus.HALTED


_COUNT_SETTLED: Final = sa.select(syncs.c.settled_status, sa.func.count()).group_by(syncs.c.settled_status)
_changed: Final = sa.select(syncs.c.settled_status, _STATUS.label("status"), _SINCE.label("since")).where(
    syncs.c.id.in_(_ids([condition for conditions in _SINCE_THE_RUN.values() for condition in conditions]))
)


def _first_of(status: SyncStatus) -> sa.Select[str, int]:
    """Return the select of a status, and since when the sync has it that its run left with it the longest time ago."""
    longest_ago = (
        sa.select(syncs.c.id)
        .where(syncs.c.settled_status == status.value, syncs.c.status_since.is_not(None))
        .order_by(syncs.c.status_since)
        .limit(_LOOKED_AT)
    )
    return sa.select(sa.literal(status.value, sa.String()), sa.func.min(_number(syncs.c.status_since))).where(
        syncs.c.id.in_(longest_ago), _STATUS.in_([status.value])
    )


_LONGEST_SETTLED: Final = sa.union_all(*map(_first_of, SyncStatus))
_rows = _changed.subquery("changed")
_COUNT_CHANGED: Final = sa.select(_rows.c.settled_status, _rows.c.status, sa.func.count()).group_by(
    _rows.c.settled_status, _rows.c.status
)
_CHANGED_WITH_SINCE: Final = _COUNT_CHANGED.add_columns(sa.func.min(_rows.c.since))
