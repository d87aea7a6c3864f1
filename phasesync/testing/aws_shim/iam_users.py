"""
Users: made, told, listed, renamed, and bounded.

Sources: API reference of IAM, CreateUser ("Names are not distinguished by case"; PermissionsBoundary), GetUser,
ListUsers (what a list leaves out: PermissionsBoundary and Tags), UpdateUser, User, AttachedPermissionsBoundary ("can
only have a value of Policy"), PutUserPermissionsBoundary; IAM User Guide, quotas. Answers and texts, and that a new
name takes along all that hangs on a user: LocalStack's snapshots of AWS; of the quota: public, in OpenShift's reports.
moto keeps no boundary, takes a name in another case for another user, and has one page.
"""

from typing import Any

from phasesync.testing.aws_shim.iam_errors import exists, no_such, over_quota
from phasesync.testing.aws_shim.iam_named import boundary_of, user_of
from phasesync.testing.aws_shim.iam_pages import iam_page
from phasesync.testing.aws_shim.iam_tags import read_user_tags
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Result, Service


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
