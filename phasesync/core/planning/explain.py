"""
What stands in the way of a sync that somebody waits for. Pure; says also which command helps.

Why a sync stands as it does and why a plan says what it says, for an operator. Pure; tells, and decides nothing.

Every line is made of names, numbers and instants; no secret key and no value is in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from phasesync.core.change import VALUE_WRITES, Change
from phasesync.core.fingerprint import same
from phasesync.core.planning.budget import left, within_a_day, writable_at
from phasesync.core.planning.guard import MAX_ENFORCEMENTS, Delayed, Held
from phasesync.core.planning.metadata import changed_outside, differing
from phasesync.core.planning.ownership import Ownership, ownership_of, refusal_of, why_behind
from phasesync.core.planning.ownership import told as told_copy
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC, Action, Desired, JournalEntry, Observed

ABSENT = "absent"
"""In place of an ownership where nothing has the name."""

UNKNOWN = "unknown"
"""In place of an ownership where AWS was not asked, or did not say."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Versions of one object: written within 24 h, left at once without a person asking, and when the next may be."""

    used_24h: int
    left: int
    next_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class ObjectWhy:
    """
    What is to be said of one remote object.

    Attributes:
        reported: what AWS reports.
        ownership: an `Ownership`, ABSENT or UNKNOWN.
        evidence: what that was told from.
        row: the row of the decision table that matched; None where nothing was decided.
        decision: the action that a run would take, the one that writes the value where there are several; None where
            nothing was decided.
        reason: why.
        held: the guard's rule that holds it, None where it may go.
        held_reason: with numbers and limits.
        delayed_until: when the version budget lets it go, None = at once.
        differs: dimension -> who changed it: `sync` or `outside`.
        grace_until: when its deletion is due, None where none is.
        warning: what is amiss at AWS and no run of the sync can put right, None = nothing.
        repaired_24h: how often drift was repaired; at MAX_ENFORCEMENTS the object counts as contested.
    """

    remote_name: str
    reported: str
    ownership: str
    evidence: tuple[str, ...]
    row: str | None
    decision: str | None
    reason: str
    budget: Budget
    repaired_24h: int
    held: str | None = None
    held_reason: str | None = None
    delayed_until: datetime | None = None
    differs: Mapping[str, str] = field(default_factory=dict)
    grace_until: datetime | None = None
    warning: str | None = None

    @property
    def contested(self) -> bool:
        """Whether further drift would not be repaired unattended."""
        return self.repaired_24h >= MAX_ENFORCEMENTS


def explain_object(
    entry: JournalEntry,
    *,
    wanted: Desired | None,
    seen: Observed | None,
    changes: Sequence[Change],
    held: Sequence[Held],
    delayed: Sequence[Delayed],
    sync: str,
    instance_id: str,
    region: str,
    now: datetime,
) -> ObjectWhy:
    """
    Explain the decision on one remote object that AWS was asked about.

    Args:
        entry: its journal entry, as looking left it.
        wanted: the object as it should be, None where it is not wanted any more.
        seen: what AWS reports, None = absent.
        changes: what the plan says of it; not empty.
        held: what the guard holds of that.
        delayed: what waits for the version budget.
        sync: its name.
        instance_id: ours.
        region: that the sync writes to.
        now: the time.
    """
    main = next((one for one in changes if one.action in VALUE_WRITES), changes[0])
    holds = next((one for one in held if one.change in changes), None)
    waits = next((one for one in delayed if one.change in changes), None)
    ownership = None if seen is None else ownership_of(seen, entry, instance_id)
    differs: dict[str, str] = {}
    if wanted is not None and seen is not None and ownership is Ownership.OURS:
        for dimension in sorted(differing(wanted, seen, entry)):
            differs[str(dimension)] = "outside" if changed_outside(dimension, wanted, entry) else "sync"
    return ObjectWhy(
        remote_name=entry.remote_name,
        reported=_reported(seen),
        ownership=ABSENT if ownership is None else str(ownership),
        evidence=() if seen is None else _evidence(seen, entry, instance_id),
        row=row_of(entry, wanted=wanted, seen=seen, ownership=ownership, region=region),
        decision=str(main.action),
        reason="; ".join(dict.fromkeys(one.reason for one in changes)),
        budget=budget_of(entry, now),
        repaired_24h=len(within_a_day(entry.enforced_at, now)),
        held=None if holds is None else str(holds.rule),
        held_reason=None if holds is None else holds.reason,
        delayed_until=None if waits is None else waits.until,
        differs=differs,
        warning=None if seen is None else why_behind(seen, sync),
        grace_until=next((one.due_at for one in changes if one.due_at is not None), None),
    )


def explain_unseen(entry: JournalEntry, reason: str, *, now: datetime) -> ObjectWhy:
    """Say what is known of an object that nothing was decided on, and why."""
    return ObjectWhy(
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


def budget_of(entry: JournalEntry, now: datetime) -> Budget:
    """Return how the version budget of an object stands for runs that nobody asked for."""
    at = writable_at(entry.versions_at, now)
    return Budget(
        used_24h=len(within_a_day(entry.versions_at, now)),
        left=left(entry.versions_at, now),
        next_at=at if at > now else None,
    )


def row_of(
    entry: JournalEntry, *, wanted: Desired | None, seen: Observed | None, ownership: Ownership | None, region: str
) -> str:
    """Return the row of the decision table (`plan.py`, `unwanted.py`) that an object is in."""
    if wanted is None:
        return "no longer wanted"
    refusal = refusal_of(entry.remote_name, seen, region)
    if refusal is not None:
        return f"not to be written: {refusal[0]}"
    if seen is None:
        return "absent, written before" if entry.written_before else "absent, never written"
    if ownership is not Ownership.OURS:
        return "not proven ours"
    if seen.deleted_at is not None:
        return "ours, scheduled for deletion"
    if entry.intent is not None and entry.intent.action in VALUE_WRITES:
        return "ours, an earlier write may still land"
    if seen.current_version is None:
        return "ours, no current version"
    if seen.current_version != entry.version_id:
        return "ours, current version is not the one that was written last"
    if same(entry.fingerprint, wanted.payload.fingerprint):
        return "ours, value as wanted"
    return "ours, the wanted value is another one"


def _reported(seen: Observed | None) -> str:
    if seen is None:
        return "absent"
    parts = [f"current version {seen.current_version}" if seen.current_version else "no current version"]
    if seen.deleted_at is not None:
        # AWS's documents disagree on what its date means: when it was deleted, or when it will be gone.
        parts.append(f"scheduled for deletion (AWS's date: {seen.deleted_at:%Y-%m-%d})")
    if seen.owning_service:
        parts.append(f"managed by {seen.owning_service}")
    if seen.external_type is not None:
        parts.append(f"managed external secret of {seen.external_type}")
    if seen.cross_account_primary is not None:
        parts.append(f"copy of another account's secret: {seen.cross_account_primary.status}")
    if seen.rotation_enabled:
        parts.append("rotation is on")
    parts += [f"copy in {region}: {copy.status}" for region, copy in sorted(seen.replicas.items())]
    parts += map(told_copy, seen.cross_account_copies)
    return ", ".join(parts)


def _evidence(seen: Observed, entry: JournalEntry, instance_id: str) -> tuple[str, ...]:
    found = [
        _tag(TAG_INSTANCE, seen.tags.get(TAG_INSTANCE), instance_id),
        _tag(TAG_SYNC, seen.tags.get(TAG_SYNC), entry.sync_id),
    ]
    if entry.arn is None:
        found.append("the journal has no ARN")
    else:
        found.append(
            "the journal has this ARN" if entry.arn == seen.arn else f"the journal has another ARN: {entry.arn}"
        )
    if entry.version_id is not None and entry.version_id in seen.versions:
        label = "the current version" if entry.version_id == seen.current_version else "a former version"
        found.append(f"{label} is the one that was written last")
    elif entry.intent is not None and entry.intent.token in seen.versions:
        found.append("a version carries the token of a write whose answer was lost")
    else:
        found.append("no labelled version is one that this database wrote last")
    return tuple(found)


def _tag(name: str, value: str | None, ours: str) -> str:
    if value is None:
        return f"the tag {name} is missing"
    return f"the tag {name} is ours" if value == ours else f"the tag {name} is another one's: {value}"


def worth_showing(one: ObjectWhy) -> bool:
    """Return whether there is more to say of an object than that it is as wanted."""
    return (
        one.decision != Action.NOOP
        or bool(one.held or one.delayed_until or one.grace_until or one.warning)
        or one.repaired_24h > 0
    )
