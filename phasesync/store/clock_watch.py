"""
Finds out that the database's clock was set back, and moves what lies ahead of it back by as much.

Every wait in the database is an instant. After a clock is set back by a day, each of them would last a day longer:
edits would wait, claims of the dead would stand, leases would live on. So daemons note the database's time every few
seconds (row `clock` of `chores`). Where that, or another instant that was noted of the present, lies ahead, the clock
was set back by at least the difference. What a person set as a date (the end of a pause) stays, and so does what AWS
set (the end of a session). What the journal holds is encrypted, and put right where it is read:
`core.journal.note_clock`.

A clock that was set back while no daemon ran shows at the next start in the same way. It does not show where it was set
back by less than no daemon ran for; no wait is then longer than it was when the last daemon stopped.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.daemons import ClockSetBack
from phasesync.core.lease import ENDED, moved_back
from phasesync.core.times import JUMP
from phasesync.errors import CiphertextError
from phasesync.store.base import BaseStore
from phasesync.store.database import insert_or_update, row_lock
from phasesync.store.db_time import before, now, to_microseconds
from phasesync.store.lease_rows import select_leases, to_columns, to_lease
from phasesync.store.tables import chores, daemons, leases, syncs

_NOTE: Final = "clock"
"""The chore that stands for the time."""
_NOTED_EVERY: Final = timedelta(seconds=10)
"""A note older than this is renewed; heartbeats renew it more often, in the same transaction as their own row."""
_LEFT: Final = timedelta(seconds=15) // timedelta(microseconds=1)
"""What is left of a claim at least: its holder may live, and may have renewed it by the new time already."""
_JUMP: Final = JUMP // timedelta(microseconds=1)
_HORIZON: Final = timedelta(days=36_525) // timedelta(microseconds=1)
"""What lies a century ahead was written by no clock."""


class ClockWatch(BaseStore):
    """Watches the database's clock (port `ClockWatch`)."""

    def check(self, owner: str) -> ClockSetBack | None:
        """Note the time for the next look, and put right what lies ahead of a clock that was set back since."""
        with self._database.read() as connection:
            clock, stale = connection.execute(_CHECK).one()[:2]
            evidence = _evidence(connection, clock)
        if max(evidence.values()) <= clock + _JUMP:
            if stale:
                with self._database.write() as connection:
                    note_time(connection, owner)
            return None
        with self._database.write() as connection:
            # Locks the note, whether or not it is changed: of several daemons one does it, the others find it done.
            note_time(connection, owner)
            clock = int(connection.scalar(sa.select(now())) or 0)
            evidence = _evidence(connection, clock)
            if (by := max(evidence.values()) - clock) <= _JUMP:
                return None
            noted = max(evidence["chores"], clock)
            _set_back_syncs(connection, clock, max(noted, evidence["syncs"]) - clock)
            count = self._set_back_leases(connection, clock, noted - clock)
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
        Move the lives of leases back; return of how many.

        Their end at the latest is bound to a ciphertext, so each is encrypted anew. One that was asked for after the
        time was last noted shows by itself how much its own clock was ahead.
        """
        live = select_leases().where(leases.c.status.not_in(ENDED)).order_by(leases.c.id)
        count = 0
        for row in connection.execute(row_lock(live, leases)).all():
            own = max(by, to_microseconds(row.requested_at) - clock)
            if own <= _JUMP:
                continue
            try:
                lease = moved_back(to_lease(row, self._keys), timedelta(microseconds=own))
            except CiphertextError:
                continue  # Nothing that it says is believed; a daemon's round notes what it is.
            values = to_columns(lease, self._keys, row.data_key_id)
            claim_until = _claim_until(leases, clock, own)
            connection.execute(leases.update().where(leases.c.id == row.id).values(**values, claim_until=claim_until))
            count += 1
        return count


def note_time(connection: sa.Connection, owner: str) -> None:
    """
    Note the database's time.

    A note that lies ahead stays: it is the evidence that the clock was set back, until `look` has put that right.
    """
    insert = insert_or_update(connection, chores).values(name=_NOTE, owner=owner, claimed_at=now())
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["name"],
            set_={"owner": insert.excluded.owner, "claimed_at": insert.excluded.claimed_at},
            where=~_as_number(chores.c.claimed_at).between(now() + _JUMP, now() + _HORIZON),
        )
    )


def _as_number(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Return a column of instants as the number that it is."""
    return sa.type_coerce(column, sa.BigInteger())


_CHECK: Final = sa.select(
    now().label("clock"),
    ~sa.exists().where(chores.c.name == _NOTE, chores.c.claimed_at >= before(_NOTED_EVERY)),
)

_EVIDENCE: Final = {
    "chores": sa.select(sa.func.max(_as_number(chores.c.claimed_at))),
    "syncs": sa.select(sa.func.max(_as_number(syncs.c.claimed_at))),
    "leases": sa.select(sa.func.max(_as_number(leases.c.requested_at))).where(leases.c.status.not_in(ENDED)),
    "daemons": sa.select(sa.func.max(_as_number(daemons.c.beat_at))),
}
_ALL_EVIDENCE: Final = sa.select(*(one.scalar_subquery().label(table) for table, one in _EVIDENCE.items()))


def _evidence(connection: sa.Connection, clock: int) -> dict[str, int]:
    """Return table -> the newest instant in it that was noted of the present; 0 where there is none that can be."""
    found = connection.execute(_ALL_EVIDENCE).one()._asdict()
    # SQLite keeps whatever somebody puts into a column.
    return {table: at if isinstance(at, int) and at < clock + _HORIZON else 0 for table, at in found.items()}


def _earlier(table: sa.Table, names: Iterable[str], clock: int, by: int) -> dict[str, Any]:
    """Return the columns with what lies ahead moved back."""
    return {
        name: sa.case(
            (_as_number(table.c[name]) > clock, _as_number(table.c[name]) - by), else_=_as_number(table.c[name])
        )
        for name in names
    }


def _claim_until(table: sa.Table, clock: int, by: int) -> sa.ColumnElement[int]:
    """Return the end of a claim, moved back where it lies ahead."""
    until = _as_number(table.c.claim_until)
    return sa.case((until > clock + by + _LEFT, until - by), (until > clock + _LEFT, clock + _LEFT), else_=until)


def _set_back_syncs(connection: sa.Connection, clock: int, by: int) -> None:
    """
    Move what syncs wait for. Edits go out at once: how long they still had to be held back is not worth knowing.

    Rows are locked in one order, as everybody does who locks several.
    """
    if by <= _JUMP:
        return
    moved = ("next_due_at", "claimed_at", "interrupted_at")
    ahead = sa.or_(*(_as_number(syncs.c[name]) > clock for name in (*moved, "retry_at", "claim_until")))
    connection.execute(row_lock(sa.select(syncs.c.id).where(ahead).order_by(syncs.c.id), syncs)).all()
    retry_at = sa.case((_as_number(syncs.c.retry_at) > clock, None), else_=_as_number(syncs.c.retry_at))
    connection.execute(
        syncs.update()
        .where(ahead)
        .values(**_earlier(syncs, moved, clock, by), retry_at=retry_at, claim_until=_claim_until(syncs, clock, by))
    )


def _set_back_daemons(connection: sa.Connection, clock: int, by: int) -> None:
    """
    Move the memberships of daemons: those of the dead end as soon as they would have.

    One whose heartbeat came since the clock was set back has the new time already.
    """
    if by <= _JUMP:
        return
    moved = ("until", "beat_at", "started_at")
    ahead = _as_number(daemons.c.beat_at) > clock
    connection.execute(row_lock(sa.select(daemons.c.owner).where(ahead).order_by(daemons.c.owner), daemons)).all()
    connection.execute(daemons.update().where(ahead).values(**_earlier(daemons, moved, clock, by)))
