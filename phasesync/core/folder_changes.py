"""What an edit of a folder changes, what it loses, and where it collides with an edit of somebody else. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from phasesync.core.secret_json import FileEntry
from phasesync.core.sync import SyncConfig

Entries = Mapping[str, FileEntry]
"""Key -> value and comment; a comment is never None."""


@dataclass(frozen=True, kw_only=True)
class FolderChanges:
    """Names of keys, sorted."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: int

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def changes_between(before: Entries, after: Entries) -> FolderChanges:
    """Return what an edit changes."""
    both = before.keys() & after.keys()
    changed = tuple(sorted(key for key in both if before[key] != after[key]))
    return FolderChanges(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=changed,
        removed=tuple(sorted(before.keys() - after.keys())),
        unchanged=len(both) - len(changed),
    )


def losses_to_confirm(before: Entries, after: Entries) -> tuple[str, ...]:
    """
    Return the keys that an edit removes or empties, if that is probably a mistake; none if it is not.

    The limits are those of the guard for a new sync: two keys that are more than half, or all.
    """
    full = {key for key, entry in before.items() if len(entry.value)}
    lost = sorted({key for key in full if key not in after or not len(after[key].value)})
    many = len(lost) >= SyncConfig.shrink_limit_keys and len(lost) * 100 > SyncConfig.shrink_limit_percent * len(full)
    return tuple(lost) if many or (lost and len(lost) == len(full)) else ()


@dataclass(frozen=True, kw_only=True)
class Merged:
    """
    Two edits of one folder, as one.

    Attributes:
        entries: both edits; where they collide, ours.
        conflicts: the keys that both changed, each in another way.
    """

    entries: dict[str, FileEntry] = field(repr=False)
    conflicts: tuple[str, ...]


def merge(before: Entries, ours: Entries, theirs: Entries) -> Merged:
    """
    Combine two edits of the same content.

    Args:
        before: what both began with.
        ours: our edit.
        theirs: what is there now.
    """
    entries: dict[str, FileEntry] = {}
    conflicts = []
    for key in sorted({*before, *ours, *theirs}):
        was, our, their = before.get(key), ours.get(key), theirs.get(key)
        result = their if our == was else our
        if our not in (was, their) and their != was:
            conflicts.append(key)
        if result is not None:
            entries[key] = result
    return Merged(entries=entries, conflicts=tuple(conflicts))
