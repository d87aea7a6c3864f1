"""
Which objects a list of remote objects makes suspect of drift. Pure.

A list lags behind and omits objects that lost our tag (API reference, ListSecrets), so it decides nothing. An object
that is not listed as expected is suspect: a run then asks for that object by itself. These make it suspect:

    expected                 listed
    ----------------------   -----------------------------------------------------
    any                      not at all
    deletion scheduled       not scheduled for deletion
    wanted                   only AWS may write it: rotation, a service, a partner, a copy
    wanted                   scheduled for deletion
    wanted                   other owner tags
    wanted                   another ARN: it was created again
    wanted                   another current version, or none
    wanted                   another description, key or tags

Nothing is expected of objects that we changed lately, and of objects that a sync no longer wants and retains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from phasesync.core.planning.metadata import is_other_key
from phasesync.core.planning.ownership import owner_tags, refusal_of
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC, ChangesPage, JournalEntry, Observed
from phasesync.core.sync import OnRemove, SyncConfig
from phasesync.core.tags import desired_tags, unwanted_tags

LAG: Final = timedelta(minutes=6)
"""How long a list may lack a change of ours: AWS says up to 5 minutes (API reference, ListSecrets)."""
PAGE: Final = 100
"""How many objects one call lists at most (API reference, ListSecrets)."""


class NotComparable(Enum):
    """Why nothing is expected of an object."""

    OBJECT = "object"
    """Its state does not matter."""
    RECENT = "recent"
    """We changed it lately, so that a list may show a former state."""
    SYNC = "sync"
    """A change of it is under way, so a run checks its whole sync."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncTraits:
    """
    What all objects of a sync have in common. None means that the dimension is left alone.

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
    How a remote object should be listed.

    Attributes:
        arn: None if AWS never reported it.
        version_id: the version that we wrote last.
        unwanted_tags: tags that it must not carry.
        leaving: it is no longer wanted and we had its deletion scheduled.
    """

    remote_name: str
    traits: SyncTraits
    arn: str | None
    version_id: str | None
    unwanted_tags: tuple[str, ...] = ()
    leaving: bool = False


def shown_by_lists(config: SyncConfig) -> bool:
    """Return whether lists show every dimension that a sync sets: they omit replicas and resource policies."""
    return config.replicas is None and config.resource_policy is None


def worth_a_list(due: int, objects: int) -> bool:
    """
    Return whether listing takes fewer calls than DescribeSecret for each object.

    Args:
        due: objects that are due for a check.
        objects: how many objects the list is expected to have.
    """
    return due > pages(objects)


def pages(objects: int) -> int:
    """Return how many calls it takes to list this many objects; an empty list takes one."""
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
    Return how an object of a sync that is in sync should be listed.

    Args:
        traits: of its sync.
        config: of its sync.
        entry: its journal entry, in the account and Region that are listed.
        wanted: the sync wants it now; False = it wrote it once.
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
        return NotComparable.RECENT
    return ExpectedListing(
        remote_name=entry.remote_name,
        traits=traits,
        arn=entry.arn,
        version_id=entry.version_id,
        unwanted_tags=unwanted_tags(config, traits.tags, entry.tags_written),
        leaving=not wanted,
    )


def is_as_expected(expected: ExpectedListing, listed: Observed) -> bool:
    """Return whether a listed object agrees with what is expected of it."""
    if expected.leaving:
        return listed.deleted_at is not None
    traits = expected.traits
    return (
        refusal_of(expected.remote_name, listed, traits.region) is None
        and listed.deleted_at is None
        and all(listed.tags.get(mark) == traits.tags[mark] for mark in (TAG_INSTANCE, TAG_SYNC))
        and expected.arn in (None, listed.arn)
        and listed.current_version == expected.version_id
        and _metadata_as_expected(expected, listed)
    )


def _metadata_as_expected(expected: ExpectedListing, listed: Observed) -> bool:
    traits = expected.traits
    return (
        (traits.description is None or traits.description == listed.description)
        and (traits.kms_key is None or not is_other_key(traits.kms_key, listed.kms_key))
        and all(listed.tags.get(key) == value for key, value in traits.tags.items())
        and not any(key in listed.tags for key in expected.unwanted_tags)
    )


# --- lists that come newest first

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Older than every change."""


class UnorderedListError(Exception):
    """A list does not come newest first. The argument is the reason: unordered or undated."""


class ChangesReader:
    """
    Takes the part of a list that comes newest first, down to an instant of AWS's clock. Pure.

    Where the service ignores the order, the first page shows it: it is one answer, and sorted or not. On later pages an
    object may be newer than the first one of the list, since it was changed after that page.
    """

    def __init__(self, since: datetime | None) -> None:
        """
        Args:
            since: take what was changed then or later; None: take nothing, and learn what is the newest.
        """
        self._since = since
        self._previous: datetime | None = None
        self.newest: datetime | None = None
        """LastChangedDate of the first entry; None if there is no entry."""
        self.answered_at: datetime | None = None
        """When the first page was answered, by the service's clock; None if it does not say."""
        self._is_first_page = True
        self.done = False
        """Every further entry is older."""

    def take(self, page: ChangesPage) -> list[Observed]:
        """Return the entries of a page that were changed since. UnorderedListError."""
        if self._is_first_page:
            self.answered_at, self._is_first_page = page.answered_at, False
        is_first_page = self.newest is None
        taken = []
        for observed in page.entries:
            changed_at = observed.last_changed_at
            if changed_at is None:
                raise UnorderedListError("undated")
            if self.newest is None:
                self.newest = self._previous = changed_at
            if self._previous is not None and changed_at > self._previous:
                if is_first_page or changed_at <= self.newest:
                    raise UnorderedListError("unordered")
            else:
                self._previous = changed_at
            if self._since is not None and changed_at >= self._since:
                taken.append(observed)
            else:
                self.done = True
        return taken


def next_since(
    former: datetime | None, *, newest: datetime | None, listed_at: datetime | None, unsettled: datetime | None
) -> datetime:
    """
    Return from which LastChangedDate on the next sweep has to compare.

    A list shows every change that is older than 5 minutes. So what it does not show yet is at most 5 minutes older than
    the list itself, or than any entry of it, which is older than the list. `LAG` is a minute more, for clocks of AWS
    that differ. Without the time of the list, the changes of the last busy minutes would be read again for ever.

    Args:
        former: from when on this sweep compared; None to begin anew.
        newest: the newest LastChangedDate that it read, None if nothing is listed.
        listed_at: a time of AWS's clock at which the list was not made yet, None if no such time is known.
        unsettled: the oldest LastChangedDate of an object that could not be compared yet, None if there is none.
    """
    shown = [at - LAG for at in (newest, listed_at) if at is not None]
    since = max([*shown, former] if former is not None else shown, default=BEGINNING)
    return since if unsettled is None else min(since, unsettled)
