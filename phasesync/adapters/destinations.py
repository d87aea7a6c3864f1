"""
The registry of destination kinds, and the port `Destinations`, which opens a destination of any kind.

A new kind is one folder with a module that ends in `SPEC`, and one line in `REGISTRY`. A module is imported when its
kind is used, so that the name of a kind costs nothing. Makes no call and keeps nothing but the shared clients.
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
    """Opens a destination for one run."""

    def __call__(
        self, clients: AwsClients, credential: Credential, region: str, *, instance_id: str, tenant: str
    ) -> Destination:
        """Open it; makes no call yet."""
        ...


class KeyResolver(Protocol):
    """Resolves a KMS key."""

    def __call__(self, clients: AwsClients, credential: Credential, region: str, key: str) -> str:
        """Return the key's ARN, or AWS_MANAGED_KEY. InvalidInputError, PermissionDeniedError."""
        ...


@dataclass(frozen=True, kw_only=True)
class DestinationSpec:
    """
    One destination kind.

    Attributes:
        kind: its name on the command line and in the database.
        validate_name: raises InvalidInputError that says what is wrong with a remote name.
        actions: purpose -> the IAM actions that it needs; `sync` is the basis, the others are added to it.
        open: opens a destination.
        resolve_key: resolves a KMS key that is given by id, alias or ARN.
    """

    kind: str
    validate_name: Callable[[str], None]
    actions: Mapping[str, tuple[str, ...]]
    open: Opener
    resolve_key: KeyResolver


_ASKED_TOGETHER_S: Final = 10.0
"""Runs that persons asked for within this time share one resolution of an identity; it takes less than half of that."""

REGISTRY: Final[Mapping[str, str]] = {
    "aws-secrets-manager": "phasesync.adapters.aws_secrets_manager.destination",
}
"""Kind -> module."""


def spec_of(kind: str) -> DestinationSpec:
    """Return the spec of a destination kind. NotFoundError if there is no such kind."""
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
            tenant: for whom, such as a sync's id; tenants are served in rotation if calls have to wait for quotas.
            fresh: resolve the identity of the credential again, because a person asked for it.

        Raises:
            CredentialRejectedError: the credential is incomplete.
            NotFoundError: there is no such kind.
        """
        spec = spec_of(kind)
        if credential.status is CredentialStatus.INCOMPLETE:
            raise incomplete(credential)
        if fresh:
            self._clients.forget(credential, unless_within_s=_ASKED_TOGETHER_S)
        return spec.open(self._clients, credential, region, instance_id=self._instance_id, tenant=tenant)

    def resolve_key(self, kind: str, credential: Credential, region: str, key: str) -> str:
        """
        Return the ARN of a KMS key that is given by id, alias or ARN; AWS_MANAGED_KEY is returned unchanged.

        Raises:
            InvalidInputError: the key does not exist there, is disabled, or is not for symmetric encryption.
            PermissionDeniedError: the credential may not call kms:DescribeKey.
            CredentialRejectedError: the credential is incomplete.
            NotFoundError: there is no such kind.
        """
        spec = spec_of(kind)
        if credential.status is CredentialStatus.INCOMPLETE:
            raise incomplete(credential)
        return spec.resolve_key(self._clients, credential, region, key)

    def check_name(self, kind: str, remote_name: str) -> None:
        """Make sure that the destination accepts a name. NotFoundError for the kind; InvalidInputError."""
        spec_of(kind).validate_name(remote_name)
