"""What a new database needs before it can be used: an instance id, a digest key, a key for credentials."""

from typing import Final

import sqlalchemy as sa

from phasesync.errors import SchemaMismatchError
from phasesync.store.base import new_id
from phasesync.store.database import Database, repeated
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.keys import KeyRing
from phasesync.store.registry import seal_registry
from phasesync.store.sqlite_file import Installation
from phasesync.store.tables import data_keys, instance
from phasesync.store.wrapped_keys import CREDENTIALS_KEY, insert_key

DIGEST_KEY: Final = "digest"
"""Purpose of the key behind fingerprints, tokens and lookups; never replaced."""

_LOCK: Final = 0x70_68_61_73_65_69_6E_69
"""Advisory lock of PostgreSQL ("phaseini"), so that two first starts make one set of keys."""


@repeated
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
            registry = seal_registry(keys, there[CREDENTIALS_KEY], values, {})
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
