"""
What becomes of a remote object that a sync wrote and no longer wants. The first row that matches:

    on-remove   observed                                result
    ---------   -------------------------------------   -------------------------------------------------
    retain      not asked for                           nothing: retained
    any         in another account or Region            nothing: retained
    delete      absent                                  nothing: it is gone
    delete      not proven ours, or AWS's to manage     nothing: never touched
    delete      scheduled for deletion                  nothing; says when somebody still read it
    delete      gone from the store for less than       nothing yet; says when
                the grace
    delete      has copies in other accounts            refuse: their replication has to be ended first
    delete      has copies that we did not make         refuse: deleting would need them to go
    delete      has copies                              remove the copies, look again later
    delete      present                                 delete, with the recovery window

Deleting needs the journal: an object that only carries our tags is never deleted.
"""

from collections.abc import Mapping
from dataclasses import replace

from phasesync.core.change import Change, PlanContext
from phasesync.core.planning.ownership import (
    NOT_OURS,
    Ownership,
    copies_in_other_accounts,
    how_to_end_copies,
    ownership_of,
    refusal_of,
)
from phasesync.core.remote import Action, JournalEntry, Observed
from phasesync.core.sync import OnRemove


def decide_unwanted(entry: JournalEntry, observed: Mapping[str, Observed | None], policy: PlanContext) -> Change:
    """
    Return the one change for an object that is no longer wanted.

    Args:
        entry: its journal entry.
        observed: remote name -> what AWS reports, None = absent. A name that is not in it was not asked for.
        policy: says whether it is deleted.
    """

    def nothing(reason: str) -> Change:
        return Change(action=Action.NOOP, remote_name=entry.remote_name, reason=reason, entry=entry)

    here = (entry.account, entry.region) == (policy.account, policy.region)
    if policy.on_remove is OnRemove.RETAIN or not here or entry.remote_name not in observed:
        return nothing("no longer wanted: retained")
    seen = observed[entry.remote_name]
    if seen is None:
        return nothing("no longer wanted, and gone")
    ownership = ownership_of(seen, entry, policy.instance_id)
    if ownership is not Ownership.OURS or entry.arn != seen.arn:
        return nothing(f"no longer wanted; left alone: {NOT_OURS.get(ownership, 'another object has its name')}")
    if (refusal := refusal_of(entry.remote_name, seen, policy.region)) is not None:
        return nothing(f"no longer wanted; left alone: {refusal[0]}")
    if seen.deleted_at is not None:
        # AWS's documents disagree on what its date means: when it was deleted, or when it will be gone.
        return nothing(f"no longer wanted: scheduled for deletion{_read_since(entry, seen)}")
    due_at = (entry.unwanted_since or policy.now) + policy.grace
    if policy.now < due_at:
        return replace(nothing(f"no longer wanted: deleted after {due_at:%Y-%m-%d %H:%M:%S} UTC"), due_at=due_at)
    return _delete(entry, seen)


def _delete(entry: JournalEntry, seen: Observed) -> Change:
    if seen.cross_account_copies:
        return Change(
            action=Action.REFUSE,
            remote_name=entry.remote_name,
            reason=f"not deleted: {copies_in_other_accounts(seen)}",
            observed=seen,
            entry=entry,
            hint=how_to_end_copies(seen, entry.region),
        )
    others = sorted(seen.replicas.keys() - set(entry.replicas_written))
    if others:
        return Change(
            action=Action.REFUSE,
            remote_name=entry.remote_name,
            reason=f"not deleted: it has copies in {', '.join(others)} that phasesync did not make",
            observed=seen,
            entry=entry,
            hint=f"aws secretsmanager remove-regions-from-replication --secret-id {entry.remote_name} "
            f"--remove-replica-regions {' '.join(others)}",
        )
    if seen.replicas:
        return Change(
            action=Action.REPLICATE,
            remote_name=entry.remote_name,
            reason="its copies are removed before its deletion",
            observed=seen,
            entry=entry,
            deletes=True,
            remove_replicas=tuple(sorted(seen.replicas)),
        )
    return Change(
        action=Action.DELETE,
        remote_name=entry.remote_name,
        reason=f"its key is gone from the store{_read_since(entry, seen)}",
        observed=seen,
        entry=entry,
        deletes=True,
    )


def _read_since(entry: JournalEntry, seen: Observed) -> str:
    """
    Return a clause where somebody read it on a later day than its key was removed.

    AWS keeps the day alone (API reference, LastAccessedDate).
    """
    if entry.unwanted_since is None or seen.last_read_on is None or seen.last_read_on <= entry.unwanted_since.date():
        return ""
    return (
        f"; somebody still read it on {seen.last_read_on}: to keep it, set its key again, or aws secretsmanager "
        f"restore-secret --secret-id {entry.remote_name}"
    )
