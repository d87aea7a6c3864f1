"""
What a list of remote objects says about drift. Pure.

A list lags behind and hides what lost our tag (API reference, ListSecrets), so it settles nothing: where an object is
not listed as it should be, that is a suspicion, and a run, which asks for each object by itself, finds out. What is
compared with what is listed, and the suspicion where it differs:

    expected                 listed                                 suspicion
    ----------------------   ------------------------------------   ----------
    any                      not at all                             missing
    deletion scheduled       not scheduled for deletion             restored
    wanted                   rotation, a service, a partner, copy   taken-over
    wanted                   scheduled for deletion                 deleted
    wanted                   other owner tags                       owner
    wanted                   another ARN: made anew                 replaced
    wanted                   another current version, or none       value
    wanted                   another description, key or tags       metadata

Of objects that we changed lately, and of those that a sync no longer wants and leaves where they are, nothing is
expected.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import Final

from phasesync.core.planning.metadata import is_other_key
from phasesync.core.planning.ownership import owner_tags, refusal_of
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC, JournalEntry, Observed
from phasesync.core.sync import OnRemove, SyncConfig
from phasesync.core.tags import desired_tags, unwanted_tags

LAG: Final = timedelta(minutes=6)
"""How long a change of ours may be missing from a list: AWS says up to 5 minutes (API reference, ListSecrets)."""
PAGE: Final = 100
"""Most objects that one call lists (API reference, ListSecrets)."""


class Suspicion(StrEnum):
    """What a list shows otherwise than expected."""

    MISSING = "missing"
    RESTORED = "restored"
    TAKEN_OVER = "taken-over"
    DELETED = "deleted"
    OWNER = "owner"
    REPLACED = "replaced"
    VALUE = "value"
    METADATA = "metadata"


class NotComparable(Enum):
    """Why nothing is expected of an object."""

    OBJECT = "object"
    """A list cannot tell about it, or nobody asks."""
    SYNC = "sync"
    """Something about it is under way, so its whole sync is left to a run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncTraits:
    """
    What all objects of one sync have in common. None = that dimension is left alone.

    Attributes:
        tags: all tags that they must carry, our owner marks included.
    """

    sync_id: str
    region: str
    description: str | None
    kms_key: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedListing:
    """
    How one remote object should stand in a list.

    Attributes:
        arn: None where AWS never told it.
        version_id: the version that we wrote last.
        unwanted_tags: tags that it must not carry.
        leaving: it is not wanted any more and we had its deletion scheduled.
    """

    remote_name: str
    traits: SyncTraits
    arn: str | None
    version_id: str | None
    unwanted_tags: tuple[str, ...] = ()
    leaving: bool = False


def shown_by_lists(config: SyncConfig) -> bool:
    """Return whether lists show all that a sync cares about: they tell nothing of replicas and resource policies."""
    return config.replicas is None and config.resource_policy is None


def worth_a_list(due: int, objects: int) -> bool:
    """
    Return whether listing takes fewer calls than asking for each object by itself.

    Args:
        due: objects whose check is due.
        objects: all objects that the list will show, as far as is known.
    """
    return due > pages(objects)


def pages(objects: int) -> int:
    """Return how many calls list so many objects; an empty list takes one."""
    return max(1, -(-objects // PAGE))


def traits_of(sync_id: str, config: SyncConfig, *, region: str, instance_id: str) -> SyncTraits:
    """Return what all objects of a sync have in common."""
    return SyncTraits(
        sync_id=sync_id,
        region=region,
        description=config.description,
        kms_key=config.kms_key,
        tags=desired_tags(config, owner_tags(instance_id, sync_id)),
    )


def expectation(
    traits: SyncTraits, config: SyncConfig, entry: JournalEntry, *, wanted: bool, now: datetime
) -> ExpectedListing | NotComparable:
    """
    Return how an object of a sync that is in step should stand in a list.

    Args:
        traits: of its sync.
        config: of its sync.
        entry: its journal entry, in the account and Region that are listed.
        wanted: the sync wants it now; else it wrote it once.
        now: the time.
    """
    if wanted:
        under_way = entry.intent is not None or entry.unwanted_since is not None or entry.deletion_at is not None
        if under_way or not entry.written_before:
            return NotComparable.SYNC
    elif entry.deletion_at is None:
        leaves = config.on_remove is OnRemove.DELETE and (entry.written_before or entry.intent is not None)
        return NotComparable.SYNC if leaves or entry.unwanted_since is not None else NotComparable.OBJECT
    if entry.touched_at is not None and abs(now - entry.touched_at) < LAG:
        return NotComparable.OBJECT
    return ExpectedListing(
        remote_name=entry.remote_name,
        traits=traits,
        arn=entry.arn,
        version_id=entry.version_id,
        unwanted_tags=unwanted_tags(config, traits.tags, entry.tags_written),
        leaving=not wanted,
    )


def suspicion_of(expected: ExpectedListing, seen: Observed) -> Suspicion | None:
    """Return the first thing in which a listed object is not as expected, None = it is as expected."""
    traits = expected.traits
    if expected.leaving:
        return Suspicion.RESTORED if seen.deleted_at is None else None
    if refusal_of(expected.remote_name, seen, traits.region) is not None:
        return Suspicion.TAKEN_OVER
    if seen.deleted_at is not None:
        return Suspicion.DELETED
    if any(seen.tags.get(mark) != traits.tags[mark] for mark in (TAG_INSTANCE, TAG_SYNC)):
        return Suspicion.OWNER
    if expected.arn not in (None, seen.arn):
        return Suspicion.REPLACED
    if seen.current_version != expected.version_id:
        return Suspicion.VALUE
    return None if _metadata_as_expected(expected, seen) else Suspicion.METADATA


def mismatches(expected: Mapping[str, ExpectedListing], listed: Iterable[Observed]) -> dict[str, Suspicion]:
    """
    Return what has to be looked at.

    Args:
        expected: remote name -> how it should be listed.
        listed: the whole list; entries that nobody expects are passed over. Keeps none of them.

    Returns:
        Remote name -> why. An object that is listed twice, as while another of its name goes, is well if one fits.
    """
    left = dict(expected)
    found: dict[str, Suspicion] = {}
    for seen in listed:
        one = left.get(seen.name)
        if one is None:
            continue
        suspicion = suspicion_of(one, seen)
        if suspicion is None:
            del left[seen.name]
        else:
            found[seen.name] = suspicion
    return {name: found.get(name, Suspicion.MISSING) for name in left}


def _metadata_as_expected(expected: ExpectedListing, seen: Observed) -> bool:
    traits = expected.traits
    return (
        (traits.description is None or traits.description == seen.description)
        and (traits.kms_key is None or not is_other_key(traits.kms_key, seen.kms_key))
        and all(seen.tags.get(key) == value for key, value in traits.tags.items())
        and not any(key in seen.tags for key in expected.unwanted_tags)
    )
