"""
GetSecretValue, DescribeSecret and ListSecretVersionIds.

Sources: the API reference's page of each (which version is meant, which fields are absent, dates of access that carry
no time, that unlabelled versions are told only where they are asked for); texts: public, LocalStack's provider, moto.
"""

from datetime import datetime
from typing import Any

from phasesync.testing.aws_shim.cross_account import told_cross_account
from phasesync.testing.aws_shim.deletion import deleted_date
from phasesync.testing.aws_shim.errors import AwsError, invalid_request
from phasesync.testing.aws_shim.labels import holder
from phasesync.testing.aws_shim.moto_world import CURRENT
from phasesync.testing.aws_shim.paging import page_of
from phasesync.testing.aws_shim.replication import statuses_of
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.rotation import told_rotation
from phasesync.testing.aws_shim.service import Result, Service
from phasesync.testing.aws_shim.values import has_value


def get_secret_value(service: Service, call: Call) -> Result:
    """Return a value, and note the day."""
    secret = service.secret(call, writes=False)
    return read_version(service, call, secret, call.text("VersionId"), call.text("VersionStage"))


def read_version(service: Service, call: Call, secret: Any, version_id: str | None, label: str | None) -> Result:
    """Return the value of one version; without id and label, of the current one."""
    found = version_id or holder(secret, label or CURRENT)
    version = secret.versions.get(found) if found else None
    if version is None or not has_value(version):
        what = f"VersionId: {version_id}" if version_id else f"staging label: {label or CURRENT}"
        raise AwsError("ResourceNotFoundException", f"Secrets Manager can't find the specified secret value for {what}")
    if version_id and label and label not in version["version_stages"]:
        raise invalid_request("You provided a VersionStage that is not associated to the provided VersionId.")
    service.keys.decrypt(call, secret, version["version_id"])
    extras, day = service.world.extras(secret), _midnight(call.now)
    extras.accessed_on[call.region] = extras.version_accessed_on[version["version_id"]] = day
    answer: Result = {
        "ARN": secret.arn,
        "Name": secret.name,
        "VersionId": version["version_id"],
        "VersionStages": list(version["version_stages"]),
        "CreatedDate": version["createdate"],
    }
    if "secret_string" in version:
        return answer | {"SecretString": version["secret_string"]}
    return answer | {"SecretBinary": version["secret_binary"]}


def describe_secret(service: Service, call: Call) -> Result:
    """Return everything but the value; works on what is scheduled for deletion too."""
    secret = service.secret(call, writes=False, marked=True)
    told = describe(service, secret, call.region)
    told["VersionIdsToStages"] = told.pop("SecretVersionsToStages", None)
    if service.world.source_of(secret) is secret and secret.replicas:
        told["ReplicationStatus"] = statuses_of(service, secret)
    told |= told_cross_account(service, secret)
    return present(told)


def describe(service: Service, secret: Any, region: str) -> dict[str, Any]:
    """Return what ListSecrets tells of a secret, and DescribeSecret in part."""
    source, extras = service.world.source_of(secret), service.world.extras(secret)
    replica = service.world.is_replica(secret)
    accessed_on = extras.accessed_on.get(region)
    key = service.world.replica_extras(secret).kms_key if replica else source.kms_key_id
    return present(
        {
            "ARN": secret.arn,
            "Name": source.name,
            "Description": source.description or None,
            "KmsKeyId": key,
            **told_rotation(source),
            "LastChangedDate": extras.changed_at.timestamp(),
            "LastAccessedDate": None if accessed_on is None else accessed_on.timestamp(),
            "DeletedDate": deleted_date(source),
            "Tags": source.tags or None,
            "SecretVersionsToStages": _labelled(source) or None,
            "OwningService": source.owning_service,
            "Type": extras.external_type,
            **extras.external_rotation,
            "CreatedDate": extras.created_at.timestamp(),
            "PrimaryRegion": source.region if source.replicas else None,
        }
    )


def list_secret_version_ids(service: Service, call: Call) -> Result:
    """Return the versions that hold a value, newest first."""
    secret = service.secret(call, writes=False, marked=True)
    extras = service.world.extras(secret)
    entries = []
    for version_id, version in secret.versions.items():
        if not has_value(version) or not (version["version_stages"] or call.arguments.get("IncludeDeprecated")):
            continue
        day = extras.version_accessed_on.get(version_id)
        keys = [key or "DefaultEncryptionKey" for key in extras.version_keys.get(version_id, ())]
        entries.append(
            present(
                {
                    "VersionId": version_id,
                    "VersionStages": list(version["version_stages"]) or None,
                    "CreatedDate": version["createdate"],
                    "LastAccessedDate": None if day is None else day.timestamp(),
                    "KmsKeyIds": sorted(keys) or None,
                }
            )
        )
    entries.sort(key=lambda entry: float(entry["CreatedDate"]), reverse=True)
    page, token = page_of(entries, call)
    return present({"ARN": secret.arn, "Name": secret.name, "Versions": page, "NextToken": token})


def present(told: dict[str, Any]) -> dict[str, Any]:
    """ "Secrets Manager only returns fields that have a value" (API reference, DescribeSecret)."""
    return {name: value for name, value in told.items() if value is not None}


def _labelled(secret: Any) -> dict[str, list[str]]:
    return {
        one: list(version["version_stages"]) for one, version in secret.versions.items() if version["version_stages"]
    }


def _midnight(at: datetime) -> datetime:
    """Dates of access carry no time (API reference, SecretVersionsListEntry, LastAccessedDate)."""
    return at.replace(hour=0, minute=0, second=0, microsecond=0)
