"""
AWS's rules for tags, so that what it would refuse is told before it is asked. Pure.

Lengths and characters are those of IAM's API model and of the Tagging Best Practices; Secrets Manager's model has the
lengths only, and refuses other characters when it is called.

Which tags a remote object shall carry, by the tag mode of its sync. Owner marks are always written.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from phasesync.core.remote import JournalEntry, Observed
from phasesync.core.sync import SyncConfig, TagMode
from phasesync.errors import InvalidInputError

MAX_TAGS: Final = 50
"""On one resource (quotas of Secrets Manager, and of IAM)."""
_MAX_KEY: Final = 128
_MAX_VALUE: Final = 256
_RESERVED: Final = {"aws:": "AWS's", "phasesync:": "ours"}
_MARKS: Final = "_.:/=+-@"


def check_tags(tags: Mapping[str, str], *, ours: int, tells_case: bool) -> None:
    """
    Refuse tags that AWS would refuse.

    Args:
        tags: as given.
        ours: how many of our own come on top.
        tells_case: whether keys that differ in case only are two keys: so at Secrets Manager, and not at IAM.

    Raises:
        InvalidInputError: it says which tag, and what AWS takes.
    """
    seen: dict[str, str] = {}
    for key, value in tags.items():
        for prefix, whose in _RESERVED.items():
            if key.lower().startswith(prefix):
                raise InvalidInputError(
                    f"the tag {key[:_MAX_KEY]!r} cannot be set: the prefix {prefix} is reserved, it is {whose}",
                    hint="choose another key",
                )
        if not 1 <= len(key) <= _MAX_KEY or len(value) > _MAX_VALUE:
            raise InvalidInputError(
                f"the tag {key[:_MAX_KEY]!r} is too long or has no key: keys have 1 to {_MAX_KEY} characters, values "
                f"up to {_MAX_VALUE}"
            )
        if (refused := next((one for one in key + value if not _is_allowed(one)), None)) is not None:
            raise InvalidInputError(
                f"the tag {key!r} has the character {refused!r}, which AWS does not take in tags",
                hint="letters, digits, spaces and _ . : / = + - @",
            )
        if not tells_case and (other := seen.setdefault(key.lower(), key)) != key:
            raise InvalidInputError(
                f"the tags {other!r} and {key!r} are one to AWS, which does not tell them apart by case",
                hint="leave one of them out; --tag '' removes those set before",
            )
    if len(tags) > MAX_TAGS - ours:
        raise InvalidInputError(
            f"AWS takes {MAX_TAGS} tags, and {ours} of them are ours", hint=f"name {MAX_TAGS - ours} at most"
        )


def _is_allowed(character: str) -> bool:
    """Return whether AWS takes a character in a tag: letters, numbers, separators, and a few (IAM's API model, Tag)."""
    return unicodedata.category(character)[0] in "LNZ" or character in _MARKS


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
class TagRestoration:
    """What it takes to give an object back: `tags` to set and `untag` to take off."""

    tags: Mapping[str, str]
    untag: tuple[str, ...]


def restore_tags(seen: Observed, entry: JournalEntry, owner: Mapping[str, str]) -> TagRestoration:
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
    return TagRestoration(
        tags={key: former[key] for key in sorted(ours & former.keys()) if former[key] != written[key]},
        untag=tuple(sorted(ours - former.keys() | {key for key in owner if former.get(key) == owner[key]} & ours)),
    )
