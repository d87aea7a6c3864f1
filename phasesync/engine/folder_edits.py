"""Reads a folder for an editor, and stores what was edited: one revision, and nothing of somebody else's is lost."""

from dataclasses import dataclass, field
from typing import Final

from phasesync.core.folder_changes import Entries, FolderChanges, Merged, changes_between, merge
from phasesync.core.model import Environment, SecretWrite
from phasesync.core.secret_json import FileEntry
from phasesync.errors import StalePlanError
from phasesync.store import Store

_ATTEMPTS: Final = 5
"""Others would have to edit the environment as often within milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """
    A folder as it was read.

    Attributes:
        revision: of its environment.
        entries: key -> value and comment, as they were entered.
    """

    environment: Environment
    path: str
    revision: int
    entries: dict[str, FileEntry] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class StoredEdit:
    """What was stored, and the environment after it."""

    environment: Environment
    changes: FolderChanges


@dataclass(frozen=True, kw_only=True)
class CollidedEdit:
    """
    Nothing was stored: somebody else changed the same keys meanwhile.

    Attributes:
        now: what is there now.
        merged: both edits; where they collide, ours.
    """

    now: Folder
    merged: Merged


def read_for_edit(store: Store, app: str, environment: str, path: str) -> Folder:
    """Return a folder. NotFoundError."""
    # In this order: an edit in between makes the revision too old, and `store_edit` finds that.
    found = store.apps.get_environment(app, environment)
    entries = {
        secret.key: FileEntry(value=secret.value, comment=secret.comment)
        for secret in store.secrets.list_secrets(app, environment, path=path)
        if secret.value is not None
    }
    return Folder(environment=found, path=path, revision=found.revision, entries=entries)


def store_edit(store: Store, before: Folder, after: Entries, *, actor: str) -> StoredEdit | CollidedEdit:
    """
    Store what was edited, as one revision.

    Changes that others made to other keys meanwhile stay. If they changed the same keys in another way, nothing is
    stored.

    Args:
        store: of the installation.
        before: what the edit began with.
        after: what there should be.
        actor: who, for the history.

    Raises:
        StalePlanError: the environment was edited during each of several attempts.
    """
    app, environment, path = before.environment.app, before.environment.name, before.path
    for attempt in range(_ATTEMPTS):
        now = read_for_edit(store, app, environment, path)
        merged = merge(before.entries, after, now.entries)
        if merged.conflicts:
            return CollidedEdit(now=now, merged=merged)
        changes = changes_between(now.entries, merged.entries)
        if not changes:
            return StoredEdit(environment=now.environment, changes=changes)
        writes = [
            SecretWrite(path=path, key=key, value=merged.entries[key].value, comment=merged.entries[key].comment or "")
            for key in (*changes.added, *changes.changed)
        ]
        try:
            edited = store.secrets.edit(
                app,
                environment,
                actor=actor,
                origin="edit",
                writes=writes,
                unsets=[(path, key) for key in changes.removed],
                since=now.revision,
            )
        except StalePlanError:
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        return StoredEdit(environment=edited, changes=changes)
    raise AssertionError("the last attempt returns or raises")
