"""
ListSecrets and BatchGetSecretValue: what is found, and how old the list may be.

Sources: API reference, ListSecrets (may lag; scheduled deletions only where asked for), Filter (prefixes, case, `!`
negates; at most 10 filters and 10 values, in the API model), BatchGetSecretValue (list or filters, MaxResults only with
filters, failures in Errors); User Guide, finding secrets (how words are cut; `all` searches name, description, tags).
moto takes a negated value as met when any one tag differs. The list lags by `Timing.list_lag`; single reads never do.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from phasesync.testing.aws_shim.errors import AwsError, invalid_parameter, not_found
from phasesync.testing.aws_shim.paging import page_of
from phasesync.testing.aws_shim.reading import describe, present, read_version
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Answer, Service

Entry = dict[str, Any]

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\x00-\x7f]+")
_PAGE_OF_VALUES: Final = 20
_SORT_KEYS: Final[Mapping[str, str]] = {
    "created-date": "CreatedDate",
    "last-accessed-date": "LastAccessedDate",
    "last-changed-date": "LastChangedDate",
    "name": "Name",
}


def list_secrets(service: Service, call: Call) -> Answer:
    """Return secrets, without values."""
    planned = bool(call.arguments.get("IncludePlannedDeletion"))
    found = [
        entry
        for entry in _visible(service, call)
        if (planned or "DeletedDate" not in entry) and matches(entry, call.listed("Filters"))
    ]
    key = _SORT_KEYS[call.text("SortBy") or "created-date"]
    empty: str | float = "" if key == "Name" else 0.0
    found.sort(key=lambda entry: entry.get(key, empty), reverse=call.text("SortOrder") == "desc")
    page, token = page_of(found, call)
    return present({"SecretList": page, "NextToken": token})


def batch_get_secret_value(service: Service, call: Call) -> Answer:
    """Return values of a list of secrets, or of those that filters find; what cannot be read is told in Errors."""
    ids, filters = call.listed("SecretIdList"), call.listed("Filters")
    if bool(ids) == bool(filters):
        raise invalid_parameter("Either 'SecretIdList' or 'Filters' must be provided, but not both.")
    if ids and call.arguments.get("MaxResults") is not None:
        raise invalid_parameter(
            "'Filters' not specified. 'Filters' must also be specified when 'MaxResults' is provided."
        )
    token = None
    if filters:
        found = [
            str(entry["ARN"])
            for entry in _visible(service, call)
            if "DeletedDate" not in entry and matches(entry, filters)
        ]
        ids, token = page_of(found, call, default=_PAGE_OF_VALUES)
    values, errors = [], []
    for secret_id in ids:
        try:
            values.append(_read_one(service, call, secret_id))
        except AwsError as error:
            errors.append({"SecretId": secret_id, "ErrorCode": error.code, "Message": error.message})
    return present({"SecretValues": values, "Errors": errors, "NextToken": token})


def remember(service: Service, secret: Any | None, arn: str | None, *, since: datetime) -> None:
    """
    Note how a list would show a secret; only where lists lag.

    Args:
        service: where.
        secret: the secret as it is; None = it is not there any more.
        arn: its ARN; None = it never was.
        since: since when it is so.
    """
    extras = None if arn is None else service.world.extras_of_arn(arn)
    if arn is None or extras is None:
        return
    entry = None if secret is None else describe(service, secret, arn.split(":")[3])
    if not extras.shown or extras.shown[-1][1] != entry:
        extras.shown.append((since, entry))


def matches(entry: Entry, filters: list[Mapping[str, Any]]) -> bool:
    """Return whether an entry meets all filters."""
    return all(_meets(entry, str(one.get("Key") or "all"), list(one.get("Values") or [])) for one in filters)


def _visible(service: Service, call: Call) -> list[Entry]:
    """Return the entries of a Region as a list shows them now."""
    live = {
        str(secret.arn): describe(service, secret, call.region)
        for secret in service.world.secrets(call.account, call.region)
    }
    if not service.timing.list_lag:
        return list(live.values())
    horizon = call.now - service.timing.list_lag
    for arn, extras in service.world.all_extras(call.account, call.region):
        if not extras.shown:
            continue
        seen = [entry for at, entry in extras.shown if at <= horizon]
        if seen and seen[-1] is not None:
            live[arn] = seen[-1]
        else:
            live.pop(arn, None)
    return list(live.values())


def _read_one(service: Service, call: Call, secret_id: str) -> Answer:
    secret = service.world.find(call.account, call.region, secret_id)
    if not call.trusted:
        service.access.check(
            call.principal, "secretsmanager:GetSecretValue", secret_id, None if secret is None else secret.arn
        )
    if secret is None:
        raise not_found()
    if service.world.extras(secret).gone_at is not None:
        raise AwsError(
            "InvalidRequestException",
            "You tried to perform the operation on a secret that's currently marked deleted.",
        )
    return read_version(service, call, secret, None, None)


def _meets(entry: Entry, key: str, values: list[str]) -> bool:
    texts, is_met = _texts(entry, key), _how(key)
    wanted = [value for value in values if not value.startswith("!")]
    unwanted = [value[1:] for value in values if value.startswith("!")]
    if any(is_met(text, value) for value in unwanted for text in texts):
        return False
    return not wanted or any(is_met(text, value) for value in wanted for text in texts)


def _texts(entry: Entry, key: str) -> list[str]:
    tags = entry.get("Tags") or []
    keys, values = [str(tag["Key"]) for tag in tags], [str(tag.get("Value", "")) for tag in tags]
    name, description = [str(entry["Name"])], [str(entry.get("Description", ""))]
    found = {
        "name": name,
        "description": description,
        "tag-key": keys,
        "tag-value": values,
        "primary-region": [str(entry["PrimaryRegion"])] if "PrimaryRegion" in entry else [],
        "owning-service": [str(entry["OwningService"])] if "OwningService" in entry else [],
        "all": [*name, *description, *keys, *values],
    }
    return found[key]


def _how(key: str) -> Callable[[str, str], bool]:
    return _has_words if key in ("description", "all") else str.startswith


def _has_words(text: str, value: str) -> bool:
    """Return whether every word of a value begins a word of the text, whatever the case."""
    there = [word.lower() for word in _WORD.findall(text)]
    asked = [word.lower() for word in _WORD.findall(value)]
    return all(any(word.startswith(one) for word in there) for one in asked)
