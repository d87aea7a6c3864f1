"""The encrypted store on SQLite or PostgreSQL: one class for each noun, put together in `Store`."""

from phasesync.store.database import Database, open_database
from phasesync.store.instance import initialise, read_instance_id
from phasesync.store.key_ring import read_wrapped_keys
from phasesync.store.store import Store, open_store

__all__ = [
    "Database",
    "Store",
    "initialise",
    "open_database",
    "open_store",
    "read_instance_id",
    "read_wrapped_keys",
]
