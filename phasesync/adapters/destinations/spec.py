"""What a destination kind says of itself. Pure data: opens nothing by being read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential
from phasesync.ports import Destination


class Opener(Protocol):
    """Makes a destination for one run."""

    def __call__(
        self, clients: AwsClients, credential: Credential, region: str, *, instance_id: str, customer: str
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
