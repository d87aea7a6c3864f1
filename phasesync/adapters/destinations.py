"""
What a destination kind says of itself. Pure data: opens nothing by being read.

Destination kinds, one line each.

A kind is one module that ends in `SPEC`; it is imported when it is asked for, so that naming a kind costs nothing.

The port `Destinations`: opens a destination of any kind. Makes no call and keeps nothing but the shared clients.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Final, Protocol

from phasesync.adapters.aws.roles import incomplete
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential, CredentialStatus
from phasesync.errors import NotFoundError
from phasesync.ports.destination import Destination


class Opener(Protocol):
    """Makes a destination for one run."""

    def __call__(
        self, clients: AwsClients, credential: Credential, region: str, *, instance_id: str, tenant: str
    ) -> Destination:
        """Make it; makes no call yet."""
        ...


class KeyResolver(Protocol):
    """Finds a KMS key."""

    def __call__(self, clients: AwsClients, credential: Credential, region: str, key: str) -> str:
        """Return the key's ARN, or AWS_MANAGED_KEY. InvalidInputError, PermissionDeniedError."""
        ...


@dataclass(frozen=True, kw_only=True)
class DestinationSpec:
    """
    One destination kind.

    Attributes:
        kind: its name on the command line and in the database.
        payload_limit_bytes: the most that one remote object takes.
        validate_name: raises InvalidInputError that says what is wrong with a remote name.
        actions: what for -> the IAM actions it needs; `sync` is the main job, the others come on top of it.
        open: makes a destination.
        resolve_key: finds a KMS key that is named by id, alias or ARN.
    """

    kind: str
    payload_limit_bytes: int
    validate_name: Callable[[str], None]
    actions: Mapping[str, tuple[str, ...]]
    open: Opener
    resolve_key: KeyResolver


REGISTRY: Final[Mapping[str, str]] = {
    "aws-secrets-manager": "phasesync.adapters.aws_secrets_manager.destination",
}
"""Kind -> module."""


def spec_of(kind: str) -> DestinationSpec:
    """Return what a destination kind can do. NotFoundError for a kind that does not exist."""
    if kind not in REGISTRY:
        raise NotFoundError(
            f"{kind!r} is not a destination kind", hint=f"destination kinds: {', '.join(sorted(REGISTRY))}"
        )
    spec = import_module(REGISTRY[kind]).SPEC
    if not isinstance(spec, DestinationSpec):
        raise TypeError(f"the module of {kind} does not end in a SPEC")
    return spec


class RegisteredDestinations:
    """Opens destinations of the registered kinds on shared clients."""

    def __init__(self, clients: AwsClients, *, instance_id: str) -> None:
        """
        Args:
            clients: shared by all destinations.
            instance_id: our instance; objects that carry it as a tag are listed as ours.
        """
        self._clients = clients
        self._instance_id = instance_id

    def open(
        self, kind: str, credential: Credential, region: str, *, tenant: str = "", fresh: bool = False
    ) -> Destination:
        """
        Return a destination for one run.

        Args:
            kind: destination kind.
            credential: who writes.
            region: where.
            tenant: for whom, such as a sync's id: customers take turns where calls have to wait for quotas.
            fresh: find the identity of the credential anew, because a person asked for it.

        Raises:
            CredentialRejectedError: the credential is incomplete.
            NotFoundError: there is no such kind.
        """
        spec = spec_of(kind)
        if credential.status is CredentialStatus.INCOMPLETE:
            raise incomplete(credential)
        if fresh:
            self._clients.forget(credential)
        return spec.open(self._clients, credential, region, instance_id=self._instance_id, tenant=tenant)

    def resolve_key(self, kind: str, credential: Credential, region: str, key: str) -> str:
        """
        Return the ARN of a KMS key that may be named by id, alias or ARN; AWS_MANAGED_KEY comes back as it is.

        Raises:
            InvalidInputError: the key does not exist there, is disabled, or is not for symmetric encryption.
            PermissionDeniedError: the credential may not ask KMS.
            CredentialRejectedError: the credential is incomplete.
            NotFoundError: there is no such kind.
        """
        spec = spec_of(kind)
        if credential.status is CredentialStatus.INCOMPLETE:
            raise incomplete(credential)
        return spec.resolve_key(self._clients, credential, region, key)

    def check_name(self, kind: str, remote_name: str) -> None:
        """Make sure that the destination would take a name. NotFoundError for the kind; InvalidInputError."""
        spec_of(kind).validate_name(remote_name)
