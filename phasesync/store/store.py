"""
Puts the store together for whoever wires the application.

What a command that lists apps does not need is imported when it is first asked for. The parts have no state of their
own, so it does not matter where two threads make one at once.
"""

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from phasesync.store.apps import AppStore
from phasesync.store.database import Database
from phasesync.store.instance import read_installation, read_registry
from phasesync.store.keys import KeyRing
from phasesync.store.secrets import SecretStore

if TYPE_CHECKING:
    from phasesync.store.claims import ClaimStore
    from phasesync.store.clock_watch import ClockWatch
    from phasesync.store.credentials import CredentialStore
    from phasesync.store.daemons import DaemonRegistry
    from phasesync.store.dynamic import DynamicStore
    from phasesync.store.journal import JournalStore
    from phasesync.store.leases import LeaseStore
    from phasesync.store.restore_mark import RestoredDatabase
    from phasesync.store.runs import RunStore
    from phasesync.store.sweeps import SweepStore
    from phasesync.store.syncs import SyncStore


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
        self.apps = AppStore(database, keys)
        self.secrets = SecretStore(database, keys)

    @cached_property
    def credentials(self) -> "CredentialStore":
        """Credentials."""
        from phasesync.store.credentials import CredentialStore

        return CredentialStore(self.database, self.keys)

    @cached_property
    def syncs(self) -> "SyncStore":
        """Syncs as an operator handles them, and each with its credential and journal."""
        from phasesync.store.syncs import SyncStore

        return SyncStore(self.database, self.keys)

    @cached_property
    def claims(self) -> "ClaimStore":
        """Who may reconcile a sync."""
        from phasesync.store.claims import ClaimStore

        return ClaimStore(self.database, self.keys)

    @cached_property
    def journal(self) -> "JournalStore":
        """What was written where, and the open intent to write."""
        from phasesync.store.journal import JournalStore

        return JournalStore(self.database, self.keys)

    @cached_property
    def runs(self) -> "RunStore":
        """The sync log."""
        from phasesync.store.runs import RunStore

        return RunStore(self.database, self.keys)

    @cached_property
    def restored(self) -> "RestoredDatabase":
        """Whether this database counts as older than AWS."""
        from phasesync.store.restore_mark import RestoredDatabase

        return RestoredDatabase(self.database, self.keys)

    @cached_property
    def sweeps(self) -> "SweepStore":
        """What sweeps read and settle."""
        from phasesync.store.sweeps import SweepStore

        return SweepStore(self.database, self.keys)

    @cached_property
    def dynamics(self) -> "DynamicStore":
        """Dynamic secrets."""
        from phasesync.store.dynamic import DynamicStore

        return DynamicStore(self.database, self.keys)

    def leases(self, *, ttl: timedelta) -> "LeaseStore":
        """Return the leases. `ttl`: life of a claim that is not prolonged; longer than any call takes."""
        from phasesync.store.leases import LeaseStore

        return LeaseStore(self.database, self.keys, ttl=ttl)

    @cached_property
    def daemons(self) -> "DaemonRegistry":
        """The daemons that are alive."""
        from phasesync.store.daemons import DaemonRegistry

        return DaemonRegistry(self.database)

    @cached_property
    def clock_watch(self) -> "ClockWatch":
        """What notices that the clock was set back."""
        from phasesync.store.clock_watch import ClockWatch

        return ClockWatch(self.database, self.keys)

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
