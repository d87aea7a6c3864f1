"""
Puts the store together: one object with a class for each noun.

Classes that a command such as `apps list` does not need are imported on first use. They have no state of their own, so
two threads may make one at the same time.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from phasesync.core.audit import UNKNOWN_CALLER, AuditEntry, Caller
from phasesync.store.apps import AppStore
from phasesync.store.audit_chain import append_rows, known_data_key
from phasesync.store.database import Database
from phasesync.store.instance import read_installation, read_registry
from phasesync.store.key_ring import KeyRing
from phasesync.store.keys_in_use import hold_used_keys

if TYPE_CHECKING:
    from phasesync.store.alerts import AlertStore
    from phasesync.store.audit import AuditStore
    from phasesync.store.backup_schedules import BackupScheduleStore
    from phasesync.store.change_requests import ChangeRequestStore
    from phasesync.store.claims import ClaimStore
    from phasesync.store.clock_watch import ClockWatch
    from phasesync.store.comparison import ComparisonStore
    from phasesync.store.credentials import CredentialStore
    from phasesync.store.daemons import DaemonRegistry
    from phasesync.store.data_keys import DataKeyStore
    from phasesync.store.dynamic import DynamicStore
    from phasesync.store.figures import FigureStore
    from phasesync.store.journal import JournalStore
    from phasesync.store.leases import LeaseStore
    from phasesync.store.notifications import NotificationStore
    from phasesync.store.outbox import OutboxStore
    from phasesync.store.projects import ProjectStore
    from phasesync.store.rebuild import RebuildStore
    from phasesync.store.restore_mark import RestoreMark
    from phasesync.store.root_keys import RootKeyStore
    from phasesync.store.runs import RunStore
    from phasesync.store.secrets import SecretStore
    from phasesync.store.sweep_checks import SweepStore
    from phasesync.store.sync_requests import SyncRequestStore
    from phasesync.store.sync_states import SyncStateStore
    from phasesync.store.syncs import SyncStore


class Store:
    """Everything that one database holds. Safe to share between threads."""

    def __init__(self, database: Database, keys: KeyRing, *, instance_id: str, caller: Caller = UNKNOWN_CALLER) -> None:
        """
        Args:
            database: an initialised database.
            keys: its key ring.
            instance_id: id of the installation; it is in every owner mark.
            caller: who works with it, for the audit log.
        """
        database.before_commit = partial(_end_write, keys, caller)
        self.database = database
        self.keys = keys
        self.instance_id = instance_id
        self.apps = AppStore(database, keys)

    @cached_property
    def audit(self) -> "AuditStore":
        """The audit log."""
        from phasesync.store.audit import AuditStore

        return AuditStore(self.database, self.keys)

    @cached_property
    def secrets(self) -> "SecretStore":
        """Secrets of environments."""
        from phasesync.store.secrets import SecretStore

        return SecretStore(self.database, self.keys)

    @cached_property
    def credentials(self) -> "CredentialStore":
        """Credentials for AWS."""
        from phasesync.store.credentials import CredentialStore

        return CredentialStore(self.database, self.keys)

    @cached_property
    def syncs(self) -> "SyncStore":
        """Syncs and their state."""
        from phasesync.store.syncs import SyncStore

        return SyncStore(self.database, self.keys)

    @cached_property
    def sync_requests(self) -> "SyncRequestStore":
        """What operators and daemons ask of syncs."""
        from phasesync.store.sync_requests import SyncRequestStore

        return SyncRequestStore(self.database, self.keys)

    @cached_property
    def sync_states(self) -> "SyncStateStore":
        """States of syncs, for runs and plans."""
        from phasesync.store.sync_states import SyncStateStore

        return SyncStateStore(self.database, self.keys)

    @cached_property
    def claims(self) -> "ClaimStore":
        """Claims: who may reconcile a sync."""
        from phasesync.store.claims import ClaimStore

        return ClaimStore(self.database, self.keys)

    @cached_property
    def journal(self) -> "JournalStore":
        """The journal of remote objects."""
        from phasesync.store.journal import JournalStore

        return JournalStore(self.database, self.keys)

    @cached_property
    def runs(self) -> "RunStore":
        """The sync log."""
        from phasesync.store.runs import RunStore

        return RunStore(self.database, self.keys)

    @cached_property
    def restore_mark(self) -> "RestoreMark":
        """The mark on a database that is older than what AWS has."""
        from phasesync.store.restore_mark import RestoreMark

        return RestoreMark(self.database, self.keys)

    @cached_property
    def comparison(self) -> "ComparisonStore":
        """Whether this database was compared with AWS where it is now."""
        from phasesync.store.comparison import ComparisonStore

        return ComparisonStore(self.database, self.keys)

    @cached_property
    def rebuild(self) -> "RebuildStore":
        """Makes a lost installation anew."""
        from phasesync.store.rebuild import RebuildStore

        return RebuildStore(self.database, self.keys)

    @cached_property
    def sweeps(self) -> "SweepStore":
        """Syncs for a sweep."""
        from phasesync.store.sweep_checks import SweepStore

        return SweepStore(self.database, self.keys)

    @cached_property
    def dynamics(self) -> "DynamicStore":
        """Dynamic secrets."""
        from phasesync.store.dynamic import DynamicStore

        return DynamicStore(self.database, self.keys)

    @cached_property
    def change_requests(self) -> "ChangeRequestStore":
        """Requests for changes of protected environments."""
        from phasesync.store.change_requests import ChangeRequestStore

        return ChangeRequestStore(self.database, self.keys)

    @cached_property
    def projects(self) -> "ProjectStore":
        """Project documents and what they own."""
        from phasesync.store.projects import ProjectStore

        return ProjectStore(self.database, self.keys)

    @cached_property
    def alerts(self) -> "AlertStore":
        """What is wrong with syncs and leases."""
        from phasesync.store.alerts import AlertStore

        return AlertStore(self.database, self.keys)

    @cached_property
    def notifications(self) -> "NotificationStore":
        """Whom to tell about what."""
        from phasesync.store.notifications import NotificationStore

        return NotificationStore(self.database, self.keys)

    @cached_property
    def outbox(self) -> "OutboxStore":
        """Messages of notifications."""
        from phasesync.store.outbox import OutboxStore

        return OutboxStore(self.database, self.keys)

    @cached_property
    def backup_schedules(self) -> "BackupScheduleStore":
        """Schedules of backups."""
        from phasesync.store.backup_schedules import BackupScheduleStore

        return BackupScheduleStore(self.database, self.keys)

    @cached_property
    def data_keys(self) -> "DataKeyStore":
        """The keys that columns are encrypted with."""
        from phasesync.store.data_keys import DataKeyStore

        return DataKeyStore(self.database, self.keys)

    @cached_property
    def figures(self) -> "FigureStore":
        """The figures of metrics."""
        from phasesync.store.figures import FigureStore

        return FigureStore(self.database, self.keys)

    def leases(self, *, ttl: timedelta) -> "LeaseStore":
        """Return the leases. `ttl`: how long a claim lasts unless it is extended; longer than any call to AWS."""
        from phasesync.store.leases import LeaseStore

        return LeaseStore(self.database, self.keys, ttl=ttl)

    @cached_property
    def daemons(self) -> "DaemonRegistry":
        """The daemons that are alive, and their chores."""
        from phasesync.store.daemons import DaemonRegistry

        return DaemonRegistry(self.database)

    @cached_property
    def root_keys(self) -> "RootKeyStore":
        """The root keys: the current one, the next one and former ones."""
        from phasesync.store.root_keys import RootKeyStore

        return RootKeyStore(self.database, self.keys)

    @cached_property
    def clock_watch(self) -> "ClockWatch":
        """Finds out that the database's clock was set back."""
        from phasesync.store.clock_watch import ClockWatch

        return ClockWatch(self.database, self.keys)

    def close(self) -> None:
        """Close every connection."""
        self.database.close()


def _end_write(keys: KeyRing, caller: Caller, connection: sa.Connection, entries: Sequence[AuditEntry]) -> None:
    """Hold the data keys that a write has used until its commit, and add its rows to the audit log."""
    # In this order: whoever removes a key locks it first, and the head of the audit log last.
    key_id = known_data_key(keys) if entries else None
    hold_used_keys(keys, connection, *([] if key_id is None else [key_id]))
    if entries:
        append_rows(keys, caller, connection, entries, key_id)


def open_store(database: Database, keys: KeyRing, *, caller: Caller = UNKNOWN_CALLER) -> Store:
    """
    Return the store of an initialised database. `caller`: who works with it, for the audit log.

    Raises:
        KeyUnavailableError: the database has keys of another root key, or is not initialised.
        SchemaMismatchError: the database is not migrated.
        CiphertextError: the row of the instance was altered.
    """
    keys.verify()
    with database.read() as connection:
        installation = read_installation(connection)
        read_registry(connection, keys)
    database.expect(installation)
    return Store(database, keys, instance_id=installation.instance_id, caller=caller)
