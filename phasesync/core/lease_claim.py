"""The claim of a lease, the log of a lease, and kept leases: their secret key is stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from phasesync.core.lease import Lease, LeaseSpec
from phasesync.core.model import SecretValue


class LeaseEvent(StrEnum):
    """What happened to a lease."""

    ISSUED = "issued"
    GIVEN_AGAIN = "given-again"
    """It was kept, and issued once more."""
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
    """One entry of a lease's log: who did what, when. `detail` is one line for the operator, or None."""

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
    """A lease, with the values that are issued with it."""

    lease: Lease
    outputs: Outputs = field(repr=False)
