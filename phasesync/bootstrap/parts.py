"""
The parts that runs stand on, each made when it is first asked for, so that a command pays for what it uses.

What an operator asks for is added in `application.py`.
"""

import os
import random
import socket
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from phasesync.adapters.clock import SystemClock
from phasesync.adapters.keys import RootKey
from phasesync.adapters.store import Store
from phasesync.adapters.store.migrate import SchemaStatus, status_of
from phasesync.ports import Clock, EventSink
from phasesync.settings.model import Settings

if TYPE_CHECKING:
    from phasesync.adapters.aws.sdk import CallLimits
    from phasesync.adapters.aws.session import AwsClients
    from phasesync.adapters.destinations.opener import RegisteredDestinations
    from phasesync.adapters.issuers.opener import RegisteredIssuers
    from phasesync.adapters.store.clock import SqlClockWatch
    from phasesync.adapters.store.credentials import SqlCredentialStore
    from phasesync.adapters.store.daemons import SqlDaemonRegistry
    from phasesync.adapters.store.dynamic import SqlDynamicStore
    from phasesync.adapters.store.leases import SqlLeaseStore
    from phasesync.adapters.store.state import SqlStateStore
    from phasesync.adapters.store.store import SqlEnvironmentStore
    from phasesync.core.events import Event
    from phasesync.engine.claims import ClaimTaker
    from phasesync.engine.reaping import Reaper
    from phasesync.engine.reconcile import Reconciler
    from phasesync.engine.sweep import Sweeper
    from phasesync.engine.taking_back import LeaseEnder
    from phasesync.ports import CredentialTester


class _Quiet:
    """Takes events where nobody logs them: a command prints what it did itself."""

    def emit(self, event: "Event") -> None:
        """Do nothing with an event."""


class Parts:
    """What runs stand on: the opened database, AWS, claims, and what reconciles and sweeps."""

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
            root_key: for its warnings; the database has its own.
            events: takes what happens; None where commands print it.
            current: returns the settings that are in effect now; None where they do not change.
        """
        self.settings = settings
        self.current = current or (lambda: settings)
        self.warnings = (*root_key.warnings, *store.database.warnings())
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

    @property
    def clock_watch(self) -> "SqlClockWatch":
        """Notices that the database's clock was set back."""
        return self._store.clock_watch

    def schema(self) -> SchemaStatus:
        """Return how the schema of the database stands, which can be written now. StoreUnavailableError."""
        self._store.database.check_writable()
        return status_of(self._store.database)

    def database_log_bytes(self) -> int:
        """Return the size of SQLite's write-ahead log; 0 where there is none."""
        return self._store.database.log_bytes()

    def checkpoint_database(self) -> None:
        """Shorten SQLite's write-ahead log. StoreUnavailableError."""
        self._store.database.checkpoint()

    @property
    def instance_id(self) -> str:
        """Marks what is ours at AWS."""
        return self._store.instance_id

    def endpoint_note(self, region: str) -> str:
        """Return text that names the endpoints in a Region which are not AWS's usual ones; empty where all are."""
        found = self.clients.endpoints(region)
        different = sorted(set(found.values()))
        if not found:
            return ""
        if len(different) == 1 and len(found) > 1:
            return f", endpoint {different[0]}"
        return ", " + ", ".join(f"endpoint of {service} {url}" for service, url in sorted(found.items()))

    @cached_property
    def clients(self) -> "AwsClients":
        """Clients of AWS, made once and shared."""
        from phasesync.adapters.aws.quotas import PATIENCE, Quotas
        from phasesync.adapters.aws.session import AwsClients
        from phasesync.engine.scheduler import working

        quotas = Quotas(self.clock.monotonic, patience=min(PATIENCE, self.claim_ttl * 2 / 3))
        # For a command, which is one more beside the daemons; a daemon hears of the others with every heartbeat.
        quotas.share_among(working(self.daemons) + 1)
        return AwsClients(
            source_of=self.credentials.get_by_id,
            clock=self.clock,
            instance_id=self.instance_id,
            limits=self._call_limits,
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

    @property
    def dynamics(self) -> "SqlDynamicStore":
        """Dynamic secrets."""
        return self._store.dynamics

    @cached_property
    def leases(self) -> "SqlLeaseStore":
        """Leases."""
        return self._store.leases(ttl=self.lease_claim_ttl)

    @cached_property
    def issuers(self) -> "RegisteredIssuers":
        """Opens issuers."""
        from phasesync.adapters.issuers.opener import RegisteredIssuers

        return RegisteredIssuers(self.clients)

    @cached_property
    def lease_ender(self) -> "LeaseEnder":
        """Takes leases back."""
        from phasesync.engine.taking_back import LeaseEnder

        return LeaseEnder(
            leases=self.leases,
            credentials=self.credentials,
            issuers=self.issuers,
            events=self._events,
            spread=random.random,  # spreads retries in time; nobody gains by guessing it
        )

    @cached_property
    def reaper(self) -> "Reaper":
        """Removes users that no lease wants."""
        from phasesync.engine.reaping import Reaper

        return Reaper(
            dynamics=self.dynamics,
            leases=self.leases,
            credentials=self.credentials,
            issuers=self.issuers,
            state=self.state,
            events=self._events,
            clock=self.clock,
            instance_id=self.instance_id,
        )

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

    @property
    def lease_claim_ttl(self) -> timedelta:
        """Life of a claim of a lease: it is prolonged before each call, and so outlives the longest one."""
        return self.claim_ttl + timedelta(seconds=self._call_limits.call_s)

    @property
    def _call_limits(self) -> "CallLimits":
        return call_limits(self.settings)


def call_limits(settings: Settings) -> "CallLimits":
    """Return what the settings say of calls of AWS."""
    from phasesync.adapters.aws.sdk import CallLimits

    return CallLimits(
        connect_timeout_s=settings.aws.connect_timeout_s,
        read_timeout_s=settings.aws.read_timeout_s,
        attempts=settings.aws.max_attempts,
        # Beside the workers: the sweep, and a test of the credential. Threads of leases use clients of their own.
        connections=max(10, settings.daemon.workers + 2),
    )
