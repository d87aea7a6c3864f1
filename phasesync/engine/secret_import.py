"""
Decides what an import changes in a folder of secrets, and commits it as one edit.

From a file, from an AWS secret, or from AWS secrets that a sync adopts. No message repeats a value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from phasesync.core.json_values import FileEntry
from phasesync.core.model import Environment, SecretVersion, SecretWrite
from phasesync.core.names import check_key
from phasesync.errors import InvalidInputError
from phasesync.store.secrets import SecretStore


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """
    What an import changes in a folder.

    Attributes:
        entries: key -> value and comment, as they are imported.
        added: keys that the folder does not have.
        changed: keys whose value or comment is replaced.
        kept: keys that differ and stay as the folder has them.
        removed: keys of the folder that are removed.
    """

    entries: Mapping[str, FileEntry] = field(repr=False)
    added: tuple[str, ...]
    changed: tuple[str, ...]
    kept: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def changes_anything(self) -> bool:
        """Whether the folder is another one afterwards."""
        return bool(self.added or self.changed or self.removed)

    @property
    def unchanged(self) -> int:
        """Number of imported keys that the folder has already, as they are or as it keeps them."""
        return len(self.entries) - len(self.added) - len(self.changed)

    @property
    def emptied(self) -> tuple[str, ...]:
        """Keys that get an empty value."""
        return tuple(key for key in (*self.added, *self.changed) if not len(self.entries[key].value))


def plan_import(
    entries: Mapping[str, FileEntry],
    folder: Mapping[str, SecretVersion],
    *,
    prune: bool = False,
    keep_differing: bool = False,
) -> ImportPlan:
    """
    Return what an import changes.

    Args:
        entries: key -> what is imported. An entry without a comment keeps the one of the folder.
        folder: key -> secret, as they are now.
        prune: remove keys of the folder that are not imported.
        keep_differing: where both have a key, the value of the folder stays.

    Raises:
        InvalidInputError: a new key breaks the rule for names of keys.
    """
    added = sorted(entries.keys() - folder.keys())
    for key in added:
        check_key(key)
    differing = tuple(sorted(key for key in entries.keys() & folder.keys() if _differs(entries[key], folder[key])))
    return ImportPlan(
        entries=entries,
        added=tuple(added),
        changed=() if keep_differing else differing,
        kept=differing if keep_differing else (),
        removed=tuple(sorted(folder.keys() - entries.keys())) if prune else (),
    )


def check_not_emptied(plan: ImportPlan, *, source: str, folder: str) -> None:
    """
    Refuse an import that removes every key of a folder because its source has none.

    Args:
        plan: what the import changes.
        source: what is imported, for the message.
        folder: where it is imported, for the message.

    Raises:
        InvalidInputError: it does.
    """
    if plan.removed and not plan.entries:
        raise InvalidInputError(
            f"{source} has no keys, and --prune would remove every key of {folder} ({len(plan.removed)})",
            hint="if they are to be removed, add --allow-empty",
        )


def apply_import(
    secrets: SecretStore, environment: tuple[str, str], path: str, plan: ImportPlan, *, actor: str
) -> Environment:
    """
    Commit an import as one edit; without changes there is no new revision.

    Args:
        secrets: the store.
        environment: app and name of the environment.
        path: the folder.
        plan: what changes.
        actor: who asked for it.

    Raises:
        NotFoundError: the environment, or a key to remove, is gone.
        AlreadyExistsError: a dynamic secret issues a key.
    """
    return secrets.edit(
        *environment,
        actor=actor,
        origin="import",
        writes=[
            SecretWrite(path=path, key=key, value=plan.entries[key].value, comment=plan.entries[key].comment)
            for key in (*plan.added, *plan.changed)
        ],
        unsets=[(path, key) for key in plan.removed],
    )


def _differs(entry: FileEntry, secret: SecretVersion) -> bool:
    return secret.value != entry.value or entry.comment not in {None, secret.comment}
