"""Wrapped data keys, as rows. Never sees a key in the clear."""

from typing import Final

import sqlalchemy as sa

from phasesync.store.database import Database
from phasesync.store.db_time import now
from phasesync.store.keys import WrappedKey
from phasesync.store.tables import data_keys

CREDENTIALS_KEY: Final = "credentials"
"""Purpose of the data key that all credentials share."""


class WrappedKeyTable:
    """Where the key ring finds its wrapped keys (port `WrappedKeys`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_all(self) -> list[WrappedKey]:
        """Return every wrapped key, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(data_keys).order_by(data_keys.c.created_at, data_keys.c.id)).all()
        return [
            WrappedKey(id=row.id, purpose=row.purpose, root_key_id=row.root_key_id, wrapped=row.wrapped) for row in rows
        ]


def insert_key(connection: sa.Connection, key: WrappedKey) -> None:
    """Store a new wrapped key in the transaction of what it protects."""
    connection.execute(
        data_keys.insert().values(
            id=key.id,
            purpose=key.purpose,
            root_key_id=key.root_key_id,
            wrapped=key.wrapped,
            created_at=now(),
        )
    )
