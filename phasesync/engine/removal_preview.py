"""
What removing or releasing a sync would do to its AWS secrets, for dry runs.

Only asks: stores nothing and makes no call that changes something.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from phasesync.core.planned_call import PlannedCall
from phasesync.core.planning.journal import intend_deletion, settle_by_evidence
from phasesync.core.planning.ownership import marks_on
from phasesync.core.remote import Action, JournalEntry, Observed
from phasesync.core.sync import Sync
from phasesync.engine.apply import deletion_mark
from phasesync.engine.context import Context
from phasesync.engine.error_hints import hint_of
from phasesync.engine.removal import (
    deletion_of,
    former_tags_of,
    is_ours,
    may_exist,
    visit_each,
    was_written,
    why_blocked,
)
from phasesync.engine.stale_database import check_may_delete, check_may_release
from phasesync.errors import CiphertextError, DestinationRejectedError
from phasesync.ports.destination import Destination


@dataclass(kw_only=True)
class RemovalPreview:
    """
    What would happen to the AWS secrets of a sync.

    Attributes:
        done: names of those that the command would be done with: unmarked, scheduled for deletion, or given back.
        left_alone: remote name -> why it was never ours to delete.
        kept: remote name -> why it would stay ours.
        notes: lines on what cannot be read.
        calls: the calls that change something.
    """

    done: list[str] = field(default_factory=list)
    left_alone: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    calls: list[PlannedCall] = field(default_factory=list)


def preview_removal(context: Context, name: str) -> RemovalPreview:
    """Return what `removal.remove_sync` would do: the objects stay, without our owner tags if that is allowed."""
    preview = RemovalPreview()
    try:
        state = context.store.sync_states.state_of(name)
    except CiphertextError:
        preview.notes.append(f"what {name} wrote keeps our tags: what the database says of it was altered")
        return preview
    sync = state.sync
    if context.store.restore_mark.is_set():
        why = "this database is an older backup that was not accepted"
        preview.kept = {entry.remote_name: why for entry in state.journal if may_exist(entry)}
        return preview

    def unmark(_destination: Destination, entry: JournalEntry, observed: Observed | None) -> None:
        if observed is not None and is_ours(context, observed, entry):
            _check_tags_can_change(observed)
            untag = sorted(marks_on(observed, context.instance_id, sync.id))
            preview.calls.append(_call(Action.RETAG, entry, {"tags": {}, "untag": untag}))
            preview.done.append(entry.remote_name)

    known = filter(may_exist, state.journal)
    for visit in visit_each(context, sync, state.credential, known, unmark, elsewhere="not in"):
        if visit.error is not None:
            preview.kept[visit.entry.remote_name] = visit.error.message
    return preview


def preview_deletion(context: Context, name: str) -> RemovalPreview:
    """
    Return what `removal.remove_sync_and_objects` would do: everything that the sync wrote is deleted.

    Raises:
        NotFoundError, CiphertextError, IllegalTransitionError, DestinationError: as that does.
    """
    state = context.store.sync_states.state_of(name)
    sync = state.sync
    check_may_delete(context)
    preview = RemovalPreview()

    def delete(_destination: Destination, entry: JournalEntry, observed: Observed | None) -> None:
        entry = settle_by_evidence(entry, observed)
        change = deletion_of(context, entry, observed)
        if change is None:
            return
        if change.action is Action.NOOP:
            preview.left_alone[entry.remote_name] = change.reason
            return
        if change.action is Action.REPLICATE:
            # Often they are gone at once, so that the deletion follows; if not, the command has to be repeated.
            removed = {"remove_replicas": list(change.remove_replicas)}
            preview.calls.append(_call(Action.REPLICATE, entry, removed))
        mark = deletion_mark(context, intend_deletion(entry, context.clock.now()))
        preview.calls.append(_call(Action.DELETE, entry, {"recovery_days": sync.config.recovery_days, "tags": mark}))
        preview.done.append(entry.remote_name)

    written = filter(was_written, state.journal)
    for visit in visit_each(context, sync, state.credential, written, delete):
        if visit.error is None:
            continue
        if visit.stops:
            visit.error.hint = hint_of(visit.error, sync)
            raise visit.error
        preview.kept[visit.entry.remote_name] = why_blocked(visit.error, sync)
    return preview


def preview_release(context: Context, name: str) -> RemovalPreview:
    """
    Return what `removal.release_sync` would do: former tags are restored, and the sync is paused.

    Raises:
        NotFoundError, IllegalTransitionError: as that does.
    """
    state = context.store.sync_states.state_of(name)
    sync: Sync = state.sync
    check_may_release(context)
    preview = RemovalPreview()

    def release(_destination: Destination, entry: JournalEntry, observed: Observed | None) -> None:
        if observed is not None and is_ours(context, observed, entry):
            _check_tags_can_change(observed)
            back = former_tags_of(context, observed, entry)
            details = {"tags": dict(back.tags), "untag": list(back.untag)}
            preview.calls.append(_call(Action.RETAG, entry, details))

    known = filter(may_exist, state.journal)
    for visit in visit_each(context, sync, state.credential, known, release):
        if visit.error is not None:
            preview.kept[visit.entry.remote_name] = ("" if visit.tried else "not tried: ") + visit.error.message
        else:
            preview.done.append(visit.entry.remote_name)
    return preview


def _check_tags_can_change(observed: Observed) -> None:
    """Raise what AWS would: it refuses TagResource and UntagResource of a secret that is scheduled for deletion."""
    if observed.deleted_at is not None:
        raise DestinationRejectedError("it is scheduled for deletion, so AWS changes no tags of it")


def _call(action: Action, entry: JournalEntry, details: Mapping[str, object]) -> PlannedCall:
    return PlannedCall(action=str(action), target=entry.remote_name, details={"region": entry.region, **details})
