"""Which tags a remote object shall carry, by the tag mode of its sync. Owner marks are always written."""

from collections.abc import Mapping
from dataclasses import dataclass

from phasesync.core.remote import JournalEntry, Observed
from phasesync.core.sync_config import SyncConfig, TagMode


def desired_tags(config: SyncConfig, owner: Mapping[str, str]) -> dict[str, str]:
    """Return all tags that the object must carry: the sync's own, where its mode writes any, and the owner marks."""
    own = {} if config.tag_mode is TagMode.NEVER else dict(config.tags)
    return dict(sorted((own | dict(owner)).items()))


def unwanted_tags(config: SyncConfig, desired: Mapping[str, str], written: Mapping[str, str]) -> tuple[str, ...]:
    """Return the tags to take off: only what we once wrote, only in mode replace-own, never one of AWS's."""
    if config.tag_mode is not TagMode.REPLACE_OWN:
        return ()
    return tuple(sorted(key for key in written if key not in desired and not key.startswith("aws:")))


@dataclass(frozen=True, kw_only=True)
class TagsBack:
    """What it takes to give an object back: `tags` to set and `untag` to take off."""

    tags: Mapping[str, str]
    untag: tuple[str, ...]


def tags_back(seen: Observed, entry: JournalEntry, owner: Mapping[str, str]) -> TagsBack:
    """
    Return how an object's tags become what they were before it was ours.

    Our marks go. Of an object that we took over, what we wrote goes too and what we wrote over comes back; a tag that
    somebody changed since is theirs. The tags of an object that we made belong to it.

    Args:
        seen: the object.
        entry: its journal entry: what we wrote, and what was there before.
        owner: our marks.
    """
    written = dict(owner) if entry.former_tags is None else {**entry.tags_written, **owner}
    former = entry.former_tags or {}
    ours = {key for key, value in written.items() if seen.tags.get(key) == value}
    return TagsBack(
        tags={key: former[key] for key in sorted(ours & former.keys()) if former[key] != written[key]},
        untag=tuple(sorted(ours - former.keys() | {key for key in owner if former.get(key) == owner[key]} & ours)),
    )
