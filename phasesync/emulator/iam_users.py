"""
Refusals of IAM, with the status codes of its API model, and the texts that several rules use.

Texts are AWS's own as far as they are public; where each was read stands in the docstring of the rule that raises it.
That a user or a group cannot be found, and that a user exists: LocalStack's snapshots of AWS.

Pages of IAM's lists: Marker says where to go on, and nothing else is taken for one.

Sources: API reference of IAM, ListUsers (MaxItems 100 where none is given; "IAM might return fewer results, even when
there are more results available", which `Limits.iam_page` makes so). Text: LocalStack's snapshots of AWS. A marker is
the key of the entry before, so that what is deleted between two pages hides nothing.

The users, groups and policies that calls of IAM name: each exists, or the call is refused.

Sources: API reference of IAM (NoSuchEntity of each operation). Texts, and that a user is looked for before a group,
and that a call without a user name is about the caller, who must be a user: LocalStack's snapshots of AWS; of a policy
that shall be a boundary: public, in reports on ROSA and SAM.

Tags of IAM users: how many, which prefix, and that their keys do not differ by case alone.

Sources: API reference of IAM, Tag (key 1-128, value 0-256 characters; in the API model) and TagUser ("the entire
request fails"); IAM User Guide, tagging (50 tags, `aws:` is reserved, keys are not distinguished by case). Two keys in
one request: InvalidInput (public: kops issue 11727); one after the other the second replaces the first, its case
included (public: aws-cdk issue 26253). Neither the text for `aws:` nor that for too many tags is public.

Users: made, told, listed, renamed, and bounded.

Sources: API reference of IAM, CreateUser ("Names are not distinguished by case"; PermissionsBoundary), GetUser,
ListUsers (what a list leaves out: PermissionsBoundary and Tags), UpdateUser, User, AttachedPermissionsBoundary ("can
only have a value of Policy"), PutUserPermissionsBoundary; IAM User Guide, quotas. Answers and texts, and that a new
name takes along all that hangs on a user: LocalStack's snapshots of AWS; of the quota: public, in OpenShift's reports.
moto keeps no boundary, takes a name in another case for another user, and has one page.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from phasesync.emulator.errors import AwsError
from phasesync.emulator.request import Call
from phasesync.emulator.service import Result, Service


def no_such(text: str) -> AwsError:
    """Something does not exist."""
    return AwsError("NoSuchEntity", text, status=404)


def no_such_user(name: str) -> AwsError:
    """There is no such user."""
    return no_such(f"The user with name {name} cannot be found.")


def no_such_group(name: str) -> AwsError:
    """There is no such group."""
    return no_such(f"The group with name {name} cannot be found.")


def exists(text: str) -> AwsError:
    """A name is taken."""
    return AwsError("EntityAlreadyExists", text, status=409)


def conflict(text: str) -> AwsError:
    """Something hangs on what shall be deleted."""
    return AwsError("DeleteConflict", text, status=409)


def over_quota(name: str, most: int) -> AwsError:
    """A quota that does not come back by waiting, by its name in AccountSummary's style."""
    return limit_exceeded(f"Cannot exceed quota for {name}: {most}")


def limit_exceeded(text: str) -> AwsError:
    """A quota whose refusal has a text of its own."""
    return AwsError("LimitExceeded", text, status=409)


def invalid_input(text: str) -> AwsError:
    """A value that can never be right, found by IAM itself."""
    return AwsError("InvalidInput", text)


def invalid(text: str) -> AwsError:
    """A value that contradicts the API model."""
    return AwsError("ValidationError", text)


T = TypeVar("T")

_DEFAULT: Final = 100


def iam_page(
    service: Service,
    call: Call,
    member: str,
    entries: Iterable[T],
    *,
    key: Callable[[T], str],
    tell: Callable[[T], Any],
) -> Result:
    """
    Return a page of a list; ValidationError for a marker that was not given.

    Args:
        service: has the longest page.
        call: says how many, and where to go on.
        member: name of the list in the answer.
        entries: all of them.
        key: what they are ordered by; no two are equal.
        tell: writes one.
    """
    after = _read(call.text("Marker"), call.operation)
    left = sorted((one for one in entries if after is None or key(one) > after), key=key)
    shown = left[: min(int(call.arguments.get("MaxItems") or _DEFAULT), service.limits.iam_page)]
    result: Result = {member: [tell(one) for one in shown], "IsTruncated": len(shown) < len(left)}
    if result["IsTruncated"]:
        result["Marker"] = _write(key(shown[-1]), call.operation)
    return result


def _write(key: str, operation: str) -> str:
    return base64.urlsafe_b64encode(f"{operation}:{key}".encode()).decode()


def _read(marker: str | None, operation: str) -> str | None:
    if marker is None:
        return None
    try:
        name, _, key = base64.urlsafe_b64decode(marker.encode()).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        name, key = "", ""
    if name != operation:
        raise invalid("Invalid Marker.")
    return key


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


_RESERVED: Final = "aws:"


def read_user_tags(service: Service, there: Mapping[str, str], given: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return what a user's tags become; InvalidInput, LimitExceeded."""
    more: dict[str, str] = {}
    for tag in given:
        key = tag["Key"]
        if key.lower().startswith(_RESERVED):
            raise invalid_input("Tag keys that begin with aws: are reserved for AWS.")
        if key.lower() in (one.lower() for one in more):
            raise invalid_input("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
        more[key] = tag["Value"]
    result = _without(there, more) | more
    if len(result) > service.limits.user_tags:
        raise over_quota("TagsPerUser", service.limits.user_tags)
    return result


def tag_user(service: Service, call: Call) -> Result:
    """Add tags; an existing key gets the new value."""
    user, users = user_of(service, call), service.world.users
    users.set_tags(user, read_user_tags(service, users.tags(user), call.listed("Tags")))
    return {}


def untag_user(service: Service, call: Call) -> Result:
    """Remove tags; those that are not there are no error."""
    user, users = user_of(service, call), service.world.users
    users.set_tags(user, _without(users.tags(user), call.listed("TagKeys")))
    return {}


def list_user_tags(service: Service, call: Call) -> Result:
    """Tell the tags of a user, sorted by key (API reference of IAM, ListUserTags)."""
    tags = service.world.users.tags(user_of(service, call))
    return iam_page(
        service, call, "Tags", tags.items(), key=lambda one: one[0], tell=lambda one: {"Key": one[0], "Value": one[1]}
    )


def _without(tags: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    gone = {key.lower() for key in keys}
    return {key: value for key, value in tags.items() if key.lower() not in gone}


def create_user(service: Service, call: Call) -> Result:
    """Make a user with its tags and its boundary."""
    users, name = service.world.users, str(call.text("UserName"))
    tags = read_user_tags(service, {}, call.listed("Tags"))
    boundary = boundary_of(service, call)
    _check_name(service, call.account, name)
    if len(users.all(call.account)) >= service.limits.users:
        raise over_quota("UsersPerAccount", service.limits.users)
    user = users.create(call.account, name, call.text("Path") or "/")
    users.set_tags(user, tags)
    users.extras(user).boundary = boundary
    if service.timing.new_user_takes:
        users.hide(call.account, name, service.timing.new_user_takes)
    return {"User": _tell(service, user)}


def get_user(service: Service, call: Call) -> Result:
    """Tell a user, tags and boundary included."""
    return {"User": _tell(service, user_of(service, call))}


def list_users(service: Service, call: Call) -> Result:
    """Tell the users whose path begins as asked for, by their names."""
    prefix = call.text("PathPrefix") or "/"
    users = service.world.users
    there = [one for one in users.all(call.account) if one.path.startswith(prefix) and not users.is_hidden(one)]
    return iam_page(service, call, "Users", there, key=lambda one: str(one.name), tell=_tell_briefly)


def update_user(service: Service, call: Call) -> Result:
    """Give a user another name, another path, or both."""
    user = user_of(service, call)
    name, path = call.text("NewUserName") or user.name, call.text("NewPath") or user.path
    if name.lower() != user.name.lower():
        _check_name(service, call.account, name)
    service.world.users.move(user, name, path)
    return {}


def put_user_permissions_boundary(service: Service, call: Call) -> Result:
    """Give a user a boundary in place of the one that it may have."""
    user = user_of(service, call)
    service.world.users.extras(user).boundary = boundary_of(service, call)
    return {}


def delete_user_permissions_boundary(service: Service, call: Call) -> Result:
    """Take a user's boundary away."""
    user = user_of(service, call)
    extras = service.world.users.extras(user)
    if extras.boundary is None:
        raise no_such(f"The user with name {user.name} has no permissions boundary.")
    extras.boundary = None
    return {}


def _check_name(service: Service, account: str, name: str) -> None:
    if name.lower() in (one.name.lower() for one in service.world.users.all(account)):
        raise exists(f"User with name {name} already exists.")


def _tell(service: Service, user: Any) -> Result:
    told, boundary = _tell_briefly(user), service.world.users.extras(user).boundary
    tags = [{"Key": key, "Value": value} for key, value in service.world.users.tags(user).items()]
    if tags:
        told["Tags"] = tags
    if boundary is not None:
        told["PermissionsBoundary"] = {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": boundary}
    return told


def _tell_briefly(user: Any) -> Result:
    """Tell a user as a list does."""
    return {
        "Path": user.path,
        "UserName": user.name,
        "UserId": user.id,
        "Arn": user.arn,
        "CreateDate": user.create_date,
    }
