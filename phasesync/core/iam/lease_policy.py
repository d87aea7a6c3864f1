"""
The IAM policy for exactly what dynamic secrets and their leases do. Its holder cannot make an administrator.

Users are distinguished by their path and by our tags. Keys and rights go only to users of the same dynamic secrets, and
only users of our instance are deleted. If a dynamic secret has a permission boundary, users are created with it and
with no other, and get rights only while they have it. Nothing here changes a boundary or a policy. Rights on groups
are for the named groups: IAM has no condition on which users are added to a group.

A lease keeps the path, the name and the groups that it was issued with, whatever is set on its dynamic secret later.
The policy covers them until the lease has ended.

A deleted user has no path and no tags. If a policy asks for them, AWS refuses the removal and does not say that the
user is gone. So whether a user exists may also be asked by its name alone.

Condition keys and resources of an action: Service Authorization Reference, IAM (a user's own key: aws:ResourceTag).
CreateUser with tags needs TagUser as well (IAM User Guide, tags of users), and IAM cannot distinguish the two. An
existing user is recognised by tags that are not ours, or by a name that we would not give.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from phasesync.core.dynamic import DynamicConfig
from phasesync.core.iam.document import VERSION, Document, allow
from phasesync.core.lease import LeaseSpec
from phasesync.core.lease_users import OUR_PATH, RANDOM, TAG_DYNAMIC, render_user_name
from phasesync.core.regions import partition_of
from phasesync.core.remote import TAG_INSTANCE

STARTER_BOUNDARY: Final = "phasesync-boundary"
"""Name of the permission boundary in the starter policy if no other is given."""

_REVOKE: Final = (
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
_READ: Final = (
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
_GROUP_MEMBERSHIP: Final = ("iam:AddUserToGroup", "iam:RemoveUserFromGroup")
_LEAVE_GROUPS: Final = ("iam:RemoveUserFromGroup",)
_DELETE_MFA_DEVICE: Final = "iam:DeleteVirtualMFADevice"
_LIST_USERS: Final = "iam:ListUsers"
_KEY_OWNER: Final = "iam:GetAccessKeyLastUsed"
"""Returns the user that a key belongs to. Its resource is that user (Service Authorization Reference, IAM)."""


@dataclass(frozen=True, kw_only=True)
class LeaseUse:
    """
    What issues the leases of one dynamic secret.

    Attributes:
        config: of the dynamic secret; with a role ARN it issues sessions of that role.
        id: of the dynamic secret, as in our tags.
        name: of the dynamic secret.
        region: of its credential; gives the partition.
        account: 12 digits; None if it is not known yet: any account.
    """

    config: DynamicConfig
    id: str
    name: str
    region: str
    account: str | None


@dataclass(frozen=True, kw_only=True)
class LiveLease:
    """
    A live lease, which has to be revoked some day.

    Attributes:
        spec: what it was issued from.
        region: of the credential that issued it; gives the partition.
        account: 12 digits; None if it is not known yet: any account.
    """

    spec: LeaseSpec
    region: str
    account: str | None


def lease_statements(
    dynamics: Sequence[LeaseUse], *, instance_id: str, live: Sequence[LiveLease] = ()
) -> list[Document]:
    """
    Return the statements for what some dynamic secrets do. Statements that differ only in resources are merged.

    Args:
        dynamics: all use one credential.
        instance_id: our instance, as in our tags.
        live: leases that this credential has to revoke, whatever their dynamic secrets look like by now.
    """
    statements: list[Document] = []
    for dynamic in dynamics:
        is_role = dynamic.config.role_arn is not None
        statements += _role_statements(dynamic) if is_role else _user_statements(dynamic, instance_id)
    named_groups = {group for dynamic in dynamics for group in dynamic.config.groups}
    for lease in live:
        if lease.spec.role_arn is None:
            former_groups = [group for group in lease.spec.groups if group not in named_groups]
            statements += _renewal_statements(lease, instance_id, statements)
            statements += _live_lease_statements(lease, instance_id, former_groups)
    return _merged(statements)


def starter_lease_policy(*, region: str | None, boundary: str | None, instance_id: str | None) -> Document:
    """
    Return the starter policy: for any dynamic secret under our IAM path with one permission boundary for its users.

    Args:
        region: gives the partition; None: that of the boundary, or `aws`.
        boundary: ARN of the policy that has to bound every user; None: one named `STARTER_BOUNDARY`, of any account.
        instance_id: our instance, as in our tags; None if there is none yet: then for every user under the path.
    """
    partition = partition_of(region or "") if region or boundary is None else boundary.split(":")[1]
    users = f"arn:{partition}:iam::*:user{OUR_PATH}*"
    bounded = {"ArnLike": {_BOUNDARY: boundary or f"arn:{partition}:iam::*:policy/{STARTER_BOUNDARY}"}}
    owner_tags = {} if instance_id is None else {TAG_INSTANCE: instance_id}
    requested, ours = _tag_condition(_REQUEST, owner_tags), _tag_condition(_RESOURCE, owner_tags)
    statements = [
        allow("CreateBoundedUsers", ["iam:CreateUser"], [users], requested | bounded),
        allow("TagUsers", ["iam:TagUser"], [users], (requested | _unless_tagged_by_others(owner_tags)) or None),
        allow("GiveRightsToBoundedUsers", ["iam:AttachUserPolicy", "iam:PutUserPolicy"], [users], ours | bounded),
        allow("CreateKeys", ["iam:CreateAccessKey"], [users], ours or None),
        allow("TakeBack", _REVOKE, [users], ours or None),
        allow("FindRenamedUsers", [_KEY_OWNER], [users if instance_id is None else _all_users(users)], ours or None),
        allow("LookForPolicies", ["iam:GetPolicy"], [f"arn:{partition}:iam::*:policy/*"]),
        *_unconditional_statements(users, f"arn:{partition}:iam::*", names="*"),
    ]
    return {"Version": VERSION, "Statement": statements}


_BOUNDARY: Final = "iam:PermissionsBoundary"
_REQUEST: Final = "aws:RequestTag"
_RESOURCE: Final = "aws:ResourceTag"
_MOST_TOGETHER: Final = 25
"""Most dynamic secrets in one statement: twice their ids, and a resource, have to fit into a managed policy."""


def _role_statements(dynamic: LeaseUse) -> list[Document]:
    return [allow("AssumeRole", ["sts:AssumeRole"], [dynamic.config.role_arn or ""])]


def _user_statements(dynamic: LeaseUse, instance_id: str) -> list[Document]:
    config, account = dynamic.config, _account(dynamic.region, dynamic.account)
    path = config.iam_path or "/"
    # Apps and environments may be renamed while users live.
    template_words = {"app": "*", "env": "*", "name": dynamic.name}
    names = render_user_name(config.user_template, template_words, lambda: "?" * RANDOM)
    users, named = f"{account}:user{path}*", f"{account}:user{path}{names}"
    bounded = {} if config.permission_boundary is None else {_BOUNDARY: config.permission_boundary}
    owner_tags = {TAG_INSTANCE: instance_id, TAG_DYNAMIC: [dynamic.id]}
    requested = _tag_condition(_REQUEST, owner_tags)
    statements = [
        allow("CreateUsersWithOurTag", ["iam:CreateUser"], [named], _tag_condition(_REQUEST, owner_tags, bounded)),
        allow("TagUsers", ["iam:TagUser"], [named], requested | _unless_tagged_by_others(owner_tags)),
        allow("CreateKeys", ["iam:CreateAccessKey"], [users], _tag_condition(_RESOURCE, owner_tags)),
    ]
    may_grant = _tag_condition(_RESOURCE, owner_tags, bounded)
    if config.policy_arns:
        policies = {"ArnEquals": {"iam:PolicyARN": sorted(config.policy_arns)}}
        statements.append(allow("AttachNamedPolicies", ["iam:AttachUserPolicy"], [users], may_grant | policies))
    if config.inline_policy is not None:
        statements.append(allow("PutInlinePolicy", ["iam:PutUserPolicy"], [users], may_grant))
    if config.policy_arns or config.permission_boundary:
        named_policies = {*config.policy_arns, config.permission_boundary or config.policy_arns[0]}
        statements.append(allow("LookForNamedPolicies", ["iam:GetPolicy"], sorted(named_policies)))
    if config.groups:
        statements.append(allow("NamedGroups", _GROUP_MEMBERSHIP, _groups(account, config.groups)))
        statements.append(allow("LookForNamedGroups", ["iam:GetGroup"], _groups(account, config.groups)))
    return statements + _revoking_statements(users, account, names=names, instance_id=instance_id)


def _live_lease_statements(lease: LiveLease, instance_id: str, groups: Sequence[str]) -> list[Document]:
    """Return what revoking a lease needs. `groups`: its groups that no dynamic secret names any more."""
    account = _account(lease.region, lease.account)
    users = f"{account}:user{lease.spec.iam_path or '/'}*"
    statements = _revoking_statements(users, account, names=lease.spec.name, instance_id=instance_id)
    if groups:
        statements.append(allow("TakeOutOfGroups", _LEAVE_GROUPS, _groups(account, groups)))
    return statements


def _renewal_statements(lease: LiveLease, instance_id: str, known: Sequence[Document]) -> list[Document]:
    """Return what renewing a lease needs if no dynamic secret would create its user now: it has our tags already."""
    dynamic_id = lease.spec.tags.get(TAG_DYNAMIC)
    if dynamic_id is None:
        return []
    account, path = _account(lease.region, lease.account), lease.spec.iam_path or "/"
    arn = f"{account}:user{path}{lease.spec.name}"
    tagging = (statement for statement in known if "iam:TagUser" in statement["Action"])
    if any(_covers(pattern, arn) for statement in tagging for pattern in statement["Resource"]):
        return []
    owner_tags = {TAG_INSTANCE: instance_id, TAG_DYNAMIC: [dynamic_id]}
    condition = (
        _tag_condition(_REQUEST, owner_tags)["StringEquals"] | _tag_condition(_RESOURCE, owner_tags)["StringEquals"]
    )
    return [allow("RenewLiveUsers", ["iam:TagUser"], [f"{account}:user{path}*"], {"StringEquals": condition})]


def _all_users(users: str) -> str:
    """Return the ARN of all users of the account in an ARN of users."""
    return users.partition(":user/")[0] + ":user/*"


def _account(region: str, account: str | None) -> str:
    return f"arn:{partition_of(region)}:iam::{account or '*'}"


def _groups(account: str, names: Sequence[str]) -> list[str]:
    """Return the ARNs of groups. A group may have a path, which its name does not show."""
    return [f"{account}:group/{prefix}{name}" for name in sorted(names) for prefix in ("", "*/")]


def _revoking_statements(users: str, account: str, *, names: str, instance_id: str) -> list[Document]:
    """Return the statements for revoking. An orphan user is ours, whichever dynamic secret it was created for."""
    ours = _tag_condition(_RESOURCE, {TAG_INSTANCE: instance_id})
    # A user may be moved out of the path. It is then found by its key and its tag.
    finding = allow("FindRenamedUsers", [_KEY_OWNER], [_all_users(users)], ours)
    return [allow("TakeBack", _REVOKE, [users], ours), finding, *_unconditional_statements(users, account, names=names)]


def _unconditional_statements(users: str, account: str, *, names: str) -> list[Document]:
    """Return the statements without a condition: reading, and deleting what must be detached from every user first."""
    return [
        allow("Look", _READ, [users]),
        allow("LookWhetherUsersAreGone", ["iam:GetUser"], [f"{account}:user/{names}"]),
        allow("DeleteLooseMFADevices", [_DELETE_MFA_DEVICE], [f"{account}:mfa/*"]),
        # ListUsers takes no resource.
        allow("FindUsers", [_LIST_USERS], ["*"]),
    ]


def _tag_condition(
    context_key: str, owner_tags: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the condition that tags, of the request or of the user, are our owner tags; empty without tags."""
    values = {f"{context_key}/{tag}": value for tag, value in owner_tags.items()} | dict(more or {})
    return {"StringEquals": dict(sorted(values.items()))} if values else {}


def _unless_tagged_by_others(owner_tags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the condition that a user has no owner tags of others. A user that is being created has no tags yet."""
    return {f"{operator}IfExists": values for operator, values in _tag_condition(_RESOURCE, owner_tags).items()}


def _merged(statements: Sequence[Document]) -> list[Document]:
    """
    Return the statements, with those merged that allow the same under the same conditions.

    The conditions name all dynamic secrets with one credential: their users need not be distinguished.
    """
    merged: list[Document] = []
    for statement in statements:
        for known in merged:
            if _can_merge(known, statement):
                known["Resource"] = _widest({*known["Resource"], *statement["Resource"]})
                if "Condition" in known:
                    known["Condition"] = _either_condition(known["Condition"], statement["Condition"])
                break
        else:
            merged.append(dict(statement))
    return merged


def _widest(arns: Collection[str]) -> list[str]:
    """Return the ARNs without those that another one covers."""
    return sorted(arn for arn in arns if not any(arn != other and _covers(other, arn) for other in arns))


def _covers(pattern: str, arn: str) -> bool:
    if pattern.endswith("*") and arn.startswith(pattern[:-1]):
        return True
    return not {"*", "?"} & set(arn) and fnmatchcase(arn, pattern)


def _can_merge(statement: Document, other: Document) -> bool:
    """Return whether two statements differ only in resources and dynamic secrets, and fit into one."""
    if statement["Action"] != other["Action"] or _without_dynamics(statement) != _without_dynamics(other):
        return False
    return len(_dynamics(statement) | _dynamics(other)) <= _MOST_TOGETHER


def _without_dynamics(statement: Document) -> Document:
    return {
        operator: {key: None if key.endswith(TAG_DYNAMIC) else value for key, value in keys.items()}
        for operator, keys in statement.get("Condition", {}).items()
    }


def _dynamics(statement: Document) -> set[str]:
    keys = (pair for pairs in statement.get("Condition", {}).values() for pair in pairs.items())
    return {dynamic_id for key, values in keys if key.endswith(TAG_DYNAMIC) for dynamic_id in values}


def _either_condition(condition: Document, other: Document) -> Document:
    """Return the condition for the dynamic secrets of both, which are otherwise equal."""
    return {
        operator: {
            key: sorted({*value, *other[operator][key]}) if key.endswith(TAG_DYNAMIC) else value
            for key, value in keys.items()
        }
        for operator, keys in condition.items()
    }
