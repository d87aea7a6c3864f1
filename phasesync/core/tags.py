"""
Tags: AWS's rules for them, and which tags a remote object has to carry. Pure.

Tags that AWS would refuse are reported before AWS is called. Lengths and characters are those of IAM's API model and of
the Tagging Best Practices. Secrets Manager's model has the lengths only, but the service refuses other characters too.
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
        tags: as the operator set them.
        ours: how many tags of our own are added.
        tells_case: whether keys that differ in case only are two keys: at Secrets Manager they are, at IAM not.

    Raises:
        InvalidInputError: it names the tag and what AWS accepts.
    """
    by_folded: dict[str, str] = {}
    for key, value in tags.items():
        for prefix, owner in _RESERVED.items():
            if key.lower().startswith(prefix):
                raise InvalidInputError(
                    f"the tag {key[:_MAX_KEY]!r} cannot be set: the prefix {prefix} is reserved, it is {owner}",
                    hint="choose another key",
                )
        if not 1 <= len(key) <= _MAX_KEY or len(value) > _MAX_VALUE:
            raise InvalidInputError(
                f"the tag {key[:_MAX_KEY]!r} is too long or has no key: keys have 1 to {_MAX_KEY} characters, values "
                f"up to {_MAX_VALUE}"
            )
        if (refused := next((character for character in key + value if not _is_allowed(character)), None)) is not None:
            raise InvalidInputError(
                f"the tag {key!r} has the character {refused!r}, which AWS does not take in tags",
                hint="letters, digits, spaces and _ . : / = + - @",
            )
        if not tells_case and (other := by_folded.setdefault(key.lower(), key)) != key:
            raise InvalidInputError(
                f"the tags {other!r} and {key!r} are the same tag to AWS, which ignores case",
                hint="leave one of them out; --tag '' removes those set before",
            )
    if len(tags) > MAX_TAGS - ours:
        raise InvalidInputError(
            f"AWS takes {MAX_TAGS} tags, and {ours} of them are ours", hint=f"name {MAX_TAGS - ours} at most"
        )


def _is_allowed(character: str) -> bool:
    """Return whether AWS accepts a character in a tag: letters, numbers, separators, and marks (IAM's API model)."""
    return unicodedata.category(character)[0] in "LNZ" or character in _MARKS


def desired_tags(config: SyncConfig, owner: Mapping[str, str]) -> dict[str, str]:
    """Return all tags that the object must carry: the owner tags, and the sync's tags if its mode writes any."""
    own = {} if config.tag_mode is TagMode.NEVER else dict(config.tags)
    return dict(sorted((own | dict(owner)).items()))


def unwanted_tags(config: SyncConfig, desired: Mapping[str, str], written: Mapping[str, str]) -> tuple[str, ...]:
    """Return the tags to remove: only tags that we once wrote, only in mode replace-own, never tags of AWS."""
    if config.tag_mode is not TagMode.REPLACE_OWN:
        return ()
    return tuple(sorted(key for key in written if key not in desired and not key.startswith("aws:")))


@dataclass(frozen=True, kw_only=True)
class TagRestoration:
    """How to restore the former tags of an object: `tags` to set and `untag` to remove."""

    tags: Mapping[str, str]
    untag: tuple[str, ...]


def restore_tags(observed: Observed, entry: JournalEntry, owner: Mapping[str, str]) -> TagRestoration:
    """
    Return how to restore the tags that an object had before it was ours.

    Our owner tags are removed. If we adopted the object, the tags that we wrote are removed too, and the tags that we
    overwrote get their former values. A tag that someone changed since stays as it is. If we made the object, its other
    tags stay.

    Args:
        observed: the object.
        entry: its journal entry: the tags that we wrote, and the former tags.
        owner: our owner tags.
    """
    written = dict(owner) if entry.former_tags is None else {**entry.tags_written, **owner}
    former = entry.former_tags or {}
    ours = {key for key, value in written.items() if observed.tags.get(key) == value}
    return TagRestoration(
        tags={key: former[key] for key in sorted(ours & former.keys()) if former[key] != written[key]},
        untag=tuple(sorted(ours - former.keys() | {key for key in owner if former.get(key) == owner[key]} & ours)),
    )
