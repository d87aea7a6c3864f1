"""
What to do with a remote object that a sync wrote and no longer wants. The first row that matches decides:

    on-remove   observed                                result
    ---------   -------------------------------------   -------------------------------------------------
    retain      AWS is not asked                        nothing: retained
    any         in another account or Region            nothing: retained
    delete      absent                                  nothing: it is gone
    delete      not proven ours, or managed by AWS      nothing: never touched
    delete      scheduled for deletion                  nothing; reports that it was still read, and when
    delete      its key was removed from the store      nothing yet; reports when
                less than the grace period ago
    delete      has copies in other accounts            refuse: their replication has to be ended first
    delete      has copies that we did not make         refuse: a deletion would have to remove them
    delete      has copies that we made                 remove the copies, observe again later
    delete      present                                 delete, with the recovery window

A deletion needs the journal: an object that only carries our tags is never deleted.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from phasesync.core.change import Change, DecisionRow, PlanContext
from phasesync.core.planning.ownership import (
    NOT_OURS,
    Ownership,
    commands_to_end_copies,
    describe_copies,
    ownership_of,
    refusal_of,
)
from phasesync.core.remote import Action, JournalEntry, Observed
from phasesync.core.sync import OnRemove


def decide_unwanted(entry: JournalEntry, observed: Mapping[str, Observed | None], context: PlanContext) -> Change:
    """
    Return the one change for an object that is no longer wanted.

    Args:
        entry: its journal entry.
        observed: remote name -> what AWS reports; None if absent. AWS was not asked about a name that is not in it.
        context: says whether it is deleted.
    """

    def nothing(reason: str) -> Change:
        return _change(entry, None, Action.NOOP, reason)

    here = (entry.account, entry.region) == (context.account, context.region)
    if not here:
        # The sync may write to the same name elsewhere by now.
        return nothing(f"left behind in account {entry.account}, {entry.region}: retained")
    if context.on_remove is OnRemove.RETAIN or entry.remote_name not in observed:
        return nothing("no longer wanted: retained")
    remote = observed[entry.remote_name]
    if remote is None:
        return nothing("no longer wanted, and gone")
    ownership = ownership_of(remote, entry, context.instance_id)
    if ownership is not Ownership.OURS or entry.arn != remote.arn:
        return nothing(f"no longer wanted; left alone: {NOT_OURS.get(ownership, 'another object has its name')}")
    if (refusal := refusal_of(entry.remote_name, remote, context.region)) is not None:
        return nothing(f"no longer wanted; left alone: {refusal[0]}")
    if remote.deleted_at is not None:
        # AWS's documents disagree on what its date means: when it was deleted, or when it will be gone.
        return nothing(f"no longer wanted: scheduled for deletion{_read_since(entry, remote)}")
    due_at = (entry.unwanted_since or context.now) + context.grace
    if context.now < due_at:
        return replace(nothing(f"no longer wanted: deleted after {due_at:%Y-%m-%d %H:%M:%S} UTC"), due_at=due_at)
    return _delete(entry, remote)


def _delete(entry: JournalEntry, remote: Observed) -> Change:
    if remote.cross_account_copies:
        reason = f"not deleted: {describe_copies(remote)}"
        return _change(entry, remote, Action.REFUSE, reason, hint=commands_to_end_copies(remote, entry.region))
    if others := sorted(remote.replicas.keys() - set(entry.replicas_written)):
        reason = f"not deleted: it has copies in {', '.join(others)} that phasesync did not make"
        hint = (
            f"aws secretsmanager remove-regions-from-replication --secret-id {entry.remote_name} "
            f"--remove-replica-regions {' '.join(others)}"
        )
        return _change(entry, remote, Action.REFUSE, reason, hint=hint)
    if remote.replicas:
        reason = "its copies are removed before its deletion"
        replicas = tuple(sorted(remote.replicas))
        return _change(entry, remote, Action.REPLICATE, reason, deletes=True, remove_replicas=replicas)
    reason = f"its key is gone from the store{_read_since(entry, remote)}"
    return _change(entry, remote, Action.DELETE, reason, deletes=True)


def _change(entry: JournalEntry, remote: Observed | None, action: Action, reason: str, **more: Any) -> Change:
    return Change(
        action=action,
        remote_name=entry.remote_name,
        row=DecisionRow.NO_LONGER_WANTED,
        reason=reason,
        observed=remote,
        entry=entry,
        **more,
    )


def _read_since(entry: JournalEntry, remote: Observed) -> str:
    """
    Return a clause if the object was read on a later day than its key was removed.

    AWS keeps the day alone (API reference, LastAccessedDate).
    """
    read_on = remote.last_read_on
    if entry.unwanted_since is None or read_on is None or read_on <= entry.unwanted_since.date():
        return ""
    return (
        f"; someone still read it on {read_on}: to keep it, set its key again, or aws secretsmanager "
        f"restore-secret --secret-id {entry.remote_name}"
    )
