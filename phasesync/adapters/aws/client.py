"""
Calls of one AWS service under one credential.

Each call waits for its slot, is counted, goes to one account only, and is repeated with new keys if AWS refused those
that signed it. Every AWS adapter makes its calls here. Must not repeat a call for any other reason, and must not know
what a call is for.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from phasesync.adapters.aws.login import Keys
from phasesync.adapters.aws.rate_limiter import Tenant
from phasesync.adapters.aws.sdk import Service, invoke
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.arns import account_of
from phasesync.core.credential import Credential
from phasesync.errors import AccountMismatchError, CredentialRejectedError, PermissionDeniedError

Response = Mapping[str, Any]


def _no_arns(_: Response) -> Iterable[str]:
    return ()


class AwsClient:
    """One service in one Region under one credential, for one run. Not for two threads at once."""

    def __init__(
        self,
        clients: AwsClients,
        credential: Credential,
        service: Service,
        region: str,
        *,
        tenant: str = "",
        arns_in: Callable[[Response], Iterable[str]] = _no_arns,
    ) -> None:
        """
        Args:
            clients: shared clients; asked before every call, so that keys are renewed in a long run.
            credential: who calls.
            service: that is called.
            region: where it is called.
            tenant: for whom; tenants are served in rotation if calls have to wait for AWS's quotas.
            arns_in: returns the ARNs in a response that have to be of the account of this run; an empty one counts as
                absent.
        """
        self._clients = clients
        self._credential = credential
        self._service: Service = service
        self._region = region
        self._tenant_name = tenant
        self._tenant = Tenant(clients.rate_limiter, tenant)
        self._arns_in = arns_in
        self._account: str | None = None
        """The account of this run: the first one that AWS reported. None if `account_id` was not called."""
        self.calls = 0
        """How many calls were made through this object; the SDK's own retries are not counted."""

    def account_id(self) -> str:
        """Return the account that the credential leads to; fetched once for its keys. CredentialRejectedError."""
        self._account = self._clients.identity_of(self._credential).account
        return self._account

    def call(
        self, operation: str, *, write: bool = False, once: bool = False, action: str | None = None, **arguments: Any
    ) -> Response:
        """
        Make one call; one more with new keys if AWS refused those of the first call.

        Args:
            operation: its name in the API reference, such as `PutSecretValue`.
            write: whether it changes something.
            once: the SDK does not retry it: a retry could create something twice.
            action: its IAM action; None: the operation has the same name.
            arguments: of the call.

        Raises:
            AccountMismatchError: the keys now belong to another account, and nothing was called; or the response is
                about an object of another account.
            PhasesyncError: the error of the table (`error_codes.py`).
        """
        keys = self._clients.keys_of(self._credential)
        try:
            return self._call_with(keys, operation, arguments, write=write, once=once, action=action)
        except (CredentialRejectedError, PermissionDeniedError) as error:
            newer = self._clients.newer_keys(self._credential, keys, error)
            if newer is None:
                raise
        return self._call_with(newer, operation, arguments, write=write, once=once, action=action)

    def _call_with(
        self,
        keys: Keys,
        operation: str,
        arguments: Mapping[str, Any],
        *,
        write: bool,
        once: bool,
        action: str | None,
    ) -> Response:
        from botocore import xform_name

        expected = self._account or self._credential.account
        if expected is not None:
            reported = self._clients.identity_with(self._credential, keys).account
            if reported != expected:
                raise self._mismatch(reported, expected)
        client = self._clients.client(self._credential, self._service, self._region, keys, once=once)
        action = action or f"{self._service}:{operation}"
        account = self._clients.account_key(self._credential)
        slot = self._tenant.take(action, account=account, region=self._region)
        self.calls += 1
        method = getattr(client, xform_name(operation))
        with self._clients.calling(self._tenant_name):
            response: Response = invoke(
                partial(method, **arguments), action=action, write=write, throttled=slot.throttled
            )
        self._check_arns(response)
        return response

    def _check_arns(self, response: Response) -> None:
        """Make sure that a response is about the account of this run, if the response names one."""
        expected = self._account or self._credential.account
        for arn in self._arns_in(response):
            reported = account_of(arn)
            if reported and expected and reported != expected:
                raise self._mismatch(reported, expected)

    def _mismatch(self, reported: str, expected: str) -> AccountMismatchError:
        return AccountMismatchError(
            f"the credential {self._credential.name} now leads to account {reported}, pinned is {expected}",
            hint="correct the identity that it takes its keys from, or accept the account: "
            f"phasesync credentials update {self._credential.name} --account {reported}",
        )
