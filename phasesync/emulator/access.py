"""
Who may do what: denied IAM actions, usable keys, sessions of roles. Everything is allowed that a test does not deny.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from phasesync.emulator.errors import AwsError
from phasesync.emulator.moto_state import MotoState
from phasesync.emulator.request import Call, Operation, Principal, has_argument, is_iam_operation, read_arguments

# --- Denied actions, and how a refusal names them
#
# Texts: IAM User Guide, "Access denied error messages" (principal, action, resource, kind of policy). That Secrets
# Manager names the secret as it was asked for, and ListSecrets names none: public error texts, for example in the
# troubleshooting page of the AWS guide for SAP. Which further actions an operation needs: API reference, "Required
# permissions" of CreateSecret, BatchGetSecretValue, AssociateCrossAccountReplica and ValidateResourcePolicy.

_WITHOUT_RESOURCE: Final = frozenset({"ListSecrets", "BatchGetSecretValue", "GetRandomPassword"})


@dataclass(frozen=True)
class Denial:
    """A denied action; None as caller or resource matches all."""

    action: str
    caller: str | None
    resource: str | None
    explicit: bool


class Access:
    """The denials of a test."""

    def __init__(self) -> None:
        self._denials: list[Denial] = []

    def deny(
        self, action: str, *, caller: str | None = None, resource: str | None = None, explicit: bool = False
    ) -> Denial:
        """
        Deny an action from now on.

        Args:
            action: IAM action, such as `secretsmanager:PutSecretValue` or `kms:Decrypt`; `*` and `?` match.
            caller: access key id, ARN of a role, of a session or of a user; None means every caller.
            resource: name or ARN of a secret, ARN of a key; `*` and `?` match; None means all.
            explicit: a policy denies it; otherwise no policy allows it. Only an explicit denial reaches the use of
                the AWS-managed key: its own policy allows everyone in the account (User Guide, encryption).
        """
        denial = Denial(action, caller, resource, explicit)
        self._denials.append(denial)
        return denial

    def allow(self, denial: Denial) -> None:
        """Remove a denial."""
        self._denials.remove(denial)

    def clear(self) -> None:
        """Remove all denials."""
        self._denials.clear()

    def denial(
        self, principal: Principal, action: str, resources: Iterable[str], *, explicit_only: bool = False
    ) -> Denial | None:
        """Return the denial of an action, None if it is allowed. `resources`: all names of the one resource."""
        names = [*resources]
        for denial in self._denials:
            if explicit_only and not denial.explicit:
                continue
            if not fnmatchcase(action, denial.action) or not _matches_caller(principal, denial.caller):
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
            shown: the resource as the refusal names it; None if the refusal names no resource.
            arn: another name of the resource that a denial may use.
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
    """Return the IAM actions that an operation needs, without those of KMS."""
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
    """Return how a refusal of this operation names its resource, None if it does not name it."""
    return None if call.operation in _WITHOUT_RESOURCE else call.secret_id or "*"


def _matches_caller(principal: Principal, caller: str | None) -> bool:
    if caller is None:
        return True
    names = [principal.access_key_id, principal.arn, principal.role_arn or ""]
    return any(fnmatchcase(name, caller) for name in names)


# --- What requests to IAM and STS need: action, resource, and the condition keys that a policy may test
#
# Service Authorization Reference, IAM and STS (resource types; iam:PermissionsBoundary, iam:PolicyARN, iam:ResourceTag,
# aws:RequestTag, aws:ResourceTag; sts:ExternalId, sts:RoleSessionName); API reference of IAM, UpdateUser (rights on
# both names); API reference of STS, GetCallerIdentity ("No permissions are required"). That CreateUser with tags needs
# iam:TagUser too: public, in reports of refusals, as of iam:TagRole at CreateRole. How refusals name a resource:
# public, in many reports (boundary pull request 3877: "user NAME"; xcmcndemoguide issue 8: the ARN of what is being
# made).

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
"""Argument -> kind of resource. The first one that a request has names its resource: a group, for AddUserToGroup."""
_CREATES: Final = frozenset(
    {"CreateUser", "CreateGroup", "CreateRole", "CreatePolicy", "CreateInstanceProfile", "CreateVirtualMFADevice"}
)
_HAS_BOUNDARY_KEY: Final = frozenset(
    {"AttachUserPolicy", "DetachUserPolicy", "PutUserPolicy", "DeleteUserPolicy", "DeleteUserPermissionsBoundary"}
)
_HAS_POLICY_KEY: Final = frozenset({"AttachUserPolicy", "DetachUserPolicy"})
_SETS_BOUNDARY: Final = frozenset({"CreateUser", "PutUserPermissionsBoundary"})
_SETS_TAGS: Final = frozenset({"CreateUser", "TagUser"})


def asks(state: MotoState, operation: Operation) -> list[Ask]:
    """Return what a request to IAM or STS must be allowed; `aws.on_request` may decide by it."""
    with state.lock:
        if operation.service == "sts":
            return list(_of_sts(operation))
        if not is_iam_operation(operation.name):
            return [(f"iam:{operation.name}", "*", {})]
        return list(_of_iam(state, operation, read_arguments(operation.name, operation.body)))


def check_rights(state: MotoState, access: Access, operation: Operation, principal: Principal) -> None:
    """Refuse a request to IAM or STS that is denied: AccessDenied."""
    for action, resource, _ in asks(state, operation):
        denial = access.denial(principal, action, [resource])
        if denial is not None:
            shown = _shown(operation, principal.account, resource)
            raise AwsError("AccessDenied", refusal_text(principal, action, shown, denial), status=403)


def _of_sts(operation: Operation) -> Iterator[Ask]:
    form = operation.form
    if operation.name == "GetCallerIdentity":
        return
    context = {f"sts:{name}": form[name] for name in ("ExternalId", "RoleSessionName") if name in form}
    yield f"sts:{operation.name}", form.get("RoleArn", "*"), context


def _of_iam(state: MotoState, operation: Operation, arguments: Mapping[str, Any]) -> Iterator[Ask]:
    account, user = _account_and_user(state, operation, arguments)
    resource = _resource(state, account, user, operation.name, arguments)
    request_tags = _tags("aws:RequestTag", arguments) if operation.name in _SETS_TAGS else {}
    context = _context(state, user, operation.name, arguments) if ":user/" in resource else {}
    yield f"iam:{operation.name}", resource, context | request_tags
    if operation.name == "CreateUser" and request_tags:
        yield "iam:TagUser", resource, request_tags
    if operation.name == "UpdateUser":
        path = arguments.get("NewPath") or (user.path if user else "/")
        name = arguments.get("NewUserName") or arguments.get("UserName")
        yield "iam:UpdateUser", f"arn:aws:iam::{account}:user{path}{name}", context


def _account_and_user(state: MotoState, operation: Operation, arguments: Mapping[str, Any]) -> tuple[str, Any | None]:
    """Return the caller's account, and the user that a request is about if that user exists."""
    account = state.principal(operation.access_key_id).account
    if "UserName" in arguments:
        return account, state.users.find(account, arguments["UserName"])
    if operation.name == "GetAccessKeyLastUsed":
        return account, state.users.owner_of_key(str(arguments.get("AccessKeyId")))[1]
    own = has_argument(operation.name, "UserName")
    return account, state.users.owner_of_key(operation.access_key_id)[1] if own else None


def _resource(state: MotoState, account: str, user: Any | None, operation: str, arguments: Mapping[str, Any]) -> str:
    for argument, kind in _KINDS.items():
        name = arguments.get(argument)
        if name is not None and operation in _CREATES:
            return f"arn:aws:iam::{account}:{kind}{arguments.get('Path') or '/'}{name}"
        if name is not None:
            return state.users.arn(account, kind, name) or f"arn:aws:iam::{account}:{kind}/{name}"
    if user is not None:
        return str(user.arn)
    return str(arguments.get("PolicyArn") or arguments.get("SerialNumber") or "*")


def _context(state: MotoState, user: Any | None, operation: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the condition keys of a call on a user, without the tags in the request."""
    keys: dict[str, str | None] = {}
    if operation in _SETS_BOUNDARY:
        keys["iam:PermissionsBoundary"] = arguments.get("PermissionsBoundary")
    if operation in _HAS_POLICY_KEY:
        keys["iam:PolicyARN"] = arguments.get("PolicyArn")
    if user is not None and operation != "CreateUser":
        if operation in _HAS_BOUNDARY_KEY:
            keys["iam:PermissionsBoundary"] = state.users.extras(user).boundary
        for key, value in state.users.tags(user).items():
            keys |= {f"aws:ResourceTag/{key}": value, f"iam:ResourceTag/{key}": value}
    return {key: value for key, value in keys.items() if value is not None}


def _tags(prefix: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    tags = arguments.get("Tags") or []
    return {f"{prefix}/{tag['Key']}": tag.get("Value", "") for tag in tags if "Key" in tag}


def _shown(operation: Operation, account: str, resource: str) -> str:
    """Return how a refusal names a resource: an existing one by kind and name, a new one by its ARN."""
    if operation.name == "ListUsers":
        return f"arn:aws:iam::{account}:user/"
    kind, _, name = resource.rpartition(":")[2].partition("/")
    if operation.service != "iam" or operation.name in _CREATES or kind not in ("user", "group", "role"):
        return resource
    return f"{kind} {name.rpartition('/')[2]}"


# --- Keys and sessions: which keys are usable, who may assume a role, when a session ends
#
# API reference of STS, AssumeRole (DurationSeconds, at most one hour if a role assumes a role); IAM User Guide,
# External IDs (a trust policy that asks for one refuses without it); common errors, ExpiredTokenException. Keys: API
# reference, common errors (UnrecognizedClientException; InvalidClientTokenId of STS and IAM), IAM User Guide,
# troubleshooting ("Changes that I make are not always immediately visible"). In moto everyone may assume every role,
# and sessions and keys never end.

QUERY: Final = ("sts", "iam")
"""Services that take forms and answer in XML."""
_DEFAULT_SECONDS: Final = 3600
_CHAINED_SECONDS: Final = 3600
_KEY: Final = re.compile(rb"<AccessKeyId>(\w+)</AccessKeyId>")
_END: Final = re.compile(rb"<Expiration>[^<]*</Expiration>")
_BEGINS_SESSION: Final = ("AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML")


def check_key(state: MotoState, principal: Principal, service: str, new_key_takes: timedelta) -> None:
    """
    Refuse a user's key that is deleted, inactive or too new: UnrecognizedClientException, or InvalidClientTokenId.

    Args:
        state: has the keys; keys that it never issued are accepted.
        principal: the caller.
        service: the called one.
        new_key_takes: how long a new key is still unknown.
    """
    if state.users.is_usable(principal.access_key_id, new_key_takes):
        return
    text = "The security token included in the request is invalid."
    if service in QUERY:
        raise AwsError("InvalidClientTokenId", text, status=403)
    raise AwsError("UnrecognizedClientException", text)


def check_session(state: MotoState, principal: Principal, service: str) -> None:
    """Refuse a caller with an ended session: ExpiredTokenException, or STS's and IAM's ExpiredToken."""
    if principal.expires_at is not None and principal.expires_at <= state.clock.now():
        text = "The security token included in the request is expired"
        if service in QUERY:
            raise AwsError("ExpiredToken", text, status=403)
        raise AwsError("ExpiredTokenException", text)


def check_assume_role(state: MotoState, principal: Principal, operation: Operation) -> None:
    """Refuse to assume a role without its External ID, or for too long: AccessDenied, ValidationError."""
    if operation.name != "AssumeRole":
        return
    form = operation.form
    role_arn = form.get("RoleArn", "")
    required = state.role_external_id(role_arn)
    if required is not None and form.get("ExternalId") != required:
        text = f"User: {principal.arn} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
        raise AwsError("AccessDenied", text, status=403)
    if principal.role_arn is not None and int(form.get("DurationSeconds", 0)) > _CHAINED_SECONDS:
        raise AwsError(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        )


def note_session(state: MotoState, operation: Operation, body: bytes) -> bytes:
    """Let a new session end by the emulator's clock; return the answer with that time."""
    key: Any = _KEY.search(body)
    if operation.name not in _BEGINS_SESSION or key is None:
        return body
    seconds = int(operation.form.get("DurationSeconds") or _DEFAULT_SECONDS)
    ends_at = state.begin_session(key[1].decode(), seconds)
    end = ends_at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return _END.sub(b"<Expiration>" + end + b"</Expiration>", body)
