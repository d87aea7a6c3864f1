"""
What stands in the way of a sync that somebody waits for. Pure; says also which command helps.

Why a sync stands as it does and why a plan says what it says, for an operator. Pure; tells, and decides nothing.

Every line is made of names, numbers and instants; no secret key and no value is in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from phasesync.core.change import VALUE_WRITES, Change
from phasesync.core.credential import CredentialStatus
from phasesync.core.fingerprint import same
from phasesync.core.planning.budget import within_a_day, writable_at, writes_left
from phasesync.core.planning.guard import MAX_ENFORCEMENTS, DelayedChange, HeldChange
from phasesync.core.planning.metadata import changed_outside, differing
from phasesync.core.planning.ownership import Ownership, copy_warning, ownership_of, refusal_of
from phasesync.core.planning.ownership import describe_copy as told_copy
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC, Action, Desired, JournalEntry, Observed
from phasesync.core.run import Run
from phasesync.core.sync import Sync, SyncStatus
from phasesync.core.sync_status import NEEDS_A_PERSON, status_of

_LEFT_BY_A_RUN = frozenset({SyncStatus.PENDING, SyncStatus.FAILING, SyncStatus.DRIFTED})
"""A sync leaves these with its next run."""

_MADE_BY_OTHERS = frozenset({SyncStatus.PENDING, SyncStatus.PAUSED, SyncStatus.INCOMPLETE})
"""These come from an edit or from an operator: no daemon is needed for them."""


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """
    Why waiting is in vain.

    Attributes:
        why: the end of a sentence that begins with the name of the sync.
        hint: the command that helps.
        unserved: no daemon is there to do it; nothing is wrong with the sync.
    """

    why: str
    hint: str
    unserved: bool = False


def obstacle(
    sync: Sync,
    status: SyncStatus,
    wanted: SyncStatus,
    *,
    answered: bool,
    served: bool,
    within: timedelta,
    now: datetime,
    error_hint: str | None,
) -> Obstacle | None:
    """
    Return what stands in the way of a status, None where it may still come by itself in time.

    Args:
        sync: the sync as it is now.
        status: its status, another one than the wanted.
        wanted: the status that is waited for.
        answered: the newest run is one that counts; False = a run that was asked for is still ahead.
        served: a daemon is alive, or may be about to start.
        within: how long somebody waits for it.
        now: the time.
        error_hint: the hint of the error that the newest run ended with, None = none.
    """
    if status is SyncStatus.PAUSED and sync.paused is not None and sync.paused.until is not None:
        stuck = sync.paused.until - now > within
    else:
        stuck = status in NEEDS_A_PERSON and (answered or status in (SyncStatus.PAUSED, SyncStatus.INCOMPLETE))
    if stuck:
        return Obstacle(
            why=f"is {status} and will not be {wanted} by itself{because(sync, status)}",
            hint=_help_with(sync, status, error_hint),
        )
    if sync.running:
        return None
    at = _next_run_at(sync, now) if status in _LEFT_BY_A_RUN and wanted not in _MADE_BY_OTHERS else None
    if at is not None and at - now > max(within, timedelta()):  # One that is due now is not in the way.
        return Obstacle(
            why=f"is {status}, and its next run is at {at:%Y-%m-%d %H:%M:%S} UTC{because(sync, status)}",
            hint=f"phasesync syncs why {sync.name}; {try_at_once(sync, served=served)}",
        )
    if not served and wanted not in _MADE_BY_OTHERS:
        return Obstacle(
            why=f"is {status}, and no daemon is running that would make it {wanted}{because(sync, status)}",
            hint=f"start one: phasesync daemon; or run the sync here: phasesync syncs run {sync.name}",
            unserved=True,
        )
    return None


def try_at_once(sync: Sync, *, served: bool = True) -> str:
    """Return the command that has a sync tried before its time."""
    command = "trigger" if served else "run"
    return f"once the cause is fixed, to try at once: phasesync syncs {command} {sync.name}"


def because(sync: Sync, status: SyncStatus) -> str:
    """Return why a sync has a status, as the end of a sentence; empty where nothing is to be said."""
    reason = sync.status_reason
    if status is SyncStatus.PAUSED and sync.paused is not None:
        until = "" if sync.paused.until is None else f" until {sync.paused.until:%Y-%m-%d %H:%M:%S} UTC"
        reason = f"paused by {sync.paused.by}{until}" + (f", {sync.paused.reason}" if sync.paused.reason else "")
    elif status is SyncStatus.INCOMPLETE:
        reason = f"its credential {sync.credential} has no role yet"
    return f": {reason}" if reason else ""


def _next_run_at(sync: Sync, now: datetime) -> datetime | None:
    """Return when a daemon runs a sync next if nobody asks for it; None = that is not known."""
    if sync.requested is not None:
        return now
    times = [] if sync.next_due_at is None else [sync.next_due_at]
    if sync.pending:
        times.append(sync.retry_at or now)
    return max(min(times), now) if times else None


def _help_with(sync: Sync, status: SyncStatus, error_hint: str | None) -> str:
    """Return the command that helps a sync out of a status that it does not leave by itself."""
    match status:
        case SyncStatus.PAUSED:
            return f"phasesync syncs resume {sync.name}"
        case SyncStatus.INCOMPLETE:
            return f"phasesync credentials update {sync.credential} --role-arn ARN"
        case SyncStatus.HELD:
            return f"phasesync syncs plan {sync.name} shows what is held, and how to approve it"
        case _:
            why = f"phasesync syncs why {sync.name}"
            return f"{error_hint}; more: {why}" if error_hint else why


ABSENT = "absent"
"""In place of an ownership where nothing has the name."""

UNKNOWN = "unknown"
"""In place of an ownership where AWS was not asked, or did not say."""


@dataclass(frozen=True, kw_only=True)
class BudgetStatus:
    """Versions of one object: written within 24 h, left at once without a person asking, and when the next may be."""

    used_24h: int
    writes_left: int
    next_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class ObjectExplanation:
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
        """Whether further drift would not be repaired unattended."""
        return self.repaired_24h >= MAX_ENFORCEMENTS


def explain_object(
    entry: JournalEntry,
    *,
    wanted: Desired | None,
    seen: Observed | None,
    changes: Sequence[Change],
    held: Sequence[HeldChange],
    delayed: Sequence[DelayedChange],
    sync: str,
    instance_id: str,
    region: str,
    now: datetime,
) -> ObjectExplanation:
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
    return ObjectExplanation(
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
        warning=None if seen is None else copy_warning(seen, sync),
        grace_until=next((one.due_at for one in changes if one.due_at is not None), None),
    )


def explain_undecided(entry: JournalEntry, reason: str, *, now: datetime) -> ObjectExplanation:
    """Say what is known of an object that nothing was decided on, and why."""
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
    """Return how the version budget of an object stands for runs that nobody asked for."""
    at = writable_at(entry.versions_at, now)
    return BudgetStatus(
        used_24h=len(within_a_day(entry.versions_at, now)),
        left=writes_left(entry.versions_at, now),
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


# --- the sync as a whole


def explain_sync(
    sync: Sync, credential: CredentialStatus, *, account: str | None, last_run: Run | None, now: datetime
) -> tuple[str, ...]:
    """
    Say how a sync stands and why, as lines for an operator.

    Args:
        sync: the sync.
        credential: status of its credential.
        account: that its credential is pinned to, None = none.
        last_run: its newest run, None where it has none.
        now: the time.
    """
    status = status_of(sync, credential)
    lines = [f"status {status}" + (f": {sync.status_reason}" if sync.status_reason else "")]
    if sync.paused is not None:
        until = f", until {_at(sync.paused.until)}" if sync.paused.until else ""
        why = f": {sync.paused.reason}" if sync.paused.reason else ""
        lines.append(f"paused by {sync.paused.by} at {_at(sync.paused.at)}{until}{why}")
    if credential is not CredentialStatus.VERIFIED:
        lines.append(f"the credential {sync.credential} is {credential}")
    lines.append(_pinned(sync, account))
    lines += _waiting_for(sync)
    if last_run is not None and last_run.error is not None:
        code = f" ({last_run.error.code})" if last_run.error.code else ""
        lines.append(f"the last run ended {last_run.outcome}: {last_run.error.cls}: {last_run.error.message}{code}")
    if sync.failures:
        lines.append(f"{sync.failures} failed {'run' if sync.failures == 1 else 'runs'} in a row")
    if sync.retry_at is not None and sync.retry_at > now:
        lines.append(f"backing off: no run by itself before {_at(sync.retry_at)}")
    if status in (SyncStatus.FAILING, SyncStatus.HALTED):
        lines.append(try_at_once(sync))
    if sync.next_due_at is not None:
        lines.append(f"next check at {_at(sync.next_due_at)}" if sync.next_due_at > now else "a check is due")
    return tuple(lines)


def _pinned(sync: Sync, account: str | None) -> str:
    pinned = sync.account or account
    return f"pinned to account {pinned}" if pinned else "not pinned to an account yet"


def _waiting_for(sync: Sync) -> list[str]:
    lines = []
    applied = "none" if sync.applied_revision is None else str(sync.applied_revision)
    if sync.pending:
        lines.append(f"revision {sync.source_revision} of {sync.environment_label} is pending (applied: {applied})")
        if sync.applied_revision == sync.source_revision:
            lines[-1] = "an environment that it references has a newer revision"
    if sync.requested is not None:
        lines.append(f"a run was asked for ({sync.requested})")
    if sync.running:
        lines.append("a run is under way")
    if sync.adopt is not None:
        lines.append(f"a consent to take over is waiting for the next run ({sync.adopt})")
    if sync.approved_digest is not None:
        lines.append(f"the held changes {sync.approved_digest} are approved, for the next run")
    return lines


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def worth_showing(one: ObjectExplanation) -> bool:
    """Return whether there is more to say of an object than that it is as wanted."""
    return (
        one.decision != Action.NOOP
        or bool(one.held or one.delayed_until or one.grace_until or one.warning)
        or one.repaired_24h > 0
    )
