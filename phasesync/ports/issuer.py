"""Issues short-lived credentials, and revokes them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

from phasesync.core.credential import Credential, CredentialType
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.iam_users import MarkedUser
from phasesync.core.lease import LeaseSpec
from phasesync.core.model import SecretValue

Checkpoint = Callable[[], None]
"""Called before every call that changes something; raises when this process may not go on."""


@dataclass(frozen=True, kw_only=True)
class IssuedCredentials:
    """
    What was handed out.

    Attributes:
        principal: ARN.
        ends_at: when it ends by itself, None = never.
        outputs: output -> value: `username`, `access_key_id`, `secret_access_key`, `session_token`.
    """

    principal: str
    access_key_id: str = field(repr=False)
    ends_at: datetime | None
    outputs: Mapping[str, SecretValue] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class IssuerTraits:
    """
    What an issuer is like.

    Attributes:
        outputs: what it hands out, by name; the values of `IssuedCredentials.outputs`.
        takes_back: what it hands out can be taken back; otherwise it ends by itself, and is not renewed either.
        has_path: what it makes lies under an IAM path.
        shortest_ttl: the shortest life that it hands out.
    """

    outputs: tuple[str, ...]
    takes_back: bool
    has_path: bool
    shortest_ttl: timedelta


@dataclass
class PartialIssue:
    """Whether an attempt to make something left anything at AWS; kept up to date while it goes on."""

    possible: bool = False


class RevokeOutcome(Enum):
    """What was there to be taken back."""

    REMOVED = "removed"
    MISSING = "missing"
    """Nothing of that name."""
    THEIRS = "theirs"
    """Something of that name that was not made for this lease; it was left alone."""


@dataclass(frozen=True, kw_only=True)
class UserLocation:
    """
    Where the user of a lease was found that is not under its name any more.

    Attributes:
        name: its name by now.
        proven: the key of the lease is its; otherwise its tags have to say that it is ours.
    """

    name: str
    proven: bool


class LeaseIssuer(Protocol):
    """Hands out credentials of one kind under one AWS credential, for one lease or one look. Decides nothing."""

    @property
    def calls(self) -> int:
        """How many calls of AWS were made through this object."""
        ...

    def account_id(self) -> str:
        """Return the 12-digit account that the credential leads to; asked once per session. CredentialRejectedError."""
        ...

    def account_now(self) -> str:
        """Ask AWS which account the credential leads to at this moment, whatever is known. CredentialRejectedError."""
        ...

    def issue(self, spec: LeaseSpec, *, checkpoint: Checkpoint, partial: PartialIssue) -> IssuedCredentials:
        """
        Make what was ordered. A call that creates something is sent once; where its answer is lost, it looks first.

        Args:
            spec: what to make.
            checkpoint: asked before every call.
            partial: says afterwards, also where this raises, whether anything may be there.

        Raises:
            DestinationError: AWS refuses or cannot be reached. What was made until then is still there.
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
        Take back what was ordered: the key first, then everything else. What is gone already is no error.

        Args:
            spec: what was made.
            access_key_id: None where it is not known.
            proven: what bears the name is known to have been made for this order; otherwise its tags have to say so.
            checkpoint: asked before every call.
            ending: asked in its place before the call after which nothing is left.

        Raises:
            DestinationError: something of it is still there.
        """
        ...

    def tags_of(self, spec: LeaseSpec) -> Mapping[str, str] | None:
        """Return the tags of what bears the name of an order, None = there is nothing. DestinationError."""
        ...

    def find(self, spec: LeaseSpec, *, access_key_id: str | None, known: Callable[[str], bool]) -> UserLocation | None:
        """
        Look for the user of an order of which nothing was found under its name.

        Args:
            spec: what was made.
            access_key_id: None where it is not known.
            known: says of a name that it is the user of another lease; one call each is saved.

        Raises:
            DestinationError: it could not be looked, or AWS contradicts itself. What it may not look at it leaves out.
        """
        ...

    def renew(self, spec: LeaseSpec, end: datetime, *, number: int, checkpoint: Checkpoint) -> int:
        """
        Have what was made say that it was renewed; return which renewal it says that this is.

        Args:
            spec: what was made.
            end: its new one.
            number: of this renewal, as far as the database knows; more where what was made knows of more.
            checkpoint: asked before every call.

        Raises:
            DestinationError: it could not be told.
            RemoteChangedError: it is not there, or no longer ours.
        """
        ...

    def is_known(self, outputs: Mapping[str, SecretValue]) -> bool:
        """
        Return whether AWS knows an issued key; a new one takes it some seconds. Asks with that key.

        DestinationUnavailableError, ThrottledError: it could not be asked.
        """
        ...

    def has_key(self, spec: LeaseSpec, access_key_id: str) -> bool:
        """Return whether what was made for an order still has a key, and it may be used. DestinationError."""
        ...

    def marked(self, paths: Sequence[str], known: Callable[[str], bool]) -> Iterator[MarkedUser]:
        """
        Yield the users under IAM paths, with their tags, but for those whose name is known.

        Args:
            paths: IAM paths; whatever is below them counts too.
            known: says of a name that nobody need look at it; one call each is saved.
        """
        ...


class LeaseIssuers(Protocol):
    """Opens issuers; clients behind them are shared and made once."""

    def open(self, kind: str, credential: Credential, *, tenant: str = "") -> LeaseIssuer:
        """Return an issuer. CredentialRejectedError where the credential is incomplete; NotFoundError for the kind."""
        ...

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of issuers that there are."""
        ...

    def traits(self, kind: str) -> IssuerTraits:
        """Return what an issuer is like. NotFoundError for the kind."""
        ...

    def check(self, kind: str, config: DynamicConfig, credential: CredentialType) -> None:
        """Make sure that AWS would take a configuration, without asking. InvalidInputError; NotFoundError."""
        ...
