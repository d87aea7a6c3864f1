"""
What requests to IAM and STS ask for: action, resource, and the condition keys that a policy may look at.

Sources: Service Authorization Reference, IAM and STS (resource types; iam:PermissionsBoundary, iam:PolicyARN,
iam:ResourceTag, aws:RequestTag, aws:ResourceTag; sts:ExternalId, sts:RoleSessionName); API reference of IAM, UpdateUser
(rights on both names); API reference of STS, GetCallerIdentity ("No permissions are required"). That CreateUser with
tags needs iam:TagUser too: public, in reports of refusals, as of iam:TagRole at CreateRole. How refusals name a
resource: public, in many reports (boundary pull request 3877: "user NAME"; xcmcndemoguide issue 8: the ARN of what is
being made).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from phasesync.testing.aws_shim.access import Access, refusal_text
from phasesync.testing.aws_shim.errors import AwsError
from phasesync.testing.aws_shim.moto_world import World
from phasesync.testing.aws_shim.query import has_argument, is_iam_operation, read_arguments
from phasesync.testing.aws_shim.request import Operation, Principal

Ask = tuple[str, str, dict[str, str]]
"""IAM action, ARN of the resource or `*`, condition key -> value."""

_KINDS: Final[Mapping[str, str]] = {
    "InstanceProfileName": "instance-profile",
    "GroupName": "group",
    "UserName": "user",
    "RoleName": "role",
    "VirtualMFADeviceName": "mfa",
    "PolicyName": "policy",
}
"""Argument -> kind of resource. The first that a request has is what it is about: a group, for AddUserToGroup."""
_MAKES: Final = frozenset(
    {"CreateUser", "CreateGroup", "CreateRole", "CreatePolicy", "CreateInstanceProfile", "CreateVirtualMFADevice"}
)
_TELLS_BOUNDARY: Final = frozenset(
    {"AttachUserPolicy", "DetachUserPolicy", "PutUserPolicy", "DeleteUserPolicy", "DeleteUserPermissionsBoundary"}
)
_TELLS_POLICY: Final = frozenset({"AttachUserPolicy", "DetachUserPolicy"})
_SETS_BOUNDARY: Final = frozenset({"CreateUser", "PutUserPermissionsBoundary"})
_SETS_TAGS: Final = frozenset({"CreateUser", "TagUser"})


def asks(world: World, operation: Operation) -> list[Ask]:
    """Return all that a request to IAM or STS needs to be allowed; `aws.on_request` may judge by it."""
    with world.lock:
        if operation.service == "sts":
            return list(_of_sts(operation))
        if not is_iam_operation(operation.name):
            return [(f"iam:{operation.name}", "*", {})]
        return list(_of_iam(world, operation, read_arguments(operation.name, operation.body)))


def check_rights(world: World, access: Access, operation: Operation, principal: Principal) -> None:
    """Refuse a request to IAM or STS that is denied: AccessDenied."""
    for action, resource, _ in asks(world, operation):
        denial = access.denial(principal, action, [resource])
        if denial is not None:
            shown = _shown(operation, principal.account, resource)
            raise AwsError("AccessDenied", refusal_text(principal, action, shown, denial), status=403)


def _of_sts(operation: Operation) -> Iterator[Ask]:
    form = operation.form
    if operation.name == "GetCallerIdentity":
        return
    told = {f"sts:{name}": form[name] for name in ("ExternalId", "RoleSessionName") if name in form}
    yield f"sts:{operation.name}", form.get("RoleArn", "*"), told


def _of_iam(world: World, operation: Operation, arguments: Mapping[str, Any]) -> Iterator[Ask]:
    account, user = _account_and_user(world, operation, arguments)
    resource = _resource(world, account, user, operation.name, arguments)
    request_tags = _tags("aws:RequestTag", arguments) if operation.name in _SETS_TAGS else {}
    context = _context(world, user, operation.name, arguments) if ":user/" in resource else {}
    yield f"iam:{operation.name}", resource, context | request_tags
    if operation.name == "CreateUser" and request_tags:
        yield "iam:TagUser", resource, request_tags
    if operation.name == "UpdateUser":
        path = arguments.get("NewPath") or (user.path if user else "/")
        name = arguments.get("NewUserName") or arguments.get("UserName")
        yield "iam:UpdateUser", f"arn:aws:iam::{account}:user{path}{name}", context


def _account_and_user(world: World, operation: Operation, arguments: Mapping[str, Any]) -> tuple[str, Any | None]:
    """Return the caller's account, and the user that a request is about if that user exists."""
    account = world.principal(operation.access_key_id).account
    if "UserName" in arguments:
        return account, world.users.find(account, arguments["UserName"])
    if operation.name == "GetAccessKeyLastUsed":
        return account, world.users.whose(str(arguments.get("AccessKeyId")))[1]
    own = has_argument(operation.name, "UserName")
    return account, world.users.whose(operation.access_key_id)[1] if own else None


def _resource(world: World, account: str, user: Any | None, operation: str, arguments: Mapping[str, Any]) -> str:
    for argument, kind in _KINDS.items():
        name = arguments.get(argument)
        if name is not None and operation in _MAKES:
            return f"arn:aws:iam::{account}:{kind}{arguments.get('Path') or '/'}{name}"
        if name is not None:
            return world.users.arn(account, kind, name) or f"arn:aws:iam::{account}:{kind}/{name}"
    if user is not None:
        return str(user.arn)
    return str(arguments.get("PolicyArn") or arguments.get("SerialNumber") or "*")


def _context(world: World, user: Any | None, operation: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the condition keys of a call on a user, without the tags in the request."""
    found: dict[str, str | None] = {}
    if operation in _SETS_BOUNDARY:
        found["iam:PermissionsBoundary"] = arguments.get("PermissionsBoundary")
    if operation in _TELLS_POLICY:
        found["iam:PolicyARN"] = arguments.get("PolicyArn")
    if user is not None and operation != "CreateUser":
        if operation in _TELLS_BOUNDARY:
            found["iam:PermissionsBoundary"] = world.users.extras(user).boundary
        for key, value in world.users.tags(user).items():
            found |= {f"aws:ResourceTag/{key}": value, f"iam:ResourceTag/{key}": value}
    return {key: value for key, value in found.items() if value is not None}


def _tags(prefix: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    given = arguments.get("Tags") or []
    return {f"{prefix}/{tag['Key']}": tag.get("Value", "") for tag in given if "Key" in tag}


def _shown(operation: Operation, account: str, resource: str) -> str:
    """Return how a refusal names a resource: what exists by kind and name, what is being made by its ARN."""
    if operation.name == "ListUsers":
        return f"arn:aws:iam::{account}:user/"
    kind, _, name = resource.rpartition(":")[2].partition("/")
    if operation.service != "iam" or operation.name in _MAKES or kind not in ("user", "group", "role"):
        return resource
    return f"{kind} {name.rpartition('/')[2]}"
