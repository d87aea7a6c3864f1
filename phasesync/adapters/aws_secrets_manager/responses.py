"""
Answers of Secrets Manager as our values. Decides nothing; a garbled answer to a read is DestinationUnavailableError.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from phasesync.core.model import SecretValue, ValueType
from phasesync.core.remote import (
    TAG_INSTANCE,
    CrossAccountLink,
    CrossAccountStatus,
    Observed,
    RemoteListing,
    Replica,
    ReplicaStatus,
)
from phasesync.errors import DestinationUnavailableError

MANAGED_ALIAS: Final = "alias/aws/secretsmanager"
"""Alias of the AWS-managed key (User Guide, encryption in Secrets Manager)."""

_NAME_TAKEN: Final = "already exists"
"""
In the text of a copy that failed because of its name; the texts that are known are "Secret with this name already
exists in this region" (API reference, ReplicationStatusType) and "Secret name … already exists in region …".
"""
_STATUSES: Final[Mapping[str, ReplicaStatus]] = {
    **{str(status): status for status in ReplicaStatus},
    "Pending": ReplicaStatus.IN_PROGRESS,
}
_CROSS_ACCOUNT: Final[Mapping[str, CrossAccountStatus]] = {str(status): status for status in CrossAccountStatus}
_ARN: Final = re.compile(r"arn:[a-z0-9-]+:(secretsmanager|iam):[a-z0-9-]*:\d{12}:[A-Za-z0-9/_+=,.@:!-]{1,2048}")
"""ARNs of secrets and roles; what we print as part of a command has to be one."""


def observed_of(answer: Mapping[str, Any], operation: str = "DescribeSecret") -> Observed:
    """
    Read the answer of DescribeSecret, or an entry of ListSecrets, which does not tell of copies.

    Args:
        answer: the answer or the entry.
        operation: where it comes from.
    """
    arn, name = told(answer, "ARN"), told(answer, "Name")
    if arn is None or name is None:
        raise DestinationUnavailableError(f"secretsmanager:{operation}: a garbled answer")
    primary_region = told(answer, "PrimaryRegion")
    # Only a primary has copies; what a copy says of others is not its own.
    is_primary = primary_region in (None, arn.split(":")[3] if arn.count(":") > 3 else None)
    copies = answer.get("ReplicationStatus") or [] if is_primary else []
    versions = answer.get("VersionIdsToStages") or answer.get("SecretVersionsToStages") or {}
    return Observed(
        arn=arn,
        name=name,
        versions={version: frozenset(labels) for version, labels in versions.items() if labels},
        description=answer.get("Description") or "",
        kms_key=_key(answer),
        tags=_tags(answer),
        deleted_at=_instant(answer, "DeletedDate"),
        rotation_enabled=bool(answer.get("RotationEnabled")),
        owning_service=answer.get("OwningService") or None,
        primary_region=primary_region,
        external_type=_external_type(answer),
        cross_account_primary=_link(answer.get("CrossAccountPrimary"), "PrimarySecretARN"),
        cross_account_copies=_copies(answer.get("CrossAccountReplicas")),
        replicas=dict(_replica(entry) for entry in copies if entry.get("Region")),
        last_read_on=_day(answer, "LastAccessedDate"),
        last_changed_at=_instant(answer, "LastChangedDate"),
    )


def listing_of(entry: Mapping[str, Any], instance_id: str) -> RemoteListing:
    """Read one entry of ListSecrets; `ours` goes by our instance tag."""
    return RemoteListing(
        name=entry.get("Name") or "",
        arn=entry.get("ARN") or "",
        description=entry.get("Description") or "",
        ours=_tags(entry).get(TAG_INSTANCE) == instance_id,
        deleted_at=_instant(entry, "DeletedDate"),
        owning_service=entry.get("OwningService") or None,
        external_type=_external_type(entry),
    )


def value_of(answer: Mapping[str, Any]) -> SecretValue | None:
    """Read the answer of GetSecretValue: text or bytes; None where it has neither."""
    if isinstance(answer.get("SecretString"), str):
        return SecretValue(answer["SecretString"], ValueType.TEXT)
    if isinstance(answer.get("SecretBinary"), bytes):
        return SecretValue(answer["SecretBinary"], ValueType.BINARY)
    return None


def told(answer: Mapping[str, Any], name: str) -> str | None:
    """Return a text of an answer, None where it is missing or empty."""
    value = answer.get(name)
    return value if isinstance(value, str) and value else None


def _key(answer: Mapping[str, Any]) -> str | None:
    """Read a key. The AWS-managed one is not reported (User Guide, encryption), except by its alias for copies."""
    key = told(answer, "KmsKeyId")
    return None if key is None or key.rpartition(":")[2] == MANAGED_ALIAS else key


def _replica(entry: Mapping[str, Any]) -> tuple[str, Replica]:
    """Read how a copy stands: Region and state. A state that is not known counts as failed."""
    status = _STATUSES.get(entry.get("Status") or "", ReplicaStatus.FAILED)
    taken = status is ReplicaStatus.FAILED and _NAME_TAKEN in (entry.get("StatusMessage") or "").lower()
    return entry["Region"], Replica(status=status, kms_key=_key(entry), name_taken=taken)


def _external_type(answer: Mapping[str, Any]) -> str | None:
    """Read who holds a managed external secret: any text, and the list of partners grows."""
    kind = told(answer, "Type")
    return kind if kind is None or kind.isprintable() else ascii(kind)


def _copies(entries: object) -> tuple[CrossAccountLink, ...]:
    found = [_link(entry, "ReplicaSecretARN") for entry in entries] if isinstance(entries, list) else []
    return tuple(one for one in found if one is not None)


def _link(entry: object, name: str) -> CrossAccountLink | None:
    """Read one end of a replication between accounts; where the field is there, so is the replication."""
    if entry is None:
        return None
    fields = entry if isinstance(entry, Mapping) else {}
    return CrossAccountLink(
        arn=_arn(fields, name),
        status=_CROSS_ACCOUNT.get(told(fields, "ReplicationStatus") or "", CrossAccountStatus.UNKNOWN),
        role_arn=_arn(fields, "ReplicationRoleARN"),
    )


def _arn(fields: Mapping[str, Any], name: str) -> str | None:
    arn = told(fields, name)
    return arn if arn is not None and _ARN.fullmatch(arn) else None


def _tags(answer: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value") or "" for tag in answer.get("Tags") or [] if tag.get("Key")}


def _instant(answer: Mapping[str, Any], name: str) -> datetime | None:
    value = answer.get(name)
    return value.astimezone(UTC) if isinstance(value, datetime) else None


def _day(answer: Mapping[str, Any], name: str) -> date | None:
    """Read a date that AWS gives as midnight UTC."""
    instant = _instant(answer, name)
    return None if instant is None else instant.date()
