"""
Removing a sync: what happens to its remote objects, and to our marks on them.

Must not touch what is not proven ours.
"""

from datetime import timedelta

from phasesync.core.credential import Credential
from phasesync.core.ownership import Ownership, owner_tags, ownership_of
from phasesync.core.remote import JournalEntry
from phasesync.core.sync import Sync
from phasesync.engine.claims import ClaimTaker
from phasesync.engine.look import END_OF_LOOKING
from phasesync.errors import CiphertextError, DestinationError
from phasesync.ports import Destinations, StateStore


class SyncRemoval:
    """Removes syncs."""

    def __init__(self, *, state: StateStore, destinations: Destinations, claims: ClaimTaker, instance_id: str) -> None:
        """
        Args:
            state: keeps the syncs.
            destinations: to take our marks off.
            claims: takes the claim of the sync that is to be removed.
            instance_id: marks what is ours.
        """
        self._state = state
        self._destinations = destinations
        self._claims = claims
        self._instance_id = instance_id

    def remove(self, name: str, *, actor: str) -> tuple[str, ...]:
        """
        Remove a sync, keep its remote objects and take our owner marks off them where that is allowed.

        Returns:
            Lines on objects that kept our marks.
        """
        try:
            sync = self._state.get_sync(name)
        except CiphertextError:
            self._state.remove_sync(name)
            return (f"what {name} wrote keeps our tags: its row was altered, so nothing says where that is",)
        claim = self._claims.take(sync, actor=actor, patience=timedelta(seconds=30))
        try:
            state = self._state.load(claim)
        except CiphertextError:
            state = None
        finally:
            self._claims.give_back(claim)
        if state is None:
            self._state.remove_sync(name)
            return (f"what {name} wrote keeps our tags: its journal or credential was altered",)
        restored = self._state.is_restored()
        entries = self._state.remove_sync(name)
        if restored:
            return tuple(
                f"{entry.remote_name} keeps our tags: this database is an older backup that was not accepted"
                for entry in entries
                if _is_known(entry)
            )
        lines: list[str] = []
        for number, entry in enumerate(entries, start=1):
            try:
                line = self._unmark(state.credential, sync, entry)
            except END_OF_LOOKING as error:  # It would meet every further object, each after its time-outs.
                left = len(entries) - number
                more = f", as do {left} more that were not tried" if left else ""
                return (*lines, f"{entry.remote_name} keeps our tags{more}: {error.message}")
            if line is not None:
                lines.append(line)
        return tuple(lines)

    def _unmark(self, credential: Credential, sync: Sync, entry: JournalEntry) -> str | None:
        if not _is_known(entry):
            return None
        try:
            destination = self._destinations.open(sync.destination_kind, credential, entry.region, customer=sync.id)
            if (account := destination.account_id()) != entry.account:
                return f"{entry.remote_name} keeps our tags: it is in account {entry.account}, not in {account}"
            seen = destination.observe(entry.remote_name)
            if seen is not None and ownership_of(seen, entry, self._instance_id) is Ownership.OURS:
                marks = tuple(owner_tags(self._instance_id, sync.id))
                destination.update_metadata(seen.arn, untag=marks)
        except END_OF_LOOKING:
            raise
        except DestinationError as error:
            return f"{entry.remote_name} keeps our tags: {error.message}"
        return None


def _is_known(entry: JournalEntry) -> bool:
    """Return whether there may be an object: a create whose answer was lost may have landed."""
    return entry.arn is not None or entry.intent is not None
