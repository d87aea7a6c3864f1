"""
Settings -> wired application. The one file that names concrete classes.

Parts are made when they are first asked for, so that a command pays for what it uses: listing apps imports no AWS SDK.
"""

import os
import random
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from phasesync.adapters.clock import SystemClock
from phasesync.adapters.keys import EnvelopeKeyRing, RootKey, load_root_key, write_new_root_key
from phasesync.adapters.store import (
    Database,
    Store,
    WrappedKeyTable,
    initialise,
    open_database,
    open_store,
    read_instance_id,
)
from phasesync.adapters.store.migrate import SchemaStatus, check, status_of, upgrade
from phasesync.errors import KeyUnavailableError
from phasesync.ports import Clock, EventSink
from phasesync.settings.model import Settings

if TYPE_CHECKING:
    from phasesync.adapters.aws.session import AwsClients
    from phasesync.adapters.destinations.opener import RegisteredDestinations
    from phasesync.adapters.dispatch.threads import ThreadDispatcher
    from phasesync.adapters.store.credentials import SqlCredentialStore
    from phasesync.adapters.store.daemons import SqlDaemonRegistry
    from phasesync.adapters.store.state import SqlStateStore
    from phasesync.adapters.store.store import SqlEnvironmentStore
    from phasesync.core.events import Event
    from phasesync.engine.adoption import Adoption
    from phasesync.engine.claims import ClaimKeeper, ClaimTaker
    from phasesync.engine.configuration import SyncConfiguration
    from phasesync.engine.credentials import CredentialOperations
    from phasesync.engine.explanation import Explainer
    from phasesync.engine.force_deletion import ForceDeletion
    from phasesync.engine.operations import SyncOperations
    from phasesync.engine.reconcile import Reconciler
    from phasesync.engine.release import SyncRelease
    from phasesync.engine.remote_deletion import RemoteDeletion
    from phasesync.engine.removal import SyncRemoval
    from phasesync.engine.scheduler import Scheduler
    from phasesync.engine.sweep import Sweeper
    from phasesync.engine.verification import Verification
    from phasesync.ports import CredentialTester


class _Quiet:
    """Takes events where nobody logs them: a command prints what it did itself."""

    def emit(self, event: "Event") -> None:
        """Do nothing with an event."""


class Application:
    """Everything a command or a daemon works with, on one database."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        root_key: RootKey,
        events: EventSink | None = None,
        current: Callable[[], Settings] | None = None,
    ) -> None:
        """
        Args:
            settings: as they were read.
            store: the opened database.
            root_key: for its warnings.
            events: takes what happens; None where commands print it.
            current: returns the settings that are in effect now; None where they do not change.
        """
        self.settings = settings
        self.current = current or (lambda: settings)
        self.warnings = root_key.warnings
        self.clock: Clock = SystemClock()
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._store = store
        self._events: EventSink = events or _Quiet()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close connections to the database and to AWS."""
        if "clients" in self.__dict__:
            self.clients.close()
        self._store.close()

    @property
    def environments(self) -> "SqlEnvironmentStore":
        """Apps, environments, secrets."""
        return self._store.environments

    @property
    def credentials(self) -> "SqlCredentialStore":
        """Credentials."""
        return self._store.credentials

    @property
    def state(self) -> "SqlStateStore":
        """Syncs, journal, runs, claims."""
        return self._store.state

    @property
    def daemons(self) -> "SqlDaemonRegistry":
        """The daemons that are alive."""
        return self._store.daemons

    def schema(self) -> SchemaStatus:
        """Return how the database's schema stands now. StoreUnavailableError."""
        return status_of(self._store.database)

    @property
    def instance_id(self) -> str:
        """Marks what is ours at AWS."""
        return self._store.instance_id

    @cached_property
    def endpoint_url(self) -> str | None:
        """The endpoint in place of AWS's own, None = AWS's. SettingsError."""
        from phasesync.adapters.aws.endpoint import configured_endpoint

        return configured_endpoint(os.environ)

    @property
    def endpoint_note(self) -> str:
        """Text that names an endpoint which is not AWS's own; empty where it is."""
        return f", endpoint {self.endpoint_url}" if self.endpoint_url else ""

    @cached_property
    def clients(self) -> "AwsClients":
        """Clients of AWS, made once and shared."""
        from phasesync.adapters.aws.quotas import PATIENCE, Quotas
        from phasesync.adapters.aws.sdk import CallLimits
        from phasesync.adapters.aws.session import AwsClients
        from phasesync.engine.scheduler import working

        aws = self.settings.aws
        quotas = Quotas(self.clock.monotonic, patience=min(PATIENCE, self.claim_ttl * 2 / 3))
        # For a command, which is one more beside the daemons; a daemon hears of the others with every heartbeat.
        quotas.share_among(working(self.daemons) + 1)
        return AwsClients(
            source_of=self.credentials.get_by_id,
            clock=self.clock,
            instance_id=self.instance_id,
            endpoint_url=self.endpoint_url,
            limits=CallLimits(
                connect_timeout_s=aws.connect_timeout_s, read_timeout_s=aws.read_timeout_s, attempts=aws.max_attempts
            ),
            quotas=quotas,
        )

    @cached_property
    def destinations(self) -> "RegisteredDestinations":
        """Opens destinations."""
        from phasesync.adapters.destinations.opener import RegisteredDestinations

        return RegisteredDestinations(self.clients, instance_id=self.instance_id)

    @cached_property
    def tester(self) -> "CredentialTester":
        """Asks AWS who a credential is."""
        from phasesync.adapters.aws.identity import AwsCredentialTester

        return AwsCredentialTester(self.clients)

    @cached_property
    def claims(self) -> "ClaimTaker":
        """Takes claims for commands."""
        from phasesync.engine.claims import ClaimTaker

        return ClaimTaker(self.state, self.clock, owner=self.owner, ttl=self.claim_ttl)

    @cached_property
    def reconciler(self) -> "Reconciler":
        """Reconciles one sync, once."""
        from phasesync.engine.reconcile import Reconciler

        return Reconciler(
            environments=self.environments,
            state=self.state,
            destinations=self.destinations,
            digests=self._store.keys.digests,
            instance_id=self.instance_id,
            clock=self.clock,
            events=self._events,
            spread=random.random,  # spreads retries in time; nobody gains by guessing it
            coalesce=lambda: timedelta(milliseconds=self.current().daemon.coalesce_ms),
        )

    @cached_property
    def operations(self) -> "SyncOperations":
        """What an operator may ask of a sync."""
        from phasesync.engine.operations import SyncOperations

        return SyncOperations(
            credentials=self.credentials,
            state=self.state,
            reconciler=self.reconciler,
            claims=self.claims,
            clock=self.clock,
        )

    @cached_property
    def configuration(self) -> "SyncConfiguration":
        """Adds and changes syncs."""
        from phasesync.engine.configuration import SyncConfiguration

        return SyncConfiguration(
            environments=self.environments,
            credentials=self.credentials,
            state=self.state,
            destinations=self.destinations,
            tester=lambda: self.tester,
        )

    @cached_property
    def adoption(self) -> "Adoption":
        """Takes objects over that are not ours."""
        from phasesync.engine.adoption import Adoption

        return Adoption(
            environments=self.environments,
            state=self.state,
            destinations=self.destinations,
            instance_id=self.instance_id,
        )

    @cached_property
    def removal(self) -> "SyncRemoval":
        """Removes syncs."""
        from phasesync.engine.removal import SyncRemoval

        return SyncRemoval(
            state=self.state, destinations=self.destinations, claims=self.claims, instance_id=self.instance_id
        )

    @cached_property
    def remote_deletion(self) -> "RemoteDeletion":
        """Removes syncs with their remote objects."""
        from phasesync.engine.remote_deletion import RemoteDeletion

        return RemoteDeletion(
            state=self.state,
            destinations=self.destinations,
            claims=self.claims,
            instance_id=self.instance_id,
            clock=self.clock,
        )

    @cached_property
    def force_deletion(self) -> "ForceDeletion":
        """Deletes one remote object for good."""
        from phasesync.engine.force_deletion import ForceDeletion

        return ForceDeletion(
            credentials=self.credentials,
            state=self.state,
            destinations=self.destinations,
            claims=self.claims,
            instance_id=self.instance_id,
            clock=self.clock,
        )

    @cached_property
    def releasing(self) -> "SyncRelease":
        """Gives remote objects back."""
        from phasesync.engine.release import SyncRelease

        return SyncRelease(
            state=self.state,
            destinations=self.destinations,
            claims=self.claims,
            instance_id=self.instance_id,
            clock=self.clock,
        )

    @cached_property
    def explainer(self) -> "Explainer":
        """Explains syncs."""
        from phasesync.engine.explanation import Explainer

        return Explainer(state=self.state, reconciler=self.reconciler, instance_id=self.instance_id, clock=self.clock)

    @cached_property
    def verification(self) -> "Verification":
        """Compares values at AWS with the store."""
        from phasesync.engine.verification import Verification

        return Verification(
            environments=self.environments,
            state=self.state,
            destinations=self.destinations,
            digests=self._store.keys.digests,
        )

    @cached_property
    def credential_operations(self) -> "CredentialOperations":
        """What an operator may ask of a credential."""
        from phasesync.engine.credentials import CredentialOperations

        return CredentialOperations(self.credentials, lambda: self.tester)

    @cached_property
    def sweeper(self) -> "Sweeper":
        """Checks many objects at once, by lists."""
        from phasesync.engine.sweep import Sweeper

        return Sweeper(
            store=self._store.sweeps,
            registry=self.daemons,
            owner=self.owner,
            destinations=self.destinations,
            instance_id=self.instance_id,
            clock=self.clock,
            events=self._events,
        )

    @property
    def claim_ttl(self) -> timedelta:
        """Life of a claim without renewal."""
        return timedelta(seconds=self.settings.daemon.claim_ttl_s)


def open_application(
    settings: Settings, *, events: EventSink | None = None, current: Callable[[], Settings] | None = None
) -> Application:
    """
    Open the database with its key; see `Application` for the arguments.

    Raises:
        SchemaMismatchError, KeyUnavailableError, StoreUnavailableError, SettingsError: with what mends it.
    """
    check(settings.database_url)
    database = open_database(settings.database_url)
    try:
        # Asked for before the key: a daemon that starts beside `init` waits for it and does not miss a key yet to come.
        read_instance_id(database)
        root_key = find_root_key(settings)
        store = open_store(database, EnvelopeKeyRing([root_key], WrappedKeyTable(database)))
    except BaseException:
        database.close()
        raise
    return Application(settings, store, root_key=root_key, events=events, current=current)


def find_root_key(settings: Settings, environ: Mapping[str, str] = os.environ) -> RootKey:
    """Return the root key that the settings lead to. KeyUnavailableError, SettingsError."""
    named = "root_key_file" in settings.model_fields_set
    return load_root_key(
        file=settings.root_key_file if named else None,
        value=settings.root_key.get_secret_value() if settings.root_key else None,
        default_file=settings.root_key_file,
        environ=environ,
    )


@dataclass(frozen=True, kw_only=True)
class Initialised:
    """What `init` made or found."""

    root_key: RootKey
    key_made: bool
    instance_id: str


def initialise_application(settings: Settings) -> Initialised:
    """
    Make what is missing: root key, database at the newest migration, keys in it. Safe to repeat.

    Raises:
        KeyUnavailableError: the database has keys of another root key, or its root key is gone: no new one is made.
        SettingsError, StoreUnavailableError: directory, file or database are not usable.
    """
    upgrade(settings.database_url)
    database = open_database(settings.database_url)
    try:
        stored = WrappedKeyTable(database)
        made = False
        try:
            root_key = find_root_key(settings)
        except KeyUnavailableError as error:
            if settings.root_key_file.exists() or settings.root_key is not None:
                raise
            wrapped = stored.list_all()
            if wrapped:
                raise KeyUnavailableError(
                    f"the root key is missing: this database was made with the key {wrapped[0].root_key_id}; "
                    "no new one is made",
                    hint=f"bring the key file back to {settings.root_key_file}, or set PHASESYNC_ROOT_KEY_FILE",
                ) from error
            root_key, made = write_new_root_key(settings.root_key_file), True
        instance_id = initialise(database, EnvelopeKeyRing([root_key], stored))
    finally:
        database.close()
    return Initialised(root_key=root_key, key_made=made, instance_id=instance_id)


def restore_application(settings: Settings, file: Path) -> Path | None:
    """
    Put a backup in the place of the database; see `adapters.store.restore`.

    Returns:
        Where the former database was kept, None where there was none.

    Raises:
        KeyUnavailableError: the root key of the settings does not open the backup. Nothing was changed.
    """
    from phasesync.adapters.store.restore import restore

    root_key = find_root_key(settings)

    def check_keys(database: Database) -> None:
        EnvelopeKeyRing([root_key], WrappedKeyTable(database)).verify()

    return restore(settings.database_url, file, check=check_keys, at=SystemClock().now())


LIVE_SETTINGS = frozenset({"daemon.coalesce_ms", "retention.runs_days"})
"""Settings that a daemon's machinery reads anew whenever it needs them."""


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """What a daemon drives, on an application that it closes at its end."""

    application: Application
    scheduler: "Scheduler"
    keeper: "ClaimKeeper"
    dispatcher: "ThreadDispatcher"


def build_machinery(current: Callable[[], Settings], events: EventSink) -> Machinery:
    """
    Wire what a daemon drives.

    Args:
        current: returns the settings that are in effect now.
        events: takes what happens.

    Raises:
        PhasesyncError: as `open_application` does.
    """
    from phasesync.adapters.dispatch.threads import ThreadDispatcher
    from phasesync.engine.claims import ClaimKeeper
    from phasesync.engine.scheduler import Member, Scheduler
    from phasesync.engine.worker import Worker

    application = open_application(current(), events=events, current=current)
    quotas = application.clients.quotas
    keeper = ClaimKeeper(application.state, application.clock, application.claim_ttl, on_stop=quotas.stop)
    worker = Worker(application.reconciler, keeper)
    dispatcher = ThreadDispatcher(worker.work, threads=application.settings.daemon.workers, events=events)
    scheduler = Scheduler(
        member=Member(owner=application.owner, host=socket.gethostname(), pid=os.getpid()),
        state=application.state,
        registry=application.daemons,
        keeper=keeper,
        dispatcher=dispatcher,
        events=events,
        clock=application.clock,
        runs_kept=lambda: timedelta(days=current().retention.runs_days),
        share_among=quotas.share_among,
        sweeper=application.sweeper,
    )
    return Machinery(application=application, scheduler=scheduler, keeper=keeper, dispatcher=dispatcher)
