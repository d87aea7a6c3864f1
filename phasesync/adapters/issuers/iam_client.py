"""
Calls of IAM under one credential: reads, writes that may be repeated, and creations that must not be repeated blindly.

Operations and arguments have their names of the API reference. Must not know what a call is for.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from phasesync.adapters.aws.client import AwsClient, Response
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential
from phasesync.errors import OutcomeUnknownError, PhasesyncError, RemoteChangedError, ThrottledError
from phasesync.ports.issuer import Checkpoint

NO_SUCH_ENTITY: Final = "NoSuchEntity"
ALREADY_EXISTS: Final = "EntityAlreadyExists"
DELETE_CONFLICT: Final = "DeleteConflict"
_BUSY: Final = ("ConcurrentModification", "EntityTemporarilyUnmodifiable")
_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0)
"""Before each further attempt of a creation, for which the SDK makes no retries."""


class IamClient:
    """IAM under one credential, for one lease or one scan. Not for two threads at once."""

    def __init__(
        self,
        clients: AwsClients,
        credential: Credential,
        *,
        tenant: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            clients: shared clients.
            credential: who calls.
            tenant: for whom; tenants are served in rotation if calls have to wait for quotas.
            sleep: waits for so many seconds.
        """
        self._client = AwsClient(clients, credential, "iam", credential.region, tenant=tenant, arns_in=_user_arns)
        self._sleep = sleep

    @property
    def calls(self) -> int:
        """How many calls of IAM were made through this object; the SDK's own retries are not counted."""
        return self._client.calls

    def account_id(self) -> str:
        """Return the account that the credential leads to; asked once per session. CredentialRejectedError."""
        return self._client.account_id()

    def read(self, operation: str, **arguments: Any) -> Response | None:
        """Make a call that changes nothing; None if its object does not exist."""
        try:
            return self._client.call(operation, **arguments)
        except PhasesyncError as error:
            if error.code != NO_SUCH_ENTITY:
                raise
            return None

    def pages(self, operation: str, member: str, **arguments: Any) -> Iterator[Any]:
        """Yield the entries of a list, page by page; they are the `member` of each response."""
        while (response := self.read(operation, **arguments)) is not None:
            yield from response.get(member) or []
            if not response.get("IsTruncated"):
                return
            arguments["Marker"] = response["Marker"]

    def put(self, operation: str, checkpoint: Checkpoint, **arguments: Any) -> None:
        """Make a call that adds something and may be repeated: a repeated call changes nothing."""
        checkpoint()
        self._client.call(operation, write=True, **arguments)

    def remove(self, operation: str, checkpoint: Checkpoint, **arguments: Any) -> bool:
        """Make a call that removes something; return whether it existed."""
        checkpoint()
        try:
            self._client.call(operation, write=True, **arguments)
        except RemoteChangedError as error:
            if error.code != NO_SUCH_ENTITY:
                raise
            return False
        return True

    def create(
        self,
        operation: str,
        checkpoint: Checkpoint,
        *,
        find_created: Callable[[], Response | None],
        report: Callable[[bool], None] = lambda _: None,
        **arguments: Any,
    ) -> Response:
        """
        Make a call that creates something. The SDK does not retry it: a blind retry might create it twice.

        Args:
            operation: its name.
            checkpoint: called before each attempt.
            find_created: called if the response was lost, or the name is taken. It returns what the call would have
                returned if it was carried out, None if it was not, and raises if the name belongs to another object.
            report: called with True before each attempt, as it may be carried out, and with False after an attempt
                that certainly was not.
            arguments: of the call.
        """
        in_doubt = False
        for pause_s in (*_PAUSES_S, None):
            checkpoint()
            report(True)
            try:
                return self._client.call(operation, write=True, once=True, **arguments)
            except PhasesyncError as error:
                failure = error
            in_doubt = in_doubt or isinstance(failure, OutcomeUnknownError)
            if isinstance(failure, OutcomeUnknownError) or failure.code == ALREADY_EXISTS:
                if (created := find_created()) is not None:
                    return created
            else:
                report(in_doubt)
                if not isinstance(failure, ThrottledError) and failure.code not in _BUSY:
                    raise failure
            if pause_s is None:
                raise failure
            self._sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")


def _user_arns(response: Response) -> list[str]:
    """Return the ARNs of the users that a response is about."""
    users = [response.get("User") or {}, *(response.get("Users") or [])]
    return [user.get("Arn") or "" for user in users]
