"""
The plan: what one run would do, as a value. Pure; `engine/apply.py` carries it out.

The first row that matches decides on one remote object that is wanted. `deletion.py` has the rows for the others.
`DecisionRow` names the rows; each change carries the row that led to it.

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
    a write may still land (intent)      ours        put, with the same token; drift if someone else wrote as well
    no AWSCURRENT                        ours        put
    current id is not the journalled     ours        drift "changed outside": put
    current id as journalled             ours        put if the fingerprint differs, else nothing

An object that could not be described is in no plan: `engine/reconcile.py` notes it as failed. A database that is older
than AWS never gets this far (`engine/stale_database.py`). `guard.py` decides whether drift is repaired or held.

Metadata (`metadata.py`) is compared apart from the value. A dimension that is not set is left alone. A new KMS key
always brings a fresh version, so that the current value is under the new key alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from phasesync.core.change import ORDER, VALUE_WRITES, Change, DecisionRow, KeyDiff, Plan, PlanContext
from phasesync.core.fingerprint import same
from phasesync.core.planning.deletion import decide_unwanted
from phasesync.core.planning.losses import emptied, recent_lifetimes
from phasesync.core.planning.metadata import Dimension, changed_outside, differing, key_differs, replica_diff
from phasesync.core.planning.ownership import NOT_OURS, Ownership, ownership_of, refusal_of
from phasesync.core.remote import Action, Desired, JournalEntry, Observed
from phasesync.core.sync import Adopt, Layout
from phasesync.errors import Hint


def make_plan(
    desired: Iterable[Desired],
    observed: Mapping[str, Observed | None],
    journal: Mapping[str, JournalEntry],
    left_behind: Iterable[JournalEntry],
    context: PlanContext,
    *,
    unobserved: Iterable[JournalEntry] = (),
    undescribed: Iterable[JournalEntry] = (),
) -> Plan:
    """
    Decide what to do.

    Args:
        desired: the wanted objects.
        observed: remote name -> what AWS reports; None if absent. Has every desired name, and the names of unwanted
            objects if these are deleted.
        journal: remote name -> journal entry for the account and Region that the sync writes to. Has every desired name
            (an empty entry if nothing was written yet).
        left_behind: entries of objects that the sync wrote and no longer wants, here and elsewhere.
        context: what else the decision depends on.
        unobserved: entries of wanted objects that get no change, because AWS was not asked or did not answer.
        undescribed: entries of objects that are no longer wanted and could not be described.
    """
    # A write that got no answer may have landed, so an open intent counts as an object that stays.
    left = [entry for entry in left_behind if entry.written_before or entry.intent is not None]
    deletable = [entry for entry in left if _is_deletable(entry, observed, context)]
    deleted = [entry for entry in deletable if entry.deletion_at is not None]
    existing = [entry for entry in deletable if entry.deletion_at is None]
    changes: list[Change] = []
    for wanted in desired:
        entry = journal[wanted.remote_name]
        if entry.written_before:
            existing.append(entry)
        moves = _moves(wanted, left, context.layout)
        changes += _decide(wanted, observed[wanted.remote_name], entry, moves=moves, context=context)
    changes += [decide_unwanted(entry, observed, context) for entry in left]
    missing = list(undescribed)
    existing += [*missing, *(entry for entry in unobserved if entry.written_before)]
    leaving = {change.remote_name for change in changes if change.deletes or change.due_at is not None}
    leaving |= {entry.remote_name for entry in missing}
    return Plan(
        changes=tuple(sorted(changes, key=lambda change: (change.remote_name, ORDER.index(change.action)))),
        objects=len(existing),
        undescribed=len(missing),
        lifetimes=tuple(recent_lifetimes(existing, deleted, leaving)),
    )


def _is_deletable(entry: JournalEntry, observed: Mapping[str, Observed | None], context: PlanContext) -> bool:
    """Return whether an unwanted object may be deleted at all; AWS is not asked about objects that stay for good."""
    return (entry.account, entry.region) == (context.account, context.region) and entry.remote_name in observed


def _moves(wanted: Desired, left: Iterable[JournalEntry], layout: Layout) -> bool:
    """Return whether an object that stays behind held what this one is to hold."""
    if layout is Layout.JSON:
        return any(True for _ in left)
    return any(entry.keys.keys() & wanted.payload.keys.keys() for entry in left)


# --- one object


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One wanted object with both sides, and the row of the table that it is in."""

    wanted: Desired
    observed: Observed | None
    entry: JournalEntry
    row: DecisionRow
    moves: bool

    def change(self, action: Action, reason: str, *, drift: bool = False, adopts: bool = False) -> Change:
        """Return a change that is carried out, with both sides filled in."""
        first_write = action in VALUE_WRITES and not self.entry.written_before
        return Change(
            action=action,
            remote_name=self.wanted.remote_name,
            row=self.row,
            reason=reason,
            desired=self.wanted,
            observed=self.observed,
            entry=self.entry,
            keys=_key_diff(self.entry, self.wanted) if action in VALUE_WRITES else KeyDiff(),
            drift=drift,
            source_empty=first_write and not self.wanted.payload.keys,
            adopts=adopts,
            moves=first_write and self.moves,
        )

    def stop(self, action: Action, reason: str, hint: str | None) -> Change:
        """Return a conflict or a refusal: nothing is written."""
        return Change(
            action=action,
            remote_name=self.wanted.remote_name,
            row=self.row,
            reason=reason,
            observed=self.observed,
            hint=hint,
        )


def _decide(
    wanted: Desired, observed: Observed | None, entry: JournalEntry, *, moves: bool, context: PlanContext
) -> list[Change]:
    row = _row_of(wanted, observed, entry, context)
    case = _Case(wanted=wanted, observed=observed, entry=entry, row=row, moves=moves)
    match row:
        case DecisionRow.NOT_WRITABLE:
            refusal = refusal_of(wanted.remote_name, observed, context.region)
            assert refusal is not None  # noqa: S101 - it is what led to this row
            return [case.stop(Action.REFUSE, *refusal)]
        case DecisionRow.NEVER_WRITTEN:
            return [case.change(Action.CREATE, "does not exist yet")]
        case DecisionRow.MISSING:
            return [case.change(Action.CREATE, "missing: deleted outside phasesync", drift=True)]
    assert observed is not None  # noqa: S101 - all other rows are about objects that exist
    match row:
        case DecisionRow.NOT_OURS:
            return _not_ours(case, observed, context)
        case DecisionRow.DELETION_SCHEDULED:
            by_us = entry.deletion_at is not None
            reason = "wanted again: its deletion is cancelled" if by_us else "scheduled for deletion outside phasesync"
            return [case.change(Action.RESTORE, reason, drift=not by_us)]
        case _:
            changes = _bring_in_step(case, observed) or [case.change(Action.NOOP, "as wanted")]
            return changes + _blocked_replicas(case, observed)


def _row_of(wanted: Desired, observed: Observed | None, entry: JournalEntry, context: PlanContext) -> DecisionRow:
    """Return the first row of the table that matches."""
    if refusal_of(wanted.remote_name, observed, context.region) is not None:
        return DecisionRow.NOT_WRITABLE
    if observed is None:
        return DecisionRow.MISSING if entry.written_before else DecisionRow.NEVER_WRITTEN
    if ownership_of(observed, entry, context.instance_id) is not Ownership.OURS:
        return DecisionRow.NOT_OURS
    if observed.deleted_at is not None:
        return DecisionRow.DELETION_SCHEDULED
    if entry.intent is not None and entry.intent.action in VALUE_WRITES:
        return DecisionRow.WRITE_OPEN
    if observed.current_version is None:
        return DecisionRow.NO_CURRENT_VERSION
    if observed.current_version != entry.version_id:
        return DecisionRow.CHANGED_OUTSIDE
    if same(entry.fingerprint, wanted.payload.fingerprint):
        return DecisionRow.VALUE_AS_WANTED
    return DecisionRow.VALUE_DIFFERS


def _not_ours(case: _Case, observed: Observed, context: PlanContext) -> list[Change]:
    name = case.wanted.remote_name
    if context.adopt is None or not _is_consented(context, name):
        ownership = ownership_of(observed, case.entry, context.instance_id)
        return [case.stop(Action.CONFLICT, NOT_OURS[ownership], None)]
    if observed.deleted_at is not None:
        hint = f"aws secretsmanager restore-secret --secret-id {name}, then adopt it"
        return [case.stop(Action.CONFLICT, "not ours, and scheduled for deletion", hint)]
    if context.adopt is not Adopt.OVERWRITE and observed.current_version != context.adopt_versions.get(name):
        hint = Hint("import it again: phasesync syncs adopt {name} --import {side}", side=str(context.adopt))
        return [case.stop(Action.CONFLICT, "changed since it was imported", hint)]
    taken_over = "taken over with the operator's consent"
    differs = differing(case.wanted, observed, case.entry)
    write = case.change(Action.REKEY if Dimension.KEY in differs else Action.PUT, taken_over, adopts=True)
    changes = [case.change(Action.RETAG, taken_over, adopts=True), write]
    if Dimension.DESCRIPTION in differs:
        changes.append(case.change(Action.SET_DESCRIPTION, "description differs", adopts=True))
    # Tags and description wait with the value: a held adoption must not mark the object as ours already. Copies and
    # policy follow when it is ours.
    return [replace(change, source_empty=write.source_empty, moves=write.moves) for change in changes]


def _is_consented(context: PlanContext, remote_name: str) -> bool:
    """Return whether the consent is for this object: a consent to overwrite may be for the names that were shown."""
    names = context.adopt_versions
    return context.adopt is not Adopt.OVERWRITE or not names or remote_name in names


_SIMPLE = (
    (Dimension.TAGS, Action.RETAG, "tags differ"),
    (Dimension.DESCRIPTION, Action.SET_DESCRIPTION, "description differs"),
    (Dimension.POLICY, Action.SET_POLICY, "resource policy differs"),
)
"""Dimensions that one call brings in step."""


def _bring_in_step(case: _Case, observed: Observed) -> list[Change]:
    wanted, entry = case.wanted, case.entry
    differs = differing(wanted, observed, entry)

    def outside(dimension: Dimension) -> bool:
        return changed_outside(dimension, wanted, entry)

    changes = [
        case.change(action, reason, drift=outside(dimension))
        for dimension, action, reason in _SIMPLE
        if dimension in differs
    ]
    if Dimension.REPLICAS in differs:
        copies = replica_diff(wanted, observed, entry)
        drift = outside(Dimension.REPLICAS) and not copies.failed
        change = case.change(Action.REPLICATE, "replica Regions differ", drift=drift)
        changes.append(
            replace(change, add_replicas=copies.add, remove_replicas=copies.remove, failed_replicas=copies.failed)
        )

    value_reason, drift = _value_reason(case, observed)
    rekeying = entry.intent is not None and entry.intent.action is Action.REKEY
    if Dimension.KEY in differs or rekeying:
        reason = "KMS key differs; older versions stay readable with the old key"
        drift = drift or (Dimension.KEY in differs and outside(Dimension.KEY))
        changes.append(case.change(Action.REKEY, reason, drift=drift))
    elif value_reason is not None:
        changes.append(case.change(Action.PUT, value_reason, drift=drift))
    return changes


def _value_reason(case: _Case, observed: Observed) -> tuple[str | None, bool]:
    """Return why the value has to be written (None if it need not be), and whether someone else is the cause."""
    entry = case.entry
    match case.row:
        case DecisionRow.WRITE_OPEN if entry.intent is not None:
            known = {None, entry.version_id, entry.intent.token}
            if entry.written_before and observed.current_version not in known:
                return "changed outside phasesync while an earlier write may still land", True
            return "an earlier write may still land", False
        case DecisionRow.NO_CURRENT_VERSION:
            return "has no current value", True
        case DecisionRow.CHANGED_OUTSIDE:
            return "changed outside phasesync", True
        case DecisionRow.VALUE_DIFFERS:
            return "the environment changed", False
        case _:
            return None, False


def _blocked_replicas(case: _Case, observed: Observed) -> list[Change]:
    return [
        case.stop(
            Action.REFUSE,
            f"not copied to {region}: something else has its name there",
            f"remove or rename what is there, then aws secretsmanager remove-regions-from-replication "
            f"--secret-id {case.wanted.remote_name} --remove-replica-regions {region}",
        )
        for region in replica_diff(case.wanted, observed, case.entry).blocked
    ]


def _key_diff(entry: JournalEntry, wanted: Desired) -> KeyDiff:
    diff = key_diff(entry.keys, wanted.payload.keys)
    return replace(diff, emptied=tuple(sorted(emptied(entry, wanted.payload))))


def key_diff(before: Mapping[str, str], after: Mapping[str, str]) -> KeyDiff:
    """Compare two maps of key name -> keyed digest of its value."""
    return KeyDiff(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(key for key in after.keys() & before.keys() if not same(after[key], before[key]))),
        removed=tuple(sorted(before.keys() - after.keys())),
    )


# --- cost

_SET_POLICY = 3
"""ValidateResourcePolicy, PutResourcePolicy, and GetResourcePolicy to learn how AWS words it."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """`calls` to the destination, those of observing included; `writes`: new versions."""

    calls: int
    writes: int


def estimate(changes: Iterable[Change], *, observe_calls: int) -> Estimate:
    """
    Return what a run would cost, if no error and no other writer comes in between.

    Args:
        changes: the changes that would be carried out.
        observe_calls: calls that observing takes.
    """
    calls, writes = observe_calls, 0
    for change in changes:
        cost = _cost_of(change)
        calls += cost.calls
        writes += cost.writes
    return Estimate(calls=calls, writes=writes)


def _cost_of(change: Change) -> Estimate:
    wanted, observed = change.desired, change.observed
    match change.action:
        case Action.NOOP | Action.CONFLICT | Action.REFUSE:
            calls = 0
        case Action.CREATE if wanted is not None:
            calls = 1 + _calls_after_create(wanted)
        case Action.REKEY if wanted is not None and observed is not None:
            calls = 1 + key_differs(wanted, observed)
        case Action.RETAG if wanted is not None and observed is not None:
            calls = any(observed.tags.get(key) != value for key, value in wanted.tags.items())
            calls += any(key in observed.tags for key in wanted.unwanted_tags)
        case Action.DELETE:
            calls = 2  # The mark of the deletion goes first.
        case Action.REPLICATE:
            calls = bool(change.add_replicas) + bool(change.remove_replicas)
        case Action.SET_POLICY:
            calls = _SET_POLICY
        case Action.RESTORE:
            return _cost_of_restore(change)
        case _:
            calls = 1
    return Estimate(calls=calls, writes=int(change.action in VALUE_WRITES))


def _calls_after_create(wanted: Desired) -> int:
    """Copies and policy are set when the object exists, after it was observed again."""
    calls = bool(wanted.replicas) + (wanted.resource_policy is not None) * (1 + _SET_POLICY)
    return calls + 1 if calls else 0


def _cost_of_restore(change: Change) -> Estimate:
    """A restored object is observed again and brought in step in the same run."""
    wanted, observed, entry = change.desired, change.observed, change.entry
    if wanted is None or observed is None or entry is None:
        return Estimate(calls=1, writes=0)
    # Its policy cannot be read before it is restored. The likelier guess is that it is in step.
    differs = differing(wanted, replace(observed, resource_policy=wanted.resource_policy), entry)
    as_written = observed.current_version == entry.version_id and same(entry.fingerprint, wanted.payload.fingerprint)
    writes = int(not as_written or Dimension.KEY in differs)
    return Estimate(calls=2 + (wanted.resource_policy is not None) + len(differs) + writes, writes=writes)
