"""
Takes off a user everything that keeps IAM from deleting it (API reference, DeleteUser: the list of what has to go).

Called only where IAM refused to delete a user that is proven ours. Must not delete the user itself.

One IAM user for each lease, with an access key; and its end.

Tags, path and boundary come with CreateUser, so that no user is ever without them. The key comes last, when the user
may do what it shall, and goes first. What is known to have been put on a user is taken off without asking; only where
IAM refuses to delete it is the rest looked for (`aws_iam_stripper.py`). Must not touch a user that is not proven ours.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.issuers import ACCESS_KEY_ID, SECRET_ACCESS_KEY, USERNAME, IssuerSpec
from phasesync.adapters.issuers.checks import check_policy_document, check_ttls, require_no
from phasesync.adapters.issuers.iam_client import DELETE_CONFLICT, NO_SUCH_ENTITY, Answer, IamClient
from phasesync.adapters.issuers.iam_named import Named, PatientCalls, boundary, group, policy
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

_LISTED: Final[tuple[tuple[str, str, str, Callable[[Any], dict[str, str]]], ...]] = (
    # operation that lists, member of its answer, operation that takes one off, arguments for an entry. Keys come first.
    ("ListAccessKeys", "AccessKeyMetadata", "DeleteAccessKey", lambda one: {"AccessKeyId": one["AccessKeyId"]}),
    ("ListUserPolicies", "PolicyNames", "DeleteUserPolicy", lambda one: {"PolicyName": one}),
    ("ListAttachedUserPolicies", "AttachedPolicies", "DetachUserPolicy", lambda one: {"PolicyArn": one["PolicyArn"]}),
    ("ListGroupsForUser", "Groups", "RemoveUserFromGroup", lambda one: {"GroupName": one["GroupName"]}),
    (
        "ListSigningCertificates",
        "Certificates",
        "DeleteSigningCertificate",
        lambda one: {"CertificateId": one["CertificateId"]},
    ),
    ("ListSSHPublicKeys", "SSHPublicKeys", "DeleteSSHPublicKey", lambda one: {"SSHPublicKeyId": one["SSHPublicKeyId"]}),
    (
        "ListServiceSpecificCredentials",
        "ServiceSpecificCredentials",
        "DeleteServiceSpecificCredential",
        lambda one: {"ServiceSpecificCredentialId": one["ServiceSpecificCredentialId"]},
    ),
)
_NOT_THERE: Final = "NotSupportedService"
"""Said of services that a partition does not have: nothing of theirs hangs on a user."""


def strip(iam: IamClient, user: str, checkpoint: Checkpoint) -> None:
    """
    Take off a user whatever hangs on it.

    Args:
        iam: who does it.
        user: its name.
        checkpoint: asked before every call that takes something off.

    Raises:
        DestinationError: something could not be listed or taken off.
    """
    for listing, member, taking_off, arguments in _LISTED:
        for one in _items(iam, listing, member, user):
            iam.take_away(taking_off, checkpoint, UserName=user, **arguments(one))
    for device in _items(iam, "ListMFADevices", "MFADevices", user):
        serial = device["SerialNumber"]
        iam.take_away("DeactivateMFADevice", checkpoint, UserName=user, SerialNumber=serial)
        if ":mfa/" in serial:  # A virtual device has an ARN of this form, and stays behind until it is deleted itself.
            iam.take_away("DeleteVirtualMFADevice", checkpoint, SerialNumber=serial)
    iam.take_away("DeleteLoginProfile", checkpoint, UserName=user)


def _items(iam: IamClient, operation: str, member: str, user: str) -> list[Any]:
    try:
        return list(iam.pages(operation, member, UserName=user))
    except PhasesyncError as error:
        if error.code != _NOT_THERE:
            raise
        return []


KIND: Final = "aws-iam-user"
INLINE_POLICY_NAME: Final = "phasesync"
SHORTEST_TTL: Final = timedelta(seconds=60)
MAX_INLINE_CHARACTERS: Final = 2_048
"""Of all inline policies of a user, white space not counted (IAM User Guide, quotas)."""
MAX_POLICIES: Final = 20
MAX_GROUPS: Final = 10
"""Managed policies of a user (10 unless AWS has raised the quota to at most 20), groups of a user (as above)."""
_PAGE: Final = 1_000
"""Users on one page of a list, at most (API reference, ListUsers, MaxItems)."""


class AwsIamUser:
    """Makes and removes the IAM user of a lease (port `LeaseIssuer`)."""

    def __init__(self, clients: AwsClients, credential: Credential, *, tenant: str) -> None:
        """
        Args:
            clients: shared clients.
            credential: who makes the user; a session of its role is renewed in between.
            tenant: for whom.
        """
        self._clients = clients
        self._credential = credential
        self._iam = IamClient(clients, credential, tenant=tenant)
        self._patient = PatientCalls(self._iam)

    @property
    def calls(self) -> int:
        """How many calls of IAM were made through this object."""
        return self._iam.calls

    def account_id(self) -> str:
        """Return the 12-digit account that the credential leads to; asked once per session. CredentialRejectedError."""
        return self._iam.account_id()

    def account_now(self) -> str:
        """Ask AWS which account the credential leads to at this moment. CredentialRejectedError."""
        return self._clients.ask_identity(self._credential).account

    # --- making

    def issue(self, spec: LeaseSpec, *, checkpoint: Checkpoint, partial: PartialIssue) -> IssuedCredentials:
        """Make the user, put on it what was ordered, and make its key. DestinationError; what was made stays."""
        user, arn = spec.name, self._create_user(spec, checkpoint, partial)
        for one in spec.policy_arns:
            self._put("AttachUserPolicy", checkpoint, policy(one), UserName=user, PolicyArn=one)
        for name in spec.groups:
            self._put("AddUserToGroup", checkpoint, group(name), UserName=user, GroupName=name)
        if spec.inline_policy is not None:
            self._put(
                "PutUserPolicy",
                checkpoint,
                None,
                UserName=user,
                PolicyName=INLINE_POLICY_NAME,
                PolicyDocument=spec.inline_policy,
            )
        key = self._create_key(spec, checkpoint)
        key_id, secret = _told(key, "AccessKeyId"), _told(key, "SecretAccessKey")
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
        return self._clients.is_known(key_id, secret, self._credential)

    def has_key(self, spec: LeaseSpec, access_key_id: str) -> bool:
        """Return whether a user still has a key, and it is active. DestinationError."""
        keys = self._iam.pages("ListAccessKeys", "AccessKeyMetadata", UserName=spec.name)
        return any(key["AccessKeyId"] == access_key_id and key.get("Status") == "Active" for key in keys)

    def _create_user(self, spec: LeaseSpec, checkpoint: Checkpoint, partial: PartialIssue) -> str:
        request: dict[str, Any] = {
            "UserName": spec.name,
            "Path": spec.iam_path or "/",
            "Tags": [{"Key": key, "Value": value} for key, value in sorted(spec.tags.items())],
        }
        if spec.permission_boundary is not None:
            request["PermissionsBoundary"] = spec.permission_boundary

        def sent(maybe: bool) -> None:
            partial.possible = maybe

        def look() -> Answer | None:
            user = self._user(spec.name)
            if user is not None and not is_made_for(_tags_of(user), spec.tags):
                raise DestinationRejectedError(
                    f"there is an IAM user {spec.name} already, and it is not ours", hint="issue another lease"
                )
            return None if user is None else {"User": user}

        try:
            answer = self._patient.call(
                lambda: self._iam.create("CreateUser", checkpoint, look=look, sent=sent, **request),
                user=None,
                named=None if spec.permission_boundary is None else boundary(spec.permission_boundary),
            )
        except AccountMismatchError:
            # The identity has just changed. Nothing hangs on the user yet, and no later look would find it there.
            with suppress(PhasesyncError):
                self._iam.take_away("DeleteUser", checkpoint, UserName=spec.name)
                sent(False)
            raise
        return _told(answer.get("User") or {}, "Arn")

    def _create_key(self, spec: LeaseSpec, checkpoint: Checkpoint) -> Answer:
        def look() -> None:
            # One whose answer was lost is of no use to anybody: its secret part was in that answer alone.
            self._delete_keys(spec.name, checkpoint)

        answer = self._patient.call(
            lambda: self._iam.create("CreateAccessKey", checkpoint, look=look, UserName=spec.name), user=spec.name
        )
        return answer.get("AccessKey") or {}

    def _put(self, operation: str, checkpoint: Checkpoint, named: Named | None, **arguments: Any) -> None:
        """Put something on a new user. `named`: what the recipe names of it."""
        self._patient.call(
            lambda: self._iam.put(operation, checkpoint, **arguments), user=arguments["UserName"], named=named
        )

    def renew(self, spec: LeaseSpec, end: datetime, *, number: int, checkpoint: Checkpoint) -> int:
        """Have a user that is ours say its new end. DestinationError; RemoteChangedError where there is none."""
        tags = self.tags_of(spec)
        if tags is None or not is_made_for(tags, spec.tags):
            how = "IAM does not find" if tags is None else "our tags are no longer on"
            raise RemoteChangedError(
                f"{how} the user {spec.name}, so the lease cannot be renewed",
                hint=f"look at it: aws iam get-user --user-name {spec.name}; if it is gone, issue another lease",
                code=NO_SUCH_ENTITY,
            )
        last = renewal_of(tags)
        number = max(number, 0 if last is None else last.number + 1)
        written = sorted(user_owner_tags_renewed(spec.tags, Renewal(number=number, end=end)).items())
        tagged = [{"Key": key, "Value": value} for key, value in written]
        self._iam.put("TagUser", checkpoint, UserName=spec.name, Tags=tagged)
        return number

    # --- taking back

    def revoke(
        self,
        spec: LeaseSpec,
        *,
        access_key_id: str | None,
        proven: bool,
        checkpoint: Checkpoint,
        ending: Checkpoint | None = None,
    ) -> RevokeOutcome:
        """Take back a user: the key first, then what was put on it, then whatever IAM says is still on it."""
        name = spec.name
        if not proven:
            user = self._user(name)
            if user is None:
                return RevokeOutcome.MISSING
            if not is_made_for(_tags_of(user), spec.tags):
                return RevokeOutcome.THEIRS
        try:
            if not self._take_key(spec, access_key_id, checkpoint):
                # Somebody has been at it, and the user of this name may be another one by now.
                user = self._user(name)
                if user is None:
                    return RevokeOutcome.MISSING
                if not is_made_for(_tags_of(user), spec.tags):
                    return RevokeOutcome.THEIRS
            self._take_off(spec, checkpoint)
            return self._delete_user(name, ending or checkpoint)
        except PermissionDeniedError:
            # A user that is gone has no path and no tags, so that a policy which asks for them refuses.
            if not self._is_gone(name):
                raise
            return RevokeOutcome.MISSING
        except RemoteChangedError as error:
            if error.code != DELETE_CONFLICT:
                raise
        return self._strip_and_delete(spec, checkpoint, ending or checkpoint)

    def _take_key(self, spec: LeaseSpec, access_key_id: str | None, checkpoint: Checkpoint) -> bool:
        """Delete the key, or all there are where it is not known; return whether it was there, or nobody knows."""
        if access_key_id is None:
            self._delete_keys(spec.name, checkpoint)
            return True
        return self._iam.take_away("DeleteAccessKey", checkpoint, UserName=spec.name, AccessKeyId=access_key_id)

    def _take_off(self, spec: LeaseSpec, checkpoint: Checkpoint) -> None:
        """Take off a user what was ordered for it."""
        name = spec.name
        for arn in spec.policy_arns:
            self._iam.take_away("DetachUserPolicy", checkpoint, UserName=name, PolicyArn=arn)
        for one in spec.groups:
            self._iam.take_away("RemoveUserFromGroup", checkpoint, UserName=name, GroupName=one)
        if spec.inline_policy is not None:
            self._iam.take_away("DeleteUserPolicy", checkpoint, UserName=name, PolicyName=INLINE_POLICY_NAME)

    def _is_gone(self, name: str) -> bool:
        """Return whether IAM says that there is no such user; where it may not be asked, it does not."""
        try:
            return self._user(name) is None
        except PermissionDeniedError:
            return False

    def _strip_and_delete(self, spec: LeaseSpec, checkpoint: Checkpoint, ending: Checkpoint) -> RevokeOutcome:
        user = self._user(spec.name)
        if user is None:
            return RevokeOutcome.MISSING
        if not is_made_for(_tags_of(user), spec.tags):
            raise DestinationRejectedError(
                f"the IAM user {spec.name} has more on it than we put there, and no longer carries our tags: what it "
                "is for is not known, and it is left alone",
                hint=f"look at it: aws iam get-user --user-name {spec.name}; then delete it by hand, or tag it again",
            )
        strip(self._iam, spec.name, checkpoint)
        return self._delete_user(spec.name, ending)

    def _delete_user(self, name: str, checkpoint: Checkpoint) -> RevokeOutcome:
        return (
            RevokeOutcome.REMOVED
            if self._iam.take_away("DeleteUser", checkpoint, UserName=name)
            else RevokeOutcome.MISSING
        )

    def _delete_keys(self, name: str, checkpoint: Checkpoint) -> None:
        for key in list(self._iam.pages("ListAccessKeys", "AccessKeyMetadata", UserName=name)):
            self._iam.take_away("DeleteAccessKey", checkpoint, UserName=name, AccessKeyId=key["AccessKeyId"])

    # --- looking

    def marked(self, paths: Sequence[str], known: Callable[[str], bool]) -> Iterator[MarkedUser]:
        """Yield the users under IAM paths with their tags: a call for 1,000 users, one for each that is not known."""
        seen: set[str] = set()
        for path in _outermost(paths):
            for entry in self._iam.pages("ListUsers", "Users", PathPrefix=path, MaxItems=_PAGE):
                name = entry["UserName"]
                if name in seen or known(name):
                    continue
                seen.add(name)
                try:
                    user = self._user(name)  # A list has no tags (API reference, ListUsers).
                except PermissionDeniedError:
                    continue  # Our own we may look at; whoever else is under the path is nothing to us.
                if user is not None:
                    yield MarkedUser(name=name, arn=_told(user, "Arn"), tags=_tags_of(user))

    def tags_of(self, spec: LeaseSpec) -> Mapping[str, str] | None:
        """Return the tags of the user of that name, None = there is none. DestinationError."""
        user = self._user(spec.name)
        return None if user is None else _tags_of(user)

    def find(self, spec: LeaseSpec, *, access_key_id: str | None, known: Callable[[str], bool]) -> UserLocation | None:
        """
        Look for a user that is not under its name: by its key, then by its tags under its path.

        Whoever may not ask for the owner of a key gets the same answer as for a key that is not there, so that only an
        owner says something. DestinationError.
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
            return None  # Then time has to do.
        return None

    def _owner_of(self, access_key_id: str) -> str | None:
        """Return the name of the user that a key belongs to; None = IAM does not say."""
        try:
            answer = self._iam.read("GetAccessKeyLastUsed", AccessKeyId=access_key_id)
        except (PermissionDeniedError, DestinationRejectedError):
            return None
        return None if answer is None else _told(answer, "UserName")

    def _user(self, name: str) -> Answer | None:
        """Return a user as GetUser tells it, tags included; None = there is none. AccountMismatchError."""
        answer = self._iam.read("GetUser", UserName=name)
        if answer is None:
            return None
        user: Answer = answer.get("User") or {}
        return user


def _outermost(paths: Sequence[str]) -> list[str]:
    """Return paths without those that lie below another one."""
    chosen: list[str] = []
    for path in sorted(set(paths)):
        if not chosen or not path.startswith(chosen[-1]):
            chosen.append(path)
    return chosen


def _tags_of(user: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in user.get("Tags") or []}


def _told(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise DestinationUnavailableError(f"IAM gave an answer without {name}")
    return value


# --- what IAM would take


def check(config: DynamicConfig, credential: CredentialType) -> None:
    """Raise InvalidInputError that says what IAM would not take of a configuration."""
    require_no(KIND, role_arn=config.role_arn, session_policy=config.session_policy)
    check_ttls(config, shortest=SHORTEST_TTL, longest=None, why="")
    if config.iam_path is not None:
        check_iam_path(config.iam_path)
    for arn in config.policy_arns:
        check_policy_arn(arn)
    if config.permission_boundary is not None:
        check_policy_arn(config.permission_boundary)
    for what, given, most in (("policies", config.policy_arns, MAX_POLICIES), ("groups", config.groups, MAX_GROUPS)):
        if len(given) > most:
            raise InvalidInputError(f"{len(given)} {what} are more than a user takes: {most} (IAM quotas)")
    if config.inline_policy is not None:
        check_policy_document(config.inline_policy, MAX_INLINE_CHARACTERS, what="the inline policy")


def _open(clients: AwsClients, credential: Credential, *, tenant: str) -> LeaseIssuer:
    return AwsIamUser(clients, credential, tenant=tenant)


SPEC: Final = IssuerSpec(
    kind=KIND,
    traits=IssuerTraits(
        outputs=(USERNAME, ACCESS_KEY_ID, SECRET_ACCESS_KEY),
        takes_back=True,
        has_path=True,
        shortest_ttl=SHORTEST_TTL,
    ),
    check=check,
    open=_open,
)
