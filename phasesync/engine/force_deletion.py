"""
Deleting one remote object at once and for good, on an operator's word: no recovery window, no way back.

Only what carries our tags and whose ARN is in this database's journal; never a copy, nor what has copies.
"""

from dataclasses import replace

from phasesync.core.arns import region_of_secret
from phasesync.core.credential import Credential
from phasesync.core.cross_account import copies_in_other_accounts, how_to_end_copies
from phasesync.core.ownership import Ownership, ownership_of, refusal_of
from phasesync.core.partitions import check_neighbours
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC, JournalEntry, Observed
from phasesync.core.sync import Sync
from phasesync.engine.claims import ClaimTaker
from phasesync.engine.pen import Pen
from phasesync.engine.restored import check_may_delete
from phasesync.errors import NotFoundError, OutcomeUnknownError, OwnershipConflictError, PhasesyncError
from phasesync.ports import Clock, CredentialStore, Destinations, StateStore


class ForceDeletion:
    """Deletes one remote object for good."""

    def __init__(
        self,
        *,
        credentials: CredentialStore,
        state: StateStore,
        destinations: Destinations,
        claims: ClaimTaker,
        instance_id: str,
        clock: Clock,
    ) -> None:
        """
        Args:
            credentials: to reach the object.
            state: syncs and journal.
            destinations: where the object is.
            claims: takes the claim of the sync that wrote it.
            instance_id: marks what is ours.
            clock: for what is noted.
        """
        self._credentials = credentials
        self._state = state
        self._destinations = destinations
        self._claims = claims
        self._instance_id = instance_id
        self._clock = clock

    def find(self, credential: str, region: str | None, remote_name: str, *, kind: str) -> tuple[Sync, Observed]:
        """
        Return the object that a force deletion would be about, and the sync that wrote it.

        Args:
            credential: name of the credential that reaches it.
            region: None = the credential's.
            remote_name: its name.
            kind: destination kind.

        Raises:
            InvalidInputError: a part of an ARN, or a Region of another one.
            NotFoundError: the credential, or the object.
            OwnershipConflictError: it is not proven ours, is a copy or has copies, or a service manages it.
            IllegalTransitionError: this database was restored, and nobody has accepted it.
        """
        check_may_delete(self._state)
        found = self._credentials.get(credential)
        where = _region(remote_name, region, found)
        seen = self._destinations.open(kind, found, where).observe(remote_name)
        if seen is None:
            raise NotFoundError(
                f"there is no secret {remote_name} in {where}",
                hint=f"phasesync aws list-secrets --credential {credential}",
            )
        sync = self._writer_of(seen)
        self._entry_of(sync, seen)
        _check(seen, where)
        return sync, seen

    def delete(self, credential: str, region: str | None, remote_name: str, *, kind: str, actor: str) -> Sync:
        """
        Delete one object at once and for good; the journal of the sync that wrote it knows it from then on.

        Args: as `find`.

        Raises:
            NotFoundError, OwnershipConflictError, IllegalTransitionError: as `find`.
            ClaimHeldError: another process keeps reconciling the sync.
            DestinationError: AWS refuses.
        """
        sync, _ = self.find(credential, region, remote_name, kind=kind)
        reach = self._credentials.get(credential)
        with self._claims.held(sync, actor=actor) as (claim, permit):
            pen = Pen(self._state, claim, self._clock)
            where = _region(remote_name, region, reach)
            destination = self._destinations.open(kind, reach, where, customer=sync.id)
            seen = destination.observe(remote_name)
            if seen is None:
                raise NotFoundError(f"there is no secret {remote_name} any more")
            entry = self._entry_of(sync, seen)
            _check(seen, where)
            # Noted before the call: the next run must not take it for an object that somebody else deleted.
            now = self._clock.now()
            noted = pen.save(replace(entry, touched_at=now, deletion_at=now))
            try:
                permit()
                destination.delete(seen.arn, recovery_days=None)
            except OutcomeUnknownError:
                raise
            except PhasesyncError:
                pen.save(replace(noted, deletion_at=entry.deletion_at))
                raise
        return sync

    def _writer_of(self, seen: Observed) -> Sync:
        """Return the sync of this database that an object's tags name. OwnershipConflictError."""
        if seen.tags.get(TAG_INSTANCE) != self._instance_id:
            raise _not_ours(seen, "does not carry the tags of this phasesync")
        for sync in self._state.list_syncs():
            if sync.id == seen.tags.get(TAG_SYNC):
                return sync
        raise _not_ours(seen, "carries the tags of a sync that this database does not have")

    def _entry_of(self, sync: Sync, seen: Observed) -> JournalEntry:
        for entry in self._state.state_of(sync.name).journal:
            if entry.arn == seen.arn and ownership_of(seen, entry, self._instance_id) is Ownership.OURS:
                return entry
        raise _not_ours(seen, "carries our tags, but the journal of this database does not have its ARN")


def _region(remote_name: str, region: str | None, credential: Credential) -> str:
    """Return the Region of an object. InvalidInputError."""
    where = region_of_secret(remote_name, region, otherwise=credential.region)
    return check_neighbours(where, credential.region, of=f"the credential {credential.name}")


def _check(seen: Observed, region: str) -> None:
    if (refusal := refusal_of(seen.name, seen, region)) is not None:
        raise OwnershipConflictError(
            f"{seen.name} is not deleted: {refusal[0]}", hint="what AWS looks after is deleted with AWS's own tools"
        )
    if seen.cross_account_copies:
        raise OwnershipConflictError(
            f"{seen.name} is not deleted: {copies_in_other_accounts(seen)}", hint=how_to_end_copies(seen, region)
        )
    if seen.replicas:
        raise OwnershipConflictError(
            f"{seen.name} is not deleted: it has copies in {', '.join(sorted(seen.replicas))}",
            hint="have the sync want no copies (phasesync syncs update SYNC --replica none), run it, and repeat",
        )


def _not_ours(seen: Observed, reason: str) -> OwnershipConflictError:
    return OwnershipConflictError(
        f"{seen.name} is not deleted: it {reason}", hint="what is not proven ours is never deleted from here"
    )
