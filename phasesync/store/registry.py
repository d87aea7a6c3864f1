"""
The registry: which credentials and dynamic secrets there are, each in which version; one ciphertext on the instance.

A ciphertext that is bound to its row says nothing of whether the row is the newest, or should be there at all. The
registry does, so that somebody who can write to the database but has no key cannot put back one credential or one
recipe as it was. It is bound to the other columns of the instance, which are authenticated with it.

Whoever changes it locks the instance's row before any other, so that no two wait for each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from phasesync.errors import CiphertextError, SchemaMismatchError
from phasesync.store.database import row_lock
from phasesync.store.db_time import to_microseconds
from phasesync.store.encryption import UNVERSIONED, ColumnCipher
from phasesync.store.keys import KeyRing
from phasesync.store.tables import credentials, dynamic_secrets, instance
from phasesync.store.wrapped_keys import CREDENTIALS_KEY

REGISTERED: Final = (credentials, dynamic_secrets)
"""Tables whose rows are registered by id and version."""

BOUND: Final = ("id", "instance_id", "created_at", "restored_at", "generation_floor")
"""Columns of the instance that the registry is bound to."""


@dataclass(frozen=True, kw_only=True)
class _Versions:
    """What is encrypted: table -> row id -> version."""

    versions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class Registry:
    """The registry as one transaction reads it, and may change it."""

    def __init__(
        self,
        connection: sa.Connection,
        keys: KeyRing,
        row: Mapping[str, Any],
        versions: Mapping[str, Mapping[str, int]],
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._row = row
        self._versions = {table.name: dict(versions.get(table.name, {})) for table in REGISTERED}

    @property
    def restored_at(self) -> datetime | None:
        """Since when this database counts as put in place of a later state; None = it does not."""
        found: datetime | None = self._row["restored_at"]
        return found

    @property
    def generation_floor(self) -> int:
        """Generations of objects that the journal does not know begin above this."""
        return int(self._row["generation_floor"])

    def check(self, table: sa.Table, row: sa.Row[Any]) -> None:
        """Raise CiphertextError where a row is not the one that was stored last."""
        if self._versions[table.name].get(row.id) != row.version:
            what = table.name.replace("_", " ").removesuffix("s")
            raise CiphertextError(
                f"the {what} {row.name} in table {table.name} is not the one that was stored last: an older row was "
                "put in its place outside phasesync",
                hint="restore a backup: phasesync db restore FILE; or remove it, and add it again",
            )

    def next_version(self, table: sa.Table, row: sa.Row[Any]) -> int:
        """Return the version of a row that is replaced: above any that it had, also where an older one stands there."""
        return max(int(row.version), self._versions[table.name].get(row.id, 0)) + 1

    def note(self, table: sa.Table, row_id: str, version: int) -> None:
        """Note that a row is there in a version; `store` has to follow."""
        self._versions[table.name][row_id] = version

    def forget(self, table: sa.Table, row_id: str) -> None:
        """Note that a row is removed; `store` has to follow."""
        self._versions[table.name].pop(row_id, None)

    def store(self, **changes: Any) -> None:
        """Store the registry with changes to other columns of the instance."""
        values = {**self._row, **changes}
        sealed = seal_registry(self._keys, self._keys.data_key(CREDENTIALS_KEY), values, self._versions)
        self._connection.execute(instance.update().values(**changes, registry=sealed))


def read_registry(connection: sa.Connection, keys: KeyRing) -> Registry:
    """Read the registry. CiphertextError where the instance's row was altered."""
    row = connection.execute(sa.select(instance)).first()
    if row is None:
        raise SchemaMismatchError("this database is not initialised", hint="phasesync init")
    values = row._asdict()
    if row.registry is None:
        raise CiphertextError(
            "the registry in table instance is missing: it was removed outside phasesync",
            hint="restore a backup: phasesync db restore FILE",
        )
    opened = ColumnCipher(keys).open_json(_Versions, _context(values), row.registry)
    return Registry(connection, keys, values, opened.versions)


def locked_registry(connection: sa.Connection, keys: KeyRing) -> Registry:
    """Read the registry to change it; the transaction must not hold a lock yet. CiphertextError."""
    connection.execute(row_lock(sa.select(instance.c.id))).all()
    return read_registry(connection, keys)


def seal_registry(
    keys: KeyRing, key_id: str, values: Mapping[str, Any], versions: Mapping[str, Mapping[str, int]]
) -> bytes:
    """Encrypt a registry for an instance's row, under the data key of credentials."""
    return ColumnCipher(keys).json(key_id, _context(values), _Versions(versions=versions))


def _context(values: Mapping[str, Any]) -> tuple[str, ...]:
    return ("instance", str(values["id"]), "registry", UNVERSIONED, *(_plain(values[name]) for name in BOUND))


def _plain(value: object) -> str:
    if value is None:
        return ""
    return str(to_microseconds(value)) if isinstance(value, datetime) else str(value)
