"""
Rights: every caller may do everything, except what a test denies.

Texts: IAM User Guide, "Access denied error messages" (principal, action, resource, kind of policy); that Secrets
Manager names the secret as it was asked for, and ListSecrets names none: public error texts, for example in the
troubleshooting page of the AWS guide for SAP. Which further actions an operation needs: API reference, "Required
permissions" of CreateSecret, BatchGetSecretValue, AssociateCrossAccountReplica and ValidateResourcePolicy.

What requests to IAM and STS ask for: action, resource, and the condition keys that a policy may look at.

Sources: Service Authorization Reference, IAM and STS (resource types; iam:PermissionsBoundary, iam:PolicyARN,
iam:ResourceTag, aws:RequestTag, aws:ResourceTag; sts:ExternalId, sts:RoleSessionName); API reference of IAM, UpdateUser
(rights on both names); API reference of STS, GetCallerIdentity ("No permissions are required"). That CreateUser with
tags needs iam:TagUser too: public, in reports of refusals, as of iam:TagRole at CreateRole. How refusals name a
resource: public, in many reports (boundary pull request 3877: "user NAME"; xcmcndemoguide issue 8: the ARN of what is
being made).

Whether a caller's key is good, and sessions of roles: who may assume a role, for how long, and when a session ends.

Sources: API reference of STS, AssumeRole (DurationSeconds, at most one hour where a role assumes a role), IAM User
Guide, External IDs (a trust policy that asks for one refuses without it); common errors,
ExpiredTokenException. Keys: API reference, common errors (UnrecognizedClientException; InvalidClientTokenId of STS and
IAM), IAM User Guide, troubleshooting ("Changes that I make are not always immediately visible"). moto lets everybody
assume every role, its sessions never end, and neither do its keys.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from phasesync.emulator.errors import AwsError
from phasesync.emulator.request import Call, Operation, Principal, has_argument, is_iam_operation, read_arguments
from phasesync.emulator.world import World

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


QUERY: Final = ("sts", "iam")
"""Services that take forms and answer in XML."""
_DEFAULT_SECONDS: Final = 3600
_CHAINED_SECONDS: Final = 3600
_KEY: Final = re.compile(rb"<AccessKeyId>(\w+)</AccessKeyId>")
_END: Final = re.compile(rb"<Expiration>[^<]*</Expiration>")
_BEGINS_SESSION: Final = ("AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML")


def check_key(world: World, principal: Principal, service: str, new_key_takes: timedelta) -> None:
    """
    Refuse a user's key that is deleted, inactive or too new: UnrecognizedClientException, or InvalidClientTokenId.

    Args:
        world: has the keys; those that it never issued are let pass.
        principal: who calls.
        service: that is called.
        new_key_takes: how long AWS takes to know a new key.
    """
    if world.users.is_usable(principal.access_key_id, new_key_takes):
        return
    text = "The security token included in the request is invalid."
    if service in QUERY:
        raise AwsError("InvalidClientTokenId", text, status=403)
    raise AwsError("UnrecognizedClientException", text)


def check_session(world: World, principal: Principal, service: str) -> None:
    """Refuse a caller whose session has ended: ExpiredTokenException, or STS's and IAM's ExpiredToken."""
    if principal.expires_at is not None and principal.expires_at <= world.clock.now():
        text = "The security token included in the request is expired"
        if service in QUERY:
            raise AwsError("ExpiredToken", text, status=403)
        raise AwsError("ExpiredTokenException", text)


def check_assume_role(world: World, principal: Principal, operation: Operation) -> None:
    """Refuse to assume a role without its External ID, or for too long: AccessDenied, ValidationError."""
    if operation.name != "AssumeRole":
        return
    form = operation.form
    role_arn = form.get("RoleArn", "")
    wanted = world.role_external_id(role_arn)
    if wanted is not None and form.get("ExternalId") != wanted:
        text = f"User: {principal.arn} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
        raise AwsError("AccessDenied", text, status=403)
    if principal.role_arn is not None and int(form.get("DurationSeconds", 0)) > _CHAINED_SECONDS:
        raise AwsError(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        )


def note_session(world: World, operation: Operation, body: bytes) -> bytes:
    """Have a new session end by the emulator's clock; return the answer that says so."""
    key: Any = _KEY.search(body)
    if operation.name not in _BEGINS_SESSION or key is None:
        return body
    seconds = int(operation.form.get("DurationSeconds") or _DEFAULT_SECONDS)
    ends_at = world.begin_session(key[1].decode(), seconds)
    told = ends_at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return _END.sub(b"<Expiration>" + told + b"</Expiration>", body)
