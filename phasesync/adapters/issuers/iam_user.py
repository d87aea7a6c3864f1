"""
The issuer of IAM users: one user with one access key for each lease.

CreateUser sets tags, path and boundary, so that no user is ever without them. The key is created last, when the user
has all of its permissions, and deleted first. Revoking removes what is known to have been added, without looking. Only
if IAM refuses to delete the user, the rest is looked for. Must not touch a user that is not proven ours.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from phasesync.adapters.aws.client import Response
from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.issuers import ACCESS_KEY_ID, SECRET_ACCESS_KEY, USERNAME, IssuerSpec
from phasesync.adapters.issuers.config_checks import check_policy_document, check_ttls, require_no
from phasesync.adapters.issuers.eventual_consistency import (
    Reference,
    boundary_reference,
    group_reference,
    policy_reference,
    retry_until_consistent,
)
from phasesync.adapters.issuers.iam_client import DELETE_CONFLICT, NO_SUCH_ENTITY, IamClient
from phasesync.core.arns import check_policy_arn
from phasesync.core.credential import Credential, CredentialType
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.lease import LeaseSpec
from phasesync.core.lease_users import (
    MarkedUser,
    Renewal,
    check_iam_path,
    is_made_for,
    renewal_of,
    user_owner_tags_renewed,
)
from phasesync.core.model import SecretValue
from phasesync.core.planned_call import PlannedCall
from phasesync.errors import (
    AccountMismatchError,
    DestinationRejectedError,
    DestinationUnavailableError,
    InvalidInputError,
    PermissionDeniedError,
    PhasesyncError,
    RemoteChangedError,
)
from phasesync.ports.issuer import (
    Checkpoint,
    IssuedCredentials,
    IssuerTraits,
    LeaseIssuer,
    PartialIssue,
    RevokeOutcome,
    UserLocation,
)

KIND: Final = "aws-iam-user"
INLINE_POLICY_NAME: Final = "phasesync"
SHORTEST_TTL: Final = timedelta(seconds=60)
MAX_INLINE_CHARACTERS: Final = 2_048
"""Of all inline policies of a user, not counting white space (IAM User Guide, quotas)."""
MAX_POLICIES: Final = 20
MAX_GROUPS: Final = 10
"""Managed policies of a user (10 unless AWS has raised the quota, to 20 at most), and groups of a user (as above)."""
_PAGE: Final = 1_000
"""Most users on one page of a list (API reference, ListUsers, MaxItems)."""


class AwsIamUser:
    """Creates and removes the IAM user of a lease (port `LeaseIssuer`)."""

    def __init__(self, clients: AwsClients, credential: Credential, *, tenant: str) -> None:
        """
        Args:
            clients: shared clients.
            credential: who creates the user; a session of its role is renewed in between.
            tenant: for whom.
        """
        self._clients = clients
        self._credential = credential
        self._iam = IamClient(clients, credential, tenant=tenant)

    @property
    def calls(self) -> int:
        """How many calls of IAM were made through this object."""
        return self._iam.calls

    def account_id(self) -> str:
        """Return the 12-digit account that the credential leads to; asked once per session. CredentialRejectedError."""
        return self._iam.account_id()

    def account_now(self) -> str:
        """Ask AWS which account the credential leads to at this moment. CredentialRejectedError."""
        return self._clients.fetch_identity(self._credential).account

    # --- issuing

    def issue(self, spec: LeaseSpec, *, checkpoint: Checkpoint, partial: PartialIssue) -> IssuedCredentials:
        """Create the user, give it its permissions, and create its key. DestinationError leaves what was created."""
        user, arn = spec.name, self._create_user(spec, checkpoint, partial)
        for permission in _permissions_of(spec):
            self._put(permission.adds, checkpoint, permission.reference, UserName=user, **permission.put)
        key = self._create_key(spec, checkpoint)
        key_id, secret = _required(key, "AccessKeyId"), _required(key, "SecretAccessKey")
        return IssuedCredentials(
            principal=arn,
            access_key_id=key_id,
            ends_at=None,
            outputs={
                USERNAME: SecretValue(user),
                ACCESS_KEY_ID: SecretValue(key_id),
                SECRET_ACCESS_KEY: SecretValue(secret),
            },
        )

    def is_known(self, outputs: Mapping[str, SecretValue]) -> bool:
        """Return whether AWS knows an issued key. DestinationUnavailableError, ThrottledError."""
        key_id, secret = (outputs[name].reveal_text() for name in (ACCESS_KEY_ID, SECRET_ACCESS_KEY))
        return self._clients.is_key_known(key_id, secret, self._credential)

    def has_key(self, spec: LeaseSpec, access_key_id: str) -> bool:
        """Return whether the user still has the key, and the key is active. DestinationError."""
        keys = self._iam.pages("ListAccessKeys", "AccessKeyMetadata", UserName=spec.name)
        return any(key["AccessKeyId"] == access_key_id and key.get("Status") == "Active" for key in keys)

    def calls_to_issue(self, spec: LeaseSpec) -> list[PlannedCall]:
        """Return the calls that `issue` would make; makes none."""
        user: dict[str, object] = {"path": spec.iam_path or "/", "tags": dict(spec.tags)}
        if spec.permission_boundary is not None:
            user["permissions_boundary"] = spec.permission_boundary
        return [
            PlannedCall(action="iam:CreateUser", target=spec.name, details=user),
            *(_planned(permission.adds, spec, permission) for permission in _permissions_of(spec)),
            PlannedCall(action="iam:CreateAccessKey", target=spec.name),
        ]

    def calls_to_revoke(self, spec: LeaseSpec, *, access_key_id: str | None) -> list[PlannedCall]:
        """Return the calls that `revoke` would make for a user that is ours; makes none."""
        key = "every key that it has" if access_key_id is None else f"...{access_key_id[-4:]}"
        return [
            PlannedCall(action="iam:DeleteAccessKey", target=spec.name, details={"access_key_id": key}),
            *(_planned(permission.removes, spec, permission) for permission in _permissions_of(spec)),
            PlannedCall(action="iam:DeleteUser", target=spec.name),
        ]

    def calls_to_renew(self, spec: LeaseSpec, end: datetime, *, number: int) -> list[PlannedCall]:
        """Return the call that `renew` would make for a user that is ours; makes none."""
        tags = user_owner_tags_renewed(spec.tags, Renewal(number=number, end=end))
        return [PlannedCall(action="iam:TagUser", target=spec.name, details={"tags": tags})]

    def _create_user(self, spec: LeaseSpec, checkpoint: Checkpoint, partial: PartialIssue) -> str:
        request: dict[str, Any] = {
            "UserName": spec.name,
            "Path": spec.iam_path or "/",
            "Tags": _tag_list(spec.tags),
        }
        if spec.permission_boundary is not None:
            request["PermissionsBoundary"] = spec.permission_boundary

        def report(possible: bool) -> None:
            partial.possible = possible

        def find_created() -> Response | None:
            user = self._user(spec.name)
            if user is not None and not is_made_for(_tags_of(user), spec.tags):
                raise DestinationRejectedError(
                    f"there is an IAM user {spec.name} already, and it is not ours", hint="issue another lease"
                )
            return None if user is None else {"User": user}

        def create() -> Response:
            return self._iam.create("CreateUser", checkpoint, find_created=find_created, report=report, **request)

        boundary = spec.permission_boundary
        reference = None if boundary is None else boundary_reference(boundary)
        try:
            response = retry_until_consistent(self._iam, create, user=None, reference=reference)
        except AccountMismatchError:
            # The identity has just changed. The user has nothing yet, and no later scan would find it in that account.
            with suppress(PhasesyncError):
                self._iam.remove("DeleteUser", checkpoint, UserName=spec.name)
                report(False)
            raise
        return _required(response.get("User") or {}, "Arn")

    def _create_key(self, spec: LeaseSpec, checkpoint: Checkpoint) -> Response:
        def discard_lost_key() -> None:
            # A key is of no use if the response was lost: only that response had its secret part.
            self._delete_keys(spec.name, checkpoint)

        def create() -> Response:
            return self._iam.create("CreateAccessKey", checkpoint, find_created=discard_lost_key, UserName=spec.name)

        response = retry_until_consistent(self._iam, create, user=spec.name)
        return response.get("AccessKey") or {}

    def _put(self, operation: str, checkpoint: Checkpoint, reference: Reference | None, **arguments: Any) -> None:
        """Add something to a new user. `reference`: what the lease spec names of it."""
        retry_until_consistent(
            self._iam,
            lambda: self._iam.put(operation, checkpoint, **arguments),
            user=arguments["UserName"],
            reference=reference,
        )

    def renew(self, spec: LeaseSpec, end: datetime, *, number: int, checkpoint: Checkpoint) -> int:
        """Write the new end into the tags of our user. DestinationError; RemoteChangedError if it is not there."""
        tags = self.tags_of(spec)
        if tags is None or not is_made_for(tags, spec.tags):
            reason = "IAM does not find" if tags is None else "our tags are no longer on"
            raise RemoteChangedError(
                f"{reason} the user {spec.name}, so the lease cannot be renewed",
                hint=f"look at it: aws iam get-user --user-name {spec.name}; if it is gone, issue another lease",
                code=NO_SUCH_ENTITY,
            )
        last = renewal_of(tags)
        number = max(number, 0 if last is None else last.number + 1)
        renewed = user_owner_tags_renewed(spec.tags, Renewal(number=number, end=end))
        self._iam.put("TagUser", checkpoint, UserName=spec.name, Tags=_tag_list(renewed))
        return number

    # --- revoking

    def revoke(
        self,
        spec: LeaseSpec,
        *,
        access_key_id: str | None,
        proven: bool,
        checkpoint: Checkpoint,
        ending: Checkpoint | None = None,
    ) -> RevokeOutcome:
        """Remove the user: first its key, then what the lease spec names, then what IAM says it still has."""
        name = spec.name
        if not proven and (not_ours := self._check_ownership(spec)) is not None:
            return not_ours
        try:
            # If the key is gone, someone has changed the user, and by now another user may have this name.
            key_existed = self._delete_key(spec, access_key_id, checkpoint)
            if not key_existed and (not_ours := self._check_ownership(spec)) is not None:
                return not_ours
            self._remove_permissions(spec, checkpoint)
            return self._delete_user(name, ending or checkpoint)
        except PermissionDeniedError:
            # A user that is gone has no path and no tags, so a policy with conditions on them denies the call.
            if not self._is_gone(name):
                raise
            return RevokeOutcome.MISSING
        except RemoteChangedError as error:
            if error.code != DELETE_CONFLICT:
                raise
        return self._remove_everything_and_delete(spec, checkpoint, ending or checkpoint)

    def _check_ownership(self, spec: LeaseSpec) -> RevokeOutcome | None:
        """Return None if the user of the lease exists and is ours; else the outcome of revoking it."""
        user = self._user(spec.name)
        if user is None:
            return RevokeOutcome.MISSING
        return None if is_made_for(_tags_of(user), spec.tags) else RevokeOutcome.FOREIGN

    def _delete_key(self, spec: LeaseSpec, access_key_id: str | None, checkpoint: Checkpoint) -> bool:
        """Delete the key, or all keys if it is not known; return False if the known key did not exist."""
        if access_key_id is None:
            self._delete_keys(spec.name, checkpoint)
            return True
        return self._iam.remove("DeleteAccessKey", checkpoint, UserName=spec.name, AccessKeyId=access_key_id)

    def _remove_permissions(self, spec: LeaseSpec, checkpoint: Checkpoint) -> None:
        """Remove from the user what the lease spec names."""
        for permission in _permissions_of(spec):
            self._iam.remove(permission.removes, checkpoint, UserName=spec.name, **permission.names)

    def _is_gone(self, name: str) -> bool:
        """Return whether IAM says that there is no such user; False if we may not ask."""
        try:
            return self._user(name) is None
        except PermissionDeniedError:
            return False

    def _remove_everything_and_delete(
        self, spec: LeaseSpec, checkpoint: Checkpoint, ending: Checkpoint
    ) -> RevokeOutcome:
        user = self._user(spec.name)
        if user is None:
            return RevokeOutcome.MISSING
        if not is_made_for(_tags_of(user), spec.tags):
            raise DestinationRejectedError(
                f"the IAM user {spec.name} has more on it than we put there, and no longer carries our tags: what it "
                "is for is not known, and it is left alone",
                hint=f"look at it: aws iam get-user --user-name {spec.name}; then delete it by hand, or tag it again",
            )
        remove_everything(self._iam, spec.name, checkpoint)
        return self._delete_user(spec.name, ending)

    def _delete_user(self, name: str, checkpoint: Checkpoint) -> RevokeOutcome:
        existed = self._iam.remove("DeleteUser", checkpoint, UserName=name)
        return RevokeOutcome.REMOVED if existed else RevokeOutcome.MISSING

    def _delete_keys(self, name: str, checkpoint: Checkpoint) -> None:
        for key in list(self._iam.pages("ListAccessKeys", "AccessKeyMetadata", UserName=name)):
            self._iam.remove("DeleteAccessKey", checkpoint, UserName=name, AccessKeyId=key["AccessKeyId"])

    # --- finding users

    def marked(self, paths: Sequence[str], known: Callable[[str], bool]) -> Iterator[MarkedUser]:
        """Yield the users under IAM paths with their tags: one call per 1,000 users, and one per unknown user."""
        visited: set[str] = set()
        for path in _outermost(paths):
            for entry in self._iam.pages("ListUsers", "Users", PathPrefix=path, MaxItems=_PAGE):
                name = entry["UserName"]
                if name in visited or known(name):
                    continue
                visited.add(name)
                try:
                    user = self._user(name)  # A list has no tags (API reference, ListUsers).
                except PermissionDeniedError:
                    continue  # We may read our own users; other users under the path are not our concern.
                if user is not None:
                    yield MarkedUser(name=name, arn=_required(user, "Arn"), tags=_tags_of(user))

    def tags_of(self, spec: LeaseSpec) -> Mapping[str, str] | None:
        """Return the tags of the user with the name of the lease; None if there is no such user. DestinationError."""
        user = self._user(spec.name)
        return None if user is None else _tags_of(user)

    def find(self, spec: LeaseSpec, *, access_key_id: str | None, known: Callable[[str], bool]) -> UserLocation | None:
        """
        Find a user that does not have its name any more: by its key, then by its tags under its path.

        IAM gives the same response for a key that does not exist and for a key about which we may not ask, so only a
        response with an owner proves anything. DestinationError.
        """
        owner = None if access_key_id is None else self._owner_of(access_key_id)
        if owner is not None and owner == spec.name:
            raise DestinationUnavailableError(
                f"IAM does not find the user {spec.name}, and says that the lease's access key belongs to it"
            )
        if owner is not None:
            return UserLocation(name=owner, proven=True)
        try:
            for user in self.marked([spec.iam_path or "/"], known):
                if is_made_for(user.tags, spec.tags):
                    return UserLocation(name=user.name, proven=False)
        except (PermissionDeniedError, DestinationRejectedError):
            return None
        return None

    def _owner_of(self, access_key_id: str) -> str | None:
        """Return the name of the user that a key belongs to; None if IAM does not report it."""
        try:
            response = self._iam.read("GetAccessKeyLastUsed", AccessKeyId=access_key_id)
        except (PermissionDeniedError, DestinationRejectedError):
            return None
        return None if response is None else _required(response, "UserName")

    def _user(self, name: str) -> Response | None:
        """Return a user as GetUser reports it, tags included; None if there is no such user. AccountMismatchError."""
        response = self._iam.read("GetUser", UserName=name)
        if response is None:
            return None
        user: Response = response.get("User") or {}
        return user


@dataclass(frozen=True, kw_only=True)
class _Permission:
    """
    Something that a user gets by which it may do things.

    Attributes:
        adds: operation that adds it.
        removes: operation that removes it.
        names: arguments of both that name it.
        reference: what the lease spec names, which has to exist; None if the user alone has it.
        content: further arguments of the operation that adds it.
    """

    adds: str
    removes: str
    names: Mapping[str, str]
    reference: Reference | None = None
    content: Mapping[str, str] = field(default_factory=dict)

    @property
    def put(self) -> dict[str, str]:
        """All arguments of the operation that adds it."""
        return {**self.names, **self.content}


def _permissions_of(spec: LeaseSpec) -> Iterator[_Permission]:
    """Yield what the user of a lease gets, in order."""
    for arn in spec.policy_arns:
        yield _Permission(
            adds="AttachUserPolicy",
            removes="DetachUserPolicy",
            names={"PolicyArn": arn},
            reference=policy_reference(arn),
        )
    for group in spec.groups:
        yield _Permission(
            adds="AddUserToGroup",
            removes="RemoveUserFromGroup",
            names={"GroupName": group},
            reference=group_reference(group),
        )
    if spec.inline_policy is not None:
        yield _Permission(
            adds="PutUserPolicy",
            removes="DeleteUserPolicy",
            names={"PolicyName": INLINE_POLICY_NAME},
            content={"PolicyDocument": spec.inline_policy},
        )


_DETAILS: Final = {"PolicyArn": "policy_arn", "GroupName": "group", "PolicyName": "policy_name"}
"""Argument of IAM -> its name in what a dry run shows."""


def _planned(operation: str, spec: LeaseSpec, permission: _Permission) -> PlannedCall:
    details = {_DETAILS[name]: value for name, value in permission.names.items()}
    return PlannedCall(action=f"iam:{operation}", target=spec.name, details=details)


def _outermost(paths: Sequence[str]) -> list[str]:
    """Return paths without those below another one."""
    chosen: list[str] = []
    for path in sorted(set(paths)):
        if not chosen or not path.startswith(chosen[-1]):
            chosen.append(path)
    return chosen


def _tags_of(user: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in user.get("Tags") or []}


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags in the form of AWS, by key."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _required(response: Mapping[str, Any], name: str) -> str:
    """Return a text that every response has. DestinationUnavailableError if it is missing."""
    value = response.get(name)
    if not isinstance(value, str) or not value:
        raise DestinationUnavailableError(f"IAM gave an answer without {name}")
    return value


# --- whatever keeps IAM from deleting a user (API reference, DeleteUser: the list of what has to be removed first)

_REMOVABLE: Final[tuple[tuple[str, str, str, Callable[[Any], dict[str, str]]], ...]] = (
    # operation that lists, member of its response, operation that removes one, arguments for an entry. Keys come first.
    ("ListAccessKeys", "AccessKeyMetadata", "DeleteAccessKey", lambda entry: {"AccessKeyId": entry["AccessKeyId"]}),
    ("ListUserPolicies", "PolicyNames", "DeleteUserPolicy", lambda entry: {"PolicyName": entry}),
    (
        "ListAttachedUserPolicies",
        "AttachedPolicies",
        "DetachUserPolicy",
        lambda entry: {"PolicyArn": entry["PolicyArn"]},
    ),
    ("ListGroupsForUser", "Groups", "RemoveUserFromGroup", lambda entry: {"GroupName": entry["GroupName"]}),
    (
        "ListSigningCertificates",
        "Certificates",
        "DeleteSigningCertificate",
        lambda entry: {"CertificateId": entry["CertificateId"]},
    ),
    (
        "ListSSHPublicKeys",
        "SSHPublicKeys",
        "DeleteSSHPublicKey",
        lambda entry: {"SSHPublicKeyId": entry["SSHPublicKeyId"]},
    ),
    (
        "ListServiceSpecificCredentials",
        "ServiceSpecificCredentials",
        "DeleteServiceSpecificCredential",
        lambda entry: {"ServiceSpecificCredentialId": entry["ServiceSpecificCredentialId"]},
    ),
)
_SERVICE_MISSING: Final = "NotSupportedService"
"""Error code for services that a partition does not have: no user has anything of them."""


def remove_everything(iam: IamClient, user: str, checkpoint: Checkpoint) -> None:
    """
    Remove from a user whatever keeps IAM from deleting it. Called only for a user that is proven ours.

    Args:
        iam: makes the calls.
        user: its name.
        checkpoint: called before every call that removes something.

    Raises:
        DestinationError: something could not be listed or removed.
    """
    for list_operation, member, remove_operation, arguments in _REMOVABLE:
        for entry in _entries(iam, list_operation, member, user):
            iam.remove(remove_operation, checkpoint, UserName=user, **arguments(entry))
    for device in _entries(iam, "ListMFADevices", "MFADevices", user):
        serial = device["SerialNumber"]
        iam.remove("DeactivateMFADevice", checkpoint, UserName=user, SerialNumber=serial)
        if ":mfa/" in serial:  # A virtual device has an ARN of this form, and exists until it is deleted itself.
            iam.remove("DeleteVirtualMFADevice", checkpoint, SerialNumber=serial)
    iam.remove("DeleteLoginProfile", checkpoint, UserName=user)


def _entries(iam: IamClient, operation: str, member: str, user: str) -> list[Any]:
    try:
        return list(iam.pages(operation, member, UserName=user))
    except PhasesyncError as error:
        if error.code != _SERVICE_MISSING:
            raise
        return []


# --- configuration


def check(config: DynamicConfig, credential: CredentialType) -> None:
    """Raise InvalidInputError if IAM would refuse a configuration."""
    require_no(KIND, role_arn=config.role_arn, session_policy=config.session_policy)
    check_ttls(config, shortest=SHORTEST_TTL, longest=None, why="")
    if config.iam_path is not None:
        check_iam_path(config.iam_path)
    for arn in config.policy_arns:
        check_policy_arn(arn)
    if config.permission_boundary is not None:
        check_policy_arn(config.permission_boundary)
    for kind, names, limit in (("policies", config.policy_arns, MAX_POLICIES), ("groups", config.groups, MAX_GROUPS)):
        if len(names) > limit:
            raise InvalidInputError(f"{len(names)} {kind} are more than a user takes: {limit} (IAM quotas)")
    if config.inline_policy is not None:
        check_policy_document(config.inline_policy, MAX_INLINE_CHARACTERS, name="the inline policy")


def _open(clients: AwsClients, credential: Credential, *, tenant: str) -> LeaseIssuer:
    return AwsIamUser(clients, credential, tenant=tenant)


SPEC: Final = IssuerSpec(
    kind=KIND,
    traits=IssuerTraits(
        outputs=(USERNAME, ACCESS_KEY_ID, SECRET_ACCESS_KEY),
        revocable=True,
        has_path=True,
        shortest_ttl=SHORTEST_TTL,
    ),
    check=check,
    open=_open,
)
