"""
What carrying out a plan will cost: calls of the destination and new versions. Pure.

An estimate: it holds where nothing comes in between, neither an error nor somebody else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from phasesync.core.change import VALUE_WRITES, Change
from phasesync.core.fingerprint import same
from phasesync.core.planning.metadata import Dimension, differing, key_differs
from phasesync.core.remote import Action, Desired

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
