"""
Removing a sync with what it wrote: every object's deletion is scheduled, with the sync's recovery window.

Only what is proven ours by its tags and by the journal; nothing else is ever touched. Waits for nothing: copies in
other Regions go first, and where they need time, the command has to be repeated.
"""

from dataclasses import dataclass
from datetime import timedelta

from phasesync.core.change import Policy
from phasesync.core.journal import settle_by_evidence
from phasesync.core.ownership import Ownership, ownership_of
from phasesync.core.remote import Action, JournalEntry
from phasesync.core.sync import Paused, Sync
from phasesync.core.sync_config import OnRemove
from phasesync.core.unwanted import decide_unwanted
from phasesync.engine.alter import Alterer
from phasesync.engine.claims import ClaimTaker
from phasesync.engine.hints import hint_of
from phasesync.engine.look import END_OF_LOOKING
from phasesync.engine.pen import Pen
from phasesync.engine.restored import check_may_delete
from phasesync.errors import (
    DestinationError,
    OwnershipConflictError,
    PermissionDeniedError,
    PhasesyncError,
    RemoteChangedError,
)
from phasesync.ports import Clock, Destination, Destinations, StateStore

REMOVING = "being removed with its AWS secrets"
"""Why a sync is paused while what it wrote is deleted."""


@dataclass(frozen=True, kw_only=True)
class Deleted:
    """
    What came of deleting everything that a sync wrote.

    Attributes:
        scheduled: names whose deletion is scheduled now.
        left_alone: remote name -> why it was never ours to delete.
        blocked: remote name -> why it could not be deleted; not empty = the sync is still there, paused.
    """

    scheduled: tuple[str, ...]
    left_alone: dict[str, str]
    blocked: dict[str, str]


class RemoteDeletion:
    """Removes syncs with their remote objects."""

    def __init__(
        self,
        *,
        state: StateStore,
        destinations: Destinations,
        claims: ClaimTaker,
        instance_id: str,
        clock: Clock,
    ) -> None:
        """
        Args:
            state: syncs and journal.
            destinations: where the objects are.
            claims: takes the claim of a sync.
            instance_id: marks what is ours.
            clock: for what is noted.
        """
        self._state = state
        self._destinations = destinations
        self._claims = claims
        self._instance_id = instance_id
        self._clock = clock

    def objects(self, name: str) -> tuple[str, ...]:
        """Return the names of what a sync wrote, as far as its deletion is not scheduled. NotFoundError."""
        return tuple(
            entry.remote_name
            for entry in self._state.state_of(name).journal
            if _may_be_there(entry) and entry.deletion_at is None
        )

    def remove(self, name: str, *, actor: str) -> Deleted:
        """
        Schedule the deletion of everything that a sync wrote, and remove the sync where that succeeded.

        Args:
            name: of the sync; it is paused first.
            actor: who asked.

        Raises:
            NotFoundError: the sync.
            CiphertextError: its row or journal was altered; the sync stays.
            IllegalTransitionError: this database was restored, and nobody has accepted it.
            ClaimHeldError: another process keeps reconciling it.
            DestinationError: what would meet every object; the sync stays, paused.
        """
        sync = self._state.get_sync(name)
        check_may_delete(self._state)
        self._state.pause(sync.name, Paused(by=actor, at=self._clock.now(), reason=REMOVING, until=None))
        scheduled: list[str] = []
        left_alone: dict[str, str] = {}
        blocked: dict[str, str] = {}
        with self._claims.held(sync, actor=actor) as (claim, permit):
            state, pen = self._state.load(claim), Pen(self._state, claim, self._clock)
            for entry in filter(_may_be_there, state.journal):
                destination = self._destinations.open(
                    sync.destination_kind, state.credential, entry.region, customer=sync.id
                )
                alterer = Alterer(
                    destination=destination, pen=pen, permit=permit, recovery_days=sync.config.recovery_days
                )
                try:
                    self._delete(destination, alterer, entry, scheduled, left_alone)
                except END_OF_LOOKING as error:
                    error.hint = hint_of(error, sync)
                    raise
                except (DestinationError, OwnershipConflictError) as error:
                    hint = _hint(error, sync)
                    blocked[entry.remote_name] = error.message + (f" ({hint})" if hint else "")
        if not blocked:
            self._state.remove_sync(sync.name)
        return Deleted(scheduled=tuple(scheduled), left_alone=left_alone, blocked=blocked)

    def _delete(
        self,
        destination: Destination,
        alterer: Alterer,
        entry: JournalEntry,
        scheduled: list[str],
        left_alone: dict[str, str],
    ) -> None:
        """Delete one object; DestinationError, OwnershipConflictError where it has to stay for now."""
        name, account = entry.remote_name, destination.account_id()
        if account != entry.account:
            raise DestinationError(f"it is in account {entry.account}, the credential leads to {account}")
        policy = Policy(
            instance_id=self._instance_id,
            account=account,
            region=entry.region,
            now=self._clock.now(),
            on_remove=OnRemove.DELETE,
            grace=timedelta(0),
        )
        # Twice at most: its copies go first, and often they are gone at once.
        for _ in range(2):
            seen = destination.observe(name)
            entry = settle_by_evidence(entry, seen)
            change = decide_unwanted(entry, {name: seen}, policy)
            if change.action is Action.REFUSE:
                raise OwnershipConflictError(change.reason, hint=change.hint)
            if change.action is Action.NOOP or seen is None:
                if seen is None or seen.deleted_at is not None:
                    return
                if ownership_of(seen, entry, self._instance_id) is Ownership.OURS and entry.arn == seen.arn:
                    raise DestinationError(change.reason)
                left_alone[name] = change.reason
                return
            entry = alterer.delete(change, seen, entry)
            if change.action is Action.DELETE:
                scheduled.append(name)
                return
        raise RemoteChangedError("its copies in other Regions are being removed; repeat the command when they are gone")


def _may_be_there(entry: JournalEntry) -> bool:
    return entry.written_before or entry.intent is not None


def _hint(error: PhasesyncError, sync: Sync) -> str | None:
    if isinstance(error, PermissionDeniedError) and sync.config.on_remove is OnRemove.RETAIN:
        return (
            f"phasesync aws policy {sync.name} prints a policy with that right after "
            f"phasesync syncs update {sync.name} --on-remove delete"
        )
    return hint_of(error, sync)
