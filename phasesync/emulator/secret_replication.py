"""Replicas of a secret in other Regions, and copies in other accounts: how they are made, fail and end."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from phasesync.emulator.context import Context, Result
from phasesync.emulator.errors import AwsError, invalid_parameter, invalid_request, limit_exceeded, not_found
from phasesync.emulator.moto_state import CURRENT, CrossAccount, ReplicaExtras
from phasesync.emulator.request import Call, Principal

# --- Replicas in other Regions
#
# User Guide, multi-Region secrets, promote a replica, replication troubleshooting (name taken, key not usable or not
# allowed: the replica is Failed, the primary is not); API reference, ReplicateSecretToRegions,
# RemoveRegionsFromReplication, StopReplicationToReplica, ReplicationStatusType (its StatusMessage). A replica that is
# not InSync yet cannot be read.

ReplicaRegion = Mapping[str, str]
"""`Region` and, if given, `KmsKeyId`, as in AddReplicaRegions."""


def check_regions(context: Context, call: Call) -> list[ReplicaRegion]:
    """Return the replicas that a request asks for; InvalidParameterException for the own Region, or twice one."""
    wanted: list[ReplicaRegion] = call.listed("AddReplicaRegions")
    regions = [str(entry.get("Region")) for entry in wanted]
    if call.region in regions:
        raise invalid_parameter("Invalid replica region.")
    if len(set(regions)) < len(regions):
        raise invalid_parameter("A replica Region is named twice.")
    return wanted


def replicate(context: Context, call: Call, secret: Any, wanted: Sequence[ReplicaRegion]) -> None:
    """Add replicas; those that cannot be made are Failed, the request succeeds (public: CloudFormation issue 1459)."""
    overwrite = bool(call.arguments.get("ForceOverwriteReplicaSecret"))
    for entry in wanted:
        former = next((replica for replica in secret.replicas if replica.region == entry["Region"]), None)
        if former is not None:
            context.state.drop_replica(former)
        extras = ReplicaExtras(in_sync_at=call.now + context.timing.replication_takes)
        extras.message = _reason_to_fail(context, call, secret, entry, extras, overwrite=overwrite)
        context.state.add_replica(secret, entry["Region"], extras)


def replicate_secret_to_regions(context: Context, call: Call) -> Result:
    """Add replicas to a secret; a failed one is tried again."""
    secret = context.secret(call)
    wanted = check_regions(context, call)
    standing = {replica.region for replica in secret.replicas if context.state.replica_extras(replica).message is None}
    for entry in wanted:
        if entry["Region"] in standing:
            raise invalid_parameter(f"The secret is already replicated to {entry['Region']}.")
    replicate(context, call, secret, wanted)
    context.state.touch(secret)
    return {"ARN": secret.arn, "ReplicationStatus": statuses_of(context, secret)}


def remove_regions_from_replication(context: Context, call: Call) -> Result:
    """Delete replicas, at once."""
    secret = context.secret(call)
    regions = call.listed("RemoveReplicaRegions")
    standing = {replica.region for replica in secret.replicas}
    if missing := [region for region in regions if region not in standing]:
        raise invalid_parameter(f"The secret is not replicated to {', '.join(missing)}.")
    for replica in [each for each in secret.replicas if each.region in regions]:
        context.state.drop_replica(replica)
    context.state.touch(secret)
    return {"ARN": secret.arn, "ReplicationStatus": statuses_of(context, secret)}


def stop_replication_to_replica(context: Context, call: Call) -> Result:
    """Make a replica a secret of its own; asked in the replica's Region."""
    replica = context.secret(call, writes=False)
    if context.state.extras(replica).cross_account_primary is not None and not context.state.is_replica(replica):
        return stop_at_replica(context, call, replica)
    if not context.state.is_replica(replica):
        raise invalid_parameter("The secret is not a replica.")
    return {"ARN": context.state.promote(replica).arn}


def statuses_of(context: Context, secret: Any) -> list[dict[str, Any]]:
    """Return the status of each replica of a secret."""
    fields = []
    for replica in secret.replicas:
        extras = context.state.replica_extras(replica)
        entry: dict[str, Any] = {"Region": replica.region, "KmsKeyId": extras.kms_key or "alias/aws/secretsmanager"}
        if extras.message is not None:
            entry |= {"Status": "Failed", "StatusMessage": extras.message}
        elif extras.in_sync_at > context.state.clock.now():
            entry |= {"Status": "InProgress"}
        else:
            entry |= {"Status": "InSync", "StatusMessage": "Replication succeeded"}
        fields.append(entry)
    return fields


def _reason_to_fail(
    context: Context, call: Call, secret: Any, wanted: ReplicaRegion, extras: ReplicaExtras, *, overwrite: bool
) -> str | None:
    """Return why a replica cannot be made, None if it can; removes what is in the way if the request asks for it."""
    region = wanted["Region"]
    try:
        extras.kms_key = context.keys.choose(call, wanted.get("KmsKeyId"), region=region)
        context.keys.check_replica(call, secret, region, extras.kms_key)
    except AwsError as error:
        return f"Replication failed: {error.message}"
    in_the_way = context.state.find(secret.account_id, region, secret.name)
    if in_the_way is None:
        return None
    if not overwrite:
        return f"Replication failed: Secret name {secret.name} already exists in region {region}."
    if context.state.is_replica(in_the_way):
        context.state.drop_replica(in_the_way)
    else:
        context.state.remove(in_the_way)
    return None


# --- Copies in other accounts, in one Region: made by one account, associated by the other, ended by either
#
# API reference, CreateSecret (CrossAccountPrimaryARN: a customer-managed key; no value, description, Regions or type),
# AssociateCrossAccountReplica (one copy at most; may be repeated), DisassociateCrossAccountReplica,
# StopReplicationToReplica, CrossAccountPrimaryType, CrossAccountReplicaEntry (their states); User Guide, replicate
# across accounts (only the value follows), how replication is authorized (Decrypt with the primary's key and Encrypt
# with the copy's, as the replication role or as the caller; what is not allowed shows in StatusMessage only), stop
# cross-account replication (what each side forgets). Codes of refusals: the API reference lists the codes of each
# operation, but not which case has which code; here they are chosen by their meaning. Organizations
# (ReplicaRestriction) are not checked. A copy is in step at once.

_NOT_WITH_PRIMARY: Final = ("SecretString", "SecretBinary", "Description", "AddReplicaRegions", "Type")
_WRITES: Final = frozenset({"PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage"})


def primary_of_new(call: Call) -> CrossAccount | None:
    """Return the primary that a new secret follows, None if it follows none; InvalidParameterException."""
    arn = call.text("CrossAccountPrimaryARN")
    if arn is None:
        return None
    unwanted = [name for name in _NOT_WITH_PRIMARY if call.arguments.get(name)]
    if unwanted:
        raise invalid_parameter(f"You can't include {', '.join(unwanted)} for a cross-account replica secret.")
    if not call.text("KmsKeyId"):
        raise invalid_parameter("You must specify a customer managed KMS key for a cross-account replica secret.")
    _check_place(call, arn)
    return CrossAccount(arn=arn, status="Pending")


def associate_cross_account_replica(context: Context, call: Call) -> Result:
    """Begin to replicate to a copy that was made for it; called by the owner of the primary."""
    primary, arn = context.secret(call), call.text("CrossAccountReplicaARN") or ""
    _check_place(call, arn)
    replica = _secret_elsewhere(context, call, arn)
    if replica is None:
        raise not_found()
    made_for = context.state.extras(replica).cross_account_primary
    if made_for is None or made_for.arn != primary.arn:
        raise invalid_request("The replica secret isn't a cross-account replica of this primary secret.")
    links = context.state.extras(primary).cross_account_replicas
    known = next((link for link in links if link.arn == arn), None)
    if known is None and links:
        raise limit_exceeded("A primary secret can have at most one cross-account replica.")
    wanted = CrossAccount(arn=arn, status="InProgress", role_arn=call.text("ReplicationRoleARN"))
    _check_keys(context, call, primary, replica, wanted)
    links[:] = [wanted]
    _replicate(context, call, primary, wanted)
    context.state.touch(primary)
    return {"ARN": primary.arn, "CrossAccountReplicaARN": arn, "ReplicationStatus": wanted.status}


def disassociate_cross_account_replica(context: Context, call: Call) -> Result:
    """End the replication from the side of the primary; the copy stays what it is, detached."""
    primary, arn = context.secret(call), call.text("CrossAccountReplicaARN") or ""
    links = context.state.extras(primary).cross_account_replicas
    if arn not in [link.arn for link in links]:
        raise invalid_request("The secret isn't associated with this cross-account replica.")
    links[:] = [link for link in links if link.arn != arn]
    context.state.touch(primary)
    replica = _secret_elsewhere(context, call, arn)
    if replica is not None:
        _set_status(context, replica, primary.arn, "Detached")
    return {"ARN": primary.arn, "CrossAccountReplicaARN": arn}


def stop_at_replica(context: Context, call: Call, replica: Any) -> Result:
    """End the replication from the side of the copy, which becomes a secret of its own; its managed policy goes."""
    if not call.trusted:
        context.access.check(call.principal, "secretsmanager:DeleteResourcePolicy", call.secret_id, replica.arn)
    extras = context.state.extras(replica)
    former, extras.cross_account_primary = extras.cross_account_primary, None
    context.state.touch(replica)
    primary = None if former is None else _secret_elsewhere(context, call, former.arn)
    if primary is not None:
        for link in context.state.extras(primary).cross_account_replicas:
            if link.arn == replica.arn:
                link.status = "Detached"
    return {"ARN": replica.arn}


def refuse_value_of_replica(context: Context, secret: Any) -> None:
    """Refuse to change the value of a copy, which is its primary's: as for a replica in another Region."""
    if context.state.extras(secret).cross_account_primary is not None:
        raise invalid_parameter("Operation not permitted on a cross-account replica secret.")


def refuse_deletion(context: Context, secret: Any) -> None:
    """Refuse to delete what replicates still: each account ends it on its own side first (API reference)."""
    extras = context.state.extras(secret)
    if extras.cross_account_replicas:
        arns = ", ".join(link.arn for link in extras.cross_account_replicas)
        raise invalid_request(f"You can't delete secret {secret.arn} that still has cross-account replicas [{arns}].")
    if extras.cross_account_primary is not None:
        raise invalid_request("You can't delete a cross-account replica secret. Stop replication first.")


def follow(context: Context, call: Call) -> None:
    """After a call that may have changed the value: bring copies in step; the call itself has succeeded."""
    if call.operation not in _WRITES:
        return
    primary = context.state.find(call.account, call.region, call.secret_id)
    if primary is None or context.state.is_replica(primary):
        return
    for link in context.state.extras(primary).cross_account_replicas:
        if link.status != "Detached":
            _replicate(context, call, primary, link)


def cross_account_fields(context: Context, secret: Any) -> dict[str, Any]:
    """Return the fields of DescribeSecret; ListSecrets has none of them (API reference, SecretListEntry)."""
    if context.state.is_replica(secret):
        return {}
    extras = context.state.extras(secret)
    fields: dict[str, Any] = {}
    if extras.cross_account_primary is not None:
        fields["CrossAccountPrimary"] = _link_fields(extras.cross_account_primary, "PrimarySecretARN")
    if extras.cross_account_replicas:
        fields["CrossAccountReplicas"] = [
            _link_fields(link, "ReplicaSecretARN") for link in extras.cross_account_replicas
        ]
    return fields


def _link_fields(link: CrossAccount, name: str) -> dict[str, str]:
    fields = {
        name: link.arn,
        "ReplicationRoleARN": link.role_arn,
        "ReplicationStatus": link.status,
        "StatusMessage": link.message,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _check_place(call: Call, arn: str) -> None:
    """Make sure that the other secret is in another account, in the same Region and partition."""
    parts = arn.split(":", 6)
    if len(parts) < 7 or parts[2] != "secretsmanager" or parts[3] != call.region or parts[4] == call.account:
        raise invalid_parameter("The primary and the replica must be in the same Region, in different accounts.")


def _secret_elsewhere(context: Context, call: Call, arn: str) -> Any | None:
    """Return a secret of another account, None if it no longer exists."""
    return context.state.find(arn.split(":")[4], call.region, arn)


def _replicate(context: Context, call: Call, primary: Any, link: CrossAccount) -> None:
    """Copy the current value; if the rights of the role or caller do not suffice, only the states show it."""
    replica = _secret_elsewhere(context, call, link.arn)
    if replica is None:
        link.status, link.message = "Failed", "The replica secret can't be found."
        return
    try:
        _check_keys(context, call, primary, replica, link)
    except AwsError as error:
        link.status, link.message = "Failed", error.message
        _set_status(context, replica, primary.arn, "Failed", error.message)
        return
    arn = context.keys.arn_of(replica)
    replica.versions = {
        version_id: {**version, "version_stages": list(version["version_stages"])}
        for version_id, version in primary.versions.items()
        if version["version_stages"] and "createdate" in version
    }
    extras = context.state.extras(replica)
    extras.version_keys = {version_id: {arn} for version_id in replica.versions}
    replica.set_default_version_id(
        next(
            (version_id for version_id, version in replica.versions.items() if CURRENT in version["version_stages"]),
            None,
        )
    )
    link.status, link.message = "InSync", None
    _set_status(context, replica, primary.arn, "InSync")


def _check_keys(context: Context, call: Call, primary: Any, replica: Any, link: CrossAccount) -> None:
    """Try what replicating needs of KMS, as the role or as the caller; AwsError."""
    current = next((version_id for version_id, v in primary.versions.items() if CURRENT in v["version_stages"]), None)
    context.keys.replicate(_as_replicator(call, link), primary, replica, current or "no version")


def _as_replicator(call: Call, link: CrossAccount) -> Call:
    if link.role_arn is None:
        return call
    role = Principal("", call.account, link.role_arn, link.role_arn)
    return Call(call.operation, role, call.region, call.arguments, call.now)


def _set_status(context: Context, replica: Any, primary_arn: str, status: str, message: str | None = None) -> None:
    at = context.state.extras(replica).cross_account_primary
    if at is not None and at.arn == primary_arn:
        at.status, at.message = status, message
        context.state.touch(replica)
