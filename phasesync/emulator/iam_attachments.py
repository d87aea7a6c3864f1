"""
What is attached to IAM users: access keys, service-specific credentials, policies, groups; and deletion, which needs
everything detached first.
"""

import secrets
import string
from collections.abc import Iterator
from typing import Any, Final

from phasesync.emulator.context import Context, Result
from phasesync.emulator.errors import AwsError, delete_conflict, iam_limit_exceeded, iam_over_quota, no_such_entity
from phasesync.emulator.iam_users import group_of, iam_page, policy_of, user_of
from phasesync.emulator.moto_users import ServiceCredential
from phasesync.emulator.request import Call

# --- Access keys
#
# API reference of IAM, CreateAccessKey, ListAccessKeys, UpdateAccessKey, DeleteAccessKey; IAM User Guide, quotas (2 a
# user). Texts: LocalStack's snapshots of AWS. That GetAccessKeyLastUsed refuses a missing key like a caller without the
# right: public, in code that repeats AWS's text. `access.py` refuses keys that are deleted, inactive or new.

_LAST_USED: Final = "iam:GetAccessKeyLastUsed"


def create_access_key(context: Context, call: Call) -> Result:
    """Make a key; only this answer has its secret part."""
    user = user_of(context, call)
    if len(user.access_keys) >= context.limits.user_keys:
        raise iam_over_quota("AccessKeysPerUser", context.limits.user_keys)
    key = context.state.users.create_key(user)
    return {"AccessKey": _key_fields(key) | {"SecretAccessKey": key.secret_access_key}}


def list_access_keys(context: Context, call: Call) -> Result:
    """Return the keys of a user."""
    keys = user_of(context, call).access_keys
    return iam_page(
        context, call, "AccessKeyMetadata", keys, key=lambda key: str(key.access_key_id), render=_key_fields
    )


def update_access_key(context: Context, call: Call) -> Result:
    """Switch a key on or off."""
    _named_key(context, call).status = call.text("Status")
    return {}


def delete_access_key(context: Context, call: Call) -> Result:
    """Delete a key for good."""
    context.state.users.delete_key(user_of(context, call), _named_key(context, call))
    return {}


def get_access_key_last_used(context: Context, call: Call) -> Result:
    """Return the user of a key of the account. Last uses are not kept: each key looks never used."""
    key_id, users = str(call.text("AccessKeyId")), context.state.users
    account, user = users.owner_of_key(key_id)
    if user is None or account != call.account or users.is_hidden(user, by_key=True):
        text = f"User: {call.principal.arn} is not authorized to perform: {_LAST_USED} on resource: access key {key_id}"
        raise AwsError("AccessDenied", text, status=403)
    return {"UserName": user.name, "AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"}}


def _named_key(context: Context, call: Call) -> Any:
    wanted = call.text("AccessKeyId")
    for key in user_of(context, call).access_keys:
        if key.access_key_id == wanted:
            return key
    raise no_such_entity(f"The Access Key with id {wanted} cannot be found.")


def _key_fields(key: Any) -> Result:
    return {
        "UserName": key.user_name,
        "AccessKeyId": key.access_key_id,
        "Status": key.status,
        "CreateDate": key.create_date,
    }


# --- Managed policies, groups, inline policies
#
# API reference of IAM, AttachUserPolicy, DetachUserPolicy, AddUserToGroup, RemoveUserFromGroup, PutUserPolicy,
# DeleteUserPolicy; IAM User Guide, quotas (10 managed policies, 10 groups, 2,048 characters of inline policies
# together, "IAM doesn't count white space"). That it is no error to attach what is attached, or to remove a user from a
# group that it is not in; texts of what is missing: LocalStack's snapshots of AWS. Texts of quotas: public, in many
# reports. moto counts a policy twice that is attached twice, and has no quotas.


def attach_user_policy(context: Context, call: Call) -> Result:
    """Attach a managed policy."""
    user, policy = user_of(context, call), policy_of(context, call)
    if policy.arn not in user.managed_policies:
        if len(user.managed_policies) >= context.limits.user_policies:
            raise iam_over_quota("PoliciesPerUser", context.limits.user_policies)
        policy.attach_to(user)
    return {}


def detach_user_policy(context: Context, call: Call) -> Result:
    """Detach a managed policy; it must be attached."""
    user, arn = user_of(context, call), str(call.text("PolicyArn"))
    if arn not in user.managed_policies:
        raise no_such_entity(f"Policy {arn} was not found.")
    user.managed_policies[arn].detach_from(user)
    return {}


def add_user_to_group(context: Context, call: Call) -> Result:
    """Put a user into a group."""
    user, group = user_of(context, call), group_of(context, call)
    if user not in group.users:
        if len(context.state.users.groups_of(user)) >= context.limits.user_groups:
            raise iam_over_quota("GroupsPerUser", context.limits.user_groups)
        group.users.append(user)
    return {}


def remove_user_from_group(context: Context, call: Call) -> Result:
    """Remove a user from a group; it need not be in it."""
    user, group = user_of(context, call), group_of(context, call)
    if user in group.users:
        group.users.remove(user)
    return {}


def put_user_policy(context: Context, call: Call) -> None:
    """Refuse an inline policy that exceeds the quota together with the others; moto reads and keeps it."""
    user, most = user_of(context, call), context.limits.user_inline_characters
    documents = user.policies | {str(call.text("PolicyName")): str(call.text("PolicyDocument"))}
    if sum(not character.isspace() for document in documents.values() for character in document) > most:
        raise iam_limit_exceeded(f"Maximum policy size of {most} bytes exceeded for user {user.name}")


def delete_user_policy(context: Context, call: Call) -> Result:
    """Delete an inline policy; it must exist."""
    user, name = user_of(context, call), str(call.text("PolicyName"))
    if name not in user.policies:
        raise no_such_entity(f"The user policy with name {name} cannot be found.")
    user.delete_policy(name)
    return {}


# --- Service-specific credentials, which moto does not have: a name and a password for one service
#
# API reference of IAM, CreateServiceSpecificCredential (two sets a service and user; the form of the name),
# ListServiceSpecificCredentials, DeleteServiceSpecificCredential. Services, texts and the form of ids and passwords:
# LocalStack's provider and its snapshots of AWS. The text of the quota is not public.

_SERVICES: Final = ("codecommit.amazonaws.com", "cassandra.amazonaws.com")
_MOST: Final = 2
_ID: Final = string.ascii_uppercase + "234567"
_PASSWORD: Final = string.ascii_letters + string.digits + "+/"


def create_service_specific_credential(context: Context, call: Call) -> Result:
    """Make a set; only this answer has its password."""
    user, name = user_of(context, call), str(call.text("ServiceName"))
    _check_service(name)
    credentials = context.state.users.extras(user).service_credentials
    if sum(credential.service == name for credential in credentials) >= _MOST:
        raise iam_over_quota("ServiceSpecificCredentialsPerUser", _MOST)
    credential = ServiceCredential(
        credential_id="ACCA" + "".join(secrets.choice(_ID) for _ in range(17)),
        service=name,
        service_user=f"{user.name}-at-{call.account}",
        password="".join(secrets.choice(_PASSWORD) for _ in range(59)) + "=",
        created_at=call.now,
    )
    credentials.append(credential)
    return {
        "ServiceSpecificCredential": _service_credential_fields(user.name, credential)
        | {"ServicePassword": credential.password}
    }


def list_service_specific_credentials(context: Context, call: Call) -> Result:
    """Return the sets of a user, of one service or of all."""
    user, name = user_of(context, call), call.text("ServiceName")
    if name is not None:
        _check_service(name)
    every = context.state.users.extras(user).service_credentials
    credentials = [credential for credential in every if name in (None, credential.service)]
    return iam_page(
        context,
        call,
        "ServiceSpecificCredentials",
        credentials,
        key=lambda credential: credential.credential_id,
        render=lambda credential: _service_credential_fields(user.name, credential),
    )


def delete_service_specific_credential(context: Context, call: Call) -> Result:
    """Delete a set; it must exist."""
    credentials = context.state.users.extras(user_of(context, call)).service_credentials
    wanted = call.text("ServiceSpecificCredentialId")
    for credential in credentials:
        if credential.credential_id == wanted:
            credentials.remove(credential)
            return {}
    raise no_such_entity(f"No such credential {wanted} exists")


def _check_service(name: str) -> None:
    if name not in _SERVICES:
        raise no_such_entity(f"No such service {name} is supported for Service Specific Credentials")


def _service_credential_fields(user: str, credential: ServiceCredential) -> Result:
    return {
        "UserName": user,
        "Status": "Active",
        "ServiceUserName": credential.service_user,
        "CreateDate": credential.created_at,
        "ServiceSpecificCredentialId": credential.credential_id,
        "ServiceName": credential.service,
    }


# --- Deletion of users, groups, policies and MFA devices: refused while something is attached
#
# API reference of IAM, DeleteUser (the list of what has to go before), DeleteGroup, DeletePolicy,
# DeleteVirtualMFADevice. Texts: LocalStack's snapshots of AWS (policies of both kinds, service-specific credentials);
# public: userplex issue 17 (groups), cloud-custodian issue 1663 (login profile), aws-controllers-k8s issue 2229 (access
# keys), aws-nuke issues 281 (MFA), 671 (certificates) and 470 (SSH keys), serverless components issue 312
# (DeletePolicy). AWS names one of several reasons; which one first is not public. moto asks for policies of a user
# only.


def delete_user(context: Context, call: Call) -> Result:
    """Delete a user that has nothing attached; DeleteConflict."""
    user = user_of(context, call)
    for text in _before_deleting_user(context, user):
        raise delete_conflict(f"Cannot delete entity, must {text} first.")
    context.state.users.remove(user)
    return {}


def delete_group(context: Context, call: Call) -> None:
    """Refuse to delete a group that has members or policies; DeleteConflict."""
    group = group_of(context, call)
    for attached, text in (
        (group.users, "remove users from group"),
        (group.managed_policies, "detach all policies"),
        (group.policies, "delete policies"),
    ):
        if attached:
            raise delete_conflict(f"Cannot delete entity, must {text} first.")


def delete_policy(context: Context, call: Call) -> None:
    """Refuse to delete a managed policy that is attached to anything; DeleteConflict."""
    if context.state.users.is_attached(call.account, str(call.text("PolicyArn"))):
        raise delete_conflict("Cannot delete a policy attached to entities.")


def delete_virtual_mfa_device(context: Context, call: Call) -> None:
    """Refuse to delete a device that a user has; DeleteConflict."""
    if context.state.users.is_device_in_use(call.account, str(call.text("SerialNumber"))):
        raise delete_conflict("MFA VirtualDevice in use. Must deactivate first.")


def _before_deleting_user(context: Context, user: Any) -> Iterator[str]:
    """Yield what has to be done before a user can be deleted."""
    users = context.state.users
    for attached, text in (
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
        if attached:
            yield text
