"""
What a call on a new user names, and which of it IAM does not have.

IAM is eventually consistent (IAM User Guide, troubleshooting): for some seconds it may not find a user that it has just
made. NoSuchEntity says that something is missing, and only its text says what; so it is looked for, and nothing is
called missing that was only not found for a moment.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from phasesync.adapters.issuers.iam_client import ALREADY_EXISTS, NO_SUCH_ENTITY, IamClient
from phasesync.errors import (
    DestinationRejectedError,
    DestinationUnavailableError,
    Hint,
    PermissionDeniedError,
    RemoteChangedError,
)

T = TypeVar("T")

_PAUSES_S: Final = (0.5, 1.0, 2.0, *(4.0,) * 14)
"""Between attempts, a minute together; public reports speak of some seconds, seldom of half a minute."""
_LOOKS: Final = 3
"""How often something has to be missing that is no new user; it may have been made just before."""
_LOOKS_UNSEEN: Final = 7
"""The same where we may not look, and go by what is left."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """
    Something that a recipe names.

    Attributes:
        what: as a sentence names it.
        operation: tells about it.
        arguments: of that call.
        hint: what helps where there is no such thing.
    """

    what: str
    operation: str
    arguments: Mapping[str, object]
    hint: str


def policy(arn: str) -> Named:
    """Return a managed policy that is attached."""
    return Named(
        what=f"policy {arn}", operation="GetPolicy", arguments={"PolicyArn": arn}, hint=_hint("--policy-arn ARN")
    )


def boundary(arn: str) -> Named:
    """Return a managed policy that bounds users."""
    return Named(
        what=f"policy {arn}, the permission boundary",
        operation="GetPolicy",
        arguments={"PolicyArn": arn},
        hint=_hint("--permission-boundary ARN"),
    )


def group(name: str) -> Named:
    """Return a group."""
    return Named(
        what=f"group {name}",
        operation="GetGroup",
        arguments={"GroupName": name, "MaxItems": 1},
        hint=_hint("--group GROUP"),
    )


def _hint(option: str) -> str:
    return Hint(f"make it at AWS, or name another one: phasesync dynamic update {{name}} {option}")


class PatientCalls:
    """Makes calls on a new user until IAM finds all that they name. Not for two threads at once."""

    def __init__(self, iam: IamClient, *, sleep: Callable[[float], None] | None = None) -> None:
        """
        Args:
            iam: makes them.
            sleep: waits for so many seconds; None = `time.sleep`.
        """
        self._iam = iam
        self._sleep = sleep or time.sleep

    def call(self, attempt: Callable[[], T], *, user: str | None, named: Named | None = None) -> T:
        """
        Make a call again while IAM does not find what it is about.

        Args:
            attempt: makes the call; NoSuchEntity says that nothing was carried out, EntityAlreadyExists that it was.
            user: name of the user that was just made; None = the call makes it.
            named: what else the call names.

        Raises:
            DestinationRejectedError: there is no such thing as `named`.
            DestinationUnavailableError: IAM did not find the user in time.
        """
        looks = 0
        for pause_s in (*_PAUSES_S, None):
            try:
                return attempt()
            except RemoteChangedError as error:
                # A name that is taken, by a user that is not found: ours, whose answer was lost.
                if error.code not in (NO_SUCH_ENTITY, ALREADY_EXISTS):
                    raise
                failure = error
            if named is not None and failure.code == NO_SUCH_ENTITY:
                there = user is None or self._is_there("GetUser", UserName=user)
                exists = self._is_there(named.operation, **named.arguments)
                # Where we may not look, it is what is left once the user is found.
                looks += exists is False or (exists is None and there is True)
                if looks >= (_LOOKS if exists is False else _LOOKS_UNSEEN):
                    raise DestinationRejectedError(
                        f"there is no {named.what}", hint=named.hint, code=failure.code, request_id=failure.request_id
                    )
            if pause_s is None:
                raise _not_found(user, failure)
            self._sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def _is_there(self, operation: str, **arguments: object) -> bool | None:
        """Return whether IAM finds something; None = we may not ask."""
        try:
            return self._iam.read(operation, **arguments) is not None
        except PermissionDeniedError:
            return None


def _not_found(user: str | None, failure: RemoteChangedError) -> DestinationUnavailableError:
    what = f"the user {user} that it has just made" if user is not None else "the user that it made, or its boundary,"
    return DestinationUnavailableError(
        f"IAM did not find {what} within a minute",
        hint="issue another lease: IAM tells its changes to all of AWS in some seconds, and this time it took longer",
        code=failure.code,
        request_id=failure.request_id,
    )
