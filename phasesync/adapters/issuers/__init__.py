"""
The registry of issuers of short-lived credentials, and the port `LeaseIssuers`, which opens an issuer of any kind.

A new kind is one module that ends in `SPEC`, and one line in `REGISTRY`. A module is imported when its kind is used, so
that the name of a kind costs nothing. Makes no call and keeps nothing but the shared clients.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Final, Protocol

from phasesync.adapters.aws.roles import incomplete
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential, CredentialStatus, CredentialType
from phasesync.core.dynamic import DynamicConfig
from phasesync.errors import NotFoundError
from phasesync.ports.issuer import IssuerTraits, LeaseIssuer

USERNAME = "username"
ACCESS_KEY_ID = "access_key_id"
SECRET_ACCESS_KEY = "secret_access_key"
SESSION_TOKEN = "session_token"


class Opener(Protocol):
    """Opens an issuer for one lease or one scan."""

    def __call__(self, clients: AwsClients, credential: Credential, *, tenant: str) -> LeaseIssuer:
        """Open it; makes no call yet."""
        ...


@dataclass(frozen=True, kw_only=True)
class IssuerSpec:
    """
    One kind of issuer.

    Attributes:
        kind: its name on the command line and in the database.
        traits: its properties.
        check: raises InvalidInputError if AWS would refuse a configuration.
        open: opens an issuer.
    """

    kind: str
    traits: IssuerTraits
    check: Callable[[DynamicConfig, CredentialType], None]
    open: Opener


REGISTRY: Final[Mapping[str, str]] = {
    "aws-iam-user": "phasesync.adapters.issuers.iam_user",
    "aws-assume-role": "phasesync.adapters.issuers.assume_role",
}
"""Kind -> module."""


def spec_of(kind: str) -> IssuerSpec:
    """Return the spec of a kind of issuer. NotFoundError if there is no such kind."""
    if kind not in REGISTRY:
        raise NotFoundError(f"{kind!r} is not an issuer", hint=f"issuers: {', '.join(REGISTRY)}")
    spec = import_module(REGISTRY[kind]).SPEC
    if not isinstance(spec, IssuerSpec):
        raise TypeError(f"the module of {kind} does not end in a SPEC")
    return spec


class RegisteredIssuers:
    """Opens issuers of the registered kinds on shared clients."""

    def __init__(self, clients: AwsClients) -> None:
        """
        Args:
            clients: shared by all issuers.
        """
        self._clients = clients

    def open(self, kind: str, credential: Credential, *, tenant: str = "") -> LeaseIssuer:
        """
        Return an issuer.

        Args:
            kind: of the issuer.
            credential: who issues and revokes.
            tenant: for whom, such as a dynamic secret's id; tenants are served in rotation if calls have to wait for
                quotas.

        Raises:
            CredentialRejectedError: the credential is incomplete.
            NotFoundError: there is no such kind.
        """
        spec = spec_of(kind)
        if credential.status is CredentialStatus.INCOMPLETE:
            raise incomplete(credential)
        return spec.open(self._clients, credential, tenant=tenant)

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of issuers."""
        return tuple(REGISTRY)

    def traits(self, kind: str) -> IssuerTraits:
        """Return the properties of a kind of issuer. NotFoundError for the kind."""
        return spec_of(kind).traits

    def check(self, kind: str, config: DynamicConfig, credential: CredentialType) -> None:
        """Make sure that AWS would accept a configuration; makes no call. InvalidInputError; NotFoundError."""
        spec_of(kind).check(config, credential)
