"""The encrypted store on SQLite or PostgreSQL: environments, credentials, syncs, journal, runs, claims, daemons."""

from phasesync.store.backup import backup
from phasesync.store.database import Database, open_database
from phasesync.store.initialise import initialise, read_instance_id
from phasesync.store.store import Store, open_store
from phasesync.store.wrapped_keys import WrappedKeyTable

__all__ = [
    "Database",
    "Store",
    "WrappedKeyTable",
    "backup",
    "initialise",
    "open_database",
    "open_store",
    "read_instance_id",
]
