"""Issues short-lived credentials and revokes them: what every kind of issuer implements."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

from phasesync.core.credential import Credential, CredentialType
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.lease import LeaseSpec
from phasesync.core.lease_users import MarkedUser
from phasesync.core.model import SecretValue
from phasesync.core.planned_call import PlannedCall

Checkpoint = Callable[[], None]
"""Called before every call that changes something; raises if this process may not go on."""


@dataclass(frozen=True, kw_only=True)
class IssuedCredentials:
    """
    Issued credentials.

    Attributes:
        principal: ARN.
        ends_at: when they expire by themselves; None means never.
        outputs: output -> value: `username`, `access_key_id`, `secret_access_key`, `session_token`.
    """

    principal: str
    access_key_id: str = field(repr=False)
    ends_at: datetime | None
    outputs: Mapping[str, SecretValue] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class IssuerTraits:
    """
    The properties of a kind of issuer.

    Attributes:
        outputs: names of the values that it issues: the keys of `IssuedCredentials.outputs`.
        revocable: its credentials can be revoked and renewed. Otherwise they only expire.
        has_path: it creates users, under an IAM path.
        shortest_ttl: the shortest lifetime that it issues.
    """

    outputs: tuple[str, ...]
    revocable: bool
    has_path: bool
    shortest_ttl: timedelta


@dataclass
class PartialIssue:
    """Whether an attempt to issue may have left anything at AWS. Updated while the attempt proceeds."""

    possible: bool = False


class RevokeOutcome(Enum):
    """What a revocation found."""

    REMOVED = "removed"
    MISSING = "missing"
    """There is nothing of that name."""
    FOREIGN = "foreign"
    """Something of that name was not created for this lease; it was left alone."""


@dataclass(frozen=True, kw_only=True)
class UserLocation:
    """
    The place of a lease's user that no longer has its name.

    Attributes:
        name: its present name.
        proven: it has the key of the lease. Otherwise its tags have to prove that it is ours.
    """

    name: str
    proven: bool


class LeaseIssuer(Protocol):
    """Issues credentials of one kind with one AWS credential, for one lease or one scan. Decides nothing."""

    @property
    def calls(self) -> int:
        """Number of calls of AWS that were made through this object."""
        ...

    def account_id(self) -> str:
        """Return the 12-digit account that the credential leads to; asked once per session. CredentialRejectedError."""
        ...

    def account_now(self) -> str:
        """Ask AWS again which account the credential leads to, even if it is known. CredentialRejectedError."""
        ...

    def issue(self, spec: LeaseSpec, *, checkpoint: Checkpoint, partial: PartialIssue) -> IssuedCredentials:
        """
        Issue credentials. A call that creates something is sent once; if its answer is lost, AWS is asked first.

        Args:
            spec: of the lease.
            checkpoint: called before every call.
            partial: says afterwards, even if this raises, whether anything may exist.

        Raises:
            DestinationError: AWS refuses or cannot be reached. What was created until then still exists.
        """
        ...

    def revoke(
        self,
        spec: LeaseSpec,
        *,
        access_key_id: str | None,
        proven: bool,
        checkpoint: Checkpoint,
        ending: Checkpoint | None = None,
    ) -> RevokeOutcome:
        """
        Revoke what was issued: the key first, then everything else. What is gone already is no error.

        Args:
            spec: of the lease.
            access_key_id: None if it is not known.
            proven: what has the name is known to be created for this lease; otherwise its tags have to prove it.
            checkpoint: called before every call.
            ending: called instead of it before the last call, after which nothing is left.

        Raises:
            DestinationError: something of it still exists.
        """
        ...

    def calls_to_issue(self, spec: LeaseSpec) -> Sequence[PlannedCall]:
        """Return the calls that `issue` would make; makes none."""
        ...

    def calls_to_revoke(self, spec: LeaseSpec, *, access_key_id: str | None) -> Sequence[PlannedCall]:
        """Return the calls that `revoke` would make for what exists and is ours; makes none."""
        ...

    def calls_to_renew(self, spec: LeaseSpec, end: datetime, *, number: int) -> Sequence[PlannedCall]:
        """Return the calls that `renew` would make for what exists and is ours; makes none."""
        ...

    def tags_of(self, spec: LeaseSpec) -> Mapping[str, str] | None:
        """Return the tags of what has the name of a lease; None if nothing has it. DestinationError."""
        ...

    def find(self, spec: LeaseSpec, *, access_key_id: str | None, known: Callable[[str], bool]) -> UserLocation | None:
        """
        Search for the user of a lease if nothing was found under its name.

        Args:
            spec: of the lease.
            access_key_id: None if it is not known.
            known: returns whether a name is that of another lease's user; this saves one call each.

        Raises:
            DestinationError: the search failed, or AWS contradicts itself. What the credential may not read is skipped.
        """
        ...

    def renew(self, spec: LeaseSpec, end: datetime, *, number: int, checkpoint: Checkpoint) -> int:
        """
        Write the new end of a lease to the tags of its user; return the number of the renewal.

        Args:
            spec: of the lease.
            end: its new end.
            number: of this renewal according to the database. A greater one is used if the tags know of more renewals.
            checkpoint: called before every call.

        Raises:
            DestinationError: the tags could not be written.
            RemoteChangedError: the user does not exist, or is no longer ours.
        """
        ...

    def is_known(self, outputs: Mapping[str, SecretValue]) -> bool:
        """
        Return whether AWS knows an issued key; with a new key this takes some seconds. Asks with that key.

        Raises:
            DestinationUnavailableError, ThrottledError: AWS could not be asked.
        """
        ...

    def has_key(self, spec: LeaseSpec, access_key_id: str) -> bool:
        """Return whether the user of a lease still has a key, and the key is active. DestinationError."""
        ...

    def marked(self, paths: Sequence[str], known: Callable[[str], bool]) -> Iterator[MarkedUser]:
        """
        Yield the users under IAM paths, with their tags, except those with a known name.

        Args:
            paths: IAM paths; everything below them is included.
            known: returns whether a name can be skipped; this saves one call each.
        """
        ...


class LeaseIssuers(Protocol):
    """Opens issuers. Their clients are created once and shared."""

    def open(self, kind: str, credential: Credential, *, tenant: str = "") -> LeaseIssuer:
        """Return an issuer. CredentialRejectedError if the credential is incomplete; NotFoundError for the kind."""
        ...

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of issuers."""
        ...

    def traits(self, kind: str) -> IssuerTraits:
        """Return the properties of a kind of issuer. NotFoundError for the kind."""
        ...

    def check(self, kind: str, config: DynamicConfig, credential: CredentialType) -> None:
        """Check that AWS would accept a configuration, without asking AWS. InvalidInputError; NotFoundError."""
        ...
