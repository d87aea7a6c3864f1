"""
Replicas: how they come, how they fail, how they go.

Sources: User Guide, multi-Region secrets, promote a replica, replication troubleshooting (name taken, key not usable or
not allowed: the replica is Failed, the primary is not); API reference, ReplicateSecretToRegions,
RemoveRegionsFromReplication, StopReplicationToReplica, ReplicationStatusType (its StatusMessage). A replica that is not
InSync yet cannot be read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from phasesync.testing.aws_shim.cross_account import stop_at_replica
from phasesync.testing.aws_shim.errors import AwsError, invalid_parameter
from phasesync.testing.aws_shim.moto_world import ReplicaExtras
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Result, Service

Wanted = Mapping[str, str]


def check_regions(service: Service, call: Call) -> list[Wanted]:
    """Return the replicas that a request asks for; InvalidParameterException for the own Region, or twice one."""
    wanted: list[Wanted] = call.listed("AddReplicaRegions")
    regions = [str(one.get("Region")) for one in wanted]
    if call.region in regions:
        raise invalid_parameter("Invalid replica region.")
    if len(set(regions)) < len(regions):
        raise invalid_parameter("A replica Region is named twice.")
    return wanted


def replicate(service: Service, call: Call, secret: Any, wanted: Sequence[Wanted]) -> None:
    """Add replicas; those that cannot be made are Failed, the request succeeds (public: CloudFormation issue 1459)."""
    overwrite = bool(call.arguments.get("ForceOverwriteReplicaSecret"))
    for one in wanted:
        former = next((replica for replica in secret.replicas if replica.region == one["Region"]), None)
        if former is not None:
            service.world.drop_replica(former)
        extras = ReplicaExtras(in_sync_at=call.now + service.timing.replication_takes)
        extras.message = _reason_to_fail(service, call, secret, one, extras, overwrite=overwrite)
        service.world.add_replica(secret, one["Region"], extras)


def replicate_secret_to_regions(service: Service, call: Call) -> Result:
    """Add replicas to a secret; a failed one is tried again."""
    secret = service.secret(call)
    wanted = check_regions(service, call)
    there = {one.region for one in secret.replicas if service.world.replica_extras(one).message is None}
    for one in wanted:
        if one["Region"] in there:
            raise invalid_parameter(f"The secret is already replicated to {one['Region']}.")
    replicate(service, call, secret, wanted)
    service.world.touch(secret)
    return {"ARN": secret.arn, "ReplicationStatus": statuses_of(service, secret)}


def remove_regions_from_replication(service: Service, call: Call) -> Result:
    """Delete replicas, at once."""
    secret = service.secret(call)
    regions = call.listed("RemoveReplicaRegions")
    there = {replica.region for replica in secret.replicas}
    if missing := [region for region in regions if region not in there]:
        raise invalid_parameter(f"The secret is not replicated to {', '.join(missing)}.")
    for replica in [one for one in secret.replicas if one.region in regions]:
        service.world.drop_replica(replica)
    service.world.touch(secret)
    return {"ARN": secret.arn, "ReplicationStatus": statuses_of(service, secret)}


def stop_replication_to_replica(service: Service, call: Call) -> Result:
    """Make a replica a secret of its own; asked in the replica's Region."""
    replica = service.secret(call, writes=False)
    if service.world.extras(replica).cross_account_primary is not None and not service.world.is_replica(replica):
        return stop_at_replica(service, call, replica)
    if not service.world.is_replica(replica):
        raise invalid_parameter("The secret is not a replica.")
    return {"ARN": service.world.promote(replica).arn}


def statuses_of(service: Service, secret: Any) -> list[dict[str, Any]]:
    """Return how the replicas of a secret stand."""
    told = []
    for replica in secret.replicas:
        extras = service.world.replica_extras(replica)
        entry: dict[str, Any] = {"Region": replica.region, "KmsKeyId": extras.kms_key or "alias/aws/secretsmanager"}
        if extras.message is not None:
            entry |= {"Status": "Failed", "StatusMessage": extras.message}
        elif extras.in_sync_at > service.world.clock.now():
            entry |= {"Status": "InProgress"}
        else:
            entry |= {"Status": "InSync", "StatusMessage": "Replication succeeded"}
        told.append(entry)
    return told


def _reason_to_fail(
    service: Service, call: Call, secret: Any, wanted: Wanted, extras: ReplicaExtras, *, overwrite: bool
) -> str | None:
    """Return why a replica cannot be made, None = it can; takes away what is in the way where that is asked for."""
    region = wanted["Region"]
    try:
        extras.kms_key = service.keys.choose(call, wanted.get("KmsKeyId"), region=region)
        service.keys.check_replica(call, secret, region, extras.kms_key)
    except AwsError as error:
        return f"Replication failed: {error.message}"
    in_the_way = service.world.find(secret.account_id, region, secret.name)
    if in_the_way is None:
        return None
    if not overwrite:
        return f"Replication failed: Secret name {secret.name} already exists in region {region}."
    if service.world.is_replica(in_the_way):
        service.world.drop_replica(in_the_way)
    else:
        service.world.remove(in_the_way)
    return None
