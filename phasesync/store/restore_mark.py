"""
The mark on a database that is older than what AWS has, and how an operator accepts such a database.

Accepting moves the generations of every remote object beyond those that the later state may have used, so that no new
write is mistaken for one of its writes, and requests a run of every sync.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.planning.journal import accept_restore
from phasesync.core.sync_claim import Acceptance
from phasesync.errors import CiphertextError, ClaimHeldError, StaleDatabaseError
from phasesync.store.base import BaseStore
from phasesync.store.database import lock_rows
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.instance import lock_registry, registered_versions
from phasesync.store.journal import to_entry, to_row, update_entries
from phasesync.store.key_ring import KeyRing
from phasesync.store.retirement import refuse_retired
from phasesync.store.run_requests import request_runs
from phasesync.store.server_run import compared_columns, is_compared
from phasesync.store.tables import environments, instance, journal, leases, messages, syncs

_SYNCS_AT_ONCE: Final = 200

_STALE: Final = syncs.c.error_class == StaleDatabaseError.__name__


def is_marked() -> sa.ColumnElement[bool]:
    """
    Return the condition that this database counts as older than AWS, whichever sync found the proof.

    A run sets the mark for the whole database; a run of an earlier release left it on its sync alone.
    """
    marked = sa.select(instance.c.restored_at).scalar_subquery().is_not(None)
    return marked | sa.exists().where(_STALE).correlate(None)


@cache
def select_mark() -> sa.Select[Any]:
    """Return the select that `is_restored` and `is_compared` read: the row of the instance, marked, and compared."""
    return sa.select(*instance.c, is_marked().label("marked"), *compared_columns())


def is_restored(row: sa.Row[Any], keys: KeyRing) -> bool:
    """
    Return whether a row of `select_mark` says that this database is older than AWS.

    RetiredDatabaseError: it is retired, and whoever asks was at work before.
    """
    refuse_retired(row.retired_at, row.retired_to)
    try:
        registered_versions(row._asdict(), keys)
    except CiphertextError:
        return True  # An altered row is not trusted. Leases end at their maximum nevertheless.
    return bool(row.marked)


def set_mark(connection: sa.Connection, keys: KeyRing) -> bool:
    """
    Mark the whole database as older than AWS, until an operator accepts it. Return whether it was not marked before.

    The transaction must not hold other locks yet. CiphertextError if the row of the instance was altered.
    """
    registry = lock_registry(connection, keys)
    if registry.restored_at is not None:
        return False
    # What waits here was sent by the database that this one is a copy of, or is of no interest any more.
    connection.execute(messages.update().where(messages.c.next_at.is_not(None)).values(next_at=None))
    registry.store(restored_at=from_microseconds(connection.scalar(sa.select(now())) or 0))
    return True


@dataclass(frozen=True, kw_only=True)
class Mark:
    """
    What is known of the age of this database.

    Attributes:
        restored: it is older than AWS, and no operator has accepted that.
        compared: it was compared with AWS since it is where it is.
    """

    restored: bool
    compared: bool


class RestoreMark(BaseStore):
    """The mark on a database that is older than what AWS has."""

    def is_set(self) -> bool:
        """Return whether this database counts as older than AWS: a backup was restored, or a run found the proof."""
        with self._database.read() as connection:
            return is_restored(connection.execute(select_mark()).one(), self._keys)

    def read(self) -> Mark:
        """Return whether this database counts as older than AWS, and whether that was found out where it is now."""
        with self._database.read() as connection:
            row = connection.execute(select_mark()).one()
            return Mark(restored=is_restored(row, self._keys), compared=is_compared(connection, row))

    def accept(self, *, ahead: int) -> Acceptance:
        """
        Accept a database that is older than AWS: advance every journal entry, and request a run of every sync.

        Args:
            ahead: the number of generations to skip.

        Raises:
            ClaimHeldError: a sync is being reconciled.
        """
        unread: list[str] = []
        accepted = objects = 0
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            lock_rows(connection, syncs, sa.true())
            busy = connection.scalar(
                sa.select(syncs.c.name)
                .where(syncs.c.claim_owner.is_not(None), syncs.c.claim_until >= now())
                .order_by(syncs.c.name_key)
                .limit(1)
            )
            if busy is not None:
                raise ClaimHeldError(
                    f"the sync {busy} is being reconciled", hint="stop the daemons first: phasesync status"
                )
            for part in _parts(connection):
                advanced, unreadable = self._advance(connection, part, ahead)
                update_entries(connection, advanced)
                accepted, objects = accepted + len(part), objects + len(advanced)
                unread += unreadable
            # Objects created since the backup are in no journal; the floor skips their tokens too.
            registry.store(restored_at=None, generation_floor=registry.generation_floor + ahead)
            connection.execute(syncs.update().where(_STALE).values(error_class=None))
            # Kept keys may belong to users that were removed after the backup.
            connection.execute(leases.update().where(leases.c.kept.is_not(None)).values(kept=None))
            request_runs(connection, sa.true())
            self._audit(connection, "db.accept-restore", "database", details={"syncs": accepted, "objects": objects})
        return Acceptance(syncs=accepted, objects=objects, unread=tuple(sorted(unread, key=str.lower)))

    def _advance(
        self, connection: sa.Connection, part: Sequence[sa.Row[Any]], ahead: int
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the rows of the advanced journals of some syncs, and the names of syncs with altered journals."""
        journals: dict[str, list[sa.Row[Any]]] = defaultdict(list)
        ids = [row.id for row in part]
        for entry_row in connection.execute(sa.select(journal).where(journal.c.sync_id.in_(ids))):
            journals[entry_row.sync_id].append(entry_row)
        advanced: list[dict[str, Any]] = []
        unread: list[str] = []
        for row in part:
            try:
                entries = [to_entry(entry_row, self._keys) for entry_row in journals[row.id]]
            except CiphertextError:
                unread.append(row.name)
                continue
            advanced += [to_row(self._keys, row.data_key_id, accept_restore(entry, ahead)) for entry in entries]
        return advanced, unread


def _parts(connection: sa.Connection) -> Iterator[Sequence[sa.Row[Any]]]:
    """Yield `id`, `name` and `data_key_id` of all syncs, a few hundred at once: their journals are held in memory."""
    statement: sa.Select[Any] = (
        sa.select(syncs.c.id, syncs.c.name, environments.c.data_key_id)
        .join(environments, environments.c.id == syncs.c.environment_id)
        .order_by(syncs.c.id)
        .limit(_SYNCS_AT_ONCE)
    )
    part: Sequence[sa.Row[Any]] = connection.execute(statement).all()
    while part:
        yield part
        part = connection.execute(statement.where(syncs.c.id > part[-1].id)).all()
