"""
Calls of Secrets Manager for one credential in one Region.

Every part of the adapter stands on this. Must not know what a call is for.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from phasesync.adapters.aws.caller import Caller
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager.client import SecretsManagerClient

T = TypeVar("T")

NOT_FOUND: Final = "ResourceNotFoundException"
INVALID_PARAMETER: Final = "InvalidParameterException"


class AwsCaller:
    """One account and Region under one credential, for one run. Not for two threads at once."""

    def __init__(
        self, clients: AwsClients, credential: Credential, region: str, *, instance_id: str, customer: str = ""
    ) -> None:
        """
        Args:
            clients: shared clients.
            credential: who writes.
            region: where.
            instance_id: objects that carry it as a tag are listed as ours.
            customer: for whom: customers take turns where calls have to wait for AWS's quotas.
        """
        self._clients = clients
        self._credential = credential
        self._region = region
        self._instance_id = instance_id
        self._caller = Caller(clients, credential, customer=customer)

    @property
    def calls(self) -> int:
        """How many calls of Secrets Manager were made through this object; the SDK's own repeats are not counted."""
        return self._caller.calls

    def account_id(self) -> str:
        """Return the account that the credential leads to; asked once per session. CredentialRejectedError."""
        return self._caller.account_id()

    def _call(self, operation: str, call: "Callable[[SecretsManagerClient], T]", *, write: bool = False) -> T:
        """Make one call; once more with a new session where AWS says that the session of the role has ended."""
        return self._caller.call(
            f"secretsmanager:{operation}",
            lambda: self._clients.secrets_manager(self._credential, self._region),
            call,
            region=self._region,
            write=write,
        )
