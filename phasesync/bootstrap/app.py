"""
The parts that runs stand on, each made when it is first asked for, so that a command pays for what it uses.

What an operator asks for is added in `application.py`.

The wired application: the parts, and what an operator may ask, each made when it is first asked for.

A command imports what it uses: listing apps imports no AWS SDK.
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
from phasesync.ports import Clock, EventSink
from phasesync.settings.model import Settings
from phasesync.store import Store
from phasesync.store.keys import RootKey
from phasesync.store.migrate import SchemaStatus, status_of

if TYPE_CHECKING:
    from phasesync.adapters.aws.sdk import CallLimits
    from phasesync.adapters.aws.session import AwsClients
    from phasesync.adapters.destinations import RegisteredDestinations
    from phasesync.adapters.issuers import RegisteredIssuers
    from phasesync.core.events import Event
    from phasesync.engine.adoption import Adoption
    from phasesync.engine.claims import ClaimTaker
    from phasesync.engine.credential_admin import CredentialOperations
    from phasesync.engine.dynamic_admin import DynamicConfiguration
    from phasesync.engine.explanation import Explainer
    from phasesync.engine.leases.operations import LeaseOperations
    from phasesync.engine.leases.orphan_users import OrphanCollector
    from phasesync.engine.leases.revocation import LeaseRevoker
    from phasesync.engine.operations import SyncOperations
    from phasesync.engine.reconcile import Reconciler
    from phasesync.engine.removal import ForceDeletion, RemoteDeletion, SyncRelease, SyncRemoval
    from phasesync.engine.sweep import Sweeper
    from phasesync.engine.sync_admin import SyncConfiguration
    from phasesync.engine.verification import Verification
    from phasesync.ports import CredentialTester
    from phasesync.store.clock_watch import SqlClockWatch
    from phasesync.store.credentials import SqlCredentialStore
    from phasesync.store.daemons import SqlDaemonRegistry
    from phasesync.store.dynamic import SqlDynamicStore
    from phasesync.store.leases import SqlLeaseStore
    from phasesync.store.state import SqlStateStore
    from phasesync.store.store import SqlEnvironmentStore


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
        from phasesync.adapters.aws.rate_limiter import MAX_WAIT, RateLimiter
        from phasesync.adapters.aws.session import AwsClients
        from phasesync.engine.scheduler import working

        rate_limiter = RateLimiter(self.clock.monotonic, max_wait=min(MAX_WAIT, self.claim_ttl * 2 / 3))
        # For a command, which is one more beside the daemons; a daemon hears of the others with every heartbeat.
        rate_limiter.share_among(working(self.daemons) + 1)
        return AwsClients(
            source_of=self.credentials.get_by_id,
            clock=self.clock,
            instance_id=self.instance_id,
            limits=self._call_limits,
            rate_limiter=rate_limiter,
        )

    @cached_property
    def destinations(self) -> "RegisteredDestinations":
        """Opens destinations."""
        from phasesync.adapters.destinations import RegisteredDestinations

        return RegisteredDestinations(self.clients, instance_id=self.instance_id)

    @cached_property
    def tester(self) -> "CredentialTester":
        """Asks AWS who a credential is."""
        from phasesync.adapters.aws.credential_tester import AwsCredentialTester

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
        from phasesync.adapters.issuers import RegisteredIssuers

        return RegisteredIssuers(self.clients)

    @cached_property
    def lease_ender(self) -> "LeaseRevoker":
        """Takes leases back."""
        from phasesync.engine.leases.revocation import LeaseRevoker

        return LeaseRevoker(
            leases=self.leases,
            credentials=self.credentials,
            issuers=self.issuers,
            events=self._events,
            spread=random.random,  # spreads retries in time; nobody gains by guessing it
        )

    @cached_property
    def reaper(self) -> "OrphanCollector":
        """Removes users that no lease wants."""
        from phasesync.engine.leases.orphan_users import OrphanCollector

        return OrphanCollector(
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


class Application(Parts):
    """Everything a command or a daemon works with, on one database."""

    @cached_property
    def operations(self) -> "SyncOperations":
        """What an operator may ask of a sync."""
        from phasesync.engine.operations import SyncOperations

        return SyncOperations(
            credentials=self.credentials,
            state=self.state,
            reconciler=self.reconciler,
            claims=self.claims,
            daemons=self.daemons,
            clock=self.clock,
        )

    @cached_property
    def configuration(self) -> "SyncConfiguration":
        """Adds and changes syncs."""
        from phasesync.engine.sync_admin import SyncConfiguration

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
        from phasesync.engine.removal import RemoteDeletion

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
        from phasesync.engine.removal import ForceDeletion

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
        from phasesync.engine.removal import SyncRelease

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
        from phasesync.engine.credential_admin import CredentialOperations

        return CredentialOperations(self.credentials, lambda: self.tester)

    @cached_property
    def dynamic_configuration(self) -> "DynamicConfiguration":
        """Adds and changes dynamic secrets."""
        from phasesync.engine.dynamic_admin import DynamicConfiguration

        return DynamicConfiguration(
            dynamics=self.dynamics,
            environments=self.environments,
            credentials=self.credentials,
            issuers=self.issuers,
        )

    @cached_property
    def lease_operations(self) -> "LeaseOperations":
        """What an operator may ask of leases."""
        import secrets

        from phasesync.core.lease_users import RANDOM, RANDOM_ALPHABET
        from phasesync.engine.leases.operations import LeaseOperations

        # What a clock noted that was set back since is moved before anything is noted by the clock as it is.
        self.clock_watch.look(self.owner)
        return LeaseOperations(
            dynamics=self.dynamics,
            leases=self.leases,
            credentials=self.credentials,
            issuers=self.issuers,
            ender=self.lease_ender,
            clock=self.clock,
            owner=self.owner,
            instance_id=self.instance_id,
            random_text=lambda: "".join(secrets.choice(RANDOM_ALPHABET) for _ in range(RANDOM)),
        )
