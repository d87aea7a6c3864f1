"""
Calls of AWS under one credential: each waits for its turn, is counted, and is made again with a new session where the
old one has ended.

Every AWS adapter stands on this. Must not repeat a call for any other reason, and must not know what a call is for.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from phasesync.adapters.aws.calls import invoke
from phasesync.adapters.aws.quotas import Customer
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential, CredentialType
from phasesync.errors import CredentialRejectedError

if TYPE_CHECKING:
    from botocore.client import BaseClient

C = TypeVar("C", bound="BaseClient")
T = TypeVar("T")

_EXPIRED: Final = ("ExpiredToken", "ExpiredTokenException")


class Caller:
    """One credential, for one run. Not for two threads at once."""

    def __init__(self, clients: AwsClients, credential: Credential, *, customer: str = "") -> None:
        """
        Args:
            clients: shared clients; asked before every call, so that a session of a role is renewed in a long run.
            credential: who calls.
            customer: for whom: customers take turns where calls have to wait for AWS's quotas.
        """
        self._clients = clients
        self._credential = credential
        self._customer = Customer(clients.quotas, customer)
        self.calls = 0
        """How many calls were made through this object; the SDK's own repeats are not counted."""

    def account_id(self) -> str:
        """Return the account that the credential leads to; asked once per session. CredentialRejectedError."""
        return self._clients.identity_of(self._credential).account

    def call(self, action: str, client: Callable[[], C], call: Callable[[C], T], *, region: str, write: bool) -> T:
        """
        Make one call; once more with a new session where AWS says that the session of the role has ended.

        Args:
            action: its IAM action.
            client: returns the client to call.
            call: makes exactly one call of it.
            region: where the call goes.
            write: whether it changes something.
        """
        try:
            return self._call_once(action, client, call, region=region, write=write)
        except CredentialRejectedError as error:
            if error.code not in _EXPIRED or self._credential.type is not CredentialType.ASSUME_ROLE:
                raise
        # A request with an ended session is refused before it is carried out, so a repeat is safe for writes as well.
        self._clients.forget(self._credential)
        return self._call_once(action, client, call, region=region, write=write)

    def _call_once(
        self, action: str, client: Callable[[], C], call: Callable[[C], T], *, region: str, write: bool
    ) -> T:
        used = client()
        account = self._clients.caller_of(self._credential)
        turn = self._customer.take(action, account=account, region=region)
        self.calls += 1
        return invoke(lambda: call(used), action=action, write=write, throttled=turn.throttled)
