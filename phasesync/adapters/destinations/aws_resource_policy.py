"""
Resource policies of secrets: read, checked by AWS, replaced whole. Broad access is always refused.

Must not repeat AWS's text about a policy, only the names of its checks.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from phasesync.adapters.destinations.aws_answers import told
from phasesync.adapters.destinations.aws_caller import NOT_FOUND, AwsCaller
from phasesync.core.canonical import canonical_json, parse_json_document
from phasesync.errors import (
    DestinationRejectedError,
    DestinationUnavailableError,
    InvalidInputError,
    RemoteChangedError,
)

T = TypeVar("T")

MAX_CHARACTERS: Final = 20_480
"""Longest resource policy (User Guide, quotas)."""

_IN_THE_WAY: Final = "InvalidRequestException"
_CHECK_NAME: Final = re.compile(r"[A-Za-z0-9 _.:-]{1,80}")
_PUBLIC_HINT: Final = "name the accounts or roles that may read the secret as Principal, or narrow it with a Condition"
_HINTS: Final[Mapping[str | None, str]] = {
    "PublicPolicyException": _PUBLIC_HINT,
    "MalformedPolicyDocumentException": (
        "check the policy: it needs Version and Statement, each statement Effect, Principal, Action and Resource, and "
        "every principal has to exist"
    ),
}


class AwsResourcePolicy(AwsCaller):
    """
    The part of the adapter that reads and sets resource policies.

    It names no policy, so that each call is about the one called `default`, the only one that can be changed; what AWS
    keeps beside it is never read or touched (API reference, ListResourcePolicies and GetResourcePolicy, PolicyName).
    """

    def resource_policy(self, arn: str) -> str | None:
        """
        Return the resource policy as canonical JSON, None = it has none.

        Raises:
            RemoteChangedError: the object is gone or scheduled for deletion; AWS does not show its policy then.
        """
        answer = _seen_before(lambda: self._call("GetResourcePolicy", lambda sm: sm.get_resource_policy(SecretId=arn)))
        policy = told(answer, "ResourcePolicy")
        if policy is None:
            return None
        try:
            return canonical_json(parse_json_document(policy.encode()))
        except InvalidInputError:
            raise DestinationUnavailableError("secretsmanager:GetResourcePolicy: a garbled answer") from None

    def put_resource_policy(self, arn: str, policy: str) -> None:
        """
        Replace the whole resource policy, after AWS has checked it.

        Raises:
            DestinationRejectedError: too long, malformed, or failed checks of AWS, which it names.
            RemoteChangedError: the object is gone, scheduled for deletion, or a copy.
        """
        if len(policy) > MAX_CHARACTERS:
            raise DestinationRejectedError(
                f"the resource policy has {len(policy):,} characters, the limit is {MAX_CHARACTERS:,}",
                hint="name fewer principals, or a role or an organization that stands for them",
            )
        try:
            answer = _seen_before(
                lambda: self._call(
                    "ValidateResourcePolicy",
                    lambda sm: sm.validate_resource_policy(SecretId=arn, ResourcePolicy=policy),
                )
            )
            _check(answer)
            self._call(
                "PutResourcePolicy",
                lambda sm: sm.put_resource_policy(SecretId=arn, ResourcePolicy=policy, BlockPublicPolicy=True),
                write=True,
            )
        except DestinationRejectedError as error:
            error.hint = error.hint or _HINTS.get(error.code)
            raise


def _check(answer: Mapping[str, Any]) -> None:
    """Raise DestinationRejectedError with the names of the checks that failed."""
    passed = answer.get("PolicyValidationPassed")
    if passed is True:
        return
    if passed is not False:
        raise DestinationUnavailableError("secretsmanager:ValidateResourcePolicy: a garbled answer")
    names = {told(entry, "CheckName") or "" for entry in answer.get("ValidationErrors") or []}
    failed = ", ".join(sorted(name for name in names if _CHECK_NAME.fullmatch(name))) or "a check without a name"
    raise DestinationRejectedError(f"the resource policy fails AWS's check: {failed}", hint=_PUBLIC_HINT)


def _seen_before(read: Callable[[], T]) -> T:
    """Read of an object that was there a moment ago: that it is not, or not in a fit state, means that it changed."""
    try:
        return read()
    except DestinationRejectedError as error:
        if error.code not in (NOT_FOUND, _IN_THE_WAY):
            raise
        changed = RemoteChangedError(
            f"{error.message}: the object is gone or scheduled for deletion",
            code=error.code,
            request_id=error.request_id,
        )
    raise changed
