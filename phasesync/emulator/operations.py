"""Which function carries out which operation, and in which order a request is checked."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from phasesync.emulator.access import actions_of, shown_resource
from phasesync.emulator.deletion import delete_secret, restore_secret
from phasesync.emulator.reading import (
    batch_get_secret_value,
    describe_secret,
    get_secret_value,
    list_secret_version_ids,
    list_secrets,
    remember,
)
from phasesync.emulator.replication import (
    associate_cross_account_replica,
    disassociate_cross_account_replica,
    follow,
    remove_regions_from_replication,
    replicate_secret_to_regions,
    stop_replication_to_replica,
)
from phasesync.emulator.request import Call
from phasesync.emulator.resource_policies import (
    delete_resource_policy,
    get_resource_policy,
    list_resource_policies,
    put_resource_policy,
    validate_resource_policy,
)
from phasesync.emulator.rotation import cancel_rotate_secret, rotate_secret
from phasesync.emulator.service import Operate, Result, Service
from phasesync.emulator.shapes import check_shape
from phasesync.emulator.tags import tag_resource, untag_resource
from phasesync.emulator.writing import create_secret, put_secret_value, update_secret, update_secret_version_stage

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
"""Everything but GetRandomPassword, which moto answers well."""


def carry_out(service: Service, call: Call) -> Result:
    """Check a request and carry it out, whole and alone; AwsError."""
    with service.world.lock:
        check_shape(call.operation, call.arguments)
        before = service.world.find(call.account, call.region, call.secret_id) if call.secret_id else None
        arn = None if before is None else str(before.arn)
        if not call.trusted:
            for action in actions_of(call):
                service.access.check(call.principal, action, shown_resource(call), arn)
        if not service.timing.list_lag or not call.secret_id:
            return _carry_out(service, call)
        if before is not None and not service.world.extras(before).shown:
            remember(service, before, arn, since=datetime.min.replace(tzinfo=UTC))
        answer = _carry_out(service, call)
        after = service.world.find(call.account, call.region, call.secret_id)
        remember(service, after, arn if after is None else str(after.arn), since=call.now)
        return answer


def _carry_out(service: Service, call: Call) -> Result:
    answer = OPERATIONS[call.operation](service, call)
    follow(service, call)
    return answer
