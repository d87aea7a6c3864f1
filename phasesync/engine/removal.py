"""
Removing a sync: what happens to its remote objects, and to our marks on them.

Must not touch what is not proven ours.

Removing a sync with what it wrote: every object's deletion is scheduled, with the sync's recovery window.

Only what is proven ours by its tags and by the journal; nothing else is ever touched. Waits for nothing: copies in
other Regions go first, and where they need time, the command has to be repeated.

Deleting one remote object at once and for good, on an operator's word: no recovery window, no way back.

Only what carries our tags and whose ARN is in this database's journal; never a copy, nor what has copies.

Releasing a sync: its remote objects are given back, as they were before they were ours, and it is paused.

Writes no value and deletes nothing.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

from phasesync.core.arns import region_of_secret
from phasesync.core.change import PlanContext
from phasesync.core.credential import Credential
from phasesync.core.planning.deletion import decide_unwanted
from phasesync.core.planning.journal import release_object, settle_by_evidence
from phasesync.core.planning.ownership import (
    Ownership,
    commands_to_end_copies,
    describe_copies,
    owner_tags,
    ownership_of,
    refusal_of,
)
from phasesync.core.regions import check_same_partition
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC, Action, JournalEntry, Observed
from phasesync.core.sync import OnRemove, Paused, Sync
from phasesync.core.tags import restore_tags
from phasesync.engine.apply import JournalWriter, MetadataApplier
from phasesync.engine.claims import Checkpoint, held_claim, release_claim, take_claim
from phasesync.engine.context import Context
from phasesync.engine.hints import hint_of
from phasesync.engine.observe import END_OF_LOOKING
from phasesync.engine.stale_database import check_may_delete, check_may_release
from phasesync.errors import (
    CiphertextError,
    DestinationError,
    NotFoundError,
    OutcomeUnknownError,
    OwnershipConflictError,
    PermissionDeniedError,
    PhasesyncError,
    RemoteChangedError,
)
from phasesync.ports.destination import Destination


def remove_sync(context: Context, name: str, *, actor: str) -> tuple[str, ...]:
    """
    Remove a sync, keep its remote objects and take our owner marks off them where that is allowed.

    Returns:
        Lines on objects that kept our marks.
    """
    try:
        sync = context.store.syncs.get_sync(name)
    except CiphertextError:
        context.store.syncs.remove_sync(name)
        return (f"what {name} wrote keeps our tags: its row was altered, so nothing says where that is",)
    claim = take_claim(context, sync, actor=actor, patience=timedelta(seconds=30))
    try:
        state = context.store.syncs.load(claim)
    except CiphertextError:
        state = None
    finally:
        release_claim(context, claim)
    if state is None:
        context.store.syncs.remove_sync(name)
        return (f"what {name} wrote keeps our tags: its journal or credential was altered",)
    restored = context.store.restore_mark.is_set()
    entries = context.store.syncs.remove_sync(name)
    if restored:
        return tuple(
            f"{entry.remote_name} keeps our tags: this database is an older backup that was not accepted"
            for entry in entries
            if _is_known(entry)
        )
    lines: list[str] = []
    for number, entry in enumerate(entries, start=1):
        try:
            line = _unmark(context, state.credential, sync, entry)
        except END_OF_LOOKING as error:  # It would meet every further object, each after its time-outs.
            left = len(entries) - number
            more = f", as do {left} more that were not tried" if left else ""
            return (*lines, f"{entry.remote_name} keeps our tags{more}: {error.message}")
        if line is not None:
            lines.append(line)
    return tuple(lines)


def _unmark(context: Context, credential: Credential, sync: Sync, entry: JournalEntry) -> str | None:
    if not _is_known(entry):
        return None
    try:
        destination = context.destinations.open(sync.destination_kind, credential, entry.region, tenant=sync.id)
        if (account := destination.account_id()) != entry.account:
            return f"{entry.remote_name} keeps our tags: it is in account {entry.account}, not in {account}"
        seen = destination.observe(entry.remote_name)
        if seen is not None and ownership_of(seen, entry, context.instance_id) is Ownership.OURS:
            marks = tuple(owner_tags(context.instance_id, sync.id))
            destination.update_metadata(seen.arn, untag=marks)
    except END_OF_LOOKING:
        raise
    except DestinationError as error:
        return f"{entry.remote_name} keeps our tags: {error.message}"
    return None


def _is_known(entry: JournalEntry) -> bool:
    """Return whether there may be an object: a create whose answer was lost may have landed."""
    return entry.arn is not None or entry.intent is not None


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


def deletable_objects(context: Context, name: str) -> tuple[str, ...]:
    """Return the names of what a sync wrote, as far as its deletion is not scheduled. NotFoundError."""
    return tuple(
        entry.remote_name
        for entry in context.store.syncs.state_of(name).journal
        if _may_be_there(entry) and entry.deletion_at is None
    )


def remove_sync_and_objects(context: Context, name: str, *, actor: str) -> Deleted:
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
    sync = context.store.syncs.get_sync(name)
    check_may_delete(context)
    context.store.syncs.pause(sync.name, Paused(by=actor, at=context.clock.now(), reason=REMOVING, until=None))
    scheduled: list[str] = []
    left_alone: dict[str, str] = {}
    blocked: dict[str, str] = {}
    with held_claim(context, sync, actor=actor) as (claim, checkpoint):
        state, pen = context.store.syncs.load(claim), JournalWriter(context, claim)
        for entry in filter(_may_be_there, state.journal):
            destination = context.destinations.open(
                sync.destination_kind, state.credential, entry.region, tenant=sync.id
            )
            alterer = MetadataApplier(
                destination=destination, pen=pen, checkpoint=checkpoint, recovery_days=sync.config.recovery_days
            )
            try:
                _schedule_deletion(context, destination, alterer, entry, scheduled, left_alone)
            except END_OF_LOOKING as error:
                error.hint = hint_of(error, sync)
                raise
            except (DestinationError, OwnershipConflictError) as error:
                hint = _hint(error, sync)
                blocked[entry.remote_name] = error.message + (f" ({hint})" if hint else "")
    if not blocked:
        context.store.syncs.remove_sync(sync.name)
    return Deleted(scheduled=tuple(scheduled), left_alone=left_alone, blocked=blocked)


def _schedule_deletion(
    context: Context,
    destination: Destination,
    alterer: MetadataApplier,
    entry: JournalEntry,
    scheduled: list[str],
    left_alone: dict[str, str],
) -> None:
    """Delete one object; DestinationError, OwnershipConflictError where it has to stay for now."""
    name, account = entry.remote_name, destination.account_id()
    if account != entry.account:
        raise DestinationError(f"it is in account {entry.account}, the credential leads to {account}")
    policy = PlanContext(
        instance_id=context.instance_id,
        account=account,
        region=entry.region,
        now=context.clock.now(),
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
            if ownership_of(seen, entry, context.instance_id) is Ownership.OURS and entry.arn == seen.arn:
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


def find_for_force_deletion(
    context: Context, credential: str, region: str | None, remote_name: str, *, kind: str
) -> tuple[Sync, Observed]:
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
    check_may_delete(context)
    found = context.store.credentials.get(credential)
    where = _region(remote_name, region, found)
    seen = context.destinations.open(kind, found, where).observe(remote_name)
    if seen is None:
        raise NotFoundError(
            f"there is no secret {remote_name} in {where}",
            hint=f"phasesync aws list-secrets --credential {credential}",
        )
    sync = _writer_of(context, seen)
    _entry_of(context, sync, seen)
    _check(seen, where)
    return sync, seen


def force_delete(
    context: Context, credential: str, region: str | None, remote_name: str, *, kind: str, actor: str
) -> Sync:
    """
    Delete one object at once and for good; the journal of the sync that wrote it knows it from then on.

    Args: as `find`.

    Raises:
        NotFoundError, OwnershipConflictError, IllegalTransitionError: as `find`.
        ClaimHeldError: another process keeps reconciling the sync.
        DestinationError: AWS refuses.
    """
    sync, _ = find_for_force_deletion(context, credential, region, remote_name, kind=kind)
    reach = context.store.credentials.get(credential)
    with held_claim(context, sync, actor=actor) as (claim, checkpoint):
        pen = JournalWriter(context, claim)
        where = _region(remote_name, region, reach)
        destination = context.destinations.open(kind, reach, where, tenant=sync.id)
        seen = destination.observe(remote_name)
        if seen is None:
            raise NotFoundError(f"there is no secret {remote_name} any more")
        entry = _entry_of(context, sync, seen)
        _check(seen, where)
        # Noted before the call: the next run must not take it for an object that somebody else deleted.
        now = context.clock.now()
        noted = pen.save(replace(entry, touched_at=now, deletion_at=now))
        try:
            checkpoint()
            destination.delete(seen.arn, recovery_days=None)
        except OutcomeUnknownError:
            raise
        except PhasesyncError:
            pen.save(replace(noted, deletion_at=entry.deletion_at))
            raise
    return sync


def _writer_of(context: Context, seen: Observed) -> Sync:
    """Return the sync of this database that an object's tags name. OwnershipConflictError."""
    if seen.tags.get(TAG_INSTANCE) != context.instance_id:
        raise _not_ours(seen, "does not carry the tags of this phasesync")
    for sync in context.store.syncs.list_syncs():
        if sync.id == seen.tags.get(TAG_SYNC):
            return sync
    raise _not_ours(seen, "carries the tags of a sync that this database does not have")


def _entry_of(context: Context, sync: Sync, seen: Observed) -> JournalEntry:
    for entry in context.store.syncs.state_of(sync.name).journal:
        if entry.arn == seen.arn and ownership_of(seen, entry, context.instance_id) is Ownership.OURS:
            return entry
    raise _not_ours(seen, "carries our tags, but the journal of this database does not have its ARN")


def _region(remote_name: str, region: str | None, credential: Credential) -> str:
    """Return the Region of an object. InvalidInputError."""
    where = region_of_secret(remote_name, region, otherwise=credential.region)
    return check_same_partition(where, credential.region, of=f"the credential {credential.name}")


def _check(seen: Observed, region: str) -> None:
    if (refusal := refusal_of(seen.name, seen, region)) is not None:
        raise OwnershipConflictError(
            f"{seen.name} is not deleted: {refusal[0]}", hint="what AWS looks after is deleted with AWS's own tools"
        )
    if seen.cross_account_copies:
        raise OwnershipConflictError(
            f"{seen.name} is not deleted: {describe_copies(seen)}", hint=commands_to_end_copies(seen, region)
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


RELEASED = "released"
"""Why a released sync is paused."""


@dataclass(frozen=True, kw_only=True)
class Released:
    """What came of it: names that were given back, and remote name -> why it is still ours."""

    given_back: tuple[str, ...]
    kept: dict[str, str]


def release_sync(context: Context, name: str, *, actor: str) -> Released:
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
    sync = context.store.syncs.get_sync(name)
    check_may_release(context)
    # Before anything else, so that no run makes anew what is given back.
    context.store.syncs.pause(sync.name, Paused(by=actor, at=context.clock.now(), reason=RELEASED, until=None))
    given_back: list[str] = []
    kept: dict[str, str] = {}
    with held_claim(context, sync, actor=actor) as (claim, checkpoint):
        state, pen = context.store.syncs.load(claim), JournalWriter(context, claim)
        gone: DestinationError | None = None
        for entry in filter(_is_known, state.journal):
            if gone is not None:  # It would meet every further object, each after its time-outs.
                kept[entry.remote_name] = f"not tried: {gone.message}"
                continue
            try:
                destination = context.destinations.open(
                    sync.destination_kind, state.credential, entry.region, tenant=sync.id
                )
                _give_back(context, destination, entry, checkpoint)
            except DestinationError as error:
                gone = error if isinstance(error, END_OF_LOOKING) else None
                kept[entry.remote_name] = error.message
                continue
            pen.save(release_object(entry))
            given_back.append(entry.remote_name)
    return Released(given_back=tuple(given_back), kept=kept)


def _give_back(context: Context, destination: Destination, entry: JournalEntry, checkpoint: Checkpoint) -> None:
    """Put tags back where the object is still ours; there is nothing to do where it is not."""
    account = destination.account_id()
    if account != entry.account:
        raise DestinationError(f"it is in account {entry.account}, the credential leads to {account}")
    seen = destination.observe(entry.remote_name)
    if seen is None or ownership_of(seen, entry, context.instance_id) is not Ownership.OURS:
        return
    back = restore_tags(seen, entry, owner_tags(context.instance_id, entry.sync_id))
    checkpoint()
    destination.update_metadata(seen.arn, tags=back.tags or None, untag=back.untag)
