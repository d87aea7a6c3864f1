"""
Tags: how many, which characters, which prefix.

Sources: API reference, Tag (key 1-128, value 0-256; in the API model), CreateSecret ("For tag quotas and naming
restrictions, see Service quotas for Tagging in the AWS General Reference": 50 tags a resource, `aws:` in any case is
reserved and does not count, letters, numbers, spaces and + - = . _ : / @). The code is InvalidParameterException, the
only fitting one that TagResource declares.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from phasesync.emulator.errors import invalid_parameter
from phasesync.emulator.request import Call
from phasesync.emulator.service import Result, Service

_RESERVED: Final = "aws:"
_TEXT: Final = re.compile(r"(?:[\w.:/=+\-@]|[^\S\t\n\r\f\v])*")


def read_tags(service: Service, there: Mapping[str, str], given: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return what a secret's tags become; InvalidParameterException."""
    more: dict[str, str] = {}
    for tag in given:
        key, value = tag.get("Key", ""), tag.get("Value", "")
        _check_key(key)
        if not _TEXT.fullmatch(key) or not _TEXT.fullmatch(value):
            raise invalid_parameter("A tag has characters that are not allowed in tags.")
        if key in more:
            raise invalid_parameter(f"Duplicate tag keys found: {key}")
        more[key] = value
    result = {**there, **more}
    if sum(not key.lower().startswith(_RESERVED) for key in result) > service.limits.tags:
        raise invalid_parameter(f"A secret can have at most {service.limits.tags} tags.")
    return result


def tags_of(secret: Any) -> dict[str, str]:
    """Return the tags of a secret."""
    return {tag["Key"]: tag.get("Value") or "" for tag in secret.tags or []}


def set_tags(secret: Any, tags: Mapping[str, str]) -> None:
    """Replace the tags of a secret."""
    secret.tags = [{"Key": key, "Value": value} for key, value in tags.items()] or None


def tag_resource(service: Service, call: Call) -> Result:
    """Add tags; an existing key gets the new value."""
    secret = service.secret(call)
    set_tags(secret, read_tags(service, tags_of(secret), call.listed("Tags")))
    service.world.touch(secret)
    return {}


def untag_resource(service: Service, call: Call) -> Result:
    """Remove tags; those that are not there are no error (API reference, UntagResource)."""
    secret = service.secret(call)
    for key in call.listed("TagKeys"):
        _check_key(key)
    kept = {key: value for key, value in tags_of(secret).items() if key not in call.listed("TagKeys")}
    if kept != tags_of(secret):
        set_tags(secret, kept)
        service.world.touch(secret)
    return {}


def _check_key(key: str) -> None:
    if key.lower().startswith(_RESERVED):
        raise invalid_parameter("Tag keys that begin with aws: are reserved for AWS.")
