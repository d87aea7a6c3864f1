"""
An operator's word that this database, although older than AWS, is the one to go on with.

Moves the generations of every remote object past what the later state may have spent, so that nothing that comes from
here is taken for one of its writes, and has every sync looked at again.
"""

from typing import Final

import sqlalchemy as sa

from phasesync.core.planning.journal import accept_restore
from phasesync.core.sync_state import Acceptance
from phasesync.errors import CiphertextError, ClaimHeldError, StaleDatabaseError
from phasesync.store.base import BaseStore
from phasesync.store.database import lock_rows
from phasesync.store.db_time import from_microseconds, now, to_microseconds
from phasesync.store.instance import lock_registry, read_registry
from phasesync.store.journal import load_journal, update_entry
from phasesync.store.keys import KeyRing
from phasesync.store.run_requests import request_runs
from phasesync.store.sync_rows import select_syncs
from phasesync.store.tables import instance, leases, syncs

_MET_THE_PROOF: Final = syncs.c.error_class == StaleDatabaseError.__name__


def is_marked() -> sa.ColumnElement[bool]:
    """
    Return the condition that this database counts as older than AWS, whichever sync met the proof.

    Runs note the proof for the whole database; those of an earlier release left it on their sync alone.
    """
    noted = sa.select(instance.c.restored_at).scalar_subquery().is_not(None)
    return noted | sa.exists().where(_MET_THE_PROOF).correlate(None)


def set_mark(connection: sa.Connection, keys: KeyRing) -> None:
    """
    Note for the whole database that a run met the proof; it counts until an operator accepts it.

    The transaction must not hold a lock yet. CiphertextError where the instance's row was altered.
    """
    registry = lock_registry(connection, keys)
    if registry.restored_at is None:
        registry.store(restored_at=from_microseconds(connection.scalar(sa.select(now())) or 0))


class RestoreMark(BaseStore):
    """Restored databases, of the port `StateStore`."""

    def is_set(self) -> bool:
        """Return whether this database counts as older than AWS: it was put in place, or a run has met the proof."""
        with self._database.read() as connection:
            try:
                read_registry(connection, self._keys)
            except CiphertextError:
                return True  # Nothing that it says is believed. Leases end at their maximum all the same.
            return bool(connection.scalar(sa.select(is_marked())))

    def accept(self, *, ahead: int) -> Acceptance:
        """
        Go on with a database that is older than AWS: move every journal entry on and have every sync reconciled.

        Args:
            ahead: how many generations are skipped.

        Raises:
            ClaimHeldError: a sync is being reconciled.
        """
        moved = 0
        unread: list[str] = []
        with self._database.write() as connection:
            registry = lock_registry(connection, self._keys)
            lock_rows(connection, syncs, sa.true())
            found = connection.execute(select_syncs()).all()
            rows = list({row.id: row for row in found}.values())
            busy = [
                row.name
                for row in rows
                if row.claim_owner is not None and to_microseconds(row.claim_until) >= row.clock
            ]
            if busy:
                raise ClaimHeldError(
                    f"the sync {busy[0]} is being reconciled", hint="stop the daemons first: phasesync status"
                )
            for row in rows:
                try:
                    entries = load_journal(connection, row.id, self._keys)
                except CiphertextError:
                    unread.append(row.name)
                    continue
                for entry in entries:
                    update_entry(connection, self._keys, row.data_key_id, accept_restore(entry, ahead))
                moved += len(entries)
            # What was made since the backup is in no journal; its tokens are passed over all the same.
            registry.store(restored_at=None, generation_floor=registry.generation_floor + ahead)
            connection.execute(syncs.update().where(_MET_THE_PROOF).values(error_class=None))
            # Keys that were kept may be those of users that were removed after the backup.
            connection.execute(leases.update().where(leases.c.kept.is_not(None)).values(kept=None))
            request_runs(connection, sa.true())
        return Acceptance(syncs=len(rows), objects=moved, unread=tuple(unread))
