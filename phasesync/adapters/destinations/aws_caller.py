"""
Calls of AWS for one credential in one Region: counted, and made again with a new session where the old one has ended.

Every part of the adapter stands on this. Must not repeat a call for any other reason, and must not know what a call is
for.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from phasesync.adapters.aws.calls import invoke
from phasesync.adapters.aws.quotas import Customer
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential, CredentialType
from phasesync.errors import CredentialRejectedError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager.client import SecretsManagerClient

T = TypeVar("T")

NOT_FOUND: Final = "ResourceNotFoundException"
INVALID_PARAMETER: Final = "InvalidParameterException"
_EXPIRED: Final = ("ExpiredToken", "ExpiredTokenException")


class AwsCaller:
    """One account and Region under one credential, for one run. Not for two threads at once."""

    def __init__(
        self, clients: AwsClients, credential: Credential, region: str, *, instance_id: str, customer: str = ""
    ) -> None:
        """
        Args:
            clients: shared clients; asked before every call, so that a session of a role is renewed in a long run.
            credential: who writes.
            region: where.
            instance_id: objects that carry it as a tag are listed as ours.
            customer: for whom: customers take turns where calls have to wait for AWS's quotas.
        """
        self._clients = clients
        self._credential = credential
        self._region = region
        self._instance_id = instance_id
        self._customer = Customer(clients.quotas, customer)
        self._calls = 0

    @property
    def calls(self) -> int:
        """How many calls of Secrets Manager were made through this object; the SDK's own repeats are not counted."""
        return self._calls

    def account_id(self) -> str:
        """Return the account that the credential leads to; asked once per session. CredentialRejectedError."""
        return self._clients.identity_of(self._credential).account

    def _call(self, operation: str, call: "Callable[[SecretsManagerClient], T]", *, write: bool = False) -> T:
        """Make one call; once more with a new session where AWS says that the session of the role has ended."""
        return renewing_session(self._clients, self._credential, lambda: self._call_once(operation, call, write=write))

    def _call_once(self, operation: str, call: "Callable[[SecretsManagerClient], T]", *, write: bool) -> T:
        client = self._clients.secrets_manager(self._credential, self._region)
        action = f"secretsmanager:{operation}"
        account = self._clients.caller_of(self._credential)
        turn = self._customer.take(action, account=account, region=self._region)
        self._calls += 1
        return invoke(lambda: call(client), action=action, write=write, throttled=turn.throttled)


def renewing_session(clients: AwsClients, credential: Credential, call: Callable[[], T]) -> T:
    """
    Make a call; once more where AWS says that the session of the credential's role has ended.

    Args:
        clients: drops the ended session; the call has to ask it for its client each time.
        credential: whose role it is; for credentials without one the refusal stands.
        call: makes the call.
    """
    try:
        return call()
    except CredentialRejectedError as error:
        if error.code not in _EXPIRED or credential.type is not CredentialType.ASSUME_ROLE:
            raise
    # A request with an ended session is refused before it is carried out, so a repeat is safe for writes as well.
    clients.forget(credential)
    return call()
