"""
Reads the responses of Secrets Manager into our values, and names its error codes.

Decides nothing. A garbled response to a read is a DestinationUnavailableError, to a write an OutcomeUnknownError.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from phasesync.core.canonical_json import canonical_json, parse_json_document
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.remote import (
    CURRENT,
    TAG_INSTANCE,
    CrossAccountLink,
    CrossAccountStatus,
    Observed,
    RemoteListing,
    Replica,
    ReplicaStatus,
    WriteResult,
)
from phasesync.errors import (
    DestinationRejectedError,
    DestinationUnavailableError,
    InvalidInputError,
    OutcomeUnknownError,
)

NOT_FOUND: Final = "ResourceNotFoundException"
INVALID_PARAMETER: Final = "InvalidParameterException"
INVALID_REQUEST: Final = "InvalidRequestException"
RESOURCE_EXISTS: Final = "ResourceExistsException"

MANAGED_ALIAS: Final = "alias/aws/secretsmanager"
"""Alias of the AWS-managed key (User Guide, encryption in Secrets Manager)."""

_NAME_TAKEN: Final = "already exists"
"""
Part of the message of a copy that failed because of its name. The known messages are "Secret with this name already
exists in this region" (API reference, ReplicationStatusType) and "Secret name … already exists in region …".
"""
_STATUSES: Final[Mapping[str, ReplicaStatus]] = {
    **{str(status): status for status in ReplicaStatus},
    "Pending": ReplicaStatus.IN_PROGRESS,
}
_CROSS_ACCOUNT: Final[Mapping[str, CrossAccountStatus]] = {str(status): status for status in CrossAccountStatus}
_ARN: Final = re.compile(r"arn:[a-z0-9-]+:(secretsmanager|iam):[a-z0-9-]*:\d{12}:[A-Za-z0-9/_+=,.@:!-]{1,2048}")
"""ARNs of secrets and roles; an ARN that we print as part of a command has to match."""
_CHECK_NAME: Final = re.compile(r"[A-Za-z0-9 _.:-]{1,80}")
_PUBLIC_HINT: Final = "name the accounts or roles that may read the secret as Principal, or narrow it with a Condition"
POLICY_HINTS: Final[Mapping[str | None, str]] = {
    "PublicPolicyException": _PUBLIC_HINT,
    "MalformedPolicyDocumentException": (
        "check the policy: it needs Version and Statement, each statement Effect, Principal, Action and Resource, and "
        "every principal has to exist"
    ),
}
"""Error code of a refused resource policy -> hint."""


def secret_arns(response: Mapping[str, Any]) -> list[str]:
    """Return the ARNs of the secrets that a response is about."""
    entries = [response, *(response.get("SecretList") or [])]
    return [arn for entry in entries if isinstance(arn := entry.get("ARN"), str)]


def entries_of(response: Mapping[str, Any]) -> list[Any]:
    """Return the entries of a page of ListSecrets; there may be none."""
    entries = response.get("SecretList")
    if not isinstance(entries, list):  # An empty page has an empty list.
        raise DestinationUnavailableError("secretsmanager:ListSecrets: a garbled answer")
    return entries


def answered_at_of(response: Mapping[str, Any]) -> datetime | None:
    """Return when AWS answered, from the header Date of HTTP, in whole seconds; None if it is missing or garbled."""
    headers = (response.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
    try:
        at = parsedate_to_datetime(headers["date"])
    except (KeyError, TypeError, ValueError):
        return None
    return at.astimezone(UTC) if at.tzinfo is not None else None


def written_of(response: Mapping[str, Any], operation: str) -> WriteResult:
    """Read the response to a write of a value. OutcomeUnknownError if it cannot be read."""
    arn, version_id = text_of(response, "ARN"), text_of(response, "VersionId")
    if arn is None or version_id is None:
        raise OutcomeUnknownError(f"secretsmanager:{operation}: a garbled answer; it may have been carried out")
    labels = response.get("VersionStages")
    return WriteResult(arn=arn, version_id=version_id, current=None if labels is None else CURRENT in labels)


def policy_of(response: Mapping[str, Any]) -> str | None:
    """Read the response of GetResourcePolicy as canonical JSON; None if the object has no resource policy."""
    policy = text_of(response, "ResourcePolicy")
    if policy is None:
        return None
    try:
        return canonical_json(parse_json_document(policy.encode()))
    except InvalidInputError:
        raise DestinationUnavailableError("secretsmanager:GetResourcePolicy: a garbled answer") from None


def check_policy_validation(response: Mapping[str, Any]) -> None:
    """
    Read the response of ValidateResourcePolicy. Only the names of its checks are repeated, not AWS's text.

    Raises:
        DestinationRejectedError: with the names of the checks that failed.
    """
    passed = response.get("PolicyValidationPassed")
    if passed is True:
        return
    if passed is not False:
        raise DestinationUnavailableError("secretsmanager:ValidateResourcePolicy: a garbled answer")
    names = {text_of(entry, "CheckName") or "" for entry in response.get("ValidationErrors") or []}
    failed = ", ".join(sorted(name for name in names if _CHECK_NAME.fullmatch(name))) or "a check without a name"
    raise DestinationRejectedError(f"the resource policy fails AWS's check: {failed}", hint=_PUBLIC_HINT)


def observed_of(response: Mapping[str, Any], operation: str = "DescribeSecret") -> Observed:
    """
    Read the response of DescribeSecret, or an entry of ListSecrets, which does not report copies.

    Args:
        response: the response or the entry.
        operation: that returned it.
    """
    arn, name = text_of(response, "ARN"), text_of(response, "Name")
    if arn is None or name is None:
        raise DestinationUnavailableError(f"secretsmanager:{operation}: a garbled answer")
    primary_region = text_of(response, "PrimaryRegion")
    # Only a primary has copies; a copy may report those of its primary.
    is_primary = primary_region in (None, arn.split(":")[3] if arn.count(":") > 3 else None)
    copies = response.get("ReplicationStatus") or [] if is_primary else []
    versions = response.get("VersionIdsToStages") or response.get("SecretVersionsToStages") or {}
    return Observed(
        arn=arn,
        name=name,
        versions={version: frozenset(labels) for version, labels in versions.items() if labels},
        description=response.get("Description") or "",
        kms_key=_key(response),
        tags=_tags(response),
        deleted_at=_instant(response, "DeletedDate"),
        rotation_enabled=bool(response.get("RotationEnabled")),
        owning_service=response.get("OwningService") or None,
        primary_region=primary_region,
        external_type=_external_type(response),
        cross_account_primary=_link(response.get("CrossAccountPrimary"), "PrimarySecretARN"),
        cross_account_copies=_copies(response.get("CrossAccountReplicas")),
        replicas=dict(_replica(entry) for entry in copies if entry.get("Region")),
        last_read_on=_day(response, "LastAccessedDate"),
        last_changed_at=_instant(response, "LastChangedDate"),
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


def value_of(response: Mapping[str, Any]) -> SecretValue | None:
    """Read the response of GetSecretValue: text or bytes; None if it has neither."""
    if isinstance(response.get("SecretString"), str):
        return SecretValue(response["SecretString"], ValueType.TEXT)
    if isinstance(response.get("SecretBinary"), bytes):
        return SecretValue(response["SecretBinary"], ValueType.BINARY)
    return None


def text_of(response: Mapping[str, Any], name: str) -> str | None:
    """Return a text of a response; None if it is missing or empty."""
    value = response.get(name)
    return value if isinstance(value, str) and value else None


def _key(response: Mapping[str, Any]) -> str | None:
    """Read a KMS key. AWS does not report the AWS-managed one (User Guide, encryption), or by its alias for copies."""
    key = text_of(response, "KmsKeyId")
    return None if key is None or key.rpartition(":")[2] == MANAGED_ALIAS else key


def _replica(entry: Mapping[str, Any]) -> tuple[str, Replica]:
    """Read the Region and state of a copy. An unknown state counts as failed."""
    status = _STATUSES.get(entry.get("Status") or "", ReplicaStatus.FAILED)
    name_taken = status is ReplicaStatus.FAILED and _NAME_TAKEN in (entry.get("StatusMessage") or "").lower()
    return entry["Region"], Replica(status=status, kms_key=_key(entry), name_taken=name_taken)


def _external_type(response: Mapping[str, Any]) -> str | None:
    """Read the type of a managed external secret. It may be any text: AWS adds partners over time."""
    kind = text_of(response, "Type")
    return kind if kind is None or kind.isprintable() else ascii(kind)


def _copies(entries: object) -> tuple[CrossAccountLink, ...]:
    links = [_link(entry, "ReplicaSecretARN") for entry in entries] if isinstance(entries, list) else []
    return tuple(link for link in links if link is not None)


def _link(entry: object, name: str) -> CrossAccountLink | None:
    """Read one end of a replication between accounts; None if there is no such replication."""
    if entry is None:
        return None
    fields = entry if isinstance(entry, Mapping) else {}
    return CrossAccountLink(
        arn=_arn(fields, name),
        status=_CROSS_ACCOUNT.get(text_of(fields, "ReplicationStatus") or "", CrossAccountStatus.UNKNOWN),
        role_arn=_arn(fields, "ReplicationRoleARN"),
    )


def _arn(fields: Mapping[str, Any], name: str) -> str | None:
    arn = text_of(fields, name)
    return arn if arn is not None and _ARN.fullmatch(arn) else None


def _tags(response: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value") or "" for tag in response.get("Tags") or [] if tag.get("Key")}


def _instant(response: Mapping[str, Any], name: str) -> datetime | None:
    value = response.get(name)
    return value.astimezone(UTC) if isinstance(value, datetime) else None


def _day(response: Mapping[str, Any], name: str) -> date | None:
    """Read a date that AWS gives as midnight UTC."""
    instant = _instant(response, name)
    return None if instant is None else instant.date()
