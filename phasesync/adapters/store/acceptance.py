"""
An operator's word that this database, although older than AWS, is the one to go on with.

Moves the generations of every remote object past what the later state may have spent, so that nothing that comes from
here is taken for one of its writes, and has every sync looked at again.
"""

import sqlalchemy as sa

from phasesync.adapters.store.engine import row_lock
from phasesync.adapters.store.instants import to_microseconds
from phasesync.adapters.store.journal import load_journal, update_entry
from phasesync.adapters.store.part import Part
from phasesync.adapters.store.registry import locked_registry, read_registry
from phasesync.adapters.store.sync_rows import select_syncs
from phasesync.adapters.store.tables import syncs
from phasesync.adapters.store.waking import wake
from phasesync.core.journal import accept_restore
from phasesync.errors import CiphertextError, ClaimHeldError, RestoredDatabaseError
from phasesync.ports import Acceptance


class AcceptancePart(Part):
    """Restored databases, of the port `StateStore`."""

    def is_restored(self) -> bool:
        """Return whether this database counts as older than AWS: it was put in place, or a run has met the proof."""
        halted = sa.select(syncs.c.id).where(syncs.c.error_class == RestoredDatabaseError.__name__).limit(1)
        with self._database.read() as connection:
            try:
                said = read_registry(connection, self._keys).restored_at is not None
            except CiphertextError:
                said = True  # Nothing that it says is believed. Leases end at their maximum all the same.
            return said or connection.scalar(halted) is not None

    def accept_restore(self, *, ahead: int) -> Acceptance:
        """Move every journal entry on and have every sync reconciled, in one transaction. ClaimHeldError."""
        moved = 0
        unread: list[str] = []
        with self._database.write() as connection:
            registry = locked_registry(connection, self._keys)
            found = connection.execute(row_lock(select_syncs(), syncs)).all()
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
                    entries = load_journal(connection, row.id, self._sealer)
                except CiphertextError:
                    unread.append(row.name)
                    continue
                for entry in entries:
                    update_entry(connection, self._sealer, row.data_key_id, accept_restore(entry, ahead))
                moved += len(entries)
            # What was made since the backup is in no journal; its tokens are passed over all the same.
            registry.store(restored_at=None, generation_floor=registry.generation_floor + ahead)
            wake(connection, sa.true())
        return Acceptance(syncs=len(rows), objects=moved, unread=tuple(unread))
