"""
The figures of metrics: a handful of statements, each of which reads a range of an index.

Their cost does not depend on the number of syncs, except for the count by status, which passes over a narrow index.
Rows are not authenticated here: an altered row counts as it is.
"""

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.chores import DaemonRole
from phasesync.core.lease import ENDED, LeaseStatus
from phasesync.core.planning.version_budget import writes_left_of
from phasesync.core.sync import SyncStatus
from phasesync.errors import CiphertextError
from phasesync.store.alerts import AlertCounts, AlertStore
from phasesync.store.backup_schedules import select_schedules, to_schedule
from phasesync.store.base import BaseStore
from phasesync.store.daemons import is_alive
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.key_ring import KeyRing
from phasesync.store.restore_mark import is_restored, select_mark
from phasesync.store.run_requests import WAITS_FOR_BUDGET
from phasesync.store.sync_statuses import count_with_longest, is_deferred, is_running, select_each
from phasesync.store.tables import LEASE_IS_LIVE, daemons, dynamic_secrets, leases, syncs

MOST_SYNCS: Final = 2_000
"""How many syncs are named one by one: those that are not in step come first."""

UNREADABLE: Final = "unreadable"
"""Stands for a word in the column of a status that is no status: the row was altered."""


@dataclass(frozen=True, kw_only=True)
class SyncFigures:
    """
    One sync.

    Attributes:
        since: since when it has its status; None if that is not known.
        behind_since: when the oldest edit was committed that is not applied; None if there is none.
    """

    name: str
    status: SyncStatus
    since: datetime | None
    behind_since: datetime | None


@dataclass(frozen=True, kw_only=True)
class BackupFigures:
    """
    Scheduled backups.

    Attributes:
        schedules: how many there are; altered ones count.
        failing: of these, how many failed at their newest attempt, or were altered.
        age: time since the newest backup of the schedule that is furthest behind; 0 without a schedule.
        overdue: for how long a backup has been missing, beyond two of its intervals; 0 if none is.
    """

    schedules: int = 0
    failing: int = 0
    age: timedelta = timedelta(0)
    overdue: timedelta = timedelta(0)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """
    What the database says about the whole installation, all but the alerts of one moment.

    Attributes:
        at: the database's time.
        host_ahead: how far this host's clock is ahead of the database's; below 0: behind it.
        syncs: status -> number of syncs, 0 included.
        longest: status -> since when the sync has it that has had it for the longest time; only where known.
        behind: how many syncs have an edit that is not applied, without those that are deferred: they are paused, wait
            for their maintenance window, or have a credential that is not complete yet.
        behind_since: when the oldest of those edits was committed; None if there is none.
        versions_left: of the version budget of the object that has the least.
        waiting_for_budget: how many syncs have changes that wait for the version budget.
        leases: status -> number of live leases.
        overdue: how many leases are past their end, and their keys still work.
        overdue_since: the earliest of those ends; None if there is none.
        claims: how many syncs are claimed.
        daemons: role -> number of live daemons.
        restored: this database counts as older than AWS.
        alerts: what is wrong, and the messages that wait.
        backups: how scheduled backups go.
        each: syncs one by one, if asked for.
        left_out: how many syncs are not in `each` because they are too many.
    """

    at: datetime
    host_ahead: timedelta
    syncs: Mapping[SyncStatus, int]
    longest: Mapping[SyncStatus, datetime]
    behind: int
    behind_since: datetime | None
    versions_left: int
    waiting_for_budget: int
    leases: Mapping[str, int]
    overdue: int
    overdue_since: datetime | None
    claims: int
    daemons: Mapping[DaemonRole, int]
    restored: bool
    alerts: AlertCounts
    backups: BackupFigures = BackupFigures()
    each: tuple[SyncFigures, ...] = ()
    left_out: int = 0

    def age(self, since: datetime | None) -> timedelta:
        """Return the time since an instant; 0 if there is none."""
        return timedelta(0) if since is None else max(self.at - since, timedelta(0))


class FigureStore(BaseStore):
    """Figures of the whole installation."""

    def read(self, *, revocable: Collection[str], each: bool = False) -> Figures:
        """
        Return the figures.

        Args:
            revocable: the issuers whose keys work until they are revoked. Other leases end by themselves.
            each: also of the syncs one by one.
        """
        counted = AlertStore(self._database, self._keys).counts()
        with self._database.read() as connection:
            before = time.time()
            at = from_microseconds(connection.scalar(_CLOCK) or 0)
            host_at = (before + time.time()) / 2
            overall = connection.execute(_OVERALL).one()
            restored = is_restored(connection.execute(select_mark()).one(), self._keys)
            overdue = connection.execute(_overdue(restored), {"revocable": list(revocable)}).one()
            rows = connection.execute(select_each(MOST_SYNCS)).all() if each else []
            counts, longest = count_with_longest(connection)
            return Figures(
                at=at,
                host_ahead=timedelta(seconds=host_at - at.timestamp()),
                syncs={status: counts.get(status, 0) for status in SyncStatus},
                longest=longest,
                behind=overall.behind,
                behind_since=_instant(overall.behind_since),
                versions_left=writes_left_of(_instant(overall.budget_full_at) or at, at),
                waiting_for_budget=overall.waiting_for_budget,
                leases=_count_leases(connection),
                overdue=overdue.number,
                overdue_since=_instant(overdue.since),
                claims=overall.claims,
                daemons=_count_daemons(connection),
                restored=restored,
                alerts=counted,
                backups=_read_backups(connection, self._keys, at),
                each=tuple(_to_sync(row) for row in rows),
                left_out=max(0, sum(counts.values()) - len(rows)) if each else 0,
            )


def _read_backups(connection: sa.Connection, keys: KeyRing, at: datetime) -> BackupFigures:
    rows = connection.execute(select_schedules()).all()
    usable = []
    for row in rows:
        with suppress(CiphertextError):  # `db status` and the daemon's log name it.
            usable.append(to_schedule(row, keys))
    zero = timedelta(0)
    return BackupFigures(
        schedules=len(rows),
        failing=len(rows) - len(usable) + sum(one.error_class is not None for one in usable),
        age=max((max(at - (one.succeeded_at or one.created_at), zero) for one in usable), default=zero),
        overdue=max((one.overdue_at(at) for one in usable), default=zero),
    )


def _count_leases(connection: sa.Connection) -> dict[str, int]:
    counts = {status.value: 0 for status in LeaseStatus if status not in ENDED}
    for word, count in connection.execute(_LEASES):
        known = word if word in counts else UNREADABLE
        counts[known] = counts.get(known, 0) + count
    return counts


def _count_daemons(connection: sa.Connection) -> dict[DaemonRole, int]:
    counts = dict.fromkeys(DaemonRole, 0)
    for word, count in connection.execute(_DAEMONS):
        counts[DaemonRole.ACTIVE if word == DaemonRole.ACTIVE else DaemonRole.STANDBY] += count
    return counts


def _to_sync(row: sa.Row[Any]) -> SyncFigures:
    return SyncFigures(
        name=row.name,
        status=SyncStatus(row.status),
        since=_instant(row.since),
        behind_since=_instant(row.behind_since),
    )


def _instant(value: object) -> datetime | None:
    """Return an instant; None for anything else, since SQLite may hold text in any column."""
    return from_microseconds(value) if isinstance(value, int) else None


def _number(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.type_coerce(column, sa.BigInteger())


def _one(value: sa.ColumnElement[Any], *which: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    return sa.select(value).where(*which).scalar_subquery()


_CLOCK: Final = sa.select(now())
_BEHIND: Final = (syncs.c.behind_since.is_not(None), ~is_deferred())
_OVERALL: Final = sa.select(
    _one(sa.func.count(), *_BEHIND).label("behind"),
    _one(sa.func.min(_number(syncs.c.behind_since)), *_BEHIND).label("behind_since"),
    _one(sa.func.max(_number(syncs.c.budget_full_at)), syncs.c.budget_full_at.is_not(None)).label("budget_full_at"),
    _one(sa.func.count(), syncs.c.error_class == WAITS_FOR_BUDGET).label("waiting_for_budget"),
    _one(sa.func.count(), is_running()).label("claims"),
)
_LEASES: Final = sa.select(leases.c.status, sa.func.count()).where(LEASE_IS_LIVE).group_by(leases.c.status)


@cache
def _overdue(restored: bool) -> sa.Select[int, int]:
    """Return the select of overdue leases. In a database that is older than AWS, leases last as long as they may."""
    end = leases.c.max_expires_at if restored else leases.c.expires_at
    return (
        sa.select(sa.func.count().label("number"), sa.func.min(_number(end)).label("since"))
        .join(dynamic_secrets, dynamic_secrets.c.id == leases.c.dynamic_id)
        .where(
            LEASE_IS_LIVE,
            leases.c.status != LeaseStatus.REQUESTED.value,
            end <= now(),
            dynamic_secrets.c.issuer.in_(sa.bindparam("revocable", expanding=True)),
        )
    )


_DAEMONS: Final = sa.select(daemons.c.role, sa.func.count()).where(is_alive()).group_by(daemons.c.role)
