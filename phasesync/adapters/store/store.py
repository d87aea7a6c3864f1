"""Puts the store together for whoever wires the application."""

from dataclasses import dataclass

from phasesync.adapters.store.credentials import SqlCredentialStore
from phasesync.adapters.store.daemons import SqlDaemonRegistry
from phasesync.adapters.store.engine import Database
from phasesync.adapters.store.initialise import read_instance_id
from phasesync.adapters.store.secret_edits import SecretEditsPart
from phasesync.adapters.store.secret_reads import SecretReadsPart
from phasesync.adapters.store.state import SqlStateStore
from phasesync.adapters.store.sweeps import SqlSweepStore
from phasesync.ports import KeyRing


class SqlEnvironmentStore(SecretEditsPart, SecretReadsPart):
    """Apps, environments, secrets and their versions (port `EnvironmentStore`)."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """
    Everything that one database holds.

    Attributes:
        instance_id: marks what is ours at AWS.
    """

    database: Database
    keys: KeyRing
    environments: SqlEnvironmentStore
    credentials: SqlCredentialStore
    state: SqlStateStore
    sweeps: SqlSweepStore
    daemons: SqlDaemonRegistry
    instance_id: str

    def close(self) -> None:
        """Close every connection."""
        self.database.close()


def open_store(database: Database, keys: KeyRing) -> Store:
    """
    Open an initialised database.

    Raises:
        KeyUnavailableError: it is under another root key, or not initialised.
        SchemaMismatchError: it is not migrated.
    """
    keys.verify()
    return Store(
        database=database,
        keys=keys,
        environments=SqlEnvironmentStore(database, keys),
        credentials=SqlCredentialStore(database, keys),
        state=SqlStateStore(database, keys),
        sweeps=SqlSweepStore(database, keys),
        daemons=SqlDaemonRegistry(database),
        instance_id=read_instance_id(database),
    )
