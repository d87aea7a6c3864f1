"""
What a payload, or a sync as a whole, has lost: within one step, and within the guard's window.

Small steps must not do what one step may not. So what a step leaves is compared with three states: the one just before
it, the one at the start of the window, and everything that there was within the window. A key that came back is not
lost; one that was added and removed within the window is. An approval begins a new window.

An empty value is less than a value and more than no key: a key whose value becomes nothing counts as lost, once.

What an unattended run may not do, and what has to wait for the version budget.

A change that trips a rule is held until an operator approves the digest of all held changes. The digest covers them
alone, so that it lapses when they change and nothing else can make it lapse.

The limits of what may be dropped and deleted are for one step, and for all steps of a window since the last approval
(`losses.py`). Only a step that drops something itself is held for what others before it dropped.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from phasesync.core.change import VALUE_WRITES, Change, Plan
from phasesync.core.fingerprint import same
from phasesync.core.planning.budget import within_a_day, writable_at
from phasesync.core.remote import Action, Intent, JournalEntry, KeyContent, KeyStep, Lifetime, Payload
from phasesync.core.sync import OnDrift, SyncConfig

LONGEST_WINDOW: Final = timedelta(days=7)
"""Steps are kept for so long, whatever window a sync has now."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """
    What is lost of one state.

    Attributes:
        lost: how many keys or objects of that state are gone or have become empty.
        had: how many there were.
        full: how many of these were not empty.
        within: the window in which it happened, None = in this step alone.
    """

    lost: int
    had: int
    full: int = 0
    within: timedelta | None = None


def contents(keys: Collection[str], empty: Collection[str]) -> dict[str, KeyContent]:
    """Return key name -> what it holds."""
    return {key: KeyContent.EMPTY if key in empty else KeyContent.FULL for key in keys}


def contents_of(payload: Payload) -> dict[str, KeyContent]:
    """Return key name -> what it holds in a payload."""
    return contents(payload.keys, payload.empty)


def contents_before(entry: JournalEntry, keys: Mapping[str, str], empty: Collection[str]) -> dict[str, KeyContent]:
    """
    Return key name -> what it held in the payload written last.

    Args:
        entry: its journal entry. One of an earlier release does not say which values were empty: one that is empty now
            and has the same digest was.
        keys: key name -> keyed digest of its value, of the payload that follows.
        empty: its keys whose value is nothing.
    """
    if entry.empty is not None:
        return contents(entry.keys, entry.empty)
    return contents(entry.keys, {key for key in empty if same(entry.keys.get(key), keys[key])})


def emptied(entry: JournalEntry, payload: Payload) -> frozenset[str]:
    """Return the keys whose value had content in the payload written last and has none in this one."""
    before = contents_before(entry, payload.keys, payload.empty)
    return frozenset(key for key in payload.empty if before.get(key) is KeyContent.FULL)


# --- keys


def steps_after(
    entry: JournalEntry, keys: Mapping[str, str], empty: Collection[str], intent: Intent
) -> tuple[KeyStep, ...]:
    """
    Return the steps to keep after a write: none after one that a person approved. The first write of an object, and one
    that fills an empty payload, is no step: there was nothing to lose.

    Args:
        entry: the journal entry as it was before.
        keys: key name -> keyed digest, of what was written.
        empty: its keys whose value is nothing.
        intent: of that write.
    """
    if intent.approved:
        return ()
    before, after = contents_before(entry, keys, empty), contents(keys, empty)
    former = {
        key: before.get(key, KeyContent.NONE)
        for key in before.keys() | after.keys()
        if before.get(key, KeyContent.NONE) is not after.get(key, KeyContent.NONE)
    }
    kept = within(entry.steps, intent.made_at, LONGEST_WINDOW)
    return (*kept, KeyStep(at=intent.made_at, former=former)) if former and before else kept


def within(steps: tuple[KeyStep, ...], now: datetime, window: timedelta) -> tuple[KeyStep, ...]:
    """Return the steps of a window, oldest first. One in the future is from a clock that was set back, and counts."""
    return tuple(step for step in steps if now - step.at < window)


def key_losses(entry: JournalEntry, payload: Payload, *, now: datetime, window: timedelta) -> list[Loss]:
    """
    Return what a payload would lose: in this step, and within the window.

    Args:
        entry: the journal entry of its object.
        payload: what is to be written.
        now: the time.
        window: of the guard.
    """
    after = contents_of(payload)
    before = contents_before(entry, payload.keys, payload.empty)
    losses = [_loss(before, after, None)]
    steps = within(entry.steps, now, window)
    if steps:
        start, most = dict(before), dict(before)
        for step in reversed(steps):
            for key, content in step.former.items():
                start[key] = content
                most[key] = max(most.get(key, KeyContent.NONE), content)
        losses += [_loss(start, after, window), _loss(most, after, window)]
    return losses


def _loss(state: Mapping[str, KeyContent], after: Mapping[str, KeyContent], window: timedelta | None) -> Loss:
    held = Counter(state.values())
    return Loss(
        lost=sum(content > after.get(key, KeyContent.NONE) for key, content in state.items()),
        had=held[KeyContent.EMPTY] + held[KeyContent.FULL],
        full=held[KeyContent.FULL],
        within=window,
    )


# --- objects


def recent_lives(
    standing: Collection[JournalEntry], gone: Collection[JournalEntry], going: Collection[str]
) -> Iterator[Lifetime]:
    """
    Yield what was made or deleted lately, since the last approval of a deletion.

    Args:
        standing: entries of the objects that are there.
        gone: entries of those whose deletion we had scheduled.
        going: names of those that are to be deleted.
    """
    approved = max((one.deletion_at for one in gone if one.deletion_at and one.deletion_approved), default=None)
    for entry in gone:
        if entry.deletion_at is not None and (approved is None or entry.deletion_at > approved):
            yield Lifetime(born=entry.created_at, died=entry.deletion_at)
    for entry in standing:
        if entry.created_at is not None and (approved is None or entry.created_at > approved):
            yield Lifetime(born=entry.created_at, going=entry.remote_name in going)


def object_losses(
    count: int, objects: int, lives: Collection[Lifetime], *, now: datetime, window: timedelta
) -> list[Loss]:
    """
    Return what a sync would lose of its objects: in this run, and within the window.

    Args:
        count: how many are on their way out.
        objects: how many there are, these included.
        lives: what was made and deleted lately.
        now: the time.
        window: of the guard.
    """

    def lately(at: datetime | None) -> bool:
        return at is not None and now - at < window

    losses = [Loss(lost=count, had=objects)]
    died = [one for one in lives if lately(one.died)]
    if died:
        born = [one for one in lives if one.died is None and lately(one.born)]
        older = sum(not lately(one.born) for one in died)
        losses += [
            Loss(lost=count - sum(one.going for one in born) + older, had=objects - len(born) + older, within=window),
            Loss(lost=count + len(died), had=objects + len(died), within=window),
        ]
    return losses


MAX_ENFORCEMENTS = 3
"""How often drift of one object is repaired within 24 hours; after that somebody else keeps writing."""


_IDLE = frozenset({Action.NOOP, Action.CONFLICT, Action.REFUSE})
"""Actions that write nothing."""

_RESTORED = "this database is older than AWS, and nothing is written until that is accepted"


class GuardRule(StrEnum):
    """Why a change is held."""

    DRIFT = "drift"
    """Somebody else changed the object, and the sync says to hold then."""
    CONTESTED = "contested"
    """Somebody else keeps changing the object."""
    SOURCE_EMPTY = "source-empty"
    MOVES = "moves"
    EMPTYING = "emptying"
    SHRINKING = "shrinking"
    EMPTY_REFERENCE = "empty-reference"
    """A value becomes nothing, because what it refers to did."""
    BINARY = "binary"
    DELETIONS = "deletions"
    RESTORED = "restored"
    """The database is older than AWS. No approval releases it, but accepting the database does."""


@dataclass(frozen=True, kw_only=True)
class HeldChange:
    """A change that waits for an approval, the rule that it tripped, and why with numbers and limits."""

    change: Change
    rule: GuardRule
    reason: str


@dataclass(frozen=True, kw_only=True)
class DelayedChange:
    """A change that waits for the version budget of its object, and until when."""

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
        digest: what an approval names; None when nothing tripped the guard.
        approved: an approval covers what tripped the guard, so that it is in `go`.
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
    Split a plan into what may go out unattended and what waits.

    Args:
        plan: the plan.
        config: limits of the sync.
        approved_digest: digest that an operator approved, None = none.
        now: the time.
        manual: a person asked for this run: it may use the part of the version budget that is kept for that.
        restored: the database is known to be older than AWS, and that was not accepted: nothing is written at all.
    """
    if restored:
        held = tuple(
            HeldChange(change=one, rule=GuardRule.RESTORED, reason=_RESTORED)
            for one in plan.changes
            if one.action not in _IDLE
        )
        return GuardedPlan(go=tuple(one for one in plan.changes if one.action in _IDLE), held=held)
    deletions = _too_many_deletions(plan, config, now)
    tripped = [found for change in plan.changes if (found := _hold(change, config, now, deletions)) is not None]
    digest = digest_of(tripped) if tripped else None
    approved = digest is not None and digest == approved_digest
    held = () if approved else tuple(tripped)
    released = {id(one.change) for one in tripped} if approved else set()
    waiting = {id(one.change) for one in held}
    delayed = tuple(
        DelayedChange(change=change, until=until)
        for change in plan.changes
        if id(change) not in waiting and (until := _delayed_until(change, now, manual)) is not None
    )
    waiting |= {id(one.change) for one in delayed}
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
    found = (GuardRule.DELETIONS, deletions) if change.deletes and deletions else _why_held(change, config, now)
    return None if found is None else HeldChange(change=change, rule=found[0], reason=found[1])


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
            "so somebody else keeps writing",
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
    """Return why a payload may not lose that much unattended, None where it loses nothing or little."""
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
    if (loss := next(_beyond((step, *wider), config.shrink_limit_percent, config.shrink_limit_keys), None)) is not None:
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
        return GuardRule.EMPTY_REFERENCE, f"{values} empty, because what the reference leads to is empty"
    return None


def _beyond(losses: Iterable[Loss], percent: int, least: int) -> Iterator[Loss]:
    """Yield the losses that are more than a share, and not only a few."""
    return (one for one in losses if one.lost >= least and one.lost * 100 > percent * one.had)


def _empty(change: Change, step: Loss) -> str:
    """Return a clause for keys that stay and lose their value."""
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
    Return why this many deletions may not run unattended, None when they may.

    Those that wait for a grace count, and those that AWS does not describe now: they are on their way as well.
    """
    going = {change.remote_name for change in plan.changes if change.deletes}
    coming = {change.remote_name for change in plan.changes if change.due_at is not None}
    count = len(going | coming) + plan.unseen
    losses = object_losses(count, plan.objects, plan.lives, now=now, window=config.guard_window)
    many = set(_beyond(losses, config.delete_limit_percent, config.delete_limit_objects))
    every = {one for one in losses if one.lost >= 2 and one.lost == one.had}
    loss = next((one for one in losses if one in many | every), None)
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
        return None  # It spends the token of a write that may have landed already, and makes no further version.
    until = writable_at(change.entry.versions_at, now, manual=manual)
    return until if until > now else None


def digest_of(tripped: Sequence[HeldChange]) -> str:
    """Return 16 hex digits; payloads enter as keyed fingerprints, so that the digest tells nothing."""
    facts = [
        [
            *((held.change.entry.account, held.change.entry.region) if held.change.entry else ()),
            held.change.remote_name,
            # Copies go a run before their object; the approval of a deletion is for both steps.
            Action.DELETE if held.change.deletes else held.change.action,
            held.change.desired.payload.fingerprint if held.change.desired else "",
            held.rule,
            _written_over(held.change),
        ]
        for held in tripped
    ]
    text = json.dumps(facts, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _written_over(change: Change) -> object:
    """Return what of a change outside is written over: an approval is for that very version or text, no later one."""
    seen, wanted = change.observed, change.desired
    if not change.drift or seen is None or wanted is None:
        return ""
    version = seen.current_version or ""
    match change.action:
        case Action.SET_DESCRIPTION:
            return [version, seen.description]
        case Action.SET_POLICY:
            return [version, seen.resource_policy]
        case Action.REKEY:
            return [version, seen.kms_key]
        case Action.RETAG:
            return [version, {key: seen.tags.get(key) for key in (*wanted.tags, *wanted.unwanted_tags)}]
        case _:
            return version
