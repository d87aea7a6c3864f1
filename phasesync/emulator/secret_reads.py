"""
Everything that reads secrets: GetSecretValue, DescribeSecret, the lists, and their pages.

Sources are the API reference's page of each operation; each section names what it took from where.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from zlib import crc32

from phasesync.emulator.context import Context, Result
from phasesync.emulator.errors import AwsError, invalid_parameter, invalid_request, not_found
from phasesync.emulator.moto_state import CURRENT
from phasesync.emulator.request import Call
from phasesync.emulator.secret_deletion import deleted_date
from phasesync.emulator.secret_replication import cross_account_fields, statuses_of
from phasesync.emulator.secret_rotation import rotation_fields
from phasesync.emulator.secret_writes import has_value, holder

T = TypeVar("T")

# --- Pages of a list: NextToken says where the next page begins; any other text is refused
#
# API reference, ListSecrets (MaxResults up to 100, in the API model; InvalidNextTokenException). That 100 is also the
# default is moto's assumption; AWS states none.


_TOKEN_PREFIX: Final = b"emulator:"
_DEFAULT_PAGE: Final = 100


def page_of(entries: list[T], call: Call, *, default: int = _DEFAULT_PAGE) -> tuple[list[T], str | None]:
    """Return a page and the token of the next one, None if it was the last; InvalidNextTokenException."""
    start = _read_token(call.text("NextToken"), call.operation)
    end = start + int(call.arguments.get("MaxResults") or default)
    return entries[start:end], _write_token(end, call.operation) if end < len(entries) else None


def _write_token(position: int, operation: str) -> str:
    return base64.urlsafe_b64encode(_TOKEN_PREFIX + f"{operation}:{position}".encode()).decode()


def _read_token(token: str | None, operation: str) -> int:
    if token is None:
        return 0
    raw: Any = b""
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii", "replace"))
    except binascii.Error:
        raw = b""
    name, _, position = raw.removeprefix(_TOKEN_PREFIX).decode("ascii", "replace").partition(":")
    if not raw.startswith(_TOKEN_PREFIX) or name != operation or not position.isdigit():
        raise AwsError("InvalidNextTokenException", "The NextToken value is invalid.")
    return int(position)


# --- One secret
#
# API reference, GetSecretValue, DescribeSecret, ListSecretVersionIds (which version is meant, which fields are absent,
# dates of access without a time, unlabelled versions only on request); texts: public, LocalStack's provider, moto.


def get_secret_value(context: Context, call: Call) -> Result:
    """Return a value, and note the day."""
    secret = context.secret(call, writes=False)
    return read_version(context, call, secret, call.text("VersionId"), call.text("VersionStage"))


def read_version(context: Context, call: Call, secret: Any, version_id: str | None, label: str | None) -> Result:
    """Return the value of one version; without id and label, of the current one."""
    found_id = version_id or holder(secret, label or CURRENT)
    version = secret.versions.get(found_id) if found_id else None
    if version is None or not has_value(version):
        sought = f"VersionId: {version_id}" if version_id else f"staging label: {label or CURRENT}"
        raise AwsError(
            "ResourceNotFoundException", f"Secrets Manager can't find the specified secret value for {sought}"
        )
    if version_id and label and label not in version["version_stages"]:
        raise invalid_request("You provided a VersionStage that is not associated to the provided VersionId.")
    context.keys.decrypt(call, secret, version["version_id"])
    extras, day = context.state.extras(secret), _midnight(call.now)
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


def describe_secret(context: Context, call: Call) -> Result:
    """Return everything but the value; works on what is scheduled for deletion too."""
    secret = context.secret(call, writes=False, marked=True)
    fields = describe(context, secret, call.region)
    fields["VersionIdsToStages"] = fields.pop("SecretVersionsToStages", None)
    if context.state.source_of(secret) is secret and secret.replicas:
        fields["ReplicationStatus"] = statuses_of(context, secret)
    fields |= cross_account_fields(context, secret)
    return present(fields)


def describe(context: Context, secret: Any, region: str) -> dict[str, Any]:
    """Return the fields that ListSecrets shows of a secret; DescribeSecret shows them too."""
    source, extras = context.state.source_of(secret), context.state.extras(secret)
    replica = context.state.is_replica(secret)
    accessed_on = extras.accessed_on.get(region)
    key = context.state.replica_extras(secret).kms_key if replica else source.kms_key_id
    return present(
        {
            "ARN": secret.arn,
            "Name": source.name,
            "Description": source.description or None,
            "KmsKeyId": key,
            **rotation_fields(source),
            "LastChangedDate": _changed_date(context, extras.changed_at),
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


def list_secret_version_ids(context: Context, call: Call) -> Result:
    """Return the versions that hold a value, newest first."""
    secret = context.secret(call, writes=False, marked=True)
    extras = context.state.extras(secret)
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


def present(fields: dict[str, Any]) -> dict[str, Any]:
    """ "Secrets Manager only returns fields that have a value" (API reference, DescribeSecret)."""
    return {name: value for name, value in fields.items() if value is not None}


def _labelled(secret: Any) -> dict[str, list[str]]:
    return {
        version_id: list(version["version_stages"])
        for version_id, version in secret.versions.items()
        if version["version_stages"]
    }


def _changed_date(context: Context, at: datetime) -> float:
    """Return a LastChangedDate, as coarse as `Timing.dates_every`."""
    step = context.timing.dates_every.total_seconds()
    return at.timestamp() // step * step if step else at.timestamp()


def _midnight(at: datetime) -> datetime:
    """Dates of access carry no time (API reference, SecretVersionsListEntry, LastAccessedDate)."""
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


# --- ListSecrets and BatchGetSecretValue: what a list contains, and how old it may be
#
# API reference, ListSecrets (may lag; scheduled deletions only on request), Filter (prefixes, case, `!` negates; at
# most 10 filters and 10 values, in the API model), BatchGetSecretValue (list or filters, MaxResults only with filters,
# failures in Errors); User Guide, finding secrets (how words are cut; `all` searches name, description, tags). moto
# takes a negated value as met when any one tag differs. The list lags by `Timing.list_lag`; single reads never do.

Entry = dict[str, Any]

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\x00-\x7f]+")
_PAGE_OF_VALUES: Final = 20
_REMEMBERED: Final = 8
"""How many lists may be paged through at once."""
_FIELDS: Final[Mapping[str, str]] = {
    "name": "Name",
    "description": "Description",
    "primary-region": "PrimaryRegion",
    "owning-service": "OwningService",
}
"""Filter -> the field of an entry that it is about."""
_SORT_KEYS: Final[Mapping[str, str]] = {
    "created-date": "CreatedDate",
    "last-accessed-date": "LastAccessedDate",
    "last-changed-date": "LastChangedDate",
    "name": "Name",
}


def list_secrets(context: Context, call: Call) -> Result:
    """Return secrets, without values."""
    if context.sorting == "refused" and call.text("SortBy") is not None:
        raise AwsError("ValidationException", "Unexpected parameter: SortBy")
    matching = _matching(context, call)
    page, token = page_of(matching, call)
    entries = [
        listed.entry if listed.secret is None else describe(context, listed.secret, call.region)
        for listed in page
        if listed.secret is None or _is_shown(context, call, listed.secret)
    ]
    return present({"SecretList": entries, "NextToken": token})


def batch_get_secret_value(context: Context, call: Call) -> Result:
    """Return values of a list of secrets, or of those that filters find; Errors has those that cannot be read."""
    ids, filters = call.listed("SecretIdList"), call.listed("Filters")
    if bool(ids) == bool(filters):
        raise invalid_parameter("Either 'SecretIdList' or 'Filters' must be provided, but not both.")
    if ids and call.arguments.get("MaxResults") is not None:
        raise invalid_parameter(
            "'Filters' not specified. 'Filters' must also be specified when 'MaxResults' is provided."
        )
    token = None
    if filters:
        arns = [
            str(listed.entry["ARN"])
            for listed in _visible(context, call)
            if "DeletedDate" not in listed.entry and matches(listed.entry, filters)
        ]
        ids, token = page_of(arns, call, default=_PAGE_OF_VALUES)
    values, errors = [], []
    for secret_id in ids:
        try:
            values.append(_read_one(context, call, secret_id))
        except AwsError as error:
            errors.append({"SecretId": secret_id, "ErrorCode": error.code, "Message": error.message})
    return present({"SecretValues": values, "Errors": errors, "NextToken": token})


def remember(context: Context, secret: Any | None, arn: str | None, *, since: datetime) -> None:
    """
    Note how a list would show a secret; only where lists lag.

    Args:
        service: where.
        secret: the secret as it is; None if it no longer exists.
        arn: its ARN; None if it never existed.
        since: when it became so.
    """
    extras = None if arn is None else context.state.extras_of_arn(arn)
    if arn is None or extras is None:
        return
    entry = None if secret is None else describe(context, secret, arn.split(":")[3])
    if not extras.shown or extras.shown[-1][1] != entry:
        extras.shown.append((since, entry))


def matches(entry: Entry, filters: list[Mapping[str, Any]]) -> bool:
    """Return whether an entry meets all filters."""
    return all(_meets(entry, str(each.get("Key") or "all"), list(each.get("Values") or [])) for each in filters)


@dataclass(frozen=True)
class _Listed:
    """A secret as a list shows it."""

    entry: Entry
    """What the list shows of it; of a secret that is shown as it is now, only what filters and order ask for."""
    secret: Any | None
    """The secret itself; None if the list shows a former state of it."""


def _matching(context: Context, call: Call) -> list[_Listed]:
    """
    Return what a list finds, in its order.

    Later pages continue in what the first page found, so that a long list is searched once and not a hundred times.
    A secret that is deleted in between is left out, as from any list that is a little old.
    """
    asked = {name: value for name, value in call.arguments.items() if name not in ("NextToken", "MaxResults")}
    key = json.dumps([call.account, call.region, asked], sort_keys=True)
    known = context.lists.get(key)
    if known is not None and call.text("NextToken") is not None:
        return known
    with_deleted, filters = _with_planned_deletion(call), call.listed("Filters")
    matching = [
        listed
        for listed in _visible(context, call)
        if (with_deleted or "DeletedDate" not in listed.entry) and matches(listed.entry, filters)
    ]
    sort_by, descends = call.text("SortBy") or "created-date", call.text("SortOrder") == "desc"
    if context.sorting == "ignored":
        sort_by, descends = "created-date", False
    sort_key = _SORT_KEYS[sort_by]
    empty: str | float = "" if sort_key == "Name" else 0.0
    matching.sort(key=lambda listed: listed.entry.get(sort_key, empty), reverse=descends)
    context.lists.pop(key, None)
    context.lists[key] = matching
    while len(context.lists) > _REMEMBERED:
        del context.lists[next(iter(context.lists))]
    return matching


def _is_shown(context: Context, call: Call, secret: Any) -> bool:
    """Return whether a secret that was found for an earlier page is still there for a list."""
    present_secret = context.state.find(call.account, call.region, str(secret.arn))
    return present_secret is secret and (
        _with_planned_deletion(call) or deleted_date(context.state.source_of(secret)) is None
    )


def _with_planned_deletion(call: Call) -> bool:
    return bool(call.arguments.get("IncludePlannedDeletion"))


def _visible(context: Context, call: Call) -> list[_Listed]:
    """Return what a list of a Region shows now."""
    live = {
        str(secret.arn): _Listed(_outline(context, secret, call.region), secret)
        for secret in context.state.secrets(call.account, call.region)
    }
    if not context.timing.list_lag:
        return list(live.values())
    for arn, extras in context.state.all_extras(call.account, call.region):
        if not extras.shown:
            continue
        share = 1.0 if context.timing.lags_evenly else crc32(arn.encode()) / 2**32
        horizon = call.now - context.timing.list_lag * share
        former = [entry for at, entry in extras.shown if at <= horizon]
        if former and former[-1] is not None:
            live[arn] = _Listed(former[-1], None)
        else:
            live.pop(arn, None)
    return list(live.values())


def _outline(context: Context, secret: Any, region: str) -> Entry:
    """Return what filters and order ask for; a page describes only what is on it."""
    source, extras = context.state.source_of(secret), context.state.extras(secret)
    accessed_on, deleted = extras.accessed_on.get(region), deleted_date(source)
    fields: Entry = {
        "ARN": secret.arn,
        "Name": source.name,
        "Description": source.description or "",
        "Tags": source.tags,
        "CreatedDate": extras.created_at.timestamp(),
        "LastChangedDate": _changed_date(context, extras.changed_at),
    }
    if deleted is not None:
        fields["DeletedDate"] = deleted
    if accessed_on is not None:
        fields["LastAccessedDate"] = accessed_on.timestamp()
    if source.replicas:
        fields["PrimaryRegion"] = source.region
    if source.owning_service is not None:
        fields["OwningService"] = source.owning_service
    if extras.external_type is not None:
        fields["Type"] = extras.external_type
    return fields


def _read_one(context: Context, call: Call, secret_id: str) -> Result:
    secret = context.state.find(call.account, call.region, secret_id)
    if not call.trusted:
        context.access.check(
            call.principal, "secretsmanager:GetSecretValue", secret_id, None if secret is None else secret.arn
        )
    if secret is None:
        raise not_found()
    if context.state.extras(secret).gone_at is not None:
        raise AwsError(
            "InvalidRequestException",
            "You tried to perform the operation on a secret that's currently marked deleted.",
        )
    return read_version(context, call, secret, None, None)


def _meets(entry: Entry, key: str, values: list[str]) -> bool:
    texts, is_met = _texts(entry, key), _how(key)
    wanted = [value for value in values if not value.startswith("!")]
    unwanted = [value[1:] for value in values if value.startswith("!")]
    if any(is_met(text, value) for value in unwanted for text in texts):
        return False
    return not wanted or any(is_met(text, value) for value in wanted for text in texts)


def _texts(entry: Entry, key: str) -> list[str]:
    if key in _FIELDS:
        return [str(entry[_FIELDS[key]])] if _FIELDS[key] in entry else []
    tags = entry.get("Tags") or []
    if key == "tag-key":
        return [str(tag["Key"]) for tag in tags]
    if key == "tag-value":
        return [str(tag.get("Value", "")) for tag in tags]
    keys = ("name", "description", "tag-key", "tag-value")
    return [text for field in keys for text in _texts(entry, field)]


def _how(key: str) -> Callable[[str, str], bool]:
    return _has_words if key in ("description", "all") else str.startswith


def _has_words(text: str, value: str) -> bool:
    """Return whether every word of a value begins a word of the text, whatever the case."""
    words = [word.lower() for word in _WORD.findall(text)]
    prefixes = [word.lower() for word in _WORD.findall(value)]
    return all(any(word.startswith(prefix) for word in words) for prefix in prefixes)
