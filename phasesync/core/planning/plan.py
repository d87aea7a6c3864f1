"""
The plan: what one run would do, as a value. Pure; `engine/apply.py` carries it out.

The first row that matches decides on one remote object that is wanted; `unwanted.py` has the rows for the others:

    observed                             ownership   result
    -----------------------------------  ----------  -------------------------------------------------
    name with "!", or OwningService      any         refuse: a service manages it
    Type: a managed external secret      any         refuse: AWS rotates it with a partner, which is named
    PrimaryRegion is not our Region      any         refuse: a replica; names the primary Region
    CrossAccountPrimary                  any         refuse: a copy of another account's secret, which is named
    rotation on, or AWSPENDING pending   any         refuse: AWS rotates it
    absent, never written                -           create; held when the source is empty
    absent, written before               -           drift "missing": create
    any                                  not proven  conflict, or take over with the operator's consent
    scheduled for deletion               ours        restore, then plan again
    a write may still land (intent)      ours        put, spending the same token; drift where somebody wrote as well
    no AWSCURRENT                        ours        put
    current id is not the journalled     ours        drift "changed outside": put
    current id as journalled             ours        put where the fingerprint differs, else nothing

An object that could not be described is in no plan: `engine/reconcile.py` notes it as failed. A database that is older
than AWS never comes this far (`engine/restored.py`). Whether drift is repaired or held is `guard.py`'s.

Metadata (`metadata.py`) is compared apart from the value; a dimension that is not set is left alone. A new key always
brings a fresh version, so that the current value is under the new key alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from phasesync.core.change import ORDER, VALUE_WRITES, Change, KeyDiff, Plan, PlanContext
from phasesync.core.fingerprint import same
from phasesync.core.planning.deletion import decide_unwanted
from phasesync.core.planning.losses import emptied, recent_lives
from phasesync.core.planning.metadata import Dimension, changed_outside, differing, key_differs, replica_diff
from phasesync.core.planning.ownership import NOT_OURS, Ownership, ownership_of, refusal_of
from phasesync.core.remote import Action, Desired, JournalEntry, Observed
from phasesync.core.sync import Adopt, Layout


def make_plan(
    desired: Iterable[Desired],
    observed: Mapping[str, Observed | None],
    journal: Mapping[str, JournalEntry],
    left_behind: Iterable[JournalEntry],
    policy: PlanContext,
    *,
    unlooked: Iterable[JournalEntry] = (),
    unseen: Iterable[JournalEntry] = (),
) -> Plan:
    """
    Decide what to do.

    Args:
        desired: the wanted objects.
        observed: remote name -> what AWS reports, None = absent; has every desired name, and where unwanted objects are
            deleted also theirs.
        journal: remote name -> journal entry for the account and Region that the sync writes to; has every desired
            name (an empty entry where nothing was written yet).
        left_behind: entries of objects that the sync wrote and no longer wants, here and elsewhere.
        policy: the rest.
        unlooked: entries of wanted objects that are in no change, because AWS was not asked or did not say.
        unseen: entries of objects that are no longer wanted, and of which AWS did not say how they stand.
    """
    # A write whose answer was lost may have landed, so an open intent counts as an object that stays.
    stays = [entry for entry in left_behind if entry.written_before or entry.intent is not None]
    changes: list[Change] = []
    ours = [entry for entry in stays if _is_asked_for(entry, observed, policy)]
    gone = [entry for entry in ours if entry.deletion_at is not None]
    standing = [entry for entry in ours if entry.deletion_at is None]
    for wanted in desired:
        entry = journal[wanted.remote_name]
        if entry.written_before:
            standing.append(entry)
        seen = observed[wanted.remote_name]
        changes += _decide(wanted, seen, entry, moves=_moves(wanted, stays, policy.layout), policy=policy)
    for entry in stays:
        changes.append(decide_unwanted(entry, observed, policy))
    ordered = sorted(changes, key=lambda change: (change.remote_name, ORDER.index(change.action)))
    lost = list(unseen)
    standing += [*lost, *(entry for entry in unlooked if entry.written_before)]
    going = {change.remote_name for change in changes if change.deletes or change.due_at is not None}
    going |= {entry.remote_name for entry in lost}
    lives = tuple(recent_lives(standing, gone, going))
    return Plan(changes=tuple(ordered), objects=len(standing), unseen=len(lost), lives=lives)


def _is_asked_for(entry: JournalEntry, observed: Mapping[str, Observed | None], policy: PlanContext) -> bool:
    """Return whether an object that is no longer wanted may be deleted at all: what stays for good is not asked for."""
    return (entry.account, entry.region) == (policy.account, policy.region) and entry.remote_name in observed


def _moves(wanted: Desired, stays: Iterable[JournalEntry], layout: Layout) -> bool:
    """Return whether an object that stays behind held what this one is to hold."""
    if layout is Layout.JSON:
        return any(True for _ in stays)
    return any(entry.keys.keys() & wanted.payload.keys.keys() for entry in stays)


def _decide(
    wanted: Desired, seen: Observed | None, entry: JournalEntry, *, moves: bool, policy: PlanContext
) -> list[Change]:
    refusal = refusal_of(wanted.remote_name, seen, policy.region)
    if refusal is not None:
        reason, hint = refusal
        return [Change(action=Action.REFUSE, remote_name=wanted.remote_name, reason=reason, observed=seen, hint=hint)]

    def change(action: Action, reason: str, *, drift: bool = False, adopts: bool = False) -> Change:
        return Change(
            action=action,
            remote_name=wanted.remote_name,
            reason=reason,
            desired=wanted,
            observed=seen,
            entry=entry,
            keys=_key_diff(entry, wanted) if action in VALUE_WRITES else KeyDiff(),
            drift=drift,
            source_empty=action in VALUE_WRITES and not wanted.payload.keys and not entry.written_before,
            adopts=adopts,
            moves=moves and not entry.written_before and action in VALUE_WRITES,
        )

    if seen is None:
        if entry.written_before:
            return [change(Action.CREATE, "missing: deleted outside phasesync", drift=True)]
        return [change(Action.CREATE, "does not exist yet")]

    ownership = ownership_of(seen, entry, policy.instance_id)
    if ownership is not Ownership.OURS:
        return _not_ours(wanted, seen, entry, ownership, change, policy)
    if seen.deleted_at is not None:
        by_us = entry.deletion_at is not None
        reason = "wanted again: its deletion is cancelled" if by_us else "scheduled for deletion outside phasesync"
        return [change(Action.RESTORE, reason, drift=not by_us)]
    changes = _bring_in_step(wanted, seen, entry, change) or [change(Action.NOOP, "as wanted")]
    return changes + _blocked_replicas(wanted, seen, entry)


def _not_ours(
    wanted: Desired,
    seen: Observed,
    entry: JournalEntry,
    ownership: Ownership,
    change: "_MakeChange",
    policy: PlanContext,
) -> list[Change]:
    def conflict(reason: str, hint: str | None) -> list[Change]:
        return [Change(action=Action.CONFLICT, remote_name=wanted.remote_name, reason=reason, observed=seen, hint=hint)]

    if policy.adopt is None or _is_beyond(policy, wanted.remote_name):
        return conflict(NOT_OURS[ownership], None)
    if seen.deleted_at is not None:
        return conflict(
            "not ours, and scheduled for deletion",
            f"aws secretsmanager restore-secret --secret-id {wanted.remote_name}, then adopt it",
        )
    if policy.adopt is not Adopt.OVERWRITE and seen.current_version != policy.adopt_versions.get(wanted.remote_name):
        return conflict(
            "changed since it was imported", f"import it again: phasesync syncs adopt NAME --import {policy.adopt}"
        )
    taken_over = "taken over with the operator's consent"
    differs = differing(wanted, seen, entry)
    write = Action.REKEY if Dimension.KEY in differs else Action.PUT
    changes = [change(Action.RETAG, taken_over, adopts=True), change(write, taken_over, adopts=True)]
    if Dimension.DESCRIPTION in differs:
        changes.append(change(Action.SET_DESCRIPTION, "description differs", adopts=True))
    # Tags and description wait with the value: what is held must not mark somebody else's object already. Copies and
    # policy follow when it is ours.
    return [replace(one, source_empty=changes[1].source_empty, moves=changes[1].moves) for one in changes]


def _is_beyond(policy: PlanContext, remote_name: str) -> bool:
    """Return whether a consent to overwrite was given for other objects: what came later was not seen by anybody."""
    seen = policy.adopt_versions
    return policy.adopt is Adopt.OVERWRITE and bool(seen) and remote_name not in seen


def _bring_in_step(wanted: Desired, seen: Observed, entry: JournalEntry, change: "_MakeChange") -> list[Change]:
    changes: list[Change] = []
    differs = differing(wanted, seen, entry)

    def outside(dimension: Dimension) -> bool:
        return changed_outside(dimension, wanted, entry)

    for dimension, action, reason in _SIMPLE:
        if dimension in differs:
            changes.append(change(action, reason, drift=outside(dimension)))
    if Dimension.REPLICAS in differs:
        copies = replica_diff(wanted, seen, entry)
        drift = outside(Dimension.REPLICAS) and not copies.failed
        made = change(Action.REPLICATE, "replica Regions differ", drift=drift)
        changes.append(
            replace(made, add_replicas=copies.add, remove_replicas=copies.remove, failed_replicas=copies.failed)
        )

    value_reason, drift = _value_reason(wanted, seen, entry)
    rekeying = entry.intent is not None and entry.intent.action is Action.REKEY
    if Dimension.KEY in differs or rekeying:
        changes.append(
            change(
                Action.REKEY,
                "KMS key differs; older versions stay readable with the old key",
                drift=drift or (Dimension.KEY in differs and outside(Dimension.KEY)),
            )
        )
    elif value_reason is not None:
        changes.append(change(Action.PUT, value_reason, drift=drift))
    return changes


_SIMPLE = (
    (Dimension.TAGS, Action.RETAG, "tags differ"),
    (Dimension.DESCRIPTION, Action.SET_DESCRIPTION, "description differs"),
    (Dimension.POLICY, Action.SET_POLICY, "resource policy differs"),
)


def _blocked_replicas(wanted: Desired, seen: Observed, entry: JournalEntry) -> list[Change]:
    return [
        Change(
            action=Action.REFUSE,
            remote_name=wanted.remote_name,
            reason=f"not copied to {region}: something else has its name there",
            observed=seen,
            hint=f"remove or rename what is there, then aws secretsmanager remove-regions-from-replication "
            f"--secret-id {wanted.remote_name} --remove-replica-regions {region}",
        )
        for region in replica_diff(wanted, seen, entry).blocked
    ]


def _value_reason(wanted: Desired, seen: Observed, entry: JournalEntry) -> tuple[str | None, bool]:
    """Return why the value has to be written (None = it has not), and whether somebody else is the cause."""
    if entry.intent is not None and entry.intent.action in VALUE_WRITES:
        known = {None, entry.version_id, entry.intent.token}
        if entry.written_before and seen.current_version not in known:
            return "changed outside phasesync while an earlier write may still land", True
        return "an earlier write may still land", False
    if seen.current_version is None:
        return "has no current value", True
    if seen.current_version != entry.version_id:
        return "changed outside phasesync", True
    if entry.fingerprint is None or not same(entry.fingerprint, wanted.payload.fingerprint):
        return "the environment changed", False
    return None, False


def _key_diff(entry: JournalEntry, wanted: Desired) -> KeyDiff:
    found = key_diff(entry.keys, wanted.payload.keys)
    return replace(found, emptied=tuple(sorted(emptied(entry, wanted.payload))))


def key_diff(before: Mapping[str, str], after: Mapping[str, str]) -> KeyDiff:
    """Compare two maps of key name -> keyed digest of its value."""
    return KeyDiff(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(key for key in after.keys() & before.keys() if not same(after[key], before[key]))),
        removed=tuple(sorted(before.keys() - after.keys())),
    )


class _MakeChange(Protocol):
    """The closure that fills in both sides of a change."""

    def __call__(self, action: Action, reason: str, *, drift: bool = False, adopts: bool = False) -> Change: ...


# --- cost


_SET_POLICY = 3
"""ValidateResourcePolicy, PutResourcePolicy, and GetResourcePolicy to know how AWS words it."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """`calls` of the destination, looking included; `writes`: versions that come of it."""

    calls: int
    writes: int


def estimate(going: Iterable[Change], *, looks: int) -> Estimate:
    """
    Return what a run would cost.

    Args:
        going: the changes that would be carried out.
        looks: calls that looking takes.
    """
    calls, writes = looks, 0
    for change in going:
        cost = _cost_of(change)
        calls += cost.calls
        writes += cost.writes
    return Estimate(calls=calls, writes=writes)


def _cost_of(change: Change) -> Estimate:
    wanted = change.desired
    writes = int(change.action in VALUE_WRITES)
    match change.action:
        case Action.NOOP | Action.CONFLICT | Action.REFUSE:
            calls = 0
        case Action.CREATE if wanted is not None:
            calls = 1 + _looked_at_again(wanted)
        case Action.REKEY if wanted is not None and change.observed is not None:
            calls = 1 + key_differs(wanted, change.observed)
        case Action.RETAG if wanted is not None and change.observed is not None:
            there = change.observed.tags
            calls = any(there.get(key) != value for key, value in wanted.tags.items())
            calls += any(key in there for key in wanted.unwanted_tags)
        case Action.REPLICATE:
            calls = bool(change.add_replicas) + bool(change.remove_replicas)
        case Action.SET_POLICY:
            calls = _SET_POLICY
        case Action.RESTORE:
            return _cost_of_restore(change)
        case _:
            calls = 1
    return Estimate(calls=calls, writes=writes)


def _looked_at_again(wanted: Desired) -> int:
    """Copies and policy are set when the object exists, after another look at it."""
    calls = bool(wanted.replicas) + (wanted.resource_policy is not None) * (1 + _SET_POLICY)
    return calls + 1 if calls else 0


def _cost_of_restore(change: Change) -> Estimate:
    """A restored object is looked at again, and brought in step in the same run."""
    wanted, seen, entry = change.desired, change.observed, change.entry
    if wanted is None or seen is None or entry is None:
        return Estimate(calls=1, writes=0)
    # Its policy cannot be read before it is restored; that it is in step is the likelier guess.
    off = differing(wanted, replace(seen, resource_policy=wanted.resource_policy), entry)
    as_written = seen.current_version == entry.version_id and same(entry.fingerprint, wanted.payload.fingerprint)
    writes = int(not as_written or Dimension.KEY in off)
    return Estimate(calls=2 + (wanted.resource_policy is not None) + len(off) + writes, writes=writes)
