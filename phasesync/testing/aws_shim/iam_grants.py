"""
What gives a user its rights: managed policies, groups, inline policies.

Sources: API reference of IAM, AttachUserPolicy, DetachUserPolicy, AddUserToGroup, RemoveUserFromGroup, PutUserPolicy,
DeleteUserPolicy; IAM User Guide, quotas (10 managed policies, 10 groups, 2,048 characters of inline policies together,
"IAM doesn't count white space"). That what is there already is no error, and that to remove a user from a group it is
not in is none either; texts of what is missing: LocalStack's snapshots of AWS. Texts of quotas: public, in many
reports. moto counts a policy twice that is attached twice, and has no quotas.
"""

from phasesync.testing.aws_shim.iam_errors import limit_exceeded, no_such, over_quota
from phasesync.testing.aws_shim.iam_named import group_of, policy_of, user_of
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Result, Service


def attach_user_policy(service: Service, call: Call) -> Result:
    """Attach a managed policy."""
    user, policy = user_of(service, call), policy_of(service, call)
    if policy.arn not in user.managed_policies:
        if len(user.managed_policies) >= service.limits.user_policies:
            raise over_quota("PoliciesPerUser", service.limits.user_policies)
        policy.attach_to(user)
    return {}


def detach_user_policy(service: Service, call: Call) -> Result:
    """Detach a managed policy; it must be attached."""
    user, arn = user_of(service, call), str(call.text("PolicyArn"))
    if arn not in user.managed_policies:
        raise no_such(f"Policy {arn} was not found.")
    user.managed_policies[arn].detach_from(user)
    return {}


def add_user_to_group(service: Service, call: Call) -> Result:
    """Put a user into a group."""
    user, group = user_of(service, call), group_of(service, call)
    if user not in group.users:
        if len(service.world.users.groups_of(user)) >= service.limits.user_groups:
            raise over_quota("GroupsPerUser", service.limits.user_groups)
        group.users.append(user)
    return {}


def remove_user_from_group(service: Service, call: Call) -> Result:
    """Take a user out of a group; it need not be in it."""
    user, group = user_of(service, call), group_of(service, call)
    if user in group.users:
        group.users.remove(user)
    return {}


def put_user_policy(service: Service, call: Call) -> None:
    """Refuse an inline policy that is too much with the others; moto reads it, and keeps it."""
    user, most = user_of(service, call), service.limits.user_inline_characters
    documents = user.policies | {str(call.text("PolicyName")): str(call.text("PolicyDocument"))}
    if sum(not one.isspace() for document in documents.values() for one in document) > most:
        raise limit_exceeded(f"Maximum policy size of {most} bytes exceeded for user {user.name}")


def delete_user_policy(service: Service, call: Call) -> Result:
    """Take an inline policy away; it must be there."""
    user, name = user_of(service, call), str(call.text("PolicyName"))
    if name not in user.policies:
        raise no_such(f"The user policy with name {name} cannot be found.")
    user.delete_policy(name)
    return {}
