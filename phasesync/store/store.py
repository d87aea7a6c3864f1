"""
Puts the store together for whoever wires the application.

What a command that lists apps does not need is imported when it is first asked for. The parts have no state of their
own, so it does not matter where two threads make one at once.
"""

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from phasesync.ports import KeyRing
from phasesync.store.database import Database
from phasesync.store.initialise import read_installation
from phasesync.store.registry import read_registry
from phasesync.store.secrets import SecretEditsPart, SecretReadsPart

if TYPE_CHECKING:
    from phasesync.store.clock_watch import SqlClockWatch
    from phasesync.store.credentials import SqlCredentialStore
    from phasesync.store.daemons import SqlDaemonRegistry
    from phasesync.store.dynamic import SqlDynamicStore
    from phasesync.store.leases import SqlLeaseStore
    from phasesync.store.state import SqlStateStore
    from phasesync.store.sweeps import SqlSweepStore


class SqlEnvironmentStore(SecretEditsPart, SecretReadsPart):
    """Apps, environments, secrets and their versions (port `EnvironmentStore`)."""


class Store:
    """Everything that one database holds. Safe to share between threads."""

    def __init__(self, database: Database, keys: KeyRing, *, instance_id: str) -> None:
        """
        Args:
            database: an initialised one.
            keys: open it.
            instance_id: marks what is ours at AWS.
        """
        self.database = database
        self.keys = keys
        self.instance_id = instance_id
        self.environments = SqlEnvironmentStore(database, keys)

    @cached_property
    def credentials(self) -> "SqlCredentialStore":
        """Credentials."""
        from phasesync.store.credentials import SqlCredentialStore

        return SqlCredentialStore(self.database, self.keys)

    @cached_property
    def state(self) -> "SqlStateStore":
        """Syncs, journal, runs, claims."""
        from phasesync.store.state import SqlStateStore

        return SqlStateStore(self.database, self.keys)

    @cached_property
    def sweeps(self) -> "SqlSweepStore":
        """What sweeps read and settle."""
        from phasesync.store.sweeps import SqlSweepStore

        return SqlSweepStore(self.database, self.keys)

    @cached_property
    def dynamics(self) -> "SqlDynamicStore":
        """Dynamic secrets."""
        from phasesync.store.dynamic import SqlDynamicStore

        return SqlDynamicStore(self.database, self.keys)

    def leases(self, *, ttl: timedelta) -> "SqlLeaseStore":
        """Return the leases. `ttl`: life of a claim that is not prolonged; longer than any call takes."""
        from phasesync.store.leases import SqlLeaseStore

        return SqlLeaseStore(self.database, self.keys, ttl=ttl)

    @cached_property
    def daemons(self) -> "SqlDaemonRegistry":
        """The daemons that are alive."""
        from phasesync.store.daemons import SqlDaemonRegistry

        return SqlDaemonRegistry(self.database)

    @cached_property
    def clock_watch(self) -> "SqlClockWatch":
        """What notices that the clock was set back."""
        from phasesync.store.clock_watch import SqlClockWatch

        return SqlClockWatch(self.database, self.keys)

    def close(self) -> None:
        """Close every connection."""
        self.database.close()


def open_store(database: Database, keys: KeyRing) -> Store:
    """
    Open an initialised database.

    Raises:
        KeyUnavailableError: it is under another root key, or not initialised.
        SchemaMismatchError: it is not migrated.
        CiphertextError: what it says of itself was altered.
    """
    keys.verify()
    installation = read_installation(database)
    with database.read() as connection:
        read_registry(connection, keys)
    database.expect(installation)
    return Store(database, keys, instance_id=installation.instance_id)
