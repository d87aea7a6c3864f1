"""What is remembered of dynamic secrets and their leases. A secret key only where somebody asked for it to be kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from phasesync.core.dynamic import DynamicConfig, DynamicSecret
from phasesync.core.lease import Lease, LeaseSpec, LeaseStatus
from phasesync.core.model import SecretValue


@dataclass(frozen=True, kw_only=True)
class DynamicDraft:
    """What an operator says of a new dynamic secret."""

    name: str
    app: str
    environment: str
    path: str
    credential: str
    issuer: str
    config: DynamicConfig


class DynamicStore(Protocol):
    """Dynamic secrets: recipes for short-lived credentials."""

    def add(self, draft: DynamicDraft) -> DynamicSecret:
        """
        Add a dynamic secret.

        Raises:
            NotFoundError: app, environment or credential.
            AlreadyExistsError: the name is taken, or one of its keys: by a secret or by another dynamic secret of the
                same folder.
        """
        ...

    def list_all(self) -> list[DynamicSecret]:
        """
        Return all dynamic secrets by name, in a fixed number of statements.

        One whose row does not authenticate stands in the list with the reason and an empty configuration, so that it
        hides no other.
        """
        ...

    def get(self, name: str) -> DynamicSecret:
        """Return one dynamic secret. NotFoundError names what exists instead."""
        ...

    def update(self, name: str, *, credential: str, config: DynamicConfig) -> DynamicSecret:
        """Replace credential and configuration; leases that were issued stay as they are. As `add` raises."""
        ...

    def remove(self, name: str) -> None:
        """Remove a dynamic secret with its ended leases. NotFoundError; IllegalTransitionError while one is live."""
        ...


class LeaseEvent(StrEnum):
    """What happened to a lease."""

    ISSUED = "issued"
    GIVEN_AGAIN = "given-again"
    """It was kept, and handed out once more."""
    RENEWED = "renewed"
    ISSUE_FAILED = "issue-failed"
    REVOKED = "revoked"
    EXPIRED = "expired"
    REVOKE_FAILED = "revoke-failed"
    MISSING = "missing"
    """Nothing of it was found at AWS; it is looked at again before that counts."""
    LEFT_OVER = "left-over"
    """Something of it was found at AWS after its end, and removed."""


@dataclass(frozen=True, kw_only=True)
class LeaseRecord:
    """One entry of a lease's log: who did what, when. `detail` is one line for the operator, None = nothing to add."""

    lease_id: str
    at: datetime
    event: LeaseEvent
    actor: str
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class LeaseClaim:
    """
    The right to work on one lease for a time, prolonged before every call.

    Attributes:
        fence: grows with every claim of this lease; every write of it carries it.
    """

    lease_id: str
    owner: str
    fence: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is put into a lease's log together with a step."""

    event: LeaseEvent
    actor: str
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClaimedLease:
    """A claimed lease as it is stored; None in its place = its row does not authenticate."""

    claim: LeaseClaim
    lease: Lease | None
    error: str | None = None


MakeEntry = Callable[[Lease], Entry | None]
"""Makes the entry for a lease as a step has left it."""

Outputs = Mapping[str, SecretValue]
"""Output of an issuer -> its value."""

MakeOrder = Callable[[str, datetime], LeaseSpec]
"""Makes an order for the id of a lease and the end that no renewal moves it beyond."""

Step = Callable[[Lease, datetime], Lease]
"""One step of the state machine, with the database's time."""


@dataclass(frozen=True, kw_only=True)
class KeptLease:
    """A lease, with the values that are handed out with it."""

    lease: Lease
    outputs: Outputs = field(repr=False)


class LeaseStore(Protocol):
    """Leases, their log, and who is at work on them."""

    def request(
        self,
        dynamic: DynamicSecret,
        make_spec: MakeOrder,
        *,
        ttl: timedelta,
        owner: str,
        for_keep: bool = False,
    ) -> tuple[LeaseClaim, Lease]:
        """
        Note that a lease is wanted, before anything is called, and claim it.

        Args:
            dynamic: the recipe, as it was read.
            make_spec: makes what it is made of.
            ttl: how long it lives, counted from now; no longer than the recipe's maximum, whatever this says.
            owner: who is at work on it.
            for_keep: only where no kept lease may be given again, and nobody else is making one: of those that ask at
                once, one makes it.

        Raises:
            NotFoundError: the dynamic secret was removed.
            StalePlanError: it was changed meanwhile.
            IllegalTransitionError: it has as many live leases as it may have.
            ClaimHeldError: with `for_keep`: there is one to be given again by now, or another process is making one.
        """
        ...

    def save(
        self,
        claim: LeaseClaim,
        step: Step,
        *,
        entry: Entry | MakeEntry | None = None,
        keep: Outputs | None = None,
        done: bool = False,
    ) -> Lease:
        """
        Take a step of a claimed lease, in one transaction.

        Args:
            claim: the right to do it; prolonged by this, or given back where the lease is done.
            step: the step.
            entry: goes into its log; one that depends on what becomes of the lease is made from it.
            keep: values to store with it, encrypted; they go with the end of the lease.
            done: give the claim back.

        Raises:
            ClaimLostError: a successor has the claim; nothing is stored.
            IllegalTransitionError: the step is none that the lease can take.
        """
        ...

    def change(self, lease_id: str, step: Step, *, entry: Entry | MakeEntry | None = None) -> Lease:
        """Take a step that needs no claim, since nothing is called for it. NotFoundError; what the step raises."""
        ...

    def extend(self, claim: LeaseClaim) -> None:
        """Prolong a claim, before a call. ClaimLostError when a successor has it."""
        ...

    def claim(self, lease_id: str, owner: str) -> ClaimedLease:
        """Claim one lease. NotFoundError; ClaimHeldError while another process is at work on it."""
        ...

    def claim_due(self, owner: str, *, limit: int, again: int, restored: bool) -> list[ClaimedLease]:
        """
        Claim leases that a daemon has to act on (`core.lease.is_due`).

        Those first that have not failed yet, so that many that cannot be taken back keep nobody waiting; of each kind
        those that have been due longest.

        Args:
            owner: the daemon.
            limit: how many.
            again: how many of these may be such that failed before.
            restored: this database may be older than AWS.
        """
        ...

    def drop_altered(self, lease_id: str) -> None:
        """
        Delete a lease whose row does not authenticate, since nothing that it says can be believed.

        NotFoundError; IllegalTransitionError for one that does authenticate.
        """
        ...

    def release(self, claim: LeaseClaim) -> None:
        """Give a claim back; the lease stays as due as it was."""
        ...

    def defer(self, claim: LeaseClaim, pause: timedelta) -> None:
        """Look at a lease whose row does not authenticate again after a pause; gives the claim back."""
        ...

    def get(self, lease_id: str) -> Lease:
        """Return one lease. NotFoundError."""
        ...

    def list_leases(
        self,
        *,
        dynamic: str | None = None,
        credential: str | None = None,
        environment: tuple[str, str] | None = None,
        ended: bool = False,
        limit: int | None = None,
    ) -> list[Lease]:
        """
        Return leases, those that were asked for last first.

        Args:
            dynamic: name of a dynamic secret; None = of all.
            credential: name of the credential that made them; None = whichever.
            environment: (app, environment); None = whichever.
            ended: those that have ended too.
            limit: at most so many; None = all.

        Raises:
            NotFoundError: the dynamic secret. Of a credential or environment that does not exist there are none.
        """
        ...

    def statuses(self, lease_ids: Sequence[str]) -> Mapping[str, LeaseStatus]:
        """Return lease id -> status, of those that exist and whose row authenticates."""
        ...

    def kept(self, dynamic: DynamicSecret) -> KeptLease | None:
        """Return a lease whose secret key is kept and that has enough of its life left; None = there is none."""
        ...

    def reuse(self, dynamic: DynamicSecret, *, actor: str) -> KeptLease | None:
        """Return what `kept` returns, and note that it was issued once more."""
        ...

    def records(self, lease_id: str) -> list[LeaseRecord]:
        """Return the log of a lease, oldest first. NotFoundError."""
        ...

    def prune(self, *, older_than: timedelta) -> int:
        """Delete leases that ended longer ago than that, with their log; return how many."""
        ...
