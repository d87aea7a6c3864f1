"""
Calls of IAM for one credential: reads, changes that may be repeated, and creations, which are sent once.

Operations and arguments are named as the API reference names them. Must not know what a call is for.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from phasesync.adapters.aws.client import AwsClient
from phasesync.adapters.aws.session import AwsClients
from phasesync.core.credential import Credential
from phasesync.errors import OutcomeUnknownError, PhasesyncError, RemoteChangedError, ThrottledError
from phasesync.ports.issuer import Checkpoint

Answer = Mapping[str, Any]

NO_SUCH_ENTITY: Final = "NoSuchEntity"
ALREADY_EXISTS: Final = "EntityAlreadyExists"
DELETE_CONFLICT: Final = "DeleteConflict"
_BUSY: Final = ("ConcurrentModification", "EntityTemporarilyUnmodifiable")
_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0)
"""Before each further attempt at a creation; the SDK's own pauses are for calls that may be repeated."""


class IamClient:
    """IAM under one credential, for one lease or one look. Not for two threads at once."""

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
            tenant: for whom: customers take turns where calls have to wait for quotas.
            sleep: waits for so many seconds.
        """
        self._clients = clients
        self._credential = credential
        self._caller = AwsClient(clients, credential, tenant=tenant)
        self._sleep = sleep

    @property
    def calls(self) -> int:
        """How many calls of IAM were made through this object; the SDK's own repeats are not counted."""
        return self._caller.calls

    def account_id(self) -> str:
        """Return the account that the credential leads to; asked once per session. CredentialRejectedError."""
        return self._caller.account_id()

    def read(self, operation: str, **arguments: Any) -> Answer | None:
        """Make a call that changes nothing; None = what it is about does not exist."""
        try:
            return self._call(operation, arguments, write=False)
        except PhasesyncError as error:
            if error.code != NO_SUCH_ENTITY:
                raise
            return None

    def pages(self, operation: str, member: str, **arguments: Any) -> Iterator[Any]:
        """Yield the entries of a list, page by page; `member` of the answers has them."""
        while (answer := self.read(operation, **arguments)) is not None:
            yield from answer.get(member) or []
            if not answer.get("IsTruncated"):
                return
            arguments["Marker"] = answer["Marker"]

    def put(self, operation: str, checkpoint: Checkpoint, **arguments: Any) -> None:
        """Make a call that puts something on something, and may be repeated: what is so already stays so."""
        checkpoint()
        self._call(operation, arguments, write=True)

    def take_away(self, operation: str, checkpoint: Checkpoint, **arguments: Any) -> bool:
        """Make a call that takes something away; return whether it was there."""
        checkpoint()
        try:
            self._call(operation, arguments, write=True)
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
        look: Callable[[], Answer | None],
        sent: Callable[[bool], None] = lambda _: None,
        **arguments: Any,
    ) -> Answer:
        """
        Make a call that creates something, each time once: repeated blindly it might create it twice.

        Args:
            operation: its name.
            checkpoint: asked before each attempt.
            look: called where the answer was lost, or the name is taken; returns what the call would have returned
                where it was carried out, None where it was not, and raises where the name is somebody else's.
            sent: told before each attempt that it may be carried out, and after one that certainly was not.
            arguments: of the call.
        """
        doubtful = False
        for pause_s in (*_PAUSES_S, None):
            checkpoint()
            sent(True)
            try:
                return self._call(operation, arguments, write=True, once=True)
            except PhasesyncError as error:
                failure = error
            doubtful = doubtful or isinstance(failure, OutcomeUnknownError)
            if isinstance(failure, OutcomeUnknownError) or failure.code == ALREADY_EXISTS:
                if (found := look()) is not None:
                    return found
            else:
                sent(doubtful)
                if not isinstance(failure, ThrottledError) and failure.code not in _BUSY:
                    raise failure
            if pause_s is None:
                raise failure
            self._sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def _call(self, operation: str, arguments: Mapping[str, Any], *, write: bool, once: bool = False) -> Answer:
        def call(client: Any) -> Answer:
            from botocore import xform_name

            answer: Answer = getattr(client, xform_name(operation))(**arguments)
            return answer

        answered = self._caller.call(
            f"iam:{operation}",
            lambda keys: self._clients.iam(self._credential, keys, once=once),
            call,
            region=self._credential.region,
            write=write,
        )
        for user in [answered.get("User") or {}, *(answered.get("Users") or [])]:
            self._caller.check_arn(user.get("Arn") or "")
        return answered
