"""
The users, groups and policies that calls of IAM name: each exists, or the call is refused.

Sources: API reference of IAM (NoSuchEntity of each operation). Texts, and that a user is looked for before a group,
and that a call without a user name is about the caller, who must be a user: LocalStack's snapshots of AWS; of a policy
that shall be a boundary: public, in reports on ROSA and SAM.
"""

import re
from typing import Any, Final

from phasesync.testing.aws_shim.iam_errors import invalid, invalid_input, no_such, no_such_group, no_such_user
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Service

_POLICY: Final = re.compile(r"arn:[a-z-]+:iam::(aws|\d{12}):policy/[\x21-\x7f]+")


def user_of(service: Service, call: Call) -> Any:
    """Return the user that a call names, or whose key signed it; NoSuchEntity, ValidationError."""
    name = call.text("UserName")
    if name is None:
        _, user = service.world.users.whose(call.principal.access_key_id)
        if user is None:
            raise invalid("Must specify userName when calling with non-User credentials")
        return user
    user = service.world.users.find(call.account, name)
    if user is None:
        raise no_such_user(name)
    return user


def group_of(service: Service, call: Call) -> Any:
    """Return the group that a call names; NoSuchEntity."""
    name = str(call.text("GroupName"))
    group = service.world.users.group(call.account, name)
    if group is None:
        raise no_such_group(name)
    return group


def policy_of(service: Service, call: Call) -> Any:
    """Return the managed policy that a call shall attach; InvalidInput, NoSuchEntity."""
    return _policy(service, call, "PolicyArn", "Policy {} does not exist or is not attachable.")


def boundary_of(service: Service, call: Call) -> str | None:
    """Return the ARN of the policy that shall be a boundary, None where there is none; InvalidInput, NoSuchEntity."""
    if call.text("PermissionsBoundary") is None:
        return None
    policy = _policy(service, call, "PermissionsBoundary", "Scope ARN: {} does not exist or is not attachable.")
    return str(policy.arn)


def _policy(service: Service, call: Call, argument: str, missing: str) -> Any:
    arn = str(call.text(argument))
    if not _POLICY.fullmatch(arn):
        raise invalid_input(f"ARN {arn} is not valid.")
    policy = service.world.users.policy(call.account, arn)
    if policy is None:
        raise no_such(missing.format(arn))
    return policy
