"""
Access keys of users: made, told, switched off, deleted.

Sources: API reference of IAM, CreateAccessKey, ListAccessKeys, UpdateAccessKey, DeleteAccessKey; IAM User Guide,
quotas (2 a user). Texts: LocalStack's snapshots of AWS. That GetAccessKeyLastUsed refuses a key that is not there as it
refuses who has no right to it: public, in code that repeats AWS's text. What a key that is gone, off or new does not
open any more is in `trust.py`.

What gives a user its rights: managed policies, groups, inline policies.

Sources: API reference of IAM, AttachUserPolicy, DetachUserPolicy, AddUserToGroup, RemoveUserFromGroup, PutUserPolicy,
DeleteUserPolicy; IAM User Guide, quotas (10 managed policies, 10 groups, 2,048 characters of inline policies together,
"IAM doesn't count white space"). That what is there already is no error, and that to remove a user from a group it is
not in is none either; texts of what is missing: LocalStack's snapshots of AWS. Texts of quotas: public, in many
reports. moto counts a policy twice that is attached twice, and has no quotas.

Service-specific credentials of users, which moto does not have: a name and a password for one service.

Sources: API reference of IAM, CreateServiceSpecificCredential (two sets a service and user; the form of the name),
ListServiceSpecificCredentials, DeleteServiceSpecificCredential. Services, texts and the form of ids and passwords:
LocalStack's provider and its snapshots of AWS. The text of the quota is not public.

What keeps a user, a group, a policy or an MFA device from being deleted: whatever hangs on it.

Sources: API reference of IAM, DeleteUser (the list of what has to go before), DeleteGroup, DeletePolicy,
DeleteVirtualMFADevice. Texts: LocalStack's snapshots of AWS (policies of both kinds, service-specific credentials);
public: userplex issue 17 (groups), cloud-custodian issue 1663 (login profile), aws-controllers-k8s issue 2229 (access
keys), aws-nuke issues 281 (MFA), 671 (certificates) and 470 (SSH keys), serverless components issue 312 (DeletePolicy).
AWS tells one of several; which one first is not public. moto asks for policies of a user only.
"""

import secrets
import string
from collections.abc import Iterator
from typing import Any, Final

from phasesync.emulator.errors import AwsError
from phasesync.emulator.iam_users import (
    conflict,
    group_of,
    iam_page,
    limit_exceeded,
    no_such,
    over_quota,
    policy_of,
    user_of,
)
from phasesync.emulator.request import Call
from phasesync.emulator.service import Result, Service
from phasesync.emulator.users import ServiceCredential

_LAST_USED: Final = "iam:GetAccessKeyLastUsed"


def create_access_key(service: Service, call: Call) -> Result:
    """Make a key; its secret part is told this once."""
    user = user_of(service, call)
    if len(user.access_keys) >= service.limits.user_keys:
        raise over_quota("AccessKeysPerUser", service.limits.user_keys)
    key = service.world.users.create_key(user)
    return {"AccessKey": _tell(key) | {"SecretAccessKey": key.secret_access_key}}


def list_access_keys(service: Service, call: Call) -> Result:
    """Tell the keys of a user."""
    keys = user_of(service, call).access_keys
    return iam_page(service, call, "AccessKeyMetadata", keys, key=lambda one: str(one.access_key_id), tell=_tell)


def update_access_key(service: Service, call: Call) -> Result:
    """Switch a key on or off."""
    _key(service, call).status = call.text("Status")
    return {}


def delete_access_key(service: Service, call: Call) -> Result:
    """Take a key away for good."""
    service.world.users.delete_key(user_of(service, call), _key(service, call))
    return {}


def get_access_key_last_used(service: Service, call: Call) -> Result:
    """Tell whose a key of the account is. When it was used is not kept: that is told as of a key never used."""
    key_id, users = str(call.text("AccessKeyId")), service.world.users
    account, user = users.whose(key_id)
    if user is None or account != call.account or users.is_hidden(user, by_key=True):
        text = f"User: {call.principal.arn} is not authorized to perform: {_LAST_USED} on resource: access key {key_id}"
        raise AwsError("AccessDenied", text, status=403)
    return {"UserName": user.name, "AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"}}


def _key(service: Service, call: Call) -> Any:
    wanted = call.text("AccessKeyId")
    for key in user_of(service, call).access_keys:
        if key.access_key_id == wanted:
            return key
    raise no_such(f"The Access Key with id {wanted} cannot be found.")


def _tell(key: Any) -> Result:
    return {
        "UserName": key.user_name,
        "AccessKeyId": key.access_key_id,
        "Status": key.status,
        "CreateDate": key.create_date,
    }


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


_SERVICES: Final = ("codecommit.amazonaws.com", "cassandra.amazonaws.com")
_MOST: Final = 2
_ID: Final = string.ascii_uppercase + "234567"
_PASSWORD: Final = string.ascii_letters + string.digits + "+/"


def create_service_specific_credential(service: Service, call: Call) -> Result:
    """Make a set; its password is told this once."""
    user, name = user_of(service, call), str(call.text("ServiceName"))
    _check_service(name)
    there = service.world.users.extras(user).service_credentials
    if sum(one.service == name for one in there) >= _MOST:
        raise over_quota("ServiceSpecificCredentialsPerUser", _MOST)
    made = ServiceCredential(
        credential_id="ACCA" + "".join(secrets.choice(_ID) for _ in range(17)),
        service=name,
        service_user=f"{user.name}-at-{call.account}",
        password="".join(secrets.choice(_PASSWORD) for _ in range(59)) + "=",
        created_at=call.now,
    )
    there.append(made)
    return {"ServiceSpecificCredential": _tell_service_credential(user.name, made) | {"ServicePassword": made.password}}


def list_service_specific_credentials(service: Service, call: Call) -> Result:
    """Tell the sets of a user, of one service or of all."""
    user, name = user_of(service, call), call.text("ServiceName")
    if name is not None:
        _check_service(name)
    there = [one for one in service.world.users.extras(user).service_credentials if name in (None, one.service)]
    return iam_page(
        service,
        call,
        "ServiceSpecificCredentials",
        there,
        key=lambda one: one.credential_id,
        tell=lambda one: _tell_service_credential(user.name, one),
    )


def delete_service_specific_credential(service: Service, call: Call) -> Result:
    """Take a set away; it must be there."""
    there = service.world.users.extras(user_of(service, call)).service_credentials
    wanted = call.text("ServiceSpecificCredentialId")
    for one in there:
        if one.credential_id == wanted:
            there.remove(one)
            return {}
    raise no_such(f"No such credential {wanted} exists")


def _check_service(name: str) -> None:
    if name not in _SERVICES:
        raise no_such(f"No such service {name} is supported for Service Specific Credentials")


def _tell_service_credential(user: str, one: ServiceCredential) -> Result:
    return {
        "UserName": user,
        "Status": "Active",
        "ServiceUserName": one.service_user,
        "CreateDate": one.created_at,
        "ServiceSpecificCredentialId": one.credential_id,
        "ServiceName": one.service,
    }


def delete_user(service: Service, call: Call) -> Result:
    """Delete a user on which nothing hangs any more; DeleteConflict."""
    user = user_of(service, call)
    for text in _on_user(service, user):
        raise conflict(f"Cannot delete entity, must {text} first.")
    service.world.users.remove(user)
    return {}


def delete_group(service: Service, call: Call) -> None:
    """Refuse to delete a group that has members or policies; DeleteConflict."""
    group = group_of(service, call)
    for there, text in (
        (group.users, "remove users from group"),
        (group.managed_policies, "detach all policies"),
        (group.policies, "delete policies"),
    ):
        if there:
            raise conflict(f"Cannot delete entity, must {text} first.")


def delete_policy(service: Service, call: Call) -> None:
    """Refuse to delete a managed policy that is attached to anything; DeleteConflict."""
    if service.world.users.is_attached(call.account, str(call.text("PolicyArn"))):
        raise conflict("Cannot delete a policy attached to entities.")


def delete_virtual_mfa_device(service: Service, call: Call) -> None:
    """Refuse to delete a device that is somebody's; DeleteConflict."""
    if service.world.users.is_device_in_use(call.account, str(call.text("SerialNumber"))):
        raise conflict("MFA VirtualDevice in use. Must deactivate first.")


def _on_user(service: Service, user: Any) -> Iterator[str]:
    """Yield what has to be done before a user can go."""
    users = service.world.users
    for there, text in (
        (user.managed_policies, "detach all policies"),
        (user.policies, "delete policies"),
        (users.groups_of(user), "remove users from group"),
        (user.password, "delete login profile"),
        (user.access_keys, "delete access keys"),
        (user.mfa_devices, "delete MFA device"),
        (user.signing_certificates, "delete certificates"),
        (user.ssh_public_keys, "remove referenced objects"),
        (users.extras(user).service_credentials, "remove referenced objects"),
    ):
        if there:
            yield text
