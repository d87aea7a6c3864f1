"""
Repeats calls on a new user until IAM finds it.

IAM is eventually consistent (IAM User Guide, troubleshooting): for some seconds it may not find a user that it has just
created. NoSuchEntity says that something is missing, but only its text says what. So this module looks for each of the
objects of the call, and reports one as missing only if it stays missing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import sleep
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
"""Between attempts, one minute in total; public reports mention a few seconds, rarely half a minute."""
_CHECKS: Final = 3
"""How often a referenced object has to be missing; it too may have been created just before."""
_CHECKS_WITHOUT_PERMISSION: Final = 7
"""The same if we may not look for it, and conclude that it is missing because the user exists."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """
    An object that the lease spec names and a call on the user refers to.

    Attributes:
        name: for messages.
        operation: reads it.
        arguments: of that operation.
        hint: for the case that it does not exist.
    """

    name: str
    operation: str
    arguments: Mapping[str, object]
    hint: str


def policy_reference(arn: str) -> Reference:
    """Return the reference to a managed policy that is attached to a user."""
    return Reference(
        name=f"policy {arn}", operation="GetPolicy", arguments={"PolicyArn": arn}, hint=_hint("--policy-arn ARN")
    )


def boundary_reference(arn: str) -> Reference:
    """Return the reference to a managed policy that is the permissions boundary of a user."""
    return Reference(
        name=f"policy {arn}, the permission boundary",
        operation="GetPolicy",
        arguments={"PolicyArn": arn},
        hint=_hint("--permission-boundary ARN"),
    )


def group_reference(name: str) -> Reference:
    """Return the reference to a group that a user is added to."""
    return Reference(
        name=f"group {name}",
        operation="GetGroup",
        arguments={"GroupName": name, "MaxItems": 1},
        hint=_hint("--group GROUP"),
    )


def _hint(option: str) -> str:
    return Hint(f"make it at AWS, or name another one: phasesync dynamic update {{name}} {option}")


def retry_until_consistent(
    iam: IamClient, attempt: Callable[[], T], *, user: str | None, reference: Reference | None = None
) -> T:
    """
    Make a call, and repeat it as long as IAM does not find the user that it is about.

    Args:
        iam: looks for the user and the reference.
        attempt: makes the call. NoSuchEntity means that it was not carried out, EntityAlreadyExists that it was.
        user: name of the new user; None if the call creates it.
        reference: another object that the call refers to.

    Raises:
        DestinationRejectedError: the reference does not exist.
        DestinationUnavailableError: IAM did not find the user in time.
    """
    missing = 0
    for pause_s in (*_PAUSES_S, None):
        try:
            return attempt()
        except RemoteChangedError as error:
            # A taken name, of a user that is not found, is that of our own user: the response to its creation was lost.
            if error.code not in (NO_SUCH_ENTITY, ALREADY_EXISTS):
                raise
            failure = error
        if reference is not None and failure.code == NO_SUCH_ENTITY:
            user_exists = user is None or _exists(iam, "GetUser", UserName=user)
            exists = _exists(iam, reference.operation, **reference.arguments)
            # If we may not look for it, it is what must be missing once the user is found.
            missing += exists is False or (exists is None and user_exists is True)
            if missing >= (_CHECKS if exists is False else _CHECKS_WITHOUT_PERMISSION):
                raise DestinationRejectedError(
                    f"there is no {reference.name}",
                    hint=reference.hint,
                    code=failure.code,
                    request_id=failure.request_id,
                )
        if pause_s is None:
            raise _not_found(user, failure)
        sleep(pause_s)
    raise AssertionError("the last attempt returns or raises")


def _exists(iam: IamClient, operation: str, **arguments: object) -> bool | None:
    """Return whether IAM finds an object; None if we may not look for it."""
    try:
        return iam.read(operation, **arguments) is not None
    except PermissionDeniedError:
        return None


def _not_found(user: str | None, failure: RemoteChangedError) -> DestinationUnavailableError:
    missing = (
        f"the user {user} that it has just made" if user is not None else "the user that it made, or its boundary,"
    )
    return DestinationUnavailableError(
        f"IAM did not find {missing} within a minute",
        hint="issue another lease: changes of IAM usually reach all of AWS within seconds, and this one took longer",
        code=failure.code,
        request_id=failure.request_id,
    )
