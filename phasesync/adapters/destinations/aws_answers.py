"""
Answers of Secrets Manager as our values. Decides nothing; a garbled answer to a read is DestinationUnavailableError.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from phasesync.core.model import SecretValue, ValueType
from phasesync.core.remote import TAG_INSTANCE, Observed, RemoteListing
from phasesync.errors import DestinationUnavailableError


def observed_of(answer: Mapping[str, Any]) -> Observed:
    """Read the answer of DescribeSecret."""
    arn, name = told(answer, "ARN"), told(answer, "Name")
    if arn is None or name is None:
        raise DestinationUnavailableError("secretsmanager:DescribeSecret: a garbled answer")
    versions = answer.get("VersionIdsToStages") or {}
    return Observed(
        arn=arn,
        name=name,
        versions={version: frozenset(labels) for version, labels in versions.items() if labels},
        description=answer.get("Description") or "",
        # Not reported while the AWS-managed key is in use (User Guide, encryption).
        kms_key=answer.get("KmsKeyId") or None,
        tags=_tags(answer),
        deleted_at=_instant(answer, "DeletedDate"),
        rotation_enabled=bool(answer.get("RotationEnabled")),
        owning_service=answer.get("OwningService") or None,
        primary_region=answer.get("PrimaryRegion") or None,
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


def _tags(answer: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value") or "" for tag in answer.get("Tags") or [] if tag.get("Key")}


def _instant(answer: Mapping[str, Any], name: str) -> datetime | None:
    value = answer.get(name)
    return value.astimezone(UTC) if isinstance(value, datetime) else None
