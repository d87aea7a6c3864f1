"""
The row of this installation: its id, its first keys, and the registry of credentials, dynamic secrets and
notifications.

A ciphertext that is bound to its row does not prove that the row is the newest, or should exist at all. The registry
does: it is one ciphertext with the id and version of every credential, dynamic secret and notification. So an attacker
who can write to the database but has no key cannot restore an older credential or definition, nor remove a notification
unnoticed. It is bound to the other columns of the row, which it thereby authenticates.

A transaction that changes the registry locks this row before any other, so that no two transactions deadlock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from phasesync.core.fingerprint import Digests
from phasesync.errors import CiphertextError, SchemaMismatchError
from phasesync.store.base import new_id
from phasesync.store.database import Database, retry_on_conflict, row_lock
from phasesync.store.db_time import from_microseconds, now, to_microseconds
from phasesync.store.key_ring import CREDENTIALS_KEY, CURRENT, DIGEST_KEY, UNVERSIONED, KeyRing, insert_key
from phasesync.store.retirement import refuse_retired
from phasesync.store.server_run import current_run, server_run
from phasesync.store.sqlite import Installation
from phasesync.store.tables import credentials, data_keys, dynamic_secrets, instance, notifications

if TYPE_CHECKING:
    from phasesync.store.root_keys import NewRootKey

REGISTERED: Final = (credentials, dynamic_secrets, notifications)
"""Tables with rows that are registered by id and version."""

BOUND: Final = ("id", "instance_id", "created_at", "restored_at", "generation_floor")
"""Columns of the row that the registry is bound to."""


@dataclass(frozen=True, kw_only=True)
class _Versions:
    """The content of the ciphertext: table -> row id -> version."""

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
        """Since when this database counts as older than AWS; None if it does not."""
        restored_at: datetime | None = self._row["restored_at"]
        return restored_at

    @property
    def generation_floor(self) -> int:
        """Generations of objects that are not in the journal begin above this."""
        return int(self._row["generation_floor"])

    def check(self, table: sa.Table, row: sa.Row[Any]) -> None:
        """Raise CiphertextError if a row is not the one that was stored last."""
        if self._versions[table.name].get(row.id) != row.version:
            kind = table.name.replace("_", " ").removesuffix("s")
            raise CiphertextError(
                f"the {kind} {row.name} in table {table.name} is not the one that was stored last: an older row was "
                "put in its place outside phasesync",
                hint="restore a backup: phasesync db restore FILE; or remove it, and add it again",
            )

    def count(self, table: sa.Table) -> int:
        """Return how many rows of a table are registered."""
        return len(self._versions[table.name])

    def next_version(self, table: sa.Table, row: sa.Row[Any]) -> int:
        """Return the next version of a row: above all that it had, even if an older row was put in its place."""
        return max(int(row.version), self._versions[table.name].get(row.id, 0)) + 1

    def note(self, table: sa.Table, row_id: str, version: int) -> None:
        """Register a row in a version; `store` has to follow."""
        self._versions[table.name][row_id] = version

    def forget(self, table: sa.Table, row_id: str) -> None:
        """Remove a row from the registry; `store` has to follow."""
        self._versions[table.name].pop(row_id, None)

    def store(self, **changes: Any) -> None:
        """Store the registry with changes to other columns of the instance."""
        values = {**self._row, **changes}
        sealed = encrypt_registry(self._keys, self._keys.data_key(CREDENTIALS_KEY), values, self._versions)
        self._connection.execute(instance.update().values(**changes, registry=sealed))


def read_registry(connection: sa.Connection, keys: KeyRing) -> Registry:
    """Read the registry. CiphertextError if the row was altered; SchemaMismatchError if there is no row."""
    row = connection.execute(sa.select(instance)).first()
    if row is None:
        raise SchemaMismatchError("this database is not initialised", hint="phasesync init")
    values = row._asdict()
    return Registry(connection, keys, values, registered_versions(values, keys))


def registered_versions(values: Mapping[str, Any], keys: KeyRing) -> Mapping[str, Mapping[str, int]]:
    """
    Return table -> row id -> version, from the columns of the instance. CiphertextError if the row was altered.

    Runs ask before every write, and the row rarely changes: what was decrypted once is compared, not decrypted again.
    """
    sealed = values["registry"]
    if sealed is None:
        raise CiphertextError(
            "the registry in table instance is missing: it was removed outside phasesync",
            hint="restore a backup: phasesync db restore FILE",
        )
    return keys.decrypt_json_once(_Versions, registry_context(values), sealed).versions


def lock_registry(connection: sa.Connection, keys: KeyRing) -> Registry:
    """Lock and read the registry to change it; the transaction must not hold other locks yet. CiphertextError."""
    connection.execute(row_lock(sa.select(instance.c.id))).all()
    return read_registry(connection, keys)


def encrypt_registry(
    keys: KeyRing, key_id: str, values: Mapping[str, Any], versions: Mapping[str, Mapping[str, int]]
) -> bytes:
    """Encrypt a registry for the row of the instance, under the data key of credentials."""
    return keys.encrypt_json(key_id, registry_context(values), _Versions(versions=versions))


def registry_context(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the registry is bound to."""
    return ("instance", str(values["id"]), "registry", UNVERSIONED, *(_plain(values[name]) for name in BOUND))


def _plain(value: object) -> str:
    if value is None:
        return ""
    return str(to_microseconds(value)) if isinstance(value, datetime) else str(value)


_LOCK: Final = 0x70_68_61_73_65_69_6E_69
"""Advisory lock of PostgreSQL ("phaseini"), so that two first starts make one set of keys."""


@retry_on_conflict
def initialise(
    database: Database, keys: KeyRing, *, instance_id: str | None = None, root: "NewRootKey | None" = None
) -> str:
    """
    Create the row of the instance and the first keys if they are missing; safe to repeat.

    Args:
        database: migrated.
        keys: its key ring.
        instance_id: for a new installation; None means any.
        root: the root key, to be registered in a new installation; None: it is registered once it is replaced.

    Returns:
        The instance id.

    Raises:
        KeyUnavailableError: the database has keys of another root key; names both. Nothing is changed.
        SchemaMismatchError: the database is not migrated.
        RetiredDatabaseError: it was copied, or is a copy that is not complete.
    """
    keys.verify()
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.literal(_LOCK, sa.BigInteger()))))
        if (row := connection.execute(_IDENTITY).first()) is not None:
            refuse_retired(row.retired_at, row.retired_to)
        key_ids = {row.purpose: row.id for row in connection.execute(sa.select(data_keys.c.purpose, data_keys.c.id))}
        for purpose in (DIGEST_KEY, CREDENTIALS_KEY):
            if purpose not in key_ids:
                insert_key(connection, key := keys.new_data_key(purpose))
                key_ids[purpose] = key.id
                if purpose == DIGEST_KEY and root is not None:
                    _register(connection, keys.digests_of(key), root)
        if row is None:
            created_at = from_microseconds(connection.scalar(sa.select(now())) or 0)
            values = {"id": 1, "instance_id": instance_id or new_id(), "created_at": created_at, "restored_at": None}
            values |= {"generation_floor": 0}
            registry = encrypt_registry(keys, key_ids[CREDENTIALS_KEY], values, {})
            # Nothing was written to AWS yet, so AWS has nothing that is newer.
            run = current_run(connection, connection.scalar(sa.select(server_run())))
            connection.execute(instance.insert().values(**values, registry=registry, server=run))
    keys.verify()  # another process may have been first, with another root key
    return read_instance_id(database)


def _register(connection: sa.Connection, digests: Digests, root: "NewRootKey") -> None:
    # Imported here: other commands do not need it.
    from phasesync.store.root_keys import insert_root_key

    wrapped = {"wrapped": root.wrapped, "wrapped_by": root.wrapped_by}
    insert_root_key(connection, digests, {"id": root.id, "source": root.kind, "status": CURRENT, **wrapped})


def read_instance_id(database: Database) -> str:
    """
    Return the instance id.

    Raises:
        SchemaMismatchError: `init` was not run: the tables alone are not enough.
        RetiredDatabaseError: the database was copied, or is a copy that is not complete.
    """
    with database.read() as connection:
        return _instance_id(connection)


def read_installation(connection: sa.Connection) -> Installation:
    """Return the identity of this installation. Raises as `read_instance_id` does."""
    root_keys = connection.scalars(sa.select(data_keys.c.root_key_id).distinct())
    return Installation(instance_id=_instance_id(connection), root_key_ids=frozenset(root_keys))


def _instance_id(connection: sa.Connection) -> str:
    row = connection.execute(_IDENTITY).first()
    if row is None:
        raise SchemaMismatchError("this database is not initialised", hint="phasesync init")
    refuse_retired(row.retired_at, row.retired_to)
    return str(row.instance_id)


_IDENTITY: Final = sa.select(instance.c.instance_id, instance.c.retired_at, instance.c.retired_to)
