"""
What a payload, or a sync as a whole, loses: in one step, and within the guard's window.

Small steps must not do together what one step may not do. So the state after a step is compared with three states: the
one just before it, the one at the start of the window, and everything that existed within the window. A key that came
back is not lost. A key that was added and removed within the window is lost. An approval begins a new window.

An empty value is less than a value and more than no key. A key that becomes empty counts as lost, once.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from phasesync.core.fingerprint import same
from phasesync.core.remote import Intent, JournalEntry, KeyContent, KeyStep, Lifetime, Payload

LONGEST_WINDOW: Final = timedelta(days=7)
"""Steps are kept this long, whatever window a sync has now."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """
    What is lost of one state.

    Attributes:
        lost: how many keys or objects of that state are gone or have become empty.
        had: how many there were.
        full: how many of these were not empty.
        within: the window in which it happened; None means in this step alone.
    """

    lost: int
    had: int
    full: int = 0
    within: timedelta | None = None


# --- keys of one payload


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
        entry: its journal entry. An entry of an earlier release does not show which values were empty. A value that is
            empty now and has the same digest was empty then.
        keys: key name -> keyed digest of its value, of the payload that follows.
        empty: its keys that have an empty value.
    """
    if entry.empty is not None:
        return contents(entry.keys, entry.empty)
    return contents(entry.keys, {key for key in empty if same(entry.keys.get(key), keys[key])})


def emptied(entry: JournalEntry, payload: Payload) -> frozenset[str]:
    """Return the keys that had content in the payload written last and have none in this one."""
    before = contents_before(entry, payload.keys, payload.empty)
    return frozenset(key for key in payload.empty if before.get(key) is KeyContent.FULL)


def steps_after(
    entry: JournalEntry, keys: Mapping[str, str], empty: Collection[str], intent: Intent
) -> tuple[KeyStep, ...]:
    """
    Return the steps to keep after a write; none after a write that a person approved.

    The first write of an object, and a write that fills an empty payload, is no step: there was nothing to lose.

    Args:
        entry: the journal entry as it was before.
        keys: key name -> keyed digest, of what was written.
        empty: its keys that have an empty value.
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
    kept = steps_within(entry.steps, intent.made_at, LONGEST_WINDOW)
    return (*kept, KeyStep(at=intent.made_at, former=former)) if former and before else kept


def steps_within(steps: tuple[KeyStep, ...], now: datetime, window: timedelta) -> tuple[KeyStep, ...]:
    """Return the steps of a window, oldest first. A step in the future counts: the clock was set back since."""
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
    steps = steps_within(entry.steps, now, window)
    if steps:
        start, most = dict(before), dict(before)
        for step in reversed(steps):
            for key, content in step.former.items():
                start[key] = content
                most[key] = max(most.get(key, KeyContent.NONE), content)
        losses += [_loss(start, after, window), _loss(most, after, window)]
    return losses


def _loss(state: Mapping[str, KeyContent], after: Mapping[str, KeyContent], window: timedelta | None) -> Loss:
    had = Counter(state.values())
    return Loss(
        lost=sum(content > after.get(key, KeyContent.NONE) for key, content in state.items()),
        had=had[KeyContent.EMPTY] + had[KeyContent.FULL],
        full=had[KeyContent.FULL],
        within=window,
    )


# --- objects of one sync


def recent_lifetimes(
    existing: Collection[JournalEntry], deleted: Collection[JournalEntry], leaving: Collection[str]
) -> Iterator[Lifetime]:
    """
    Yield the lifetimes of objects that were created or deleted since the last approval of a deletion.

    Args:
        existing: entries of the objects that exist.
        deleted: entries of the objects that we had scheduled for deletion.
        leaving: names of the objects that are to be deleted.
    """
    approvals = (entry.deletion_at for entry in deleted if entry.deletion_at and entry.deletion_approved)
    approved = max(approvals, default=None)
    for entry in deleted:
        if entry.deletion_at is not None and (approved is None or entry.deletion_at > approved):
            yield Lifetime(created_at=entry.created_at, deleted_at=entry.deletion_at)
    for entry in existing:
        if entry.created_at is not None and (approved is None or entry.created_at > approved):
            yield Lifetime(created_at=entry.created_at, leaving=entry.remote_name in leaving)


def object_losses(
    count: int, objects: int, lifetimes: Collection[Lifetime], *, now: datetime, window: timedelta
) -> list[Loss]:
    """
    Return what a sync would lose of its objects: in this run, and within the window.

    Args:
        count: how many are to be deleted.
        objects: how many there are, these included.
        lifetimes: of the objects that were created or deleted lately.
        now: the time.
        window: of the guard.
    """

    def recent(at: datetime | None) -> bool:
        return at is not None and now - at < window

    losses = [Loss(lost=count, had=objects)]
    deleted = [lifetime for lifetime in lifetimes if recent(lifetime.deleted_at)]
    if deleted:
        new = [lifetime for lifetime in lifetimes if lifetime.deleted_at is None and recent(lifetime.created_at)]
        # Deleted within the window, created before it: these existed at its start.
        older = sum(not recent(lifetime.created_at) for lifetime in deleted)
        leaving = sum(lifetime.leaving for lifetime in new)
        losses += [
            Loss(lost=count - leaving + older, had=objects - len(new) + older, within=window),
            Loss(lost=count + len(deleted), had=objects + len(deleted), within=window),
        ]
    return losses
