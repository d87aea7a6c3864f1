"""
Why a plan decides what it does about a remote object, for an operator. Pure; it reports decisions and makes none.

Every line consists of names, numbers and instants. No secret key and no value is in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from phasesync.core.change import VALUE_WRITES, Change, DecisionRow
from phasesync.core.planning.guard import MAX_ENFORCEMENTS, DelayedChange, HeldChange
from phasesync.core.planning.metadata import changed_outside, differing
from phasesync.core.planning.ownership import Ownership, copy_warning, describe_copy, ownership_of
from phasesync.core.planning.version_budget import within_a_day, writable_at, writes_left
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC, Action, Desired, JournalEntry, Observed

ABSENT = "absent"
"""In place of an ownership: no object has the name."""

UNKNOWN = "unknown"
"""In place of an ownership: AWS was not asked, or did not answer."""


@dataclass(frozen=True, kw_only=True)
class BudgetStatus:
    """
    The version budget of one object.

    Attributes:
        used_24h: versions written within 24 h.
        left: versions that scheduled runs may write at once.
        next_at: when the next version may be written; None means at once.
    """

    used_24h: int
    left: int
    next_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class ObjectExplanation:
    """
    The explanation of the decision on one remote object.

    Attributes:
        reported: what AWS reports.
        ownership: an `Ownership`, ABSENT or UNKNOWN.
        evidence: the facts that the ownership follows from.
        row: the row of the decision table that matched; None if nothing was decided.
        decision: the action that a run would take; if there are several, the one that writes the value. None if nothing
            was decided.
        reason: why.
        held: the guard's rule that holds it, None if it may be carried out.
        held_reason: the same with numbers and limits.
        delayed_until: when the version budget allows it; None means at once.
        differs: dimension -> who changed it: `sync` or `outside`.
        grace_until: when its deletion is due, None if none is.
        warning: what is wrong at AWS that no run of the sync can repair; None if there is nothing.
        repaired_24h: how often drift was repaired; at MAX_ENFORCEMENTS the object counts as contested.
    """

    remote_name: str
    reported: str
    ownership: str
    evidence: tuple[str, ...]
    row: str | None
    decision: str | None
    reason: str
    budget: BudgetStatus
    repaired_24h: int
    held: str | None = None
    held_reason: str | None = None
    delayed_until: datetime | None = None
    differs: Mapping[str, str] = field(default_factory=dict)
    grace_until: datetime | None = None
    warning: str | None = None

    @property
    def contested(self) -> bool:
        """Whether further drift is held instead of repaired."""
        return self.repaired_24h >= MAX_ENFORCEMENTS


def explain_object(
    entry: JournalEntry,
    *,
    wanted: Desired | None,
    observed: Observed | None,
    changes: Sequence[Change],
    held: Sequence[HeldChange],
    delayed: Sequence[DelayedChange],
    sync: str,
    instance_id: str,
    now: datetime,
) -> ObjectExplanation:
    """
    Explain the decision on one remote object that AWS was asked about.

    Args:
        entry: its journal entry, after it was observed.
        wanted: the object as it should be, None if it is no longer wanted.
        observed: what AWS reports; None if absent.
        changes: its changes in the plan; not empty.
        held: all changes that the guard holds.
        delayed: all changes that wait for the version budget.
        sync: name of the sync.
        instance_id: of our instance.
        now: the time.
    """
    main = next((change for change in changes if change.action in VALUE_WRITES), changes[0])
    hold = next((item for item in held if item.change in changes), None)
    delay = next((item for item in delayed if item.change in changes), None)
    ownership = None if observed is None else ownership_of(observed, entry, instance_id)
    differs: dict[str, str] = {}
    if wanted is not None and observed is not None and ownership is Ownership.OURS:
        for dimension in sorted(differing(wanted, observed, entry)):
            differs[str(dimension)] = "outside" if changed_outside(dimension, wanted, entry) else "sync"
    return ObjectExplanation(
        remote_name=entry.remote_name,
        reported=_reported(observed),
        ownership=ABSENT if ownership is None else str(ownership),
        evidence=() if observed is None else _evidence(observed, entry, instance_id),
        row=_row_text(main),
        decision=str(main.action),
        reason="; ".join(dict.fromkeys(change.reason for change in changes)),
        budget=budget_of(entry, now),
        repaired_24h=len(within_a_day(entry.enforced_at, now)),
        held=None if hold is None else str(hold.rule),
        held_reason=None if hold is None else hold.reason,
        delayed_until=None if delay is None else delay.until,
        differs=differs,
        warning=None if observed is None else copy_warning(observed, sync),
        grace_until=next((change.due_at for change in changes if change.due_at is not None), None),
    )


def explain_undecided(entry: JournalEntry, reason: str, *, now: datetime) -> ObjectExplanation:
    """Explain why nothing was decided on an object."""
    return ObjectExplanation(
        remote_name=entry.remote_name,
        reported="not known",
        ownership=UNKNOWN,
        evidence=(),
        row=None,
        decision=None,
        reason=reason,
        budget=budget_of(entry, now),
        repaired_24h=len(within_a_day(entry.enforced_at, now)),
    )


def budget_of(entry: JournalEntry, now: datetime) -> BudgetStatus:
    """Return the version budget of an object, as it stands for scheduled runs."""
    at = writable_at(entry.versions_at, now)
    return BudgetStatus(
        used_24h=len(within_a_day(entry.versions_at, now)),
        left=writes_left(entry.versions_at, now),
        next_at=at if at > now else None,
    )


def _row_text(change: Change) -> str:
    """Return the row of the decision table that led to a change, with the reason if the row has several."""
    return f"{change.row}: {change.reason}" if change.row is DecisionRow.NOT_WRITABLE else str(change.row)


def _reported(observed: Observed | None) -> str:
    if observed is None:
        return "absent"
    parts = [f"current version {observed.current_version}" if observed.current_version else "no current version"]
    if observed.deleted_at is not None:
        # AWS's documents disagree on what its date means: when it was deleted, or when it will be gone.
        parts.append(f"scheduled for deletion (AWS's date: {observed.deleted_at:%Y-%m-%d})")
    if observed.owning_service:
        parts.append(f"managed by {observed.owning_service}")
    if observed.external_type is not None:
        parts.append(f"managed external secret of {observed.external_type}")
    if observed.cross_account_primary is not None:
        parts.append(f"copy of another account's secret: {observed.cross_account_primary.status}")
    if observed.rotation_enabled:
        parts.append("rotation is on")
    parts += [f"copy in {region}: {copy.status}" for region, copy in sorted(observed.replicas.items())]
    parts += map(describe_copy, observed.cross_account_copies)
    return ", ".join(parts)


def _evidence(observed: Observed, entry: JournalEntry, instance_id: str) -> tuple[str, ...]:
    evidence = [
        _tag(TAG_INSTANCE, observed.tags.get(TAG_INSTANCE), instance_id),
        _tag(TAG_SYNC, observed.tags.get(TAG_SYNC), entry.sync_id),
    ]
    if entry.arn is None:
        evidence.append("the journal has no ARN")
    else:
        evidence.append(
            "the journal has this ARN" if entry.arn == observed.arn else f"the journal has another ARN: {entry.arn}"
        )
    if entry.version_id is not None and entry.version_id in observed.versions:
        label = "the current version" if entry.version_id == observed.current_version else "a former version"
        evidence.append(f"{label} is the one that was written last")
    elif entry.intent is not None and entry.intent.token in observed.versions:
        evidence.append("a version carries the token of a write that got no answer")
    else:
        evidence.append("no labelled version is one that this database wrote last")
    return tuple(evidence)


def _tag(name: str, value: str | None, ours: str) -> str:
    if value is None:
        return f"the tag {name} is missing"
    return f"the tag {name} is ours" if value == ours else f"the tag {name} is another one's: {value}"


def worth_showing(item: ObjectExplanation) -> bool:
    """Return whether there is more to report about an object than that it is as wanted."""
    return (
        item.decision != Action.NOOP
        or bool(item.held or item.delayed_until or item.grace_until or item.warning)
        or item.repaired_24h > 0
    )
