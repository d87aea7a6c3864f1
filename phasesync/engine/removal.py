"""
Ends what a sync does at AWS: removes the sync, deletes or releases its remote objects, force-deletes one object.

Touches only what the tags and the journal prove to be ours.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from phasesync.core.arns import region_of_secret
from phasesync.core.audit import NAMES_IN_LOG, AuditKind
from phasesync.core.change import Change, PlanContext
from phasesync.core.credential import Credential
from phasesync.core.planning.deletion import decide_unwanted
from phasesync.core.planning.journal import release_object, settle_by_evidence
from phasesync.core.planning.ownership import (
    Ownership,
    commands_to_end_copies,
    describe_copies,
    marks_on,
    ownership_of,
    refusal_of,
)
from phasesync.core.project.ownership import ObjectKind
from phasesync.core.regions import check_same_partition
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC, Action, JournalEntry, Observed
from phasesync.core.sync import OnRemove, Paused, Sync
from phasesync.core.tags import TagRestoration, restore_tags
from phasesync.engine.apply import JournalWriter, MetadataApplier
from phasesync.engine.approvals import approved, carrying_out, object_deletion_of, release_of
from phasesync.engine.claims import held_claim, release_claim, take_claim
from phasesync.engine.context import Context
from phasesync.engine.error_hints import hint_of
from phasesync.engine.observe import STOPS_OBSERVING
from phasesync.engine.older_copy import is_restored
from phasesync.engine.stale_database import check_may_delete, check_may_release
from phasesync.errors import (
    ApprovalNeededError,
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
from phasesync.store.syncs import removal_of


@dataclass(frozen=True, kw_only=True)
class _Visit:
    """
    One object of the journal that a verb was applied to.

    Attributes:
        error: why that failed; None if it succeeded.
        tried: False if an earlier failure would have met this object too.
    """

    entry: JournalEntry
    error: DestinationError | OwnershipConflictError | None = None
    tried: bool = True

    @property
    def stops(self) -> bool:
        """Whether the failure would meet every further object too, each after its time-outs."""
        return isinstance(self.error, STOPS_OBSERVING)


Act = Callable[[Destination, JournalEntry, Observed | None], None]
"""Does something to a remote object: its destination, its journal entry, what AWS shows (None if it does not exist)."""


def visit_each(
    context: Context,
    sync: Sync,
    credential: Credential,
    entries: Iterable[JournalEntry],
    act: Act,
    *,
    elsewhere: str = "the credential leads to",
) -> Iterator[_Visit]:
    """
    Observe each object of the journal in its own account and Region, and act on it.

    Calls nothing more once a failure would meet every further object too.

    Args:
        context: opens the destinations.
        sync: wrote the objects.
        credential: of the sync.
        entries: the journal entries of the objects.
        act: acts on one object.
        elsewhere: text in front of the account if the credential leads to another one.
    """
    stopped: DestinationError | None = None
    for entry in entries:
        if stopped is not None:
            yield _Visit(entry=entry, error=stopped, tried=False)
            continue
        try:
            destination = context.destinations.open(sync.destination_kind, credential, entry.region, tenant=sync.id)
            if (account := destination.account_id()) != entry.account:
                raise DestinationError(f"it is in account {entry.account}, {elsewhere} {account}")
            act(destination, entry, destination.observe(entry.remote_name))
        except STOPS_OBSERVING as error:
            stopped = error
            yield _Visit(entry=entry, error=error)
        except (DestinationError, OwnershipConflictError) as error:
            yield _Visit(entry=entry, error=error)
        else:
            yield _Visit(entry=entry)


def is_ours(context: Context, observed: Observed | None, entry: JournalEntry) -> bool:
    """Return whether tags and journal prove that an object is ours."""
    return observed is not None and ownership_of(observed, entry, context.instance_id) is Ownership.OURS


def may_exist(entry: JournalEntry) -> bool:
    """Return whether there may be an object: a create may have landed although its answer was lost."""
    return entry.arn is not None or entry.intent is not None


# --- removing a sync, keeping its objects


def remove_sync(context: Context, name: str, *, actor: str) -> tuple[str, ...]:
    """
    Remove a sync, keep its remote objects, and remove our owner tags from them if that is allowed.

    Returns:
        Lines on objects that kept our tags.
    """
    try:
        sync = context.store.syncs.get_sync(name)
    except CiphertextError:
        try:
            context.store.syncs.remove_sync(name)
        except ApprovalNeededError as needed:
            with approved(context, needed, actor=actor):
                context.store.syncs.remove_sync(name)
        return (f"what {name} wrote keeps our tags: its row was altered, so nothing says where that is",)
    proposal = removal_of(sync.id, sync.name, sync.version, "keep")
    with carrying_out(context, sync, proposal, actor=actor, authenticate=False):
        return _remove_keeping(context, sync, actor)


def _remove_keeping(context: Context, sync: Sync, actor: str) -> tuple[str, ...]:
    name = sync.name
    claim = take_claim(context, sync, actor=actor, patience=timedelta(seconds=30))
    try:
        state = context.store.sync_states.load(claim)
    except CiphertextError:
        state = None
    finally:
        release_claim(context, claim)
    if state is None:
        context.store.syncs.remove_sync(name)
        return (f"what {name} wrote keeps our tags: its journal or credential was altered",)
    restored = is_restored(context)
    entries = context.store.syncs.remove_sync(name)
    if restored:
        return tuple(
            f"{entry.remote_name} keeps our tags: this database is an older backup that was not accepted"
            for entry in entries
            if may_exist(entry)
        )
    return tuple(remove_owner_tags(context, sync, state.credential, entries))


def remove_owner_tags(
    context: Context, sync: Sync, credential: Credential, entries: Sequence[JournalEntry]
) -> Iterator[str]:
    """
    Remove our owner tags from the objects of a sync that was removed; yield a line on each object that kept them.

    Args:
        context: opens the destinations.
        sync: wrote the objects.
        credential: of the sync.
        entries: its last journal.
    """

    def unmark(destination: Destination, entry: JournalEntry, observed: Observed | None) -> None:
        if observed is not None and is_ours(context, observed, entry):
            destination.update_metadata(observed.arn, untag=tuple(marks_on(observed, context.instance_id, sync.id)))

    known = filter(may_exist, entries)
    for visit in visit_each(context, sync, credential, known, unmark, elsewhere="not in"):
        if visit.error is None:
            continue
        more = ""
        if visit.stops and (left := len(entries) - 1 - entries.index(visit.entry)):
            more = f", as do {left} more that were not tried"
        yield f"{visit.entry.remote_name} keeps our tags{more}: {visit.error.message}"
        if visit.stops:
            return


# --- removing a sync with its objects

REMOVING = "being removed with its AWS secrets"
"""Why a sync is paused while its objects are deleted."""


@dataclass(frozen=True, kw_only=True)
class DeletionResult:
    """
    The result of deleting everything that a sync wrote.

    Attributes:
        scheduled: names of the objects with a deletion that is now scheduled.
        left_alone: remote name -> why the object was never ours to delete.
        blocked: remote name -> why the object could not be deleted; if not empty, the sync stays, paused.
    """

    scheduled: tuple[str, ...]
    left_alone: dict[str, str]
    blocked: dict[str, str]


def deletable_objects(context: Context, name: str) -> tuple[str, ...]:
    """Return the names of the objects that a sync wrote, without those scheduled for deletion. NotFoundError."""
    return tuple(
        entry.remote_name
        for entry in context.store.sync_states.state_of(name).journal
        if was_written(entry) and entry.deletion_at is None
    )


def remove_sync_and_objects(context: Context, name: str, *, actor: str) -> DeletionResult:
    """
    Schedule the deletion of everything that a sync wrote, and remove the sync if that succeeded.

    Args and Raises: as `delete_objects`.
    """
    sync = context.store.syncs.get_sync(name)
    with carrying_out(context, sync, removal_of(sync.id, sync.name, sync.version, "delete"), actor=actor) as carrying:
        result = delete_objects(context, name, actor=actor)
        carrying.complete = not result.blocked
        if not result.blocked:
            context.store.syncs.remove_sync(name)
        return result


def delete_objects(context: Context, name: str, *, actor: str) -> DeletionResult:
    """
    Pause a sync and schedule the deletion of everything that it wrote.

    Waits for nothing: copies in other Regions are removed first, and if that takes time, the command has to be
    repeated.

    Args:
        name: of the sync; it is paused first.
        actor: who asked.

    Raises:
        NotFoundError: the sync.
        CiphertextError: its row or journal was altered; the sync stays.
        IllegalTransitionError: this database was restored, and that was not accepted.
        ClaimHeldError: another process keeps reconciling it.
        DestinationError: a failure that would meet every object; the sync stays, paused.
    """
    sync = context.store.syncs.get_sync(name)
    check_may_delete(context)
    proposal = removal_of(sync.id, sync.name, sync.version, "delete")
    context.store.projects.check_by_hand(ObjectKind.SYNC, sync.id)
    context.store.apps.check_change(sync.environment_id, lambda: proposal)
    context.store.sync_requests.pause(sync.name, Paused(by=actor, at=context.clock.now(), reason=REMOVING, until=None))
    scheduled: list[str] = []
    left_alone: dict[str, str] = {}
    blocked: dict[str, str] = {}
    with held_claim(context, sync, actor=actor) as (claim, checkpoint):
        state, journal = context.store.sync_states.load(claim), JournalWriter(context, claim)

        def delete(destination: Destination, entry: JournalEntry, observed: Observed | None) -> None:
            applier = MetadataApplier(
                context, destination, journal, checkpoint, recovery_days=sync.config.recovery_days
            )
            change = _schedule_deletion(context, destination, applier, entry, observed)
            if change is not None and change.action is Action.DELETE:
                scheduled.append(entry.remote_name)
            elif change is not None:
                left_alone[entry.remote_name] = change.reason

        written = [entry for entry in state.journal if was_written(entry)]
        # Before AWS is asked: what a crash leaves there is in the log, too.
        objects = [entry.remote_name for entry in written]
        context.store.audit.add(
            "sync.delete-objects", sync.name, kind=AuditKind.CHANGE, details={"objects": objects[:NAMES_IN_LOG]}
        )
        for visit in visit_each(context, sync, state.credential, written, delete):
            if visit.error is None:
                continue
            if visit.stops:
                visit.error.hint = hint_of(visit.error, sync)
                raise visit.error
            blocked[visit.entry.remote_name] = why_blocked(visit.error, sync)
    return DeletionResult(scheduled=tuple(scheduled), left_alone=left_alone, blocked=blocked)


def was_written(entry: JournalEntry) -> bool:
    """Return whether a sync wrote the object of an entry, or may have."""
    return entry.written_before or entry.intent is not None


def _schedule_deletion(
    context: Context,
    destination: Destination,
    applier: MetadataApplier,
    entry: JournalEntry,
    observed: Observed | None,
) -> Change | None:
    """
    Delete one object.

    Returns:
        The deletion; or a noop with the reason why the object is not ours to delete; or None if the object is gone or
        its deletion was scheduled before.

    Raises:
        DestinationError, OwnershipConflictError: it has to stay for now.
    """
    # Twice at most: its copies are removed first, and often they are gone at once.
    for attempt in range(2):
        if attempt > 0:
            observed = destination.observe(entry.remote_name)
        entry = settle_by_evidence(entry, observed)
        change = deletion_of(context, entry, observed)
        if change is None or observed is None or change.action is Action.NOOP:
            return change
        entry = applier.delete(change, observed, entry)
        if change.action is Action.DELETE:
            return change
    raise RemoteChangedError("its copies in other Regions are being removed; repeat the command when they are gone")


def deletion_of(context: Context, entry: JournalEntry, observed: Observed | None) -> Change | None:
    """
    Return the next step of the deletion of one object that a sync wrote: its copies, or itself.

    A noop says why the object is not ours to delete; None: it is gone, or its deletion was scheduled before.

    Args:
        context: says which objects are ours.
        entry: its journal entry, its intent settled by what was observed.
        observed: what AWS shows; None if it does not exist.

    Raises:
        DestinationError, OwnershipConflictError: it has to stay for now.
    """
    context_of_plan = PlanContext(
        instance_id=context.instance_id,
        account=entry.account,
        region=entry.region,
        now=context.clock.now(),
        on_remove=OnRemove.DELETE,
        grace=timedelta(0),
    )
    change = decide_unwanted(entry, {entry.remote_name: observed}, context_of_plan)
    if change.action is Action.REFUSE:
        raise OwnershipConflictError(change.reason, hint=change.hint)
    if observed is None or (change.action is Action.NOOP and observed.deleted_at is not None):
        return None
    if change.action is Action.NOOP and is_ours(context, observed, entry) and entry.arn == observed.arn:
        raise DestinationError(change.reason)
    return change


def why_blocked(error: PhasesyncError, sync: Sync) -> str:
    """Return why an object of a sync could not be deleted, and what fixes that."""
    hint = hint_of(error, sync)
    if isinstance(error, PermissionDeniedError) and sync.config.on_remove is OnRemove.RETAIN:
        hint = (
            f"phasesync aws policy {sync.name} prints a policy with that right after "
            f"phasesync syncs update {sync.name} --on-remove delete"
        )
    return error.message + (f" ({hint})" if hint else "")


# --- releasing a sync

RELEASED = "released"
"""Why a released sync is paused."""


@dataclass(frozen=True, kw_only=True)
class ReleaseResult:
    """The result of a release: names of the objects that were given back, and remote name -> why one is still ours."""

    given_back: tuple[str, ...]
    kept: dict[str, str]


def release_sync(context: Context, name: str, *, actor: str) -> ReleaseResult:
    """
    Pause a sync, restore the former tags of its remote objects, and forget the objects.

    Writes no value and deletes nothing.

    Args:
        name: of the sync.
        actor: who asked.

    Returns:
        What was given back. What AWS refused stays ours, and the command can be repeated.

    Raises:
        NotFoundError: the sync.
        IllegalTransitionError: this database was restored, and that was not accepted.
        ClaimHeldError: another process keeps reconciling it.
    """
    sync = context.store.syncs.get_sync(name)
    check_may_release(context)
    with carrying_out(context, sync, release_of(sync), actor=actor) as carrying:
        done = _release(context, sync, actor)
        carrying.complete = not done.kept
        return done


def _release(context: Context, sync: Sync, actor: str) -> ReleaseResult:
    # First of all, so that no run writes the objects again.
    context.store.sync_requests.pause(sync.name, Paused(by=actor, at=context.clock.now(), reason=RELEASED, until=None))
    given_back: list[str] = []
    kept: dict[str, str] = {}
    with held_claim(context, sync, actor=actor) as (claim, checkpoint):
        state, journal = context.store.sync_states.load(claim), JournalWriter(context, claim)

        def release(destination: Destination, entry: JournalEntry, observed: Observed | None) -> None:
            if observed is not None and is_ours(context, observed, entry):
                back = former_tags_of(context, observed, entry)
                checkpoint()
                destination.update_metadata(observed.arn, tags=back.tags or None, untag=back.untag)

        known = [entry for entry in state.journal if may_exist(entry)]
        objects = [entry.remote_name for entry in known]
        context.store.audit.add(
            "sync.release", sync.name, kind=AuditKind.CHANGE, details={"objects": objects[:NAMES_IN_LOG]}
        )
        for visit in visit_each(context, sync, state.credential, known, release):
            if visit.error is not None:
                kept[visit.entry.remote_name] = ("" if visit.tried else "not tried: ") + visit.error.message
                continue
            journal.save(release_object(visit.entry))
            given_back.append(visit.entry.remote_name)
    return ReleaseResult(given_back=tuple(given_back), kept=kept)


def former_tags_of(context: Context, observed: Observed, entry: JournalEntry) -> TagRestoration:
    """Return what restores the tags that an object of ours had before it was ours."""
    return restore_tags(observed, entry, marks_on(observed, context.instance_id, entry.sync_id))


# --- deleting one object at once and for good


def find_for_force_deletion(
    context: Context, credential: str, region: str | None, remote_name: str, *, kind: str
) -> tuple[Sync, Observed]:
    """
    Return the sync that wrote an object, and the object, if it may be deleted by force.

    Args:
        credential: name of the credential that reaches it.
        region: None means the Region of the credential.
        remote_name: its name.
        kind: destination kind.

    Raises:
        InvalidInputError: a part of an ARN, or a Region of another one.
        NotFoundError: the credential, or the object.
        OwnershipConflictError: it is not proven ours, it is a copy or has copies, or a service manages it.
        IllegalTransitionError: this database was restored, and that was not accepted.
    """
    check_may_delete(context)
    reach = context.store.credentials.get(credential)
    where = _region_of(remote_name, region, reach)
    observed = context.destinations.open(kind, reach, where).observe(remote_name)
    if observed is None:
        raise NotFoundError(
            f"there is no secret {remote_name} in {where}",
            hint=f"phasesync aws list-secrets --credential {credential}",
        )
    sync = _writer_of(context, observed)
    _entry_of(context, sync, observed)
    _check_deletable(observed, where)
    return sync, observed


def force_delete(
    context: Context, credential: str, region: str | None, remote_name: str, *, kind: str, actor: str
) -> Sync:
    """
    Delete one object at once and for good, and note that in the journal of the sync that wrote it.

    Args: as `find_for_force_deletion`.

    Raises:
        NotFoundError, OwnershipConflictError, IllegalTransitionError: as `find_for_force_deletion`.
        ClaimHeldError: another process keeps reconciling the sync.
        DestinationError: AWS refuses.
    """
    sync, found = find_for_force_deletion(context, credential, region, remote_name, kind=kind)
    command = f"phasesync aws force-delete {remote_name} --credential {credential}"
    command += f" --region {region}" if region else ""
    reach = context.store.credentials.get(credential)
    with carrying_out(context, sync, object_deletion_of(sync, found.arn, reach, command), actor=actor):
        _force_delete(context, sync, credential, region, remote_name, kind=kind, actor=actor)
    return sync


def _force_delete(
    context: Context, sync: Sync, credential: str, region: str | None, remote_name: str, *, kind: str, actor: str
) -> None:
    reach = context.store.credentials.get(credential)
    with held_claim(context, sync, actor=actor) as (claim, checkpoint):
        journal = JournalWriter(context, claim)
        where = _region_of(remote_name, region, reach)
        destination = context.destinations.open(kind, reach, where, tenant=sync.id)
        observed = destination.observe(remote_name)
        if observed is None:
            raise NotFoundError(f"there is no secret {remote_name} any more")
        entry = _entry_of(context, sync, observed)
        _check_deletable(observed, where)
        # Journalled before the call: the next run must not take it for a deletion by another party.
        now = context.clock.now()
        noted = journal.save(replace(entry, touched_at=now, deletion_at=now))
        context.store.audit.add(
            "aws.force-delete", sync.name, kind=AuditKind.CHANGE, details={"objects": [remote_name]}
        )
        try:
            checkpoint()
            destination.delete(observed.arn, recovery_days=None)
        except OutcomeUnknownError:
            raise
        except PhasesyncError:
            journal.save(replace(noted, deletion_at=entry.deletion_at))
            raise


def _writer_of(context: Context, observed: Observed) -> Sync:
    """Return the sync of this database that an object's tags name. OwnershipConflictError."""
    if observed.tags.get(TAG_INSTANCE) != context.instance_id:
        raise _not_ours(observed, "does not carry the tags of this phasesync")
    if (sync := context.store.syncs.find_by_id(observed.tags.get(TAG_SYNC, ""))) is not None:
        return sync
    raise _not_ours(observed, "carries the tags of a sync that this database does not have")


def _entry_of(context: Context, sync: Sync, observed: Observed) -> JournalEntry:
    for entry in context.store.sync_states.state_of(sync.name).journal:
        if entry.arn == observed.arn and ownership_of(observed, entry, context.instance_id) is Ownership.OURS:
            return entry
    raise _not_ours(observed, "carries our tags, but the journal of this database does not have its ARN")


def _region_of(remote_name: str, region: str | None, credential: Credential) -> str:
    """Return the Region of an object. InvalidInputError."""
    where = region_of_secret(remote_name, region, otherwise=credential.region)
    return check_same_partition(where, credential.region, of=f"the credential {credential.name}")


def _check_deletable(observed: Observed, region: str) -> None:
    if (refusal := refusal_of(observed.name, observed, region)) is not None:
        raise OwnershipConflictError(
            f"{observed.name} is not deleted: {refusal[0]}", hint="what AWS looks after is deleted with AWS's own tools"
        )
    if observed.cross_account_copies:
        raise OwnershipConflictError(
            f"{observed.name} is not deleted: {describe_copies(observed)}",
            hint=commands_to_end_copies(observed, region),
        )
    if observed.replicas:
        raise OwnershipConflictError(
            f"{observed.name} is not deleted: it has copies in {', '.join(sorted(observed.replicas))}",
            hint="have the sync want no copies (phasesync syncs update SYNC --replica none), run it, and repeat",
        )


def _not_ours(observed: Observed, reason: str) -> OwnershipConflictError:
    return OwnershipConflictError(
        f"{observed.name} is not deleted: it {reason}", hint="what is not proven ours is never deleted from here"
    )
