"""What every use case works with: the store, AWS, time and events. Wired once, in `bootstrap`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from phasesync.core.fingerprint import Digests
from phasesync.engine.tracing import NO_TRACES
from phasesync.ports.destination import Destinations
from phasesync.ports.issuer import LeaseIssuers
from phasesync.ports.runtime import Clock, CredentialTester, EventSink
from phasesync.ports.tracing import Tracer

if TYPE_CHECKING:
    from phasesync.store import Store
    from phasesync.store.leases import LeaseStore


@dataclass(frozen=True, kw_only=True)
class Context:
    """
    What every use case works with. Safe to share between threads.

    AWS is opened when it is first used: a command that only reads the database imports no SDK.

    Attributes:
        store: everything that the database holds.
        clock: the time.
        events: receives events.
        owner: names this process in claims.
        claim_ttl: life of a claim of a sync without renewal.
        lease_claim_ttl: returns the life of a claim of a lease: renewed before each call, longer than the longest call.
        random: returns random numbers in [0, 1) that spread retries and checks in time; they need not be secure.
        coalesce: returns how long edits are collected after a write; called at each run, since settings may change.
        make_destinations: returns the opener of destinations.
        make_issuers: returns the opener of lease issuers.
        make_tester: returns the tester of credentials.
        windows: returns the maintenance windows of all syncs, as texts; called at each run, since settings may change.
        tracer: takes how long the parts of a run take.
    """

    store: "Store"
    clock: Clock
    events: EventSink
    owner: str
    claim_ttl: timedelta
    lease_claim_ttl: Callable[[], timedelta]
    random: Callable[[], float]
    coalesce: Callable[[], timedelta]
    make_destinations: Callable[[], Destinations]
    make_issuers: Callable[[], LeaseIssuers]
    make_tester: Callable[[], CredentialTester]
    windows: Callable[[], tuple[str, ...]] = lambda: ()
    tracer: Tracer = NO_TRACES

    @property
    def instance_id(self) -> str:
        """Id of this installation: part of our tags at AWS."""
        return self.store.instance_id

    @property
    def digests(self) -> Digests:
        """Keyed digests of this instance."""
        return self.store.keys.digests

    @cached_property
    def leases(self) -> "LeaseStore":
        """The leases."""
        return self.store.leases(ttl=self.lease_claim_ttl())

    @cached_property
    def destinations(self) -> Destinations:
        """Opens destinations."""
        return self.make_destinations()

    @cached_property
    def issuers(self) -> LeaseIssuers:
        """Opens issuers of leases."""
        return self.make_issuers()

    @cached_property
    def tester(self) -> CredentialTester:
        """Asks AWS for the identity of a credential."""
        return self.make_tester()
