"""
What an issuer says of itself. Pure data: opens nothing by being read.

Issuers of short-lived credentials, one line each.

A kind is one module that ends in `SPEC`; it is imported when it is asked for, so that naming a kind costs nothing.

The port `LeaseIssuers`: opens an issuer of any kind. Makes no call and keeps nothing but the shared clients.
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
    """Makes an issuer for one lease or one look."""

    def __call__(self, clients: AwsClients, credential: Credential, *, tenant: str) -> LeaseIssuer:
        """Make it; makes no call yet."""
        ...


@dataclass(frozen=True, kw_only=True)
class IssuerSpec:
    """
    One kind of issuer.

    Attributes:
        kind: its name on the command line and in the database.
        traits: what it is like.
        check: raises InvalidInputError that says what AWS would not take of a configuration.
        open: makes an issuer.
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
    """Return what an issuer can do. NotFoundError for a kind that does not exist."""
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
            credential: who makes and takes back.
            tenant: for whom, such as a dynamic secret's id: customers take turns where calls have to wait for quotas.

        Raises:
            CredentialRejectedError: the credential is incomplete.
            NotFoundError: there is no such kind.
        """
        spec = spec_of(kind)
        if credential.status is CredentialStatus.INCOMPLETE:
            raise incomplete(credential)
        return spec.open(self._clients, credential, tenant=tenant)

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of issuers that there are."""
        return tuple(REGISTRY)

    def traits(self, kind: str) -> IssuerTraits:
        """Return what an issuer is like. NotFoundError for the kind."""
        return spec_of(kind).traits

    def check(self, kind: str, config: DynamicConfig, credential: CredentialType) -> None:
        """Make sure that AWS would take a configuration, without asking. InvalidInputError; NotFoundError."""
        spec_of(kind).check(config, credential)
