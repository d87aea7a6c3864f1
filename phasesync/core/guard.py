"""
What an unattended run may not do, and what has to wait for the version budget.

A change that trips a rule is held until an operator approves the digest of all held changes. The digest covers them
alone, so that it lapses when they change and nothing else can make it lapse.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from phasesync.core.budget import within_a_day, writable_at
from phasesync.core.change import VALUE_WRITES, Change, Plan
from phasesync.core.remote import Action
from phasesync.core.sync_config import OnDrift, SyncConfig

MAX_ENFORCEMENTS = 3
"""How often drift of one object is repaired within 24 hours; after that somebody else keeps writing."""


class Rule(StrEnum):
    """Why a change is held."""

    DRIFT = "drift"
    """Somebody else changed the object, and the sync says to hold then."""
    CONTESTED = "contested"
    """Somebody else keeps changing the object."""
    SOURCE_EMPTY = "source-empty"
    MOVES = "moves"
    EMPTYING = "emptying"
    SHRINKING = "shrinking"
    BINARY = "binary"
    DELETIONS = "deletions"


@dataclass(frozen=True, kw_only=True)
class Held:
    """A change that waits for an approval, the rule that it tripped, and why with numbers and limits."""

    change: Change
    rule: Rule
    reason: str


@dataclass(frozen=True, kw_only=True)
class Delayed:
    """A change that waits for the version budget of its object, and until when."""

    change: Change
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Guarded:
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
    held: tuple[Held, ...] = ()
    delayed: tuple[Delayed, ...] = ()
    digest: str | None = None
    approved: bool = False


def judge(
    plan: Plan, config: SyncConfig, approved_digest: str | None, *, now: datetime, manual: bool = False
) -> Guarded:
    """
    Split a plan into what may go out unattended and what waits.

    Args:
        plan: the plan.
        config: limits of the sync.
        approved_digest: digest that an operator approved, None = none.
        now: the time.
        manual: a person asked for this run: it may use the part of the version budget that is kept for that.
    """
    deletions = _too_many_deletions(plan, config)
    tripped = [found for change in plan.changes if (found := _hold(change, config, now, deletions)) is not None]
    digest = digest_of(tripped) if tripped else None
    approved = digest is not None and digest == approved_digest
    held = () if approved else tuple(tripped)
    waiting = {id(one.change) for one in held}
    delayed = tuple(
        Delayed(change=change, until=until)
        for change in plan.changes
        if id(change) not in waiting and (until := _delayed_until(change, now, manual)) is not None
    )
    waiting |= {id(one.change) for one in delayed}
    return Guarded(
        go=tuple(change for change in plan.changes if id(change) not in waiting),
        held=held,
        delayed=delayed,
        digest=digest,
        approved=approved,
    )


def _hold(change: Change, config: SyncConfig, now: datetime, deletions: str | None) -> Held | None:
    found = (Rule.DELETIONS, deletions) if change.deletes and deletions else _why_held(change, config, now)
    return None if found is None else Held(change=change, rule=found[0], reason=found[1])


def _why_held(change: Change, config: SyncConfig, now: datetime) -> tuple[Rule, str] | None:
    entry, desired = change.entry, change.desired
    if entry is None or desired is None:
        return None
    if change.source_empty:
        return Rule.SOURCE_EMPTY, "the source has no keys and this would be the first write: probably a mistyped path"
    if change.moves:
        return Rule.MOVES, "the sync wrote to another name, account or Region before, and that object would stay behind"
    if change.drift and config.on_drift is OnDrift.HOLD:
        return Rule.DRIFT, f"{change.reason}; the sync holds on drift"
    enforced = len(within_a_day(entry.enforced_at, now))
    if change.drift and enforced >= MAX_ENFORCEMENTS:
        return (
            Rule.CONTESTED,
            f"contested: {change.reason}; repaired {enforced} times within 24 h (limit {MAX_ENFORCEMENTS}), "
            "so somebody else keeps writing",
        )
    if change.action not in VALUE_WRITES:
        return None
    had, has, dropped = len(entry.keys), len(desired.payload.keys), len(change.keys.removed)
    if had and not has:
        return (
            Rule.EMPTYING,
            f"would empty the payload: it has {had} {'key' if had == 1 else 'keys'}, the source has none",
        )
    share = config.shrink_limit_percent
    if dropped >= config.shrink_limit_keys and dropped * 100 > share * had:
        return (
            Rule.SHRINKING,
            f"would drop {dropped} of {had} keys; the limit is {share} % (from {config.shrink_limit_keys} keys on)",
        )
    if entry.written_before and not entry.binary and desired.payload.binary:  # not known counts as text
        return Rule.BINARY, "would turn text into binary: readers of SecretString would find nothing"
    return None


def _too_many_deletions(plan: Plan, config: SyncConfig) -> str | None:
    """
    Return why this many deletions may not run unattended, None when they may.

    Those that wait for a grace count, and those that AWS does not describe now: they are on their way as well.
    """
    going = {change.remote_name for change in plan.changes if change.deletes}
    coming = {change.remote_name for change in plan.changes if change.due_at is not None}
    count, share = len(going | coming) + plan.unseen, config.delete_limit_percent
    every = count >= 2 and count == plan.objects
    many = count >= config.delete_limit_objects and count * 100 > share * plan.objects
    if not (every or many):
        return None
    limit = f"the limit is {share} % (from {config.delete_limit_objects} objects on), and never all of several"
    return f"would delete {count} of {plan.objects} objects; {limit}"


def _delayed_until(change: Change, now: datetime, manual: bool) -> datetime | None:
    if change.action not in VALUE_WRITES or change.entry is None:
        return None
    if change.entry.intent is not None and change.entry.intent.action in VALUE_WRITES:
        return None  # It spends the token of a write that may have landed already, and makes no further version.
    until = writable_at(change.entry.versions_at, now, manual=manual)
    return until if until > now else None


def digest_of(tripped: Sequence[Held]) -> str:
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
