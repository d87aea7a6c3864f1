"""
The guard: what an unattended run may not do, and which writes have to wait for the version budget. Pure.

A change that trips a rule is held until an operator approves the digest of all held changes. The digest covers the held
changes alone: it lapses when they change, and for no other reason.

The limits on dropped keys and deleted objects apply to one step, and to all steps of a window since the last approval
(`losses.py`). A step that drops nothing itself is not held for the losses of earlier steps.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from phasesync.core.change import VALUE_WRITES, Change, Plan
from phasesync.core.planning.losses import Loss, key_losses, object_losses
from phasesync.core.planning.version_budget import within_a_day, writable_at
from phasesync.core.remote import Action, JournalEntry, Payload
from phasesync.core.sync import OnDrift, SyncConfig

MAX_ENFORCEMENTS = 3
"""How often drift of one object is repaired within 24 hours; after that, another writer keeps changing it."""

_IDLE = frozenset({Action.NOOP, Action.CONFLICT, Action.REFUSE})
"""Actions that write nothing."""

_RESTORED = "this database is older than AWS, and nothing is written until that is accepted"


class GuardRule(StrEnum):
    """Why a change is held."""

    DRIFT = "drift"
    """Someone else changed the object, and the sync holds on drift."""
    CONTESTED = "contested"
    """Another writer keeps changing the object."""
    SOURCE_EMPTY = "source-empty"
    MOVES = "moves"
    EMPTYING = "emptying"
    SHRINKING = "shrinking"
    EMPTY_REFERENCE = "empty-reference"
    """A value becomes empty, because the value that it refers to is empty."""
    BINARY = "binary"
    DELETIONS = "deletions"
    RESTORED = "restored"
    """The database is older than AWS. An approval does not release the change, but accepting the database does."""


@dataclass(frozen=True, kw_only=True)
class HeldChange:
    """
    A change that waits for an approval.

    Attributes:
        reason: has the numbers and the limits, and may name tags and versions.
        brief: the same as fixed words and numbers alone: nothing in it comes from a name or from AWS.
    """

    change: Change
    rule: GuardRule
    reason: str
    brief: str


@dataclass(frozen=True, kw_only=True)
class DelayedChange:
    """A change that waits for the version budget of its object."""

    change: Change
    until: datetime


@dataclass(frozen=True, kw_only=True)
class GuardedPlan:
    """
    A plan after the guard.

    Attributes:
        go: changes that may be carried out now.
        held: changes that wait for an approval.
        delayed: changes that wait for the version budget.
        digest: what an approval names; None if nothing tripped the guard.
        approved: an approval covers the changes that tripped the guard, so they are in `go`.
    """

    go: tuple[Change, ...]
    held: tuple[HeldChange, ...] = ()
    delayed: tuple[DelayedChange, ...] = ()
    digest: str | None = None
    approved: bool = False


def apply_guard(
    plan: Plan,
    config: SyncConfig,
    approved_digest: str | None,
    *,
    now: datetime,
    manual: bool = False,
    restored: bool = False,
) -> GuardedPlan:
    """
    Split a plan into changes that may be carried out unattended and changes that wait.

    Args:
        plan: the plan.
        config: limits of the sync.
        approved_digest: digest that an operator approved; None if there is none.
        now: the time.
        manual: a person asked for this run: it may use the part of the version budget that is reserved for that.
        restored: the database is known to be older than AWS, and that was not accepted: nothing is written at all.
    """
    if restored:
        idle = tuple(change for change in plan.changes if change.action in _IDLE)
        writes = [change for change in plan.changes if change.action not in _IDLE]
        held = tuple(
            HeldChange(change=change, rule=GuardRule.RESTORED, reason=_RESTORED, brief=_RESTORED) for change in writes
        )
        return GuardedPlan(go=idle, held=held)
    deletions = _too_many_deletions(plan, config, now)
    tripped = [hold for change in plan.changes if (hold := _hold(change, config, now, deletions)) is not None]
    digest = digest_of(tripped) if tripped else None
    approved = digest is not None and digest == approved_digest
    held = () if approved else tuple(tripped)
    released = {id(item.change) for item in tripped} if approved else set()
    waiting = {id(item.change) for item in held}
    delayed = tuple(
        DelayedChange(change=change, until=until)
        for change in plan.changes
        if id(change) not in waiting and (until := _delayed_until(change, now, manual)) is not None
    )
    waiting |= {id(item.change) for item in delayed}
    return GuardedPlan(
        go=tuple(
            replace(change, approved=True) if id(change) in released else change
            for change in plan.changes
            if id(change) not in waiting
        ),
        held=held,
        delayed=delayed,
        digest=digest,
        approved=approved,
    )


def _hold(change: Change, config: SyncConfig, now: datetime, deletions: str | None) -> HeldChange | None:
    cause = (GuardRule.DELETIONS, deletions) if change.deletes and deletions else _why_held(change, config, now)
    if cause is None:
        return None
    rule, reason = cause
    # All other reasons are made of numbers and of the limits of the sync.
    brief = reason
    if rule is GuardRule.DRIFT:
        brief = "somebody else changed an object, and the sync holds on drift"
    if rule is GuardRule.CONTESTED:
        brief = f"somebody else keeps changing an object that was repaired {MAX_ENFORCEMENTS} times within 24 h or more"
    return HeldChange(change=change, rule=rule, reason=reason, brief=brief)


_WORST_FIRST = (
    GuardRule.EMPTYING,
    GuardRule.DELETIONS,
    GuardRule.SHRINKING,
    GuardRule.SOURCE_EMPTY,
    GuardRule.MOVES,
    GuardRule.EMPTY_REFERENCE,
    GuardRule.BINARY,
    GuardRule.CONTESTED,
    GuardRule.DRIFT,
    GuardRule.RESTORED,
)


def brief_of(held: Sequence[HeldChange]) -> str | None:
    """Return on one line what is held and how bad it is: the worst, and counts of the rest; None if nothing is held."""
    if not held:
        return None
    worst = min(held, key=lambda item: _WORST_FIRST.index(item.rule))
    objects = {rule: {item.change.remote_name for item in held if item.rule is rule} for rule in _WORST_FIRST}
    objects[worst.rule].discard(worst.change.remote_name)
    if worst.rule is GuardRule.DELETIONS:  # Its reason counts all of them.
        objects[worst.rule].clear()
    others = ", ".join(f"{_counted(len(names), 'object')} ({rule})" for rule, names in objects.items() if names)
    return f"{worst.brief}; also held: {others}" if others else worst.brief


def _why_held(change: Change, config: SyncConfig, now: datetime) -> tuple[GuardRule, str] | None:
    entry, desired = change.entry, change.desired
    if entry is None or desired is None:
        return None
    if change.source_empty:
        return (
            GuardRule.SOURCE_EMPTY,
            "the source has no keys and this would be the first write: probably a mistyped path",
        )
    if change.moves:
        return (
            GuardRule.MOVES,
            "the sync wrote to another name, account or Region before, and that object would stay behind",
        )
    if change.drift and config.on_drift is OnDrift.HOLD:
        return GuardRule.DRIFT, f"{change.reason}; the sync holds on drift"
    enforced = len(within_a_day(entry.enforced_at, now))
    if change.drift and enforced >= MAX_ENFORCEMENTS:
        return (
            GuardRule.CONTESTED,
            f"contested: {change.reason}; repaired {enforced} times within 24 h (limit {MAX_ENFORCEMENTS}), "
            "so someone else keeps writing",
        )
    if change.action not in VALUE_WRITES:
        return None
    if (lost := _why_lost(change, entry, desired.payload, config, now)) is not None:
        return lost
    if entry.written_before and not entry.binary and desired.payload.binary:  # not known counts as text
        return GuardRule.BINARY, "would turn text into binary: readers of SecretString would find nothing"
    return None


def _why_lost(
    change: Change, entry: JournalEntry, payload: Payload, config: SyncConfig, now: datetime
) -> tuple[GuardRule, str] | None:
    """Return why a payload may not lose that much unattended; None if it loses nothing or little."""
    step, *wider = key_losses(entry, payload, now=now, window=config.guard_window)
    if not step.lost:
        return None
    if step.had and not payload.keys:
        return (
            GuardRule.EMPTYING,
            f"would empty the payload: it has {_counted(step.had, 'key')}, the source has none",
        )
    if step.full and len(payload.empty) == len(payload.keys):
        values = "the value" if len(payload.keys) == 1 else f"all {len(payload.keys)} values"
        return GuardRule.EMPTYING, f"would empty the payload: {values} would be empty, {step.full} had content"
    # The least surprising number first: what this step does by itself.
    if (loss := _over((step, *wider), config.shrink_limit_percent, config.shrink_limit_keys)) is not None:
        before = "" if loss.within is None else f", {step.lost} of them with this change"
        limit = f"{config.shrink_limit_percent} % (from {config.shrink_limit_keys} keys on)"
        return (
            GuardRule.SHRINKING,
            f"would drop {loss.lost} of {loss.had} keys{_in(loss.within)}{before}{_empty(change, step)}; "
            f"the limit is {limit}{_also_in(config, loss)}",
        )
    if lost := payload.empty_by_reference & set(change.keys.emptied):
        values = (
            "a value that had content would be" if len(lost) == 1 else f"{len(lost)} values that had content would be"
        )
        return GuardRule.EMPTY_REFERENCE, f"{values} empty, because the target of the reference is empty"
    return None


def _over(losses: Iterable[Loss], percent: int, least: int, *, never_all: bool = False) -> Loss | None:
    """Return the first loss that is a larger share than allowed and not only a few, or (`never_all`) all of several."""
    for loss in losses:
        if loss.lost >= least and loss.lost * 100 > percent * loss.had:
            return loss
        if never_all and loss.lost >= 2 and loss.lost == loss.had:
            return loss
    return None


def _empty(change: Change, step: Loss) -> str:
    """Return a clause about keys that stay and lose their value."""
    count = len(change.keys.emptied)
    if not count:
        return ""
    return ", all by becoming empty" if count == step.lost else f", {count} by becoming empty"


def _in(window: timedelta | None) -> str:
    return "" if window is None else f" within {_hours(window)} since the last approval"


def _also_in(config: SyncConfig, loss: Loss) -> str:
    return "" if loss.within is None else f", in one step and within {_hours(config.guard_window)}"


def _hours(window: timedelta) -> str:
    hours, rest = divmod(window, timedelta(hours=1))
    return f"{hours} h" if not rest else f"{round(window / timedelta(minutes=1))} min"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun if number == 1 else noun + 's'}"


def _too_many_deletions(plan: Plan, config: SyncConfig, now: datetime) -> str | None:
    """
    Return why this many deletions may not run unattended, None if they may.

    Deletions that wait for a grace period count, and so do unwanted objects that could not be described.
    """
    due = {change.remote_name for change in plan.changes if change.deletes}
    later = {change.remote_name for change in plan.changes if change.due_at is not None}
    count = len(due | later) + plan.undescribed
    losses = object_losses(count, plan.objects, plan.lifetimes, now=now, window=config.guard_window)
    loss = _over(losses, config.delete_limit_percent, config.delete_limit_objects, never_all=True)
    if loss is None:
        return None
    before = "" if loss.within is None else f", {count} of them now"
    limit = (
        f"the limit is {config.delete_limit_percent} % (from {config.delete_limit_objects} objects on), and never all "
        "of several"
    )
    return f"would delete {loss.lost} of {loss.had} objects{_in(loss.within)}{before}; {limit}{_also_in(config, loss)}"


def _delayed_until(change: Change, now: datetime, manual: bool) -> datetime | None:
    if change.action not in VALUE_WRITES or change.entry is None:
        return None
    if change.entry.intent is not None and change.entry.intent.action in VALUE_WRITES:
        return None  # It uses the token of a write that may have landed, and so makes no further version.
    until = writable_at(change.entry.versions_at, now, manual=manual)
    return until if until > now else None


def digest_of(tripped: Sequence[HeldChange]) -> str:
    """Return 16 hex digits; payloads enter as keyed fingerprints, so the digest reveals nothing."""
    facts = [
        [
            *((held.change.entry.account, held.change.entry.region) if held.change.entry else ()),
            held.change.remote_name,
            # Copies are removed a run before their object; the approval of a deletion is for both steps.
            Action.DELETE if held.change.deletes else held.change.action,
            held.change.desired.payload.fingerprint if held.change.desired else "",
            held.rule,
            _overwritten(held.change),
        ]
        for held in tripped
    ]
    text = json.dumps(facts, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _overwritten(change: Change) -> object:
    """Return what a repair of drift overwrites: an approval is for that very version or text, for no later one."""
    observed, wanted = change.observed, change.desired
    if not change.drift or observed is None or wanted is None:
        return ""
    version = observed.current_version or ""
    match change.action:
        case Action.SET_DESCRIPTION:
            return [version, observed.description]
        case Action.SET_POLICY:
            return [version, observed.resource_policy]
        case Action.REKEY:
            return [version, observed.kms_key]
        case Action.RETAG:
            return [version, {key: observed.tags.get(key) for key in (*wanted.tags, *wanted.unwanted_tags)}]
        case _:
            return version
