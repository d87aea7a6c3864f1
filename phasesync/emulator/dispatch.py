"""
The operations of Secrets Manager and IAM: which function carries out which, and in which order a request is checked.

Callers of `carry_out_iam` hold `MotoState.lock`, so that no request sees half of another; `carry_out` takes it itself.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from phasesync.emulator.access import actions_of, check_rights, shown_resource
from phasesync.emulator.api_model import check_arguments, check_iam_arguments
from phasesync.emulator.context import Context, Operate, Result
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
from phasesync.emulator.secret_deletion import delete_secret, restore_secret
from phasesync.emulator.secret_policies import (
    delete_resource_policy,
    get_resource_policy,
    list_resource_policies,
    put_resource_policy,
    validate_resource_policy,
)
from phasesync.emulator.secret_reads import (
    batch_get_secret_value,
    describe_secret,
    get_secret_value,
    list_secret_version_ids,
    list_secrets,
    remember,
)
from phasesync.emulator.secret_replication import (
    associate_cross_account_replica,
    disassociate_cross_account_replica,
    follow,
    remove_regions_from_replication,
    replicate_secret_to_regions,
    stop_replication_to_replica,
)
from phasesync.emulator.secret_rotation import cancel_rotate_secret, rotate_secret
from phasesync.emulator.secret_writes import (
    create_secret,
    put_secret_value,
    tag_resource,
    untag_resource,
    update_secret,
    update_secret_version_stage,
)

OPERATIONS: Final[Mapping[str, Operate]] = {
    "AssociateCrossAccountReplica": associate_cross_account_replica,
    "BatchGetSecretValue": batch_get_secret_value,
    "CancelRotateSecret": cancel_rotate_secret,
    "CreateSecret": create_secret,
    "DeleteResourcePolicy": delete_resource_policy,
    "DeleteSecret": delete_secret,
    "DescribeSecret": describe_secret,
    "DisassociateCrossAccountReplica": disassociate_cross_account_replica,
    "GetResourcePolicy": get_resource_policy,
    "GetSecretValue": get_secret_value,
    "ListResourcePolicies": list_resource_policies,
    "ListSecretVersionIds": list_secret_version_ids,
    "ListSecrets": list_secrets,
    "PutResourcePolicy": put_resource_policy,
    "PutSecretValue": put_secret_value,
    "RemoveRegionsFromReplication": remove_regions_from_replication,
    "ReplicateSecretToRegions": replicate_secret_to_regions,
    "RestoreSecret": restore_secret,
    "RotateSecret": rotate_secret,
    "StopReplicationToReplica": stop_replication_to_replica,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "UpdateSecret": update_secret,
    "UpdateSecretVersionStage": update_secret_version_stage,
    "ValidateResourcePolicy": validate_resource_policy,
}
"""Operations of Secrets Manager: all but GetRandomPassword, which moto answers well."""


def carry_out(context: Context, call: Call) -> Result:
    """Check a request to Secrets Manager and carry it out, alone under the lock; AwsError."""
    with context.state.lock:
        check_arguments(call.operation, call.arguments)
        before = context.state.find(call.account, call.region, call.secret_id) if call.secret_id else None
        arn = None if before is None else str(before.arn)
        if not call.trusted:
            for action in actions_of(call):
                context.access.check(call.principal, action, shown_resource(call), arn)
        if not context.timing.list_lag or not call.secret_id:
            return _carry_out(context, call)
        if before is not None and not context.state.extras(before).shown:
            remember(context, before, arn, since=datetime.min.replace(tzinfo=UTC))
        answer = _carry_out(context, call)
        after = context.state.find(call.account, call.region, call.secret_id)
        remember(context, after, arn if after is None else str(after.arn), since=call.now)
        return answer


def _carry_out(context: Context, call: Call) -> Result:
    answer = OPERATIONS[call.operation](context, call)
    follow(context, call)
    return answer


ByMoto = Callable[[bytes], Reply]
"""Has moto answer a body."""

IAM_OPERATIONS: Final[Mapping[str, Callable[[Context, Call], Result | None]]] = {
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
"""Operations of IAM that moto lacks or checks less. A function that returns None has checked only; then moto acts."""


def carry_out_iam(context: Context, operation: Operation, principal: Principal, by_moto: ByMoto) -> Reply:
    """Check a request to IAM and carry it out; AwsError. Every call that names a user needs that user to exist."""
    name, body = operation.name, operation.body
    if not is_iam_operation(name):
        raise AwsError("InvalidAction", f"Could not find operation {name} for version 2010-05-08")
    call = Call(name, principal, operation.region, read_arguments(name, body), context.state.clock.now())
    check_iam_arguments(name, call.arguments)
    check_rights(context.state, context.access, operation, principal)
    if name in IAM_OPERATIONS:
        result = IAM_OPERATIONS[name](context, call)
        return by_moto(body) if result is None else write_answer(name, result)
    if call.text("PolicyArn") is not None:
        context.state.users.policy(call.account, str(call.text("PolicyArn")))  # has moto know AWS's own policies
    if has_argument(name, "UserName"):
        user = user_of(context, call)
        body += b"" if call.text("UserName") else b"&" + urlencode({"UserName": user.name}).encode()
    return by_moto(body)
