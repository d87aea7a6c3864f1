"""What every use case works with: our own memory, AWS, time, and where events go. Wired once, in `bootstrap`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from phasesync.core.fingerprint import Digests
from phasesync.ports.destination import Destinations
from phasesync.ports.issuer import LeaseIssuers
from phasesync.ports.runtime import Clock, CredentialTester, EventSink

if TYPE_CHECKING:
    from phasesync.store import Store
    from phasesync.store.leases import LeaseStore


@dataclass(frozen=True, kw_only=True)
class Context:
    """
    What every use case works with. Safe to share between threads.

    AWS is opened when it is first asked for: a command that only reads the database imports no SDK.

    Attributes:
        store: everything that the database holds.
        clock: time.
        events: takes what happened.
        owner: names this process in claims.
        claim_ttl: life of a claim of a sync without renewal.
        lease_claim_ttl: returns the life of a claim of a lease; renewed before each call, it outlives the longest one.
        random: returns random numbers in [0, 1) that spread retries and checks in time; nobody gains by guessing them.
        coalesce: returns how long edits gather after a write; asked at each run, since settings may change.
        make_destinations: makes what opens destinations.
        make_issuers: makes what opens issuers of leases.
        make_tester: makes what asks AWS who a credential is.
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

    @property
    def instance_id(self) -> str:
        """Marks what is ours at AWS."""
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
        """Asks AWS who a credential is."""
        return self.make_tester()
