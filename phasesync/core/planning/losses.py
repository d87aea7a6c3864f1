"""
What a payload, or a sync as a whole, has lost: within one step, and within the guard's window.

Small steps must not do what one step may not. So what a step leaves is compared with three states: the one just before
it, the one at the start of the window, and everything that there was within the window. A key that came back is not
lost; one that was added and removed within the window is. An approval begins a new window.

An empty value is less than a value and more than no key: a key whose value becomes nothing counts as lost, once.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from phasesync.core.fingerprint import same
from phasesync.core.remote import Content, Intent, JournalEntry, Life, Payload, Step

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


def contents(keys: Collection[str], empty: Collection[str]) -> dict[str, Content]:
    """Return key name -> what it holds."""
    return {key: Content.EMPTY if key in empty else Content.FULL for key in keys}


def contents_of(payload: Payload) -> dict[str, Content]:
    """Return key name -> what it holds in a payload."""
    return contents(payload.keys, payload.empty)


def contents_before(entry: JournalEntry, keys: Mapping[str, str], empty: Collection[str]) -> dict[str, Content]:
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
    return frozenset(key for key in payload.empty if before.get(key) is Content.FULL)


# --- keys


def steps_after(
    entry: JournalEntry, keys: Mapping[str, str], empty: Collection[str], intent: Intent
) -> tuple[Step, ...]:
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
        key: before.get(key, Content.NONE)
        for key in before.keys() | after.keys()
        if before.get(key, Content.NONE) is not after.get(key, Content.NONE)
    }
    kept = within(entry.steps, intent.made_at, LONGEST_WINDOW)
    return (*kept, Step(at=intent.made_at, former=former)) if former and before else kept


def within(steps: tuple[Step, ...], now: datetime, window: timedelta) -> tuple[Step, ...]:
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
                most[key] = max(most.get(key, Content.NONE), content)
        losses += [_loss(start, after, window), _loss(most, after, window)]
    return losses


def _loss(state: Mapping[str, Content], after: Mapping[str, Content], window: timedelta | None) -> Loss:
    held = Counter(state.values())
    return Loss(
        lost=sum(content > after.get(key, Content.NONE) for key, content in state.items()),
        had=held[Content.EMPTY] + held[Content.FULL],
        full=held[Content.FULL],
        within=window,
    )


# --- objects


def recent_lives(
    standing: Collection[JournalEntry], gone: Collection[JournalEntry], going: Collection[str]
) -> Iterator[Life]:
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
            yield Life(born=entry.created_at, died=entry.deletion_at)
    for entry in standing:
        if entry.created_at is not None and (approved is None or entry.created_at > approved):
            yield Life(born=entry.created_at, going=entry.remote_name in going)


def object_losses(count: int, objects: int, lives: Collection[Life], *, now: datetime, window: timedelta) -> list[Loss]:
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
