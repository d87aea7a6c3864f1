"""
Pages of a list: NextToken says where to go on, and nothing else is taken for one.

Source: API reference, ListSecrets (MaxResults up to 100, in the API model; InvalidNextTokenException). That 100 is the
default too is moto's word; AWS names none.
"""

import base64
import binascii
from typing import Any, Final, TypeVar

from phasesync.testing.aws_shim.errors import AwsError
from phasesync.testing.aws_shim.request import Call

T = TypeVar("T")

_PREFIX: Final = b"shim:"
_DEFAULT: Final = 100


def page_of(entries: list[T], call: Call, *, default: int = _DEFAULT) -> tuple[list[T], str | None]:
    """Return a page and the token of the next one, None = it was the last; InvalidNextTokenException."""
    start = _read(call.text("NextToken"), call.operation)
    end = start + int(call.arguments.get("MaxResults") or default)
    return entries[start:end], _write(end, call.operation) if end < len(entries) else None


def _write(position: int, operation: str) -> str:
    return base64.urlsafe_b64encode(_PREFIX + f"{operation}:{position}".encode()).decode()


def _read(token: str | None, operation: str) -> int:
    if token is None:
        return 0
    raw: Any = b""
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii", "replace"))
    except binascii.Error:
        raw = b""
    name, _, position = raw.removeprefix(_PREFIX).decode("ascii", "replace").partition(":")
    if not raw.startswith(_PREFIX) or name != operation or not position.isdigit():
        raise AwsError("InvalidNextTokenException", "The NextToken value is invalid.")
    return int(position)
