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
from itertools import chain
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.credential import CredentialStatus
from phasesync.core.sync import SyncStatus
from phasesync.core.sync_status import OVERTAKEN
from phasesync.store.db_time import from_microseconds, now
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

_SINCE: Final = sa.case(
    *(
        (condition, sa.type_coerce(since, sa.BigInteger()))
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
    else_=sa.type_coerce(syncs.c.status_since, sa.BigInteger()),
)
"""Since when a sync has its status."""

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


def longest_by_status(connection: sa.Connection) -> dict[SyncStatus, datetime]:
    """Return status -> since when the sync has it that has had it for the longest time, where that is known."""
    instants: dict[SyncStatus, int] = {}
    settled = ((word, since) for word, since in connection.execute(_LONGEST_SETTLED))
    changed = ((word, since) for word, since in connection.execute(_LONGEST_CHANGED))
    for word, since in chain(settled, changed):
        if isinstance(since, int):  # SQLite may hold text in any column.
            status = _to_status(word)
            instants[status] = min(since, instants.get(status, since))
    return {status: from_microseconds(since) for status, since in instants.items()}


def select_each(most: int) -> sa.Select[Any]:
    """Return the select of name, status, since and behind_since of up to `most` syncs; those in step come last."""
    in_step = sa.case((syncs.c.settled_status == SyncStatus.IN_SYNC.value, 1), else_=0)
    behind_since = sa.type_coerce(syncs.c.behind_since, sa.BigInteger())
    return (
        sa.select(syncs.c.name, _STATUS.label("status"), _SINCE.label("since"), behind_since.label("behind_since"))
        .order_by(in_step, syncs.c.name_key)
        .limit(most)
    )


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
_changed: Final = sa.select(syncs.c.settled_status, _STATUS.label("status")).where(
    syncs.c.id.in_(_ids([condition for conditions in _SINCE_THE_RUN.values() for condition in conditions]))
)
_LONGEST_CHANGED: Final = (
    sa.select(_STATUS.label("status"), sa.func.min(_SINCE))
    .where(syncs.c.id.in_(_ids([condition for conditions in _SINCE_THE_RUN.values() for condition in conditions])))
    .group_by("status")
)


def _first_of(status: SyncStatus) -> sa.Select[Any]:
    """Return the select of a status, and since when the sync has it that its run left with it the longest time ago."""
    first = (
        sa.select(sa.type_coerce(syncs.c.status_since, sa.BigInteger()).label("since"))
        .where(syncs.c.settled_status == status.value, syncs.c.status_since.is_not(None), _STATUS.in_([status.value]))
        .order_by(syncs.c.status_since)
        .limit(1)
        .subquery()
    )
    return sa.select(sa.literal(status.value, sa.String()), first.c.since)


_LONGEST_SETTLED: Final = sa.union_all(*map(_first_of, SyncStatus))
_COUNT_CHANGED: Final = sa.select(_changed.subquery("changed"), sa.func.count()).group_by("settled_status", "status")
