"""
What AWS refuses for want of a permission: which action, by which kind of policy, and where that is put right.

The text of AWS is only searched for its fixed phrases: it may repeat arguments.
"""

import re
from collections.abc import Mapping
from typing import Final

from phasesync.errors import CredentialRejectedError, PermissionDeniedError, PhasesyncError

_KMS_HINT: Final = (
    "check that the KMS key is enabled and that the policies of the role and of the key allow kms:GenerateDataKey, "
    "kms:Decrypt and kms:Encrypt through Secrets Manager: phasesync aws policy NAME prints what a sync needs, with "
    "--kms-key ARN where it leaves the key alone"
)
_KMS_CODES: Final[Mapping[str, str]] = {
    # Secrets Manager encrypts with GenerateDataKey; it decrypts an older version to compare it (guide, KMS page).
    "EncryptionFailure": "kms:GenerateDataKey",
    "DecryptionFailure": "kms:Decrypt",
    "DisabledException": "kms:GenerateDataKey",
    "KMSInvalidStateException": "kms:GenerateDataKey",
    "KeyUnavailableException": "kms:GenerateDataKey",
}
_OF_ROLES: Final = ("sts:AssumeRole", "sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity")
"""What the trust policy of a role has to allow (IAM User Guide, session tags; source identity)."""
_TRUST: Final = "has to be in the trust policy of the role"
_TRUST_HINT: Final = (
    f"{{action}} {_TRUST} (phasesync aws trust-policy NAME prints one) and in the policy of who assumes it"
)
_SESSION_TAGS: Final = "; the session of who assumes it has tags that go on, as those of EKS Pod Identity have"

_PERFORM: Final = re.compile(r"perform: ([a-z0-9-]+:[A-Za-z]+)")
_REASON: Final = re.compile(
    r"(because no|explicit deny in an?) (identity-based policy|resource-based policy|permissions boundary|"
    r"session policy|service control policy|resource control policy|VPC endpoint policy|role trust policy)"
)
"""Kinds of policy as AWS names them (IAM User Guide, access denied error messages)."""
_TAG_POLICY: Final = re.compile(r"\btag polic(y|ies)\b", re.IGNORECASE)
"""Organizations User Guide, tag policies: "The tag policy does not allow the specified value for ... tag key"."""

_ORGANIZATION: Final = (
    "an administrator of the AWS organization has to change the {kind} that applies to this account; the policy of the "
    "role or user does not help: aws organizations list-policies --filter {filter}, in the management account"
)
_PLACES: Final[Mapping[str, str]] = {
    "service control policy": _ORGANIZATION.format(kind="service control policy", filter="SERVICE_CONTROL_POLICY"),
    "resource control policy": _ORGANIZATION.format(kind="resource control policy", filter="RESOURCE_CONTROL_POLICY"),
    "permissions boundary": "{action} has to be allowed by the permissions boundary of the role or user, too: "
    "aws iam get-role --role-name ROLE --query Role.PermissionsBoundary names it",
    "VPC endpoint policy": "{action} has to be allowed by the policy of the VPC endpoint that this host calls AWS "
    "through: aws ec2 describe-vpc-endpoints shows it, aws ec2 modify-vpc-endpoint --policy-document changes it",
    "session policy": "{action} has to be allowed by the session policy as well, which whoever began the session gave "
    "along with it: give the session more rights, or begin it without one",
}
"""Kind of policy -> what puts it right, whether it denies or does not allow."""
_DENYING: Final[Mapping[str, str]] = {
    "identity-based policy": "a statement with Deny in a policy of the role or user has to go; allowing {action} does "
    "not help against it",
    "resource-based policy": "a statement with Deny in the policy of the secret or KMS key has to go: "
    "aws secretsmanager get-resource-policy --secret-id NAME, aws kms get-key-policy --key-id KEY",
    "role trust policy": "a statement with Deny in the trust policy of the role has to go: aws iam get-role",
}


def denied(code: str, text: str, *, action: str, request_id: str | None) -> PhasesyncError:
    """
    Return the error for a refusal: the action that was refused is the one that AWS names, else the call's own.

    Args:
        code: AWS's error code, one of those without permission.
        text: AWS's message.
        action: of the call.
        request_id: AWS's request id.
    """
    named = _PERFORM.search(text)
    refused = named.group(1) if named else _KMS_CODES.get(code, action)
    reason, hint = _reason(text), place_of(text, refused)
    if refused in _OF_ROLES:
        more = _SESSION_TAGS if refused == "sts:TagSession" else ""
        hint = hint or (_TRUST_HINT.format(action=refused) + more if refused != "sts:AssumeRole" else None)
        message = f"AWS refuses {refused} ({code}){reason}"
        return CredentialRejectedError(message, hint=hint, code=code, request_id=request_id)
    # Secrets Manager says "Access to KMS is not allowed" without naming the action.
    if not named and "KMS" in text and code not in _KMS_CODES:
        refused = "kms:Decrypt" if action.endswith("GetSecretValue") else "kms:GenerateDataKey"
    if not refused.startswith("kms:"):
        message = f"the credential is not allowed to call {refused}{reason}"
        return PermissionDeniedError(message, action=refused, hint=hint, code=code, request_id=request_id)
    return PermissionDeniedError(
        f"the KMS key cannot be used for {action}: {refused} is not allowed or the key is not usable ({code}){reason}",
        action=refused,
        hint=hint or _KMS_HINT,
        code=code,
        request_id=request_id,
    )


def names_another_policy(hint: str | None) -> bool:
    """Return whether a hint of `denied` is about another policy than a trust policy or the caller's own."""
    return hint not in (None, CredentialRejectedError.default_hint) and _TRUST not in str(hint)


def refused_tags(code: str, text: str, *, action: str, request_id: str | None) -> PermissionDeniedError | None:
    """Return the error for tags that a tag policy of the organization refuses, None where that is not what AWS says."""
    if _TAG_POLICY.search(text) is None:
        return None
    what = "dynamic" if action.startswith("iam:") else "syncs"
    return PermissionDeniedError(
        f"a tag policy of the AWS organization does not allow the tags of {action} ({code})",
        action=action,
        hint="give the tags values that it allows: aws organizations describe-effective-policy --policy-type "
        f"TAG_POLICY shows them, phasesync {what} update NAME --tag KEY=VALUE sets one",
        code=code,
        request_id=request_id,
    )


def place_of(text: str, action: str) -> str | None:
    """Return what puts a refusal right where AWS says that another policy than the role's own is in the way."""
    found = _REASON.search(text)
    if found is None:
        return None
    denies, kind = found[1] != "because no", found[2]
    place = _PLACES.get(kind) or (_DENYING.get(kind) if denies else None)
    return None if place is None else place.format(action=action)


def _reason(text: str) -> str:
    """Return which kind of policy refused, where AWS says so in one of its fixed phrases; empty where it does not."""
    found = _REASON.search(text)
    if found is None:
        return ""
    return f": no {found[2]} allows it" if found[1] == "because no" else f": denied by a policy ({found[2]})"
