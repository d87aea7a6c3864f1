"""
Which function carries out which operation of IAM, and in which order a request is checked; the rest is moto's.

Every call that names a user needs that user, whoever carries it out. Callers hold `World.lock`: each request is whole.
"""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from phasesync.emulator.access import check_rights
from phasesync.emulator.errors import AwsError
from phasesync.emulator.http import Reply
from phasesync.emulator.iam_attachments import (
    add_user_to_group,
    attach_user_policy,
    create_access_key,
    create_service_specific_credential,
    delete_access_key,
    delete_group,
    delete_policy,
    delete_service_specific_credential,
    delete_user,
    delete_user_policy,
    delete_virtual_mfa_device,
    detach_user_policy,
    get_access_key_last_used,
    list_access_keys,
    list_service_specific_credentials,
    put_user_policy,
    remove_user_from_group,
    update_access_key,
)
from phasesync.emulator.iam_users import (
    create_user,
    delete_user_permissions_boundary,
    get_user,
    list_user_tags,
    list_users,
    put_user_permissions_boundary,
    tag_user,
    untag_user,
    update_user,
    user_of,
)
from phasesync.emulator.request import (
    Call,
    Operation,
    Principal,
    has_argument,
    is_iam_operation,
    read_arguments,
    write_answer,
)
from phasesync.emulator.service import Result, Service
from phasesync.emulator.shapes import check_iam_arguments

ByMoto = Callable[[bytes], Reply]
"""Has moto answer a body."""

IAM_OPERATIONS: Final[Mapping[str, Callable[[Service, Call], Result | None]]] = {
    "AddUserToGroup": add_user_to_group,
    "AttachUserPolicy": attach_user_policy,
    "CreateAccessKey": create_access_key,
    "CreateServiceSpecificCredential": create_service_specific_credential,
    "CreateUser": create_user,
    "DeleteAccessKey": delete_access_key,
    "DeleteGroup": delete_group,
    "DeletePolicy": delete_policy,
    "DeleteServiceSpecificCredential": delete_service_specific_credential,
    "DeleteUser": delete_user,
    "DeleteUserPermissionsBoundary": delete_user_permissions_boundary,
    "DeleteUserPolicy": delete_user_policy,
    "DeleteVirtualMFADevice": delete_virtual_mfa_device,
    "DetachUserPolicy": detach_user_policy,
    "GetAccessKeyLastUsed": get_access_key_last_used,
    "GetUser": get_user,
    "ListAccessKeys": list_access_keys,
    "ListServiceSpecificCredentials": list_service_specific_credentials,
    "ListUserTags": list_user_tags,
    "ListUsers": list_users,
    "PutUserPermissionsBoundary": put_user_permissions_boundary,
    "PutUserPolicy": put_user_policy,
    "RemoveUserFromGroup": remove_user_from_group,
    "TagUser": tag_user,
    "UntagUser": untag_user,
    "UpdateAccessKey": update_access_key,
    "UpdateUser": update_user,
}
"""What is stricter than moto, or not in moto; a function that returns None has only checked, and moto carries out."""


def carry_out_iam(service: Service, operation: Operation, principal: Principal, by_moto: ByMoto) -> Reply:
    """Check a request and carry it out; AwsError."""
    name, body = operation.name, operation.body
    if not is_iam_operation(name):
        raise AwsError("InvalidAction", f"Could not find operation {name} for version 2010-05-08")
    call = Call(name, principal, operation.region, read_arguments(name, body), service.world.clock.now())
    check_iam_arguments(name, call.arguments)
    check_rights(service.world, service.access, operation, principal)
    if name in IAM_OPERATIONS:
        result = IAM_OPERATIONS[name](service, call)
        return by_moto(body) if result is None else write_answer(name, result)
    if call.text("PolicyArn") is not None:
        service.world.users.policy(call.account, str(call.text("PolicyArn")))  # has moto know AWS's own policies
    if has_argument(name, "UserName"):
        user = user_of(service, call)
        body += b"" if call.text("UserName") else b"&" + urlencode({"UserName": user.name}).encode()
    return by_moto(body)
