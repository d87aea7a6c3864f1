"""
IAM users with their tags and permissions boundaries; the lookups and pages that all of IAM's operations share.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from phasesync.emulator.context import Context, Result
from phasesync.emulator.errors import (
    entity_exists,
    iam_over_quota,
    invalid_input,
    no_such_entity,
    no_such_group,
    no_such_user,
    validation_error,
)
from phasesync.emulator.request import Call

T = TypeVar("T")

# --- Pages of a list: Marker says where the next page begins; any other text is refused
#
# API reference of IAM, ListUsers (MaxItems 100 where none is given; "IAM might return fewer results, even when there
# are more results available", which `Limits.iam_page` sets). Text: LocalStack's snapshots of AWS. A marker is the key
# of the last entry of the page before, so that a deletion between two pages hides nothing.


_DEFAULT: Final = 100


def iam_page(
    context: Context,
    call: Call,
    member: str,
    entries: Iterable[T],
    *,
    key: Callable[[T], str],
    render: Callable[[T], Any],
) -> Result:
    """
    Return a page of a list; ValidationError for a marker that AWS did not issue.

    Args:
        service: has the longest page.
        call: says how many, and where to go on.
        member: name of the list in the answer.
        entries: all of them.
        key: what they are ordered by; no two are equal.
        render: writes one entry.
    """
    after = _read_marker(call.text("Marker"), call.operation)
    left = sorted((entry for entry in entries if after is None or key(entry) > after), key=key)
    shown = left[: min(int(call.arguments.get("MaxItems") or _DEFAULT), context.limits.iam_page)]
    result: Result = {member: [render(entry) for entry in shown], "IsTruncated": len(shown) < len(left)}
    if result["IsTruncated"]:
        result["Marker"] = _write_marker(key(shown[-1]), call.operation)
    return result


def _write_marker(key: str, operation: str) -> str:
    return base64.urlsafe_b64encode(f"{operation}:{key}".encode()).decode()


def _read_marker(marker: str | None, operation: str) -> str | None:
    if marker is None:
        return None
    try:
        name, _, key = base64.urlsafe_b64decode(marker.encode()).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        name, key = "", ""
    if name != operation:
        raise validation_error("Invalid Marker.")
    return key


# --- The users, groups and policies that a call names: each exists, or the call is refused
#
# API reference of IAM (NoSuchEntity of each operation). That a user is looked up before a group, that a call without a
# user name is about the caller, who must be a user, and the texts: LocalStack's snapshots of AWS. The text for a policy
# that shall be a boundary: public, in reports on ROSA and SAM.

_POLICY: Final = re.compile(r"arn:[a-z-]+:iam::(aws|\d{12}):policy/[\x21-\x7f]+")


def user_of(context: Context, call: Call) -> Any:
    """Return the user that a call names, else the user of the key that signed it; NoSuchEntity, ValidationError."""
    name = call.text("UserName")
    if name is None:
        _, user = context.state.users.owner_of_key(call.principal.access_key_id)
        if user is None:
            raise validation_error("Must specify userName when calling with non-User credentials")
        return user
    user = context.state.users.find(call.account, name)
    if user is None:
        raise no_such_user(name)
    return user


def group_of(context: Context, call: Call) -> Any:
    """Return the group that a call names; NoSuchEntity."""
    name = str(call.text("GroupName"))
    group = context.state.users.group(call.account, name)
    if group is None:
        raise no_such_group(name)
    return group


def policy_of(context: Context, call: Call) -> Any:
    """Return the managed policy that a call shall attach; InvalidInput, NoSuchEntity."""
    return _policy(context, call, "PolicyArn", "Policy {} does not exist or is not attachable.")


def boundary_of(context: Context, call: Call) -> str | None:
    """Return the ARN of the boundary that a call sets, None if it sets none; InvalidInput, NoSuchEntity."""
    if call.text("PermissionsBoundary") is None:
        return None
    policy = _policy(context, call, "PermissionsBoundary", "Scope ARN: {} does not exist or is not attachable.")
    return str(policy.arn)


def _policy(context: Context, call: Call, argument: str, missing: str) -> Any:
    arn = str(call.text(argument))
    if not _POLICY.fullmatch(arn):
        raise invalid_input(f"ARN {arn} is not valid.")
    policy = context.state.users.policy(call.account, arn)
    if policy is None:
        raise no_such_entity(missing.format(arn))
    return policy


# --- Tags: how many, which prefix; their keys must not differ by case alone
#
# API reference of IAM, Tag (key 1-128, value 0-256 characters; in the API model) and TagUser ("the entire request
# fails"); IAM User Guide, tagging (50 tags, `aws:` is reserved, keys are not distinguished by case). Two keys in one
# request: InvalidInput (public: kops issue 11727); one after the other the second replaces the first, its case included
# (public: aws-cdk issue 26253). Neither the text for `aws:` nor that for too many tags is public.

_RESERVED: Final = "aws:"


def merge_user_tags(context: Context, present: Mapping[str, str], added: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return what a user's tags become; InvalidInput, LimitExceeded."""
    new: dict[str, str] = {}
    for tag in added:
        key = tag["Key"]
        if key.lower().startswith(_RESERVED):
            raise invalid_input("Tag keys that begin with aws: are reserved for AWS.")
        if key.lower() in (other.lower() for other in new):
            raise invalid_input("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
        new[key] = tag["Value"]
    result = _without(present, new) | new
    if len(result) > context.limits.user_tags:
        raise iam_over_quota("TagsPerUser", context.limits.user_tags)
    return result


def tag_user(context: Context, call: Call) -> Result:
    """Add tags; an existing key gets the new value."""
    user, users = user_of(context, call), context.state.users
    users.set_tags(user, merge_user_tags(context, users.tags(user), call.listed("Tags")))
    return {}


def untag_user(context: Context, call: Call) -> Result:
    """Remove tags; those that are not there are no error."""
    user, users = user_of(context, call), context.state.users
    users.set_tags(user, _without(users.tags(user), call.listed("TagKeys")))
    return {}


def list_user_tags(context: Context, call: Call) -> Result:
    """Return the tags of a user, sorted by key (API reference of IAM, ListUserTags)."""
    tags = context.state.users.tags(user_of(context, call))
    return iam_page(
        context, call, "Tags", tags.items(), key=lambda tag: tag[0], render=lambda tag: {"Key": tag[0], "Value": tag[1]}
    )


def _without(tags: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    removed = {key.lower() for key in keys}
    return {key: value for key, value in tags.items() if key.lower() not in removed}


# --- Users and their boundaries
#
# API reference of IAM, CreateUser ("Names are not distinguished by case"; PermissionsBoundary), GetUser, ListUsers
# (what a list leaves out: PermissionsBoundary and Tags), UpdateUser, User, AttachedPermissionsBoundary ("can only have
# a value of Policy"), PutUserPermissionsBoundary; IAM User Guide, quotas. Answers and texts, and that a renamed user
# keeps all that is attached to it: LocalStack's snapshots of AWS; the text of the quota: public, in OpenShift's
# reports. moto keeps no boundary, takes a name in another case for another user, and has one page.


def create_user(context: Context, call: Call) -> Result:
    """Make a user with its tags and its boundary."""
    users, name = context.state.users, str(call.text("UserName"))
    tags = merge_user_tags(context, {}, call.listed("Tags"))
    boundary = boundary_of(context, call)
    _check_name(context, call.account, name)
    if len(users.all(call.account)) >= context.limits.users:
        raise iam_over_quota("UsersPerAccount", context.limits.users)
    user = users.create(call.account, name, call.text("Path") or "/")
    users.set_tags(user, tags)
    users.extras(user).boundary = boundary
    if context.timing.new_user_takes:
        users.hide(call.account, name, context.timing.new_user_takes)
    return {"User": _user_fields(context, user)}


def get_user(context: Context, call: Call) -> Result:
    """Return a user, tags and boundary included."""
    return {"User": _user_fields(context, user_of(context, call))}


def list_users(context: Context, call: Call) -> Result:
    """Return the users under a path prefix, by name."""
    prefix = call.text("PathPrefix") or "/"
    users = context.state.users
    visible = [user for user in users.all(call.account) if user.path.startswith(prefix) and not users.is_hidden(user)]
    return iam_page(context, call, "Users", visible, key=lambda user: str(user.name), render=_listed_fields)


def update_user(context: Context, call: Call) -> Result:
    """Give a user another name, another path, or both."""
    user = user_of(context, call)
    name, path = call.text("NewUserName") or user.name, call.text("NewPath") or user.path
    if name.lower() != user.name.lower():
        _check_name(context, call.account, name)
    context.state.users.move(user, name, path)
    return {}


def put_user_permissions_boundary(context: Context, call: Call) -> Result:
    """Set or replace a user's boundary."""
    user = user_of(context, call)
    context.state.users.extras(user).boundary = boundary_of(context, call)
    return {}


def delete_user_permissions_boundary(context: Context, call: Call) -> Result:
    """Remove a user's boundary."""
    user = user_of(context, call)
    extras = context.state.users.extras(user)
    if extras.boundary is None:
        raise no_such_entity(f"The user with name {user.name} has no permissions boundary.")
    extras.boundary = None
    return {}


def _check_name(context: Context, account: str, name: str) -> None:
    if name.lower() in (user.name.lower() for user in context.state.users.all(account)):
        raise entity_exists(f"User with name {name} already exists.")


def _user_fields(context: Context, user: Any) -> Result:
    fields, boundary = _listed_fields(user), context.state.users.extras(user).boundary
    tags = [{"Key": key, "Value": value} for key, value in context.state.users.tags(user).items()]
    if tags:
        fields["Tags"] = tags
    if boundary is not None:
        fields["PermissionsBoundary"] = {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": boundary}
    return fields


def _listed_fields(user: Any) -> Result:
    """Return the fields of a user that ListUsers has."""
    return {
        "Path": user.path,
        "UserName": user.name,
        "UserId": user.id,
        "Arn": user.arn,
        "CreateDate": user.create_date,
    }
