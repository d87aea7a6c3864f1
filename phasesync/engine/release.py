"""
Releasing a sync: its remote objects are given back, as they were before they were ours, and it is paused.

Writes no value and deletes nothing.
"""

from dataclasses import dataclass

from phasesync.core.journal import give_back
from phasesync.core.ownership import Ownership, owner_tags, ownership_of
from phasesync.core.remote import JournalEntry
from phasesync.core.sync import Paused
from phasesync.core.tags import tags_back
from phasesync.engine.claims import ClaimTaker, Permit
from phasesync.engine.look import END_OF_LOOKING
from phasesync.engine.pen import Pen
from phasesync.engine.restored import check_may_release
from phasesync.errors import DestinationError
from phasesync.ports import Clock, Destination, Destinations, StateStore

RELEASED = "released"
"""Why a released sync is paused."""


@dataclass(frozen=True, kw_only=True)
class Released:
    """What came of it: names that were given back, and remote name -> why it is still ours."""

    given_back: tuple[str, ...]
    kept: dict[str, str]


class SyncRelease:
    """Gives remote objects back."""

    def __init__(
        self, *, state: StateStore, destinations: Destinations, claims: ClaimTaker, instance_id: str, clock: Clock
    ) -> None:
        """
        Args:
            state: keeps the journal.
            destinations: to put tags back.
            claims: takes the claim of the sync.
            instance_id: marks what is ours.
            clock: says when it was paused.
        """
        self._state = state
        self._destinations = destinations
        self._claims = claims
        self._instance_id = instance_id
        self._clock = clock

    def release(self, name: str, *, actor: str) -> Released:
        """
        Pause a sync, take our tags off its remote objects, put back what we changed, and forget them.

        Args:
            name: of the sync.
            actor: who asked.

        Returns:
            What was given back; what AWS refused stays ours, and the command can be repeated.

        Raises:
            NotFoundError: the sync.
            IllegalTransitionError: this database was restored, and that was not accepted.
            ClaimHeldError: another process keeps reconciling it.
        """
        sync = self._state.get_sync(name)
        check_may_release(self._state)
        # Before anything else, so that no run makes anew what is given back.
        self._state.pause(sync.name, Paused(by=actor, at=self._clock.now(), reason=RELEASED, until=None))
        given_back: list[str] = []
        kept: dict[str, str] = {}
        with self._claims.held(sync, actor=actor) as (claim, permit):
            state, pen = self._state.load(claim), Pen(self._state, claim, self._clock)
            gone: DestinationError | None = None
            for entry in filter(_is_known, state.journal):
                if gone is not None:  # It would meet every further object, each after its time-outs.
                    kept[entry.remote_name] = f"not tried: {gone.message}"
                    continue
                try:
                    destination = self._destinations.open(
                        sync.destination_kind, state.credential, entry.region, customer=sync.id
                    )
                    self._give_back(destination, entry, permit)
                except DestinationError as error:
                    gone = error if isinstance(error, END_OF_LOOKING) else None
                    kept[entry.remote_name] = error.message
                    continue
                pen.save(give_back(entry))
                given_back.append(entry.remote_name)
        return Released(given_back=tuple(given_back), kept=kept)

    def _give_back(self, destination: Destination, entry: JournalEntry, permit: Permit) -> None:
        """Put tags back where the object is still ours; there is nothing to do where it is not."""
        account = destination.account_id()
        if account != entry.account:
            raise DestinationError(f"it is in account {entry.account}, the credential leads to {account}")
        seen = destination.observe(entry.remote_name)
        if seen is None or ownership_of(seen, entry, self._instance_id) is not Ownership.OURS:
            return
        back = tags_back(seen, entry, owner_tags(self._instance_id, entry.sync_id))
        permit()
        destination.update_metadata(seen.arn, tags=back.tags or None, untag=back.untag)


def _is_known(entry: JournalEntry) -> bool:
    return entry.arn is not None or entry.intent is not None
