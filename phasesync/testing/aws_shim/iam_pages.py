"""
Pages of IAM's lists: Marker says where to go on, and nothing else is taken for one.

Sources: API reference of IAM, ListUsers (MaxItems 100 where none is given; "IAM might return fewer results, even when
there are more results available", which `Limits.iam_page` makes so). Text: LocalStack's snapshots of AWS. A marker is
the key of the entry before, so that what is deleted between two pages hides nothing.
"""

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from phasesync.testing.aws_shim.iam_errors import invalid
from phasesync.testing.aws_shim.request import Call
from phasesync.testing.aws_shim.service import Result, Service

T = TypeVar("T")

_DEFAULT: Final = 100


def iam_page(
    service: Service,
    call: Call,
    member: str,
    entries: Iterable[T],
    *,
    key: Callable[[T], str],
    tell: Callable[[T], Any],
) -> Result:
    """
    Return a page of a list; ValidationError for a marker that was not given.

    Args:
        service: has the longest page.
        call: says how many, and where to go on.
        member: name of the list in the answer.
        entries: all of them.
        key: what they are ordered by; no two are equal.
        tell: writes one.
    """
    after = _read(call.text("Marker"), call.operation)
    left = sorted((one for one in entries if after is None or key(one) > after), key=key)
    shown = left[: min(int(call.arguments.get("MaxItems") or _DEFAULT), service.limits.iam_page)]
    result: Result = {member: [tell(one) for one in shown], "IsTruncated": len(shown) < len(left)}
    if result["IsTruncated"]:
        result["Marker"] = _write(key(shown[-1]), call.operation)
    return result


def _write(key: str, operation: str) -> str:
    return base64.urlsafe_b64encode(f"{operation}:{key}".encode()).decode()


def _read(marker: str | None, operation: str) -> str | None:
    if marker is None:
        return None
    try:
        name, _, key = base64.urlsafe_b64decode(marker.encode()).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        name, key = "", ""
    if name != operation:
        raise invalid("Invalid Marker.")
    return key
