"""
Replicas: how they come, how they fail, how they go.

Sources: User Guide, multi-Region secrets, promote a replica, replication troubleshooting (name taken, key not usable or
not allowed: the replica is Failed, the primary is not); API reference, ReplicateSecretToRegions,
RemoveRegionsFromReplication, StopReplicationToReplica, ReplicationStatusType (its StatusMessage). A replica that is not
InSync yet cannot be read.

Copies of secrets between accounts, in one Region: made by one account, associated by the other, ended by either.

Sources: API reference, CreateSecret (CrossAccountPrimaryARN: a customer-managed key; no value, description, Regions or
type), AssociateCrossAccountReplica (one copy at most; may be asked again), DisassociateCrossAccountReplica,
StopReplicationToReplica, CrossAccountPrimaryType, CrossAccountReplicaEntry (their states); User Guide, replicate
across accounts (only the value follows), how replication is authorized (Decrypt with the primary's key and Encrypt with
the copy's, as the replication role or as whoever writes; what is not allowed shows in StatusMessage only), stop
cross-account replication (what each side forgets). Codes of refusals: the API reference lists the codes of each
operation, and does not say which case has which; here by their meaning. Organizations are not looked at
(ReplicaRestriction); a copy is in step at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from phasesync.emulator.errors import AwsError, invalid_parameter, invalid_request, limit_exceeded, not_found
from phasesync.emulator.request import Call, Principal
from phasesync.emulator.service import Result, Service
from phasesync.emulator.world import CURRENT, CrossAccount, ReplicaExtras

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


_NOT_WITH_PRIMARY: Final = ("SecretString", "SecretBinary", "Description", "AddReplicaRegions", "Type")
_WRITES: Final = frozenset({"PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage"})


def primary_of_new(call: Call) -> CrossAccount | None:
    """Return the primary that a secret to be made follows, None = none; InvalidParameterException."""
    arn = call.text("CrossAccountPrimaryARN")
    if arn is None:
        return None
    given = [name for name in _NOT_WITH_PRIMARY if call.arguments.get(name)]
    if given:
        raise invalid_parameter(f"You can't include {', '.join(given)} for a cross-account replica secret.")
    if not call.text("KmsKeyId"):
        raise invalid_parameter("You must specify a customer managed KMS key for a cross-account replica secret.")
    _check_place(call, arn)
    return CrossAccount(arn=arn, status="Pending")


def associate_cross_account_replica(service: Service, call: Call) -> Result:
    """Begin to replicate to a copy that was made for it; called by the owner of the primary."""
    primary, arn = service.secret(call), call.text("CrossAccountReplicaARN") or ""
    _check_place(call, arn)
    replica = _far(service, call, arn)
    if replica is None:
        raise not_found()
    made_for = service.world.extras(replica).cross_account_primary
    if made_for is None or made_for.arn != primary.arn:
        raise invalid_request("The replica secret isn't a cross-account replica of this primary secret.")
    there = service.world.extras(primary).cross_account_replicas
    known = next((one for one in there if one.arn == arn), None)
    if known is None and there:
        raise limit_exceeded("A primary secret can have at most one cross-account replica.")
    wanted = CrossAccount(arn=arn, status="InProgress", role_arn=call.text("ReplicationRoleARN"))
    _check_keys(service, call, primary, replica, wanted)
    there[:] = [wanted]
    _replicate(service, call, primary, wanted)
    service.world.touch(primary)
    return {"ARN": primary.arn, "CrossAccountReplicaARN": arn, "ReplicationStatus": wanted.status}


def disassociate_cross_account_replica(service: Service, call: Call) -> Result:
    """End the replication from the side of the primary; the copy stays what it is, detached."""
    primary, arn = service.secret(call), call.text("CrossAccountReplicaARN") or ""
    there = service.world.extras(primary).cross_account_replicas
    if arn not in [one.arn for one in there]:
        raise invalid_request("The secret isn't associated with this cross-account replica.")
    there[:] = [one for one in there if one.arn != arn]
    service.world.touch(primary)
    replica = _far(service, call, arn)
    if replica is not None:
        _note(service, replica, primary.arn, "Detached")
    return {"ARN": primary.arn, "CrossAccountReplicaARN": arn}


def stop_at_replica(service: Service, call: Call, replica: Any) -> Result:
    """End the replication from the side of the copy, which becomes a secret of its own; its managed policy goes."""
    if not call.trusted:
        service.access.check(call.principal, "secretsmanager:DeleteResourcePolicy", call.secret_id, replica.arn)
    extras = service.world.extras(replica)
    former, extras.cross_account_primary = extras.cross_account_primary, None
    service.world.touch(replica)
    primary = None if former is None else _far(service, call, former.arn)
    if primary is not None:
        for one in service.world.extras(primary).cross_account_replicas:
            if one.arn == replica.arn:
                one.status = "Detached"
    return {"ARN": replica.arn}


def refuse_value_of_replica(service: Service, secret: Any) -> None:
    """Refuse to change the value of a copy, which is its primary's: as for a replica in another Region."""
    if service.world.extras(secret).cross_account_primary is not None:
        raise invalid_parameter("Operation not permitted on a cross-account replica secret.")


def refuse_deletion(service: Service, secret: Any) -> None:
    """Refuse to delete what replicates still: each account ends it on its own side first (API reference)."""
    extras = service.world.extras(secret)
    if extras.cross_account_replicas:
        arns = ", ".join(one.arn for one in extras.cross_account_replicas)
        raise invalid_request(f"You can't delete secret {secret.arn} that still has cross-account replicas [{arns}].")
    if extras.cross_account_primary is not None:
        raise invalid_request("You can't delete a cross-account replica secret. Stop replication first.")


def follow(service: Service, call: Call) -> None:
    """After a call: bring copies in step where the value may be another one; the call itself has succeeded."""
    if call.operation not in _WRITES:
        return
    primary = service.world.find(call.account, call.region, call.secret_id)
    if primary is None or service.world.is_replica(primary):
        return
    for one in service.world.extras(primary).cross_account_replicas:
        if one.status != "Detached":
            _replicate(service, call, primary, one)


def told_cross_account(service: Service, secret: Any) -> dict[str, Any]:
    """Return what DescribeSecret tells; ListSecrets tells nothing of it (API reference, SecretListEntry)."""
    if service.world.is_replica(secret):
        return {}
    extras = service.world.extras(secret)
    told: dict[str, Any] = {}
    if extras.cross_account_primary is not None:
        told["CrossAccountPrimary"] = _told(extras.cross_account_primary, "PrimarySecretARN")
    if extras.cross_account_replicas:
        told["CrossAccountReplicas"] = [_told(one, "ReplicaSecretARN") for one in extras.cross_account_replicas]
    return told


def _told(one: CrossAccount, name: str) -> dict[str, str]:
    told = {
        name: one.arn,
        "ReplicationRoleARN": one.role_arn,
        "ReplicationStatus": one.status,
        "StatusMessage": one.message,
    }
    return {key: value for key, value in told.items() if value is not None}


def _check_place(call: Call, arn: str) -> None:
    """Make sure that the other secret is in another account, in the same Region and partition."""
    parts = arn.split(":", 6)
    if len(parts) < 7 or parts[2] != "secretsmanager" or parts[3] != call.region or parts[4] == call.account:
        raise invalid_parameter("The primary and the replica must be in the same Region, in different accounts.")


def _far(service: Service, call: Call, arn: str) -> Any | None:
    """Return a secret of another account, None = it is gone."""
    return service.world.find(arn.split(":")[4], call.region, arn)


def _replicate(service: Service, call: Call, primary: Any, link: CrossAccount) -> None:
    """Copy the current value; where the rights of whoever replicates do not reach, only the states tell."""
    replica = _far(service, call, link.arn)
    if replica is None:
        link.status, link.message = "Failed", "The replica secret can't be found."
        return
    try:
        _check_keys(service, call, primary, replica, link)
    except AwsError as error:
        link.status, link.message = "Failed", error.message
        _note(service, replica, primary.arn, "Failed", error.message)
        return
    arn = service.keys.arn_of(replica)
    replica.versions = {
        one: {**version, "version_stages": list(version["version_stages"])}
        for one, version in primary.versions.items()
        if version["version_stages"] and "createdate" in version
    }
    extras = service.world.extras(replica)
    extras.version_keys = {one: {arn} for one in replica.versions}
    replica.set_default_version_id(
        next((one for one, version in replica.versions.items() if CURRENT in version["version_stages"]), None)
    )
    link.status, link.message = "InSync", None
    _note(service, replica, primary.arn, "InSync")


def _check_keys(service: Service, call: Call, primary: Any, replica: Any, link: CrossAccount) -> None:
    """Try what replicating needs of KMS, as the role or as the caller; AwsError."""
    current = next((one for one, v in primary.versions.items() if CURRENT in v["version_stages"]), None)
    service.keys.replicate(_as_replicator(call, link), primary, replica, current or "no version")


def _as_replicator(call: Call, link: CrossAccount) -> Call:
    if link.role_arn is None:
        return call
    role = Principal("", call.account, link.role_arn, link.role_arn)
    return Call(call.operation, role, call.region, call.arguments, call.now)


def _note(service: Service, replica: Any, primary_arn: str, status: str, message: str | None = None) -> None:
    at = service.world.extras(replica).cross_account_primary
    if at is not None and at.arn == primary_arn:
        at.status, at.message = status, message
        service.world.touch(replica)
