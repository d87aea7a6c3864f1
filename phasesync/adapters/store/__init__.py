"""The encrypted store on SQLite or PostgreSQL: environments, credentials, syncs, journal, runs, claims, daemons."""

from phasesync.adapters.store.backup import backup
from phasesync.adapters.store.engine import Database, open_database
from phasesync.adapters.store.initialise import initialise, read_instance_id
from phasesync.adapters.store.store import Store, open_store
from phasesync.adapters.store.wrapped_keys import WrappedKeyTable

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
