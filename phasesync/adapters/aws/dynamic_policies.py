"""
The IAM policy for exactly what dynamic secrets do, and not more: nobody who holds it can make an administrator.

Users are told apart by their path and by our tags: keys and rights only go to users of the same dynamic secrets, and
what is taken back is taken off users of our instance. Where a dynamic secret has a permission boundary, users are made
with it and with no other, and get rights only while they have it; nothing here changes a boundary or a policy. Rights
on groups are for the groups that are named: IAM cannot be told whom one may add to them. Pure.

A lease keeps the path, the name and the groups that it was made with, whatever is set on its dynamic secret later: the
policy has them until it has ended.

A user that is gone has no path and no tags: asked to remove it, AWS refuses where a policy asks for them, and does not
say that it is gone. So whether a user is there may also be asked by its name alone.

Which condition keys and resources an action has: Service Authorization Reference, IAM (a user's own: aws:ResourceTag).
CreateUser with tags needs TagUser as well (IAM User Guide, tags of users), and IAM cannot be told the one from the
other: a user that is there already is told by tags that are not ours, or by a name that we would not give.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from phasesync.adapters.aws.policies import VERSION, Document, allow
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.iam_users import OUR_PATH, RANDOM, TAG_DYNAMIC, render_user_name
from phasesync.core.lease import LeaseSpec
from phasesync.core.regions import partition_of
from phasesync.core.remote import TAG_INSTANCE

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
_OUT_OF_GROUPS: Final = ("iam:RemoveUserFromGroup",)
_MFA: Final = "iam:DeleteVirtualMFADevice"
_LIST: Final = "iam:ListUsers"
_OWNER: Final = "iam:GetAccessKeyLastUsed"
"""Tells which user a key belongs to; its resource is that user (Service Authorization Reference, IAM)."""


@dataclass(frozen=True, kw_only=True)
class Issuing:
    """
    What one dynamic secret does at AWS.

    Attributes:
        config: what is set on it; one with a role hands out sessions.
        id: as our tags say it.
        name: its name.
        region: of its credential; tells the partition.
        account: 12 digits; None = not known yet, any.
    """

    config: DynamicConfig
    id: str
    name: str
    region: str
    account: str | None


@dataclass(frozen=True, kw_only=True)
class Live:
    """
    A live lease, whose user has to be taken back.

    Attributes:
        spec: what it was made of.
        region: of the credential that made it; tells the partition.
        account: 12 digits; None = not known yet, any.
    """

    spec: LeaseSpec
    region: str
    account: str | None


def dynamic_statements(issuing: Sequence[Issuing], *, instance_id: str, live: Sequence[Live] = ()) -> list[Document]:
    """
    Return the statements for what some dynamic secrets do; those that differ in their resources only are one.

    Args:
        issuing: all of them use one credential.
        instance_id: our instance, as our tags say it.
        live: leases that this credential takes back, whatever the dynamic secrets are like by now.
    """
    found: list[Document] = []
    for one in issuing:
        found += _of_role(one) if one.config.role_arn is not None else _of_users(one, instance_id)
    named = {group for one in issuing for group in one.config.groups}
    for lease in live:
        if lease.spec.role_arn is None:
            found += _renewing(lease, instance_id, found)
            found += _of_live(lease, instance_id, [one for one in lease.spec.groups if one not in named])
    return _merged(found)


def starter_policy(*, region: str | None, boundary: str | None, instance_id: str | None) -> Document:
    """
    Return the policy to begin with: any dynamic secret under our IAM path, each with one permission boundary.

    Args:
        region: tells the partition; None = the boundary's, or `aws`.
        boundary: ARN of the policy that has to bound every user; None = one named `STARTER_BOUNDARY`, of any account.
        instance_id: our instance, as our tags say it; None = there is none yet: then for every user under the path.
    """
    partition = partition_of(region or "") if region or boundary is None else boundary.split(":")[1]
    users = f"arn:{partition}:iam::*:user{OUR_PATH}*"
    bounded = {"ArnLike": {_BOUNDARY: boundary or f"arn:{partition}:iam::*:policy/{STARTER_BOUNDARY}"}}
    marks = {} if instance_id is None else {TAG_INSTANCE: instance_id}
    asked, ours = _tagged(_REQUEST, marks), _tagged(_RESOURCE, marks)
    statements = [
        allow("CreateBoundedUsers", ["iam:CreateUser"], [users], asked | bounded),
        allow("TagUsers", ["iam:TagUser"], [users], (asked | _unless_others(marks)) or None),
        allow("GiveRightsToBoundedUsers", ["iam:AttachUserPolicy", "iam:PutUserPolicy"], [users], ours | bounded),
        allow("CreateKeys", ["iam:CreateAccessKey"], [users], ours or None),
        allow("TakeBack", _TAKE_BACK, [users], ours or None),
        allow("FindRenamedUsers", [_OWNER], [users if instance_id is None else _all(users)], ours or None),
        allow("LookForPolicies", ["iam:GetPolicy"], [f"arn:{partition}:iam::*:policy/*"]),
        *_everywhere(users, f"arn:{partition}:iam::*", names="*"),
    ]
    return {"Version": VERSION, "Statement": statements}


_BOUNDARY: Final = "iam:PermissionsBoundary"
_REQUEST: Final = "aws:RequestTag"
_RESOURCE: Final = "aws:ResourceTag"
_TOGETHER: Final = 25
"""Dynamic secrets in one statement, at most: twice their ids, and a resource, have to fit into a managed policy."""


def _of_role(one: Issuing) -> list[Document]:
    return [allow("AssumeRole", ["sts:AssumeRole"], [one.config.role_arn or ""])]


def _of_users(one: Issuing, instance_id: str) -> list[Document]:
    config, account = one.config, _account(one.region, one.account)
    path = config.iam_path or "/"
    words = {"app": "*", "env": "*", "name": one.name}  # Apps and environments may be renamed while users live.
    names = render_user_name(config.user_template, words, lambda: "?" * RANDOM)
    users, named = f"{account}:user{path}*", f"{account}:user{path}{names}"
    bounded = {} if config.permission_boundary is None else {_BOUNDARY: config.permission_boundary}
    marks = {TAG_INSTANCE: instance_id, TAG_DYNAMIC: [one.id]}
    asked = _tagged(_REQUEST, marks)
    statements = [
        allow("CreateUsersWithOurTag", ["iam:CreateUser"], [named], _tagged(_REQUEST, marks, bounded)),
        allow("TagUsers", ["iam:TagUser"], [named], asked | _unless_others(marks)),
        allow("CreateKeys", ["iam:CreateAccessKey"], [users], _tagged(_RESOURCE, marks)),
    ]
    giving = _tagged(_RESOURCE, marks, bounded)
    if config.policy_arns:
        policies = {"ArnEquals": {"iam:PolicyARN": sorted(config.policy_arns)}}
        statements.append(allow("AttachNamedPolicies", ["iam:AttachUserPolicy"], [users], giving | policies))
    if config.inline_policy is not None:
        statements.append(allow("PutInlinePolicy", ["iam:PutUserPolicy"], [users], giving))
    if config.policy_arns or config.permission_boundary:
        named_policies = {*config.policy_arns, config.permission_boundary or config.policy_arns[0]}
        statements.append(allow("LookForNamedPolicies", ["iam:GetPolicy"], sorted(named_policies)))
    if config.groups:
        statements.append(allow("NamedGroups", _GROUP, _groups(account, config.groups)))
        statements.append(allow("LookForNamedGroups", ["iam:GetGroup"], _groups(account, config.groups)))
    return statements + _taking_back(users, account, names=names, instance_id=instance_id)


def _of_live(one: Live, instance_id: str, groups: Sequence[str]) -> list[Document]:
    """Return what it takes to take a lease back. `groups`: those of its groups that no dynamic secret names now."""
    account = _account(one.region, one.account)
    users = f"{account}:user{one.spec.iam_path or '/'}*"
    statements = _taking_back(users, account, names=one.spec.name, instance_id=instance_id)
    if groups:
        statements.append(allow("TakeOutOfGroups", _OUT_OF_GROUPS, _groups(account, groups)))
    return statements


def _renewing(one: Live, instance_id: str, found: Sequence[Document]) -> list[Document]:
    """Return what it takes to renew a lease whose user no dynamic secret of now would make: it has our tags already."""
    dynamic_id = one.spec.tags.get(TAG_DYNAMIC)
    if dynamic_id is None:
        return []
    account, path = _account(one.region, one.account), one.spec.iam_path or "/"
    arn = f"{account}:user{path}{one.spec.name}"
    tagging = (statement for statement in found if "iam:TagUser" in statement["Action"])
    if any(_covers(pattern, arn) for statement in tagging for pattern in statement["Resource"]):
        return []
    marks = {TAG_INSTANCE: instance_id, TAG_DYNAMIC: [dynamic_id]}
    condition = _tagged(_REQUEST, marks)["StringEquals"] | _tagged(_RESOURCE, marks)["StringEquals"]
    return [allow("RenewLiveUsers", ["iam:TagUser"], [f"{account}:user{path}*"], {"StringEquals": condition})]


def _all(users: str) -> str:
    """Return the ARN of all users of the account that an ARN of users names."""
    return users.partition(":user/")[0] + ":user/*"


def _account(region: str, account: str | None) -> str:
    return f"arn:{partition_of(region)}:iam::{account or '*'}"


def _groups(account: str, names: Sequence[str]) -> list[str]:
    """Return the ARNs of groups; one may have a path, which its name does not tell."""
    return [f"{account}:group/{prefix}{name}" for name in sorted(names) for prefix in ("", "*/")]


def _taking_back(users: str, account: str, *, names: str, instance_id: str) -> list[Document]:
    """Return the statements for users that go; a lost one is ours whichever dynamic secret it was made for."""
    ours = _tagged(_RESOURCE, {TAG_INSTANCE: instance_id})
    # A user may be moved out of the path, and is found by its key and its tag then.
    finding = allow("FindRenamedUsers", [_OWNER], [_all(users)], ours)
    return [allow("TakeBack", _TAKE_BACK, [users], ours), finding, *_everywhere(users, account, names=names)]


def _everywhere(users: str, account: str, *, names: str) -> list[Document]:
    """Return the statements that have no condition: looking, and what only goes once it hangs on no user."""
    return [
        allow("Look", _LOOK, [users]),
        allow("LookWhetherUsersAreGone", ["iam:GetUser"], [f"{account}:user/{names}"]),
        allow("DeleteLooseMFADevices", [_MFA], [f"{account}:mfa/*"]),
        # It takes no resource.
        allow("FindUsers", [_LIST], ["*"]),
    ]


def _tagged(where: str, marks: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the condition that tags, of the request or of the user, are our marks; empty where there are none."""
    values = {f"{where}/{tag}": value for tag, value in marks.items()} | dict(more or {})
    return {"StringEquals": dict(sorted(values.items()))} if values else {}


def _unless_others(marks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the condition that a user's tags are not the marks of others. One that is being made has no tags yet."""
    return {f"{operator}IfExists": values for operator, values in _tagged(_RESOURCE, marks).items()}


def _merged(statements: Sequence[Document]) -> list[Document]:
    """
    Return statements with those together that allow the same under the same conditions.

    Users of dynamic secrets that one credential serves need not be told apart: their conditions name all of them.
    """
    merged: list[Document] = []
    for statement in statements:
        for known in merged:
            if _is_alike(known, statement):
                known["Resource"] = _widest({*known["Resource"], *statement["Resource"]})
                if "Condition" in known:
                    known["Condition"] = _for_either(known["Condition"], statement["Condition"])
                break
        else:
            merged.append(dict(statement))
    return merged


def _widest(arns: Collection[str]) -> list[str]:
    """Return resources without those that another of them covers."""
    return sorted(arn for arn in arns if not any(arn != other and _covers(other, arn) for other in arns))


def _covers(pattern: str, arn: str) -> bool:
    if pattern.endswith("*") and arn.startswith(pattern[:-1]):
        return True
    return not {"*", "?"} & set(arn) and fnmatchcase(arn, pattern)


def _is_alike(one: Document, other: Document) -> bool:
    """Return whether two statements differ in their resources and dynamic secrets only, and have room for both."""
    if one["Action"] != other["Action"] or _without_dynamics(one) != _without_dynamics(other):
        return False
    return len(_dynamics(one) | _dynamics(other)) <= _TOGETHER


def _without_dynamics(statement: Document) -> Document:
    return {
        operator: {key: None if key.endswith(TAG_DYNAMIC) else value for key, value in keys.items()}
        for operator, keys in statement.get("Condition", {}).items()
    }


def _dynamics(statement: Document) -> set[str]:
    keys = (pair for pairs in statement.get("Condition", {}).values() for pair in pairs.items())
    return {one for key, values in keys if key.endswith(TAG_DYNAMIC) for one in values}


def _for_either(condition: Document, other: Document) -> Document:
    """Return a condition for the dynamic secrets of two that are the same else."""
    return {
        operator: {
            key: sorted({*value, *other[operator][key]}) if key.endswith(TAG_DYNAMIC) else value
            for key, value in keys.items()
        }
        for operator, keys in condition.items()
    }
