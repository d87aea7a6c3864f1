"""
The IAM policy for exactly what dynamic secrets do, and not more: nobody who holds it can make an administrator.

Users are told apart by their path and by our instance tag. Where a dynamic secret has a permission boundary, users are
made with it and with no other, and get rights only while they have it; nothing here changes a boundary or a policy.
Rights on groups are for the groups that are named: IAM cannot be told whom one may add to them. Pure.

A user that is gone has no path and no tags: asked to remove it, AWS refuses where a policy asks for them, and does not
say that it is gone. So whether a user is there may also be asked by its name alone.

Which condition keys and resources an action has: Service Authorization Reference, IAM. CreateUser with tags needs
TagUser as well (IAM User Guide, tags of users).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from phasesync.adapters.aws.policies import VERSION, Document, allow
from phasesync.core.arns import partition_of
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.remote import TAG_INSTANCE
from phasesync.core.user_names import OUR_PATH, RANDOM, render_user_name

STARTER_BOUNDARY: Final = "phasesync-boundary"
"""Name of the boundary in the policy to begin with, where no other is given."""

_TAKE_BACK: Final = (
    "iam:DeactivateMFADevice",
    "iam:DeleteAccessKey",
    "iam:DeleteLoginProfile",
    "iam:DeleteSSHPublicKey",
    "iam:DeleteServiceSpecificCredential",
    "iam:DeleteSigningCertificate",
    "iam:DeleteUser",
    "iam:DeleteUserPolicy",
    "iam:DetachUserPolicy",
)
_LOOK: Final = (
    "iam:GetUser",
    "iam:ListAccessKeys",
    "iam:ListAttachedUserPolicies",
    "iam:ListGroupsForUser",
    "iam:ListMFADevices",
    "iam:ListSSHPublicKeys",
    "iam:ListServiceSpecificCredentials",
    "iam:ListSigningCertificates",
    "iam:ListUserPolicies",
)
_GROUP: Final = ("iam:AddUserToGroup", "iam:RemoveUserFromGroup")
_MFA: Final = "iam:DeleteVirtualMFADevice"
_LIST: Final = "iam:ListUsers"


@dataclass(frozen=True, kw_only=True)
class Issuing:
    """
    What one dynamic secret does at AWS.

    Attributes:
        config: what is set on it; one with a role hands out sessions.
        name: its name.
        region: of its credential; tells the partition.
        account: 12 digits; None = not known yet, any.
    """

    config: DynamicConfig
    name: str
    region: str
    account: str | None


def dynamic_statements(issuing: Sequence[Issuing], *, instance_id: str) -> list[Document]:
    """
    Return the statements for what some dynamic secrets do; those that differ in their resources only are one.

    Args:
        issuing: all of them use one credential.
        instance_id: our instance, as our tags say it.
    """
    found: list[Document] = []
    for one in issuing:
        found += _of_role(one) if one.config.role_arn is not None else _of_users(one, instance_id)
    return _merged(found)


def starter_policy(*, region: str, boundary: str | None) -> Document:
    """
    Return the policy to begin with: any dynamic secret under our IAM path, each with one permission boundary.

    Args:
        region: tells the partition.
        boundary: ARN of the policy that has to bound every user; None = one named `STARTER_BOUNDARY`, of any account.
    """
    partition = partition_of(region)
    users = f"arn:{partition}:iam::*:user{OUR_PATH}*"
    bounded = {"ArnLike": {_BOUNDARY: boundary or f"arn:{partition}:iam::*:policy/{STARTER_BOUNDARY}"}}
    statements = [
        allow("CreateBoundedUsers", ["iam:CreateUser"], [users], bounded),
        allow("TagUsers", ["iam:TagUser"], [users]),
        allow("GiveRightsToBoundedUsers", ["iam:AttachUserPolicy", "iam:PutUserPolicy"], [users], bounded),
        allow("CreateKeys", ["iam:CreateAccessKey"], [users]),
        allow("TakeBack", _TAKE_BACK, [users]),
        *_everywhere(users, f"arn:{partition}:iam::*", names="*"),
    ]
    return {"Version": VERSION, "Statement": statements}


_BOUNDARY: Final = "iam:PermissionsBoundary"


def _of_role(one: Issuing) -> list[Document]:
    return [allow("AssumeRole", ["sts:AssumeRole"], [one.config.role_arn or ""])]


def _of_users(one: Issuing, instance_id: str) -> list[Document]:
    config, partition = one.config, partition_of(one.region)
    account = f"arn:{partition}:iam::{one.account or '*'}"
    users = f"{account}:user{config.iam_path or '/'}*"
    bounded = {} if config.permission_boundary is None else {_BOUNDARY: config.permission_boundary}
    asked = {f"aws:RequestTag/{TAG_INSTANCE}": instance_id}
    ours = {f"aws:ResourceTag/{TAG_INSTANCE}": instance_id}
    statements = [
        allow("CreateUsersWithOurTag", ["iam:CreateUser"], [users], _equal(asked | bounded)),
        allow("TagUsers", ["iam:TagUser"], [users], _equal(asked)),
        allow("CreateKeys", ["iam:CreateAccessKey"], [users], _equal(ours)),
        allow("TakeBack", _TAKE_BACK, [users], _equal(ours)),
    ]
    if config.policy_arns:
        named = {"ArnEquals": {"iam:PolicyARN": sorted(config.policy_arns)}}
        attaching = _equal(ours | bounded) | named
        statements.append(allow("AttachNamedPolicies", ["iam:AttachUserPolicy"], [users], attaching))
    if config.inline_policy is not None:
        statements.append(allow("PutInlinePolicy", ["iam:PutUserPolicy"], [users], _equal(ours | bounded)))
    if config.groups:
        # A group may have a path, which its name does not tell.
        groups = [f"{account}:group/{prefix}{name}" for name in sorted(config.groups) for prefix in ("", "*/")]
        statements.append(allow("NamedGroups", _GROUP, groups))
    words = {"app": "*", "env": "*", "name": one.name}  # Apps and environments may be renamed while users live.
    names = render_user_name(config.user_template, words, lambda: "?" * RANDOM)
    return statements + _everywhere(users, account, names=names)


def _everywhere(users: str, account: str, *, names: str) -> list[Document]:
    """Return the statements that have no condition: looking, and what only goes once it hangs on no user."""
    return [
        allow("Look", _LOOK, [users]),
        allow("LookWhetherUsersAreGone", ["iam:GetUser"], [f"{account}:user/{names}"]),
        allow("DeleteLooseMFADevices", [_MFA], [f"{account}:mfa/*"]),
        # It takes no resource.
        allow("FindUsers", [_LIST], ["*"]),
    ]


def _equal(values: dict[str, str]) -> dict[str, Any]:
    return {"StringEquals": dict(sorted(values.items()))}


def _merged(statements: Sequence[Document]) -> list[Document]:
    """Return statements with those together that allow the same under the same conditions."""
    merged: list[Document] = []
    for statement in statements:
        for known in merged:
            if all(known.get(part) == statement.get(part) for part in ("Action", "Condition")):
                known["Resource"] = sorted({*known["Resource"], *statement["Resource"]})
                break
        else:
            merged.append(dict(statement))
    return merged
