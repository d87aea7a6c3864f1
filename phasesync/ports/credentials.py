"""Credentials, and who finds out what AWS says of them."""

from dataclasses import dataclass
from typing import Protocol

from phasesync.core.credential import Credential, CredentialStatus, CredentialType
from phasesync.core.model import SecretValue
from phasesync.core.remote import CallerIdentity


@dataclass(frozen=True, kw_only=True)
class CredentialDraft:
    """What an operator says of a credential; fields that its type does not have stay None."""

    type: CredentialType
    region: str
    role_arn: str | None = None
    external_id: str | None = None
    source_name: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretValue | None = None


class CredentialStore(Protocol):
    """Credentials, encrypted at rest."""

    def add(self, name: str, draft: CredentialDraft) -> Credential:
        """Add a credential. AlreadyExistsError; NotFoundError for the source."""
        ...

    def list_all(self) -> list[Credential]:
        """Return all credentials by name."""
        ...

    def get(self, name: str) -> Credential:
        """Return a credential by name. NotFoundError."""
        ...

    def get_by_id(self, credential_id: str) -> Credential:
        """Return a credential by id. NotFoundError."""
        ...

    def update(self, name: str, draft: CredentialDraft, *, account: str | None) -> Credential:
        """
        Replace what is known of a credential; its version grows, its status becomes unverified (or incomplete) and the
        syncs that use it are due at once. `account` is the pinned account from now on.
        """
        ...

    def mark(self, credential_id: str, status: CredentialStatus, *, account: str | None = None) -> None:
        """
        Note the result of a test; a given account is pinned if none is yet. The version stays.

        One that AWS accepts has the syncs that were refused, and the leases that could not be revoked, tried again at
        once.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a credential. NotFoundError; IllegalTransitionError while syncs or credentials use it."""
        ...


@dataclass(frozen=True, kw_only=True)
class CredentialReport:
    """
    What a test of a credential found.

    Attributes:
        identity: who AWS says we are with it.
        base: who assumes the role, None for other types.
        findings: what should be corrected, as lines for the operator; empty = nothing.
        open_without_external_id: the role can also be assumed without the External ID; None = not applicable.
        tried: the calls that AWS answered, as IAM actions, in their order.
    """

    identity: CallerIdentity
    base: CallerIdentity | None
    findings: tuple[str, ...]
    open_without_external_id: bool | None
    tried: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Principal:
    """
    Who a trust policy should name.

    Attributes:
        arn: of a role, a user or an account.
        role: name of a role whose path is not known, so that `arn` is right only where it has none; None = it is right.
    """

    arn: str
    role: str | None


class CredentialTester(Protocol):
    """Finds out what AWS says of a credential."""

    def test(self, credential: Credential) -> CredentialReport:
        """
        Ask AWS who the credential is.

        Raises:
            CredentialRejectedError: with what the trust policy lacks, told from AssumeRole with and without the
                External ID.
        """
        ...

    def base_identity(self, credential: Credential) -> CallerIdentity:
        """Return who would assume the credential's role: its source, or the default chain."""
        ...

    def principal(self, credential: Credential) -> Principal:
        """Return who the trust policy of the credential's role should name. CredentialRejectedError."""
        ...
