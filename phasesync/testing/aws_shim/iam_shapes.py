"""
What IAM's API model says of every parameter: required, length, range, allowed characters, allowed words, list sizes.

Sources: the service model of IAM that botocore carries (the API reference is made from it; botocore itself checks only
minimum lengths). Text of lengths and patterns, which repeats no value, and texts of paths: LocalStack's snapshots of
AWS. Text of names: public, in versitygw's tests and other code that repeats AWS's refusal.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from phasesync.testing.aws_shim.iam_errors import invalid
from phasesync.testing.aws_shim.query import iam_model

_NAME: Final = r"[\w+=,.@-]+"
_PATH: Final = "pathType"
_SPACES: Final = r"\u0020\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000"
"""Category Z of Unicode; Python's patterns have no name for it."""


def check_iam_arguments(operation: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that contradict the model: ValidationError."""
    shape = iam_model().operation_model(operation).input_shape
    if shape is not None:
        _check(shape, arguments, "")


def _check(shape: Any, value: Any, where: str) -> None:
    if shape.type_name == "structure":
        _check_structure(shape, value, where)
    elif shape.type_name == "list":
        _check_size(shape, len(value), where, "length")
        for number, one in enumerate(value, 1):
            _check(shape.member, one, f"{where}.{number}.member")
    elif shape.type_name == "string":
        _check_text(shape, value, where)
    elif shape.type_name == "integer":
        _check_size(shape, value, where, "value")


def _check_structure(shape: Any, value: Mapping[str, Any], where: str) -> None:
    for name, member in shape.members.items():
        place = f"{where}.{name[:1].lower()}{name[1:]}".removeprefix(".")
        if name in value:
            _check(member, value[name], place)
        elif name in shape.required_members:
            raise _broken(place, "Member must not be null")


def _check_text(shape: Any, value: str, where: str) -> None:
    pattern = shape.metadata.get("pattern")
    if len(value) <= shape.metadata.get("max", len(value)) and pattern and not _compiled(pattern).fullmatch(value):
        raise _of_pattern(shape, pattern, where)
    _check_size(shape, len(value), where, "length")
    if shape.enum and value not in shape.enum:
        raise _broken(where, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")


def _of_pattern(shape: Any, pattern: str, where: str) -> Exception:
    """Return the refusal of characters; names and paths have texts of their own."""
    if pattern == _NAME:
        return invalid(
            f"The specified value for {where} is invalid. It must contain only alphanumeric characters and/or the "
            "following: +=,.@_-"
        )
    if shape.name == _PATH:
        return invalid(
            f"The specified value for {where} is invalid. It must begin and end with / and contain only alphanumeric "
            "characters and/or / characters."
        )
    return _broken(where, f"Member must satisfy regular expression pattern: {pattern}")


def _check_size(shape: Any, size: int, where: str, what: str) -> None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        raise _broken(where, f"Member must have {what} greater than or equal to {least}")
    if most is not None and size > most:
        raise _broken(where, f"Member must have {what} less than or equal to {most}")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return one of the model's patterns, which are Java's: `\\w` is ASCII there, and categories have names."""
    if r"\p{" in pattern:
        return re.compile(pattern.replace(r"\p{L}\p{Z}\p{N}_", r"\w" + _SPACES))
    return re.compile(pattern, re.ASCII)


def _broken(where: str, why: str) -> Exception:
    return invalid(f"1 validation error detected: Value at '{where}' failed to satisfy constraint: {why}")
