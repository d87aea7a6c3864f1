"""
Daemons: which are alive, which one is active where only one may be, and which one does a chore.

On SQLite one daemon is active and the others stand by; on PostgreSQL all are active. There is no leader election: a
heartbeat checks for another active daemon in the transaction that stores its own role.
"""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from phasesync import __version__
from phasesync.core.chores import DaemonRole
from phasesync.core.times import JUMP
from phasesync.store.clock_watch import note_time
from phasesync.store.database import Database, insert_or_update, not_locked, retry_methods
from phasesync.store.db_time import LONGEST_WAIT, after, before, now
from phasesync.store.tables import chores, daemons

_REMOVED_AFTER: Final = timedelta(hours=1)


@retry_methods
class DaemonRegistry:
    """Daemons and their chores."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(
        self, owner: str, *, host: str, pid: int, ttl: timedelta, root_keys: Collection[str] | None = None
    ) -> DaemonRole:
        """
        Store a heartbeat; return the daemon's role. On PostgreSQL every daemon is active.

        `root_keys`: ids of the root keys that it has; None: it does not say.
        """
        with self._database.write() as connection:
            note_time(connection, owner)
            role = DaemonRole.ACTIVE
            if self._database.is_sqlite and self._another_is_active(connection, owner):
                role = DaemonRole.STANDBY
            insert = insert_or_update(connection.dialect.name, daemons).values(
                owner=owner,
                host=host,
                pid=pid,
                role=role.value,
                started_at=now(),
                beat_at=now(),
                until=after(ttl),
                root_keys=None if root_keys is None else " ".join(sorted(root_keys)),
                release=__version__,
            )
            kept_up = ("role", "beat_at", "until", "root_keys", "release")
            renewed = {name: insert.excluded[name] for name in kept_up}
            connection.execute(insert.on_conflict_do_update(index_elements=["owner"], set_=renewed))
            connection.execute(daemons.delete().where(not_locked(daemons, daemons.c.until < before(_REMOVED_AFTER))))
            return role

    def deregister(self, owner: str) -> None:
        """Remove a daemon that ends; a standby takes over with its next heartbeat."""
        with self._database.write() as connection:
            connection.execute(daemons.delete().where(daemons.c.owner == owner))

    def alive(self) -> list[Mapping[str, object]]:
        """Return the daemons that are alive: owner, host, pid, role, started_at, beat_at; the oldest first."""
        shown = [daemons.c[name] for name in ("owner", "host", "pid", "role", "started_at", "beat_at")]
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(*shown).where(is_alive()).order_by(daemons.c.started_at, daemons.c.owner)
            )
            return [row._asdict() for row in rows]

    def claim_chore(self, name: str, owner: str, *, every: timedelta) -> bool:
        """Return True for the one daemon that does a chore now; at most once in each period `every`."""
        with self._database.write() as connection:
            insert = insert_or_update(connection.dialect.name, chores).values(name=name, owner=owner, claimed_at=now())
            claimed = insert.on_conflict_do_update(
                index_elements=["name"],
                set_={"owner": insert.excluded.owner, "claimed_at": insert.excluded.claimed_at},
                where=(chores.c.claimed_at <= before(every)) | (chores.c.claimed_at > after(JUMP)),
            ).returning(chores.c.name)
            return connection.scalar(claimed) is not None

    def since_chore(self, name: str) -> timedelta | None:
        """Return how long ago a chore was claimed last, 0 if the clock says later; None if it never was."""
        with self._database.read() as connection:
            ago = sa.select(now() - sa.type_coerce(chores.c.claimed_at, sa.BigInteger())).where(chores.c.name == name)
            micros = connection.scalar(ago)
        return None if micros is None else max(timedelta(0), timedelta(microseconds=int(micros)))

    def _another_is_active(self, connection: sa.Connection, owner: str) -> bool:
        other = sa.select(daemons.c.owner).where(
            daemons.c.owner != owner, daemons.c.role == DaemonRole.ACTIVE.value, is_alive()
        )
        return connection.scalar(other.limit(1)) is not None


def is_alive() -> sa.ColumnElement[bool]:
    """Return the condition that a daemon is alive."""
    return daemons.c.until.between(now(), after(LONGEST_WAIT)) & (daemons.c.beat_at <= after(JUMP))
