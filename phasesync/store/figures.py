"""
The figures of metrics: a handful of statements, each of which reads a range of an index.

Their cost does not depend on the number of syncs, except for the count by status, which passes over a narrow index.
Rows are not authenticated here: an altered row counts as it is.
"""

import time
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.chores import DaemonRole
from phasesync.core.figures import Figures, SyncFigures
from phasesync.core.lease import ENDED, LeaseStatus
from phasesync.core.planning.version_budget import writes_left_of
from phasesync.core.sync import SyncStatus
from phasesync.store.base import BaseStore
from phasesync.store.daemons import is_alive
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.restore_mark import is_restored, select_mark
from phasesync.store.run_requests import WAITS_FOR_BUDGET
from phasesync.store.sync_statuses import count_with_longest, is_running, select_each
from phasesync.store.tables import LEASE_IS_LIVE, daemons, dynamic_secrets, leases, syncs

MOST_SYNCS: Final = 2_000
"""How many syncs are named one by one: those that are not in step come first."""

UNREADABLE: Final = "unreadable"
"""Stands for a word in the column of a status that is no status: the row was altered."""


class FigureStore(BaseStore):
    """Figures of the whole installation."""

    def read(self, *, revocable: Collection[str], each: bool = False) -> Figures:
        """
        Return the figures.

        Args:
            revocable: the issuers whose keys work until they are revoked. Other leases end by themselves.
            each: also of the syncs one by one.
        """
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
                each=tuple(_to_sync(row) for row in rows),
                left_out=max(0, sum(counts.values()) - len(rows)) if each else 0,
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
_OVERALL: Final = sa.select(
    _one(sa.func.count(), syncs.c.behind_since.is_not(None)).label("behind"),
    _one(sa.func.min(_number(syncs.c.behind_since)), syncs.c.behind_since.is_not(None)).label("behind_since"),
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
