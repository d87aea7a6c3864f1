"""
Finds out that the database's clock was set back, and moves stored instants back by as much.

Every wait in the database is an instant. After a clock is set back by a day, each wait would last a day longer: edits
would wait, claims of dead processes would stay, leases would live on. So daemons store the database's time every few
seconds (row `clock` of `chores`). If this instant, or another that was stored as the present, lies ahead, the clock was
set back by at least the difference. A date that a person set (the end of a pause) stays, and so does one that AWS set
(the end of a session). The journal is encrypted, and corrected when it is read: `core.planning.journal.clamp_to_clock`.

If the clock was set back while no daemon ran, the next start finds it in the same way, unless it was set back by less
than the time without a daemon; then no wait is longer than it was when the last daemon stopped.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.chores import ClockSetBack
from phasesync.core.lease import shifted_back
from phasesync.core.times import JUMP
from phasesync.errors import CiphertextError
from phasesync.store.base import BaseStore
from phasesync.store.database import insert_or_update, row_lock
from phasesync.store.db_time import before, now, to_microseconds
from phasesync.store.lease_rows import select_leases, to_columns, to_lease
from phasesync.store.tables import LEASE_IS_LIVE, backup_schedules, chores, daemons, leases, messages, notices, syncs

_NOTE: Final = "clock"
"""Name of the row in `chores` that holds the time."""
_NOTED_EVERY: Final = timedelta(seconds=10)
"""A time older than this is renewed; heartbeats renew it more often, in the transaction of their own row."""
_LEFT: Final = timedelta(seconds=15) // timedelta(microseconds=1)
"""A claim keeps at least this: its holder may live, and may have extended it by the new time already."""
_JUMP: Final = JUMP // timedelta(microseconds=1)
_HORIZON: Final = timedelta(days=36_525) // timedelta(microseconds=1)
"""An instant a century ahead was not written by a clock."""


class ClockWatch(BaseStore):
    """Watches the database's clock."""

    def check(self, owner: str) -> ClockSetBack | None:
        """
        Store the time for the next check, and correct the instants ahead of a clock that was set back.

        Returns:
            By how much the clock was set back; None if it was not.
        """
        with self._database.read() as connection:
            clock, stale = connection.execute(_CHECK).one()[:2]
            evidence = _evidence(connection, clock)
        if max(evidence.values()) <= clock + _JUMP:
            if stale:
                with self._database.write() as connection:
                    note_time(connection, owner)
            return None
        with self._database.write() as connection:
            # Locks the stored time, changed or not: one of several daemons corrects, the others find nothing to do.
            note_time(connection, owner)
            clock = int(connection.scalar(sa.select(now())) or 0)
            evidence = _evidence(connection, clock)
            if (by := max(evidence.values()) - clock) <= _JUMP:
                return None
            noted = max(evidence["chores"], clock)
            _set_back_syncs(connection, clock, max(noted, evidence["syncs"]) - clock)
            count = self._set_back_leases(connection, clock, noted - clock)
            _set_back_messages(connection, clock, by)
            _set_back_backups(connection, clock, by)
            _set_back_daemons(connection, clock, max(noted, evidence["daemons"]) - clock)
            connection.execute(
                chores.update()
                .where(_as_number(chores.c.claimed_at) > clock)
                .values(_earlier(chores, ["claimed_at"], clock, by))
            )
            note_time(connection, owner)
        return ClockSetBack(by=timedelta(microseconds=by), leases=count)

    def _set_back_leases(self, connection: sa.Connection, clock: int, by: int) -> int:
        """
        Move the lives of leases back; return the number of leases.

        The maximum end is bound to a ciphertext, so each lease is encrypted anew. The request time of a lease shows
        how far the clock was ahead at that moment, which may be more than the stored time shows.
        """
        live = select_leases().where(LEASE_IS_LIVE).order_by(leases.c.id)
        count = 0
        for row in connection.execute(row_lock(live, leases)).all():
            own = max(by, to_microseconds(row.requested_at) - clock)
            if own <= _JUMP:
                continue
            try:
                lease = shifted_back(to_lease(row, self._keys), timedelta(microseconds=own))
            except CiphertextError:
                continue  # An altered row is not trusted; the daemon's next round reports it.
            values = to_columns(lease, self._keys, row.data_key_id)
            claim_until = _claim_until(leases, clock, own)
            connection.execute(leases.update().where(leases.c.id == row.id).values(**values, claim_until=claim_until))
            count += 1
        return count


def note_time(connection: sa.Connection, owner: str) -> None:
    """
    Store the database's time.

    A stored time that lies ahead stays: it is the evidence that the clock was set back, until `check` has used it.
    """
    insert = insert_or_update(connection.dialect.name, chores).values(name=_NOTE, owner=owner, claimed_at=now())
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["name"],
            set_={"owner": insert.excluded.owner, "claimed_at": insert.excluded.claimed_at},
            where=~_as_number(chores.c.claimed_at).between(now() + _JUMP, now() + _HORIZON),
        )
    )


def _as_number(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Return a column of instants as integers."""
    return sa.type_coerce(column, sa.BigInteger())


_CHECK: Final = sa.select(
    now().label("clock"),
    ~sa.exists().where(chores.c.name == _NOTE, chores.c.claimed_at >= before(_NOTED_EVERY)),
)

_EVIDENCE: Final = {
    "chores": sa.select(sa.func.max(_as_number(chores.c.claimed_at))),
    "syncs": sa.select(sa.func.max(_as_number(syncs.c.claimed_at))),
    "leases": sa.select(sa.func.max(_as_number(leases.c.requested_at))).where(LEASE_IS_LIVE),
    "daemons": sa.select(sa.func.max(_as_number(daemons.c.beat_at))),
}
_ALL_EVIDENCE: Final = sa.select(*(newest.scalar_subquery().label(table) for table, newest in _EVIDENCE.items()))


def _evidence(connection: sa.Connection, clock: int) -> dict[str, int]:
    """Return table -> its newest instant that was stored as the present; 0 if there is no plausible one."""
    newest = connection.execute(_ALL_EVIDENCE).one()._asdict()
    # SQLite stores a value of any type in any column.
    return {table: at if isinstance(at, int) and at < clock + _HORIZON else 0 for table, at in newest.items()}


def _earlier(table: sa.Table, names: Iterable[str], clock: int, by: int) -> dict[str, Any]:
    """Return the columns, with instants ahead of the clock moved back."""
    return {
        name: sa.case(
            (_as_number(table.c[name]) > clock, _as_number(table.c[name]) - by), else_=_as_number(table.c[name])
        )
        for name in names
    }


def _claim_until(table: sa.Table, clock: int, by: int) -> sa.ColumnElement[int]:
    """Return the end of a claim, moved back if it lies ahead."""
    until = _as_number(table.c.claim_until)
    return sa.case((until > clock + by + _LEFT, until - by), (until > clock + _LEFT, clock + _LEFT), else_=until)


def _set_back_syncs(connection: sa.Connection, clock: int, by: int) -> None:
    """
    Move the due times and claims of syncs back. Edits are applied at once: their remaining delay does not matter.

    Rows are locked in the order of their ids, as everywhere.
    """
    if by <= _JUMP:
        return
    moved = ("next_due_at", "claimed_at", "interrupted_at", "woken_at", "behind_since", "budget_full_at")
    ahead = sa.or_(*(_as_number(syncs.c[name]) > clock for name in (*moved, "retry_at", "claim_until")))
    connection.execute(row_lock(sa.select(syncs.c.id).where(ahead).order_by(syncs.c.id), syncs)).all()
    retry_at = sa.case((_as_number(syncs.c.retry_at) > clock, None), else_=_as_number(syncs.c.retry_at))
    connection.execute(
        syncs.update()
        .where(ahead)
        .values(**_earlier(syncs, moved, clock, by), retry_at=retry_at, claim_until=_claim_until(syncs, clock, by))
    )


def _set_back_messages(connection: sa.Connection, clock: int, by: int) -> None:
    """Move back what is said next of alerts, and when messages are tried again. Reminders may come early by as much."""
    for table, names in ((notices, ("next_at", "made_at")), (messages, ("next_at", "claim_until"))):
        ahead = sa.or_(*(_as_number(table.c[name]) > clock for name in names))
        connection.execute(table.update().where(ahead).values(**_earlier(table, names, clock, by)))


def _set_back_backups(connection: sa.Connection, clock: int, by: int) -> None:
    """Move back when backups were made and are due: none would be made until then, and nothing would say so."""
    names = ("next_at", "succeeded_at", "failed_at")
    ahead = sa.or_(*(_as_number(backup_schedules.c[name]) > clock for name in names))
    connection.execute(backup_schedules.update().where(ahead).values(**_earlier(backup_schedules, names, clock, by)))


def _set_back_daemons(connection: sa.Connection, clock: int, by: int) -> None:
    """
    Move the memberships of daemons back, so that those of dead daemons end when they would have.

    A daemon with a heartbeat since the clock was set back has the new time already.
    """
    if by <= _JUMP:
        return
    moved = ("until", "beat_at", "started_at")
    ahead = _as_number(daemons.c.beat_at) > clock
    connection.execute(row_lock(sa.select(daemons.c.owner).where(ahead).order_by(daemons.c.owner), daemons)).all()
    connection.execute(daemons.update().where(ahead).values(**_earlier(daemons, moved, clock, by)))
