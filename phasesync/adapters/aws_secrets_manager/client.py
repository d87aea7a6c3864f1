"""
Calls of Secrets Manager for one credential in one Region.

Every part of the adapter stands on this. Must not know what a call is for.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from phasesync.adapters.aws.client import AwsClient
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager.client import SecretsManagerClient as SdkClient

T = TypeVar("T")

NOT_FOUND: Final = "ResourceNotFoundException"
INVALID_PARAMETER: Final = "InvalidParameterException"


class SecretsManagerClient:
    """One account and Region under one credential, for one run. Not for two threads at once."""

    def __init__(
        self, clients: AwsClients, credential: Credential, region: str, *, instance_id: str, tenant: str = ""
    ) -> None:
        """
        Args:
            clients: shared clients.
            credential: who writes.
            region: where.
            instance_id: objects that carry it as a tag are listed as ours.
            tenant: for whom: customers take turns where calls have to wait for AWS's quotas.
        """
        self._clients = clients
        self._credential = credential
        self._region = region
        self._instance_id = instance_id
        self._caller = AwsClient(clients, credential, tenant=tenant)

    @property
    def calls(self) -> int:
        """How many calls of Secrets Manager were made through this object; the SDK's own repeats are not counted."""
        return self._caller.calls

    def account_id(self) -> str:
        """Return the account that the credential leads to; asked once per session. CredentialRejectedError."""
        return self._caller.account_id()

    def _call(self, operation: str, call: "Callable[[SdkClient], T]", *, write: bool = False) -> T:
        """
        Make one call, and make sure that the answer is about the account of this run.

        Raises:
            AccountMismatchError: the credential, or what AWS answers about, is of another account.
        """
        answer = self._caller.call(
            f"secretsmanager:{operation}",
            lambda keys: self._clients.secrets_manager(self._credential, self._region, keys),
            call,
            region=self._region,
            write=write,
        )
        for arn in _arns_in(answer):
            self._caller.check_arn(arn)
        return answer


def _arns_in(answer: object) -> list[str]:
    """Return the ARNs of the secrets that an answer is about."""
    if not isinstance(answer, Mapping):
        return []
    entries = [answer, *(answer.get("SecretList") or [])]
    return [arn for entry in entries if isinstance(arn := entry.get("ARN"), str)]
