"""
Calls of AWS under one credential: each waits for its turn, is counted, goes to one account only, and is made again with
other keys where AWS refused those it was signed with.

Every AWS adapter stands on this. Must not repeat a call for any other reason, and must not know what a call is for.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from phasesync.adapters.aws.keys import Keys
from phasesync.adapters.aws.rate_limiter import Tenant
from phasesync.adapters.aws.sdk import invoke
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.arns import account_of
from phasesync.core.credential import Credential
from phasesync.errors import AccountMismatchError, CredentialRejectedError, PermissionDeniedError

if TYPE_CHECKING:
    from botocore.client import BaseClient

C = TypeVar("C", bound="BaseClient")
T = TypeVar("T")


class AwsClient:
    """One credential, for one run. Not for two threads at once."""

    def __init__(self, clients: AwsClients, credential: Credential, *, tenant: str = "") -> None:
        """
        Args:
            clients: shared clients; asked before every call, so that keys are renewed in a long run.
            credential: who calls.
            tenant: for whom: customers take turns where calls have to wait for AWS's quotas.
        """
        self._clients = clients
        self._credential = credential
        self._name = tenant
        self._tenant = Tenant(clients.rate_limiter, tenant)
        self._account: str | None = None
        """The account that this run is about: what it was told first. None = it has not asked."""
        self.calls = 0
        """How many calls were made through this object; the SDK's own repeats are not counted."""

    def account_id(self) -> str:
        """Return the account that the credential leads to; asked once for its keys. CredentialRejectedError."""
        self._account = self._clients.identity_of(self._credential).account
        return self._account

    def call(self, action: str, client: Callable[[Keys], C], call: Callable[[C], T], *, region: str, write: bool) -> T:
        """
        Make one call; once more with other keys where AWS refused those of the first, and there are others.

        Args:
            action: its IAM action.
            client: returns the client to call, which signs with the keys given.
            call: makes exactly one call of it.
            region: where the call goes.
            write: whether it changes something.

        Raises:
            AccountMismatchError: the keys have come to belong to another account; nothing was called.
        """
        keys = self._clients.keys_of(self._credential)
        try:
            return self._call_with(keys, action, client, call, region=region, write=write)
        except (CredentialRejectedError, PermissionDeniedError) as error:
            newer = self._clients.newer_keys(self._credential, keys, error)
            if newer is None:
                raise
        return self._call_with(newer, action, client, call, region=region, write=write)

    def check_arn(self, arn: str) -> None:
        """
        Make sure that AWS answers about the account that this run is about. Without a word about it, nothing is said.

        Raises:
            AccountMismatchError: it answers about another one.
        """
        told, meant = account_of(arn), self._account or self._credential.account
        if told and meant and told != meant:
            raise self._mismatch(told, meant)

    def _call_with(
        self, keys: Keys, action: str, client: Callable[[Keys], C], call: Callable[[C], T], *, region: str, write: bool
    ) -> T:
        meant = self._account or self._credential.account
        if meant is not None:
            told = self._clients.identity_with(self._credential, keys).account
            if told != meant:
                raise self._mismatch(told, meant)
        used = client(keys)
        account = self._clients.caller_of(self._credential)
        slot = self._tenant.take(action, account=account, region=region)
        self.calls += 1
        with self._clients.calling(self._name):
            return invoke(lambda: call(used), action=action, write=write, throttled=slot.throttled)

    def _mismatch(self, told: str, meant: str) -> AccountMismatchError:
        return AccountMismatchError(
            f"the credential {self._credential.name} now leads to account {told}, pinned is {meant}",
            hint="correct the identity that it takes its keys from, or accept the account: "
            f"phasesync credentials update {self._credential.name} --account {told}",
        )
