"""
Rights: every caller may do everything, except what a test denies.

Texts: IAM User Guide, "Access denied error messages" (principal, action, resource, kind of policy); that Secrets
Manager names the secret as it was asked for, and ListSecrets names none: public error texts, for example in the
troubleshooting page of the AWS guide for SAP. Which further actions an operation needs: API reference, "Required
permissions" of CreateSecret, BatchGetSecretValue, AssociateCrossAccountReplica and ValidateResourcePolicy.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from phasesync.testing.aws_shim.errors import AwsError
from phasesync.testing.aws_shim.request import Call, Principal

_WITHOUT_RESOURCE: Final = frozenset({"ListSecrets", "BatchGetSecretValue", "GetRandomPassword"})


@dataclass(frozen=True)
class Denial:
    """Something that is not allowed. `None` = whoever, whatever."""

    action: str
    caller: str | None
    resource: str | None
    explicit: bool


class Access:
    """What is denied to whom."""

    def __init__(self) -> None:
        self._denials: list[Denial] = []

    def deny(
        self, action: str, *, caller: str | None = None, resource: str | None = None, explicit: bool = False
    ) -> Denial:
        """
        Deny an action from now on.

        Args:
            action: IAM action, such as `secretsmanager:PutSecretValue` or `kms:Decrypt`; `*` and `?` match.
            caller: access key id, ARN of a role, of a session or of a user; None = everybody.
            resource: name or ARN of a secret, ARN of a key; `*` and `?` match; None = all.
            explicit: a policy denies it; otherwise no policy allows it. Only an explicit denial reaches the use of
                the AWS-managed key, whose own policy lets everybody of the account in (User Guide, encryption).
        """
        denial = Denial(action, caller, resource, explicit)
        self._denials.append(denial)
        return denial

    def allow(self, denial: Denial) -> None:
        """Take a denial back."""
        self._denials.remove(denial)

    def clear(self) -> None:
        """Take all denials back."""
        self._denials.clear()

    def denial(
        self, principal: Principal, action: str, resources: Iterable[str], *, explicit_only: bool = False
    ) -> Denial | None:
        """Return why a caller may not do something; None = it may. `resources`: the names of the one resource."""
        names = [*resources]
        for denial in self._denials:
            if explicit_only and not denial.explicit:
                continue
            if not fnmatchcase(action, denial.action) or not _is_meant(principal, denial.caller):
                continue
            if denial.resource is None or any(fnmatchcase(name, denial.resource) for name in names):
                return denial
        return None

    def check(self, principal: Principal, action: str, shown: str | None, arn: str | None = None) -> None:
        """
        Refuse what is denied: AccessDeniedException.

        Args:
            principal: the caller.
            action: the IAM action.
            shown: the resource as the refusal names it; None = it names none.
            arn: another name of it that a denial may use.
        """
        denial = self.denial(principal, action, [name for name in (shown, arn) if name])
        if denial is not None:
            raise AwsError("AccessDeniedException", refusal_text(principal, action, shown, denial))


def refusal_text(principal: Principal, action: str, resource: str | None, denial: Denial) -> str:
    """Return AWS's text of a refusal."""
    on = "" if resource is None else f" on resource: {resource}"
    why = (
        "with an explicit deny in an identity-based policy"
        if denial.explicit
        else f"because no identity-based policy allows the {action} action"
    )
    return f"User: {principal.arn} is not authorized to perform: {action}{on} {why}"


def actions_of(call: Call) -> list[str]:
    """Return the IAM actions that an operation needs beside those that it needs of KMS."""
    names = [call.operation]
    if call.operation == "CreateSecret":
        names += ["TagResource"] if call.listed("Tags") else []
        names += ["ReplicateSecretToRegions"] if call.listed("AddReplicaRegions") else []
        names += ["PutResourcePolicy"] if call.text("CrossAccountPrimaryARN") else []
    if call.operation == "AssociateCrossAccountReplica":
        names.append("GetSecretValue")
    if call.operation == "BatchGetSecretValue" and call.listed("Filters"):
        names.append("ListSecrets")
    if call.operation == "ValidateResourcePolicy":
        names.append("PutResourcePolicy")
    return [f"secretsmanager:{name}" for name in names]


def shown_resource(call: Call) -> str | None:
    """Return how a refusal of this operation names its resource; None = not at all."""
    return None if call.operation in _WITHOUT_RESOURCE else call.secret_id or "*"


def _is_meant(principal: Principal, caller: str | None) -> bool:
    if caller is None:
        return True
    names = [principal.access_key_id, principal.arn, principal.role_arn or ""]
    return any(fnmatchcase(name, caller) for name in names)
