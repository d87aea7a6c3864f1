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
from phasesync.store.base import new_id
from phasesync.store.database import Database, retry_on_conflict, row_lock
from phasesync.store.db_time import from_microseconds, now, to_microseconds
from phasesync.store.encryption import UNVERSIONED
from phasesync.store.keys import CREDENTIALS_KEY, KeyRing, insert_key
from phasesync.store.sqlite_file import Installation
from phasesync.store.tables import credentials, data_keys, dynamic_secrets, instance

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
        sealed = encrypt_registry(self._keys, self._keys.data_key(CREDENTIALS_KEY), values, self._versions)
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
    opened = keys.decrypt_json(_Versions, _context(values), row.registry)
    return Registry(connection, keys, values, opened.versions)


def lock_registry(connection: sa.Connection, keys: KeyRing) -> Registry:
    """Read the registry to change it; the transaction must not hold a lock yet. CiphertextError."""
    connection.execute(row_lock(sa.select(instance.c.id))).all()
    return read_registry(connection, keys)


def encrypt_registry(
    keys: KeyRing, key_id: str, values: Mapping[str, Any], versions: Mapping[str, Mapping[str, int]]
) -> bytes:
    """Encrypt a registry for an instance's row, under the data key of credentials."""
    return keys.encrypt_json(key_id, _context(values), _Versions(versions=versions))


def _context(values: Mapping[str, Any]) -> tuple[str, ...]:
    return ("instance", str(values["id"]), "registry", UNVERSIONED, *(_plain(values[name]) for name in BOUND))


def _plain(value: object) -> str:
    if value is None:
        return ""
    return str(to_microseconds(value)) if isinstance(value, datetime) else str(value)


DIGEST_KEY: Final = "digest"
"""Purpose of the key behind fingerprints, tokens and lookups; never replaced."""

_LOCK: Final = 0x70_68_61_73_65_69_6E_69
"""Advisory lock of PostgreSQL ("phaseini"), so that two first starts make one set of keys."""


@retry_on_conflict
def initialise(database: Database, keys: KeyRing) -> str:
    """
    Make what is missing; safe to repeat.

    Returns:
        The instance id.

    Raises:
        KeyUnavailableError: the database has keys of another root key; names both. Nothing is changed.
        SchemaMismatchError: the database is not migrated.
    """
    keys.verify()
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.literal(_LOCK, sa.BigInteger()))))
        there = {row.purpose: row.id for row in connection.execute(sa.select(data_keys.c.purpose, data_keys.c.id))}
        for purpose in (DIGEST_KEY, CREDENTIALS_KEY):
            if purpose not in there:
                insert_key(connection, key := keys.new_data_key(purpose))
                there[purpose] = key.id
        if connection.scalar(sa.select(instance.c.instance_id)) is None:
            made_at = from_microseconds(connection.scalar(sa.select(now())) or 0)
            values = {"id": 1, "instance_id": new_id(), "created_at": made_at, "restored_at": None}
            values |= {"generation_floor": 0}
            registry = encrypt_registry(keys, there[CREDENTIALS_KEY], values, {})
            connection.execute(instance.insert().values(**values, registry=registry))
    keys.verify()  # another process may have come first, with another root key
    return read_instance_id(database)


def read_instance_id(database: Database) -> str:
    """Return the instance id. SchemaMismatchError where `init` has not been run: the tables alone are not enough."""
    with database.read() as connection:
        found: str | None = connection.scalar(sa.select(instance.c.instance_id))
    if found is None:
        raise SchemaMismatchError("this database is not initialised", hint="phasesync init")
    return found


def read_installation(database: Database) -> Installation:
    """Return what tells this database from another installation's. SchemaMismatchError as `read_instance_id`."""
    instance_id = read_instance_id(database)
    with database.read() as connection:
        root_keys = connection.scalars(sa.select(data_keys.c.root_key_id).distinct())
        return Installation(instance_id=instance_id, root_key_ids=frozenset(root_keys))
