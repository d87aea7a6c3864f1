"""
What the API models say of every parameter: required, length, range, allowed characters, allowed words, list sizes.

Source: the service models that botocore carries, from which the API reference is made. botocore itself checks only
minimum lengths.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from phasesync.emulator.errors import AwsError, model_violation, validation_error


@cache
def iam_model() -> Any:
    """Return the service model of IAM (`botocore.model.ServiceModel`)."""
    return _load("iam", "2010-05-08")


def _load(service: str, version: str) -> Any:
    import botocore.session
    from botocore.model import ServiceModel

    return ServiceModel(botocore.session.get_session().get_data(f"{service}/{version}/service-2"), service)


# --- Secrets Manager
#
# AWS's own answer: `1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must have
# length less than or equal to ...` (public: cluster-api-provider-aws issue 1531). Texts count as characters here; that
# a value counts in bytes is in `secret_writes.py`.


def check_arguments(operation: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that contradict the model: ValidationException; values that are sensitive are not repeated."""
    shape = _secrets_manager_model().operation_model(operation).input_shape
    if shape is not None:
        _check(shape, arguments, "")


@cache
def _secrets_manager_model() -> Any:
    return _load("secretsmanager", "2017-10-17")


def _check(shape: Any, value: Any, where: str) -> None:
    kind = shape.type_name
    if kind == "structure":
        _check_structure(shape, value, where)
    elif kind == "list":
        if not isinstance(value, list):
            raise AwsError("SerializationException", "a list was expected")
        _check_size(shape, len(value), where, str(len(value)))
        for number, member in enumerate(value, 1):
            _check(shape.member, member, f"{where}.{number}.member")
    elif kind == "string":
        if not isinstance(value, str):
            raise AwsError("SerializationException", "a string was expected")
        _check_text(shape, value, where)
    elif kind == "blob":
        _check_size(shape, len(_decoded(value)), where, None)
    elif kind in ("integer", "long"):
        if not isinstance(value, int) or isinstance(value, bool):
            raise AwsError("SerializationException", "a number was expected")
        _check_number(shape, value, where)
    elif kind == "boolean" and not isinstance(value, bool):
        raise AwsError("SerializationException", "a boolean was expected")


def _check_structure(shape: Any, value: Any, where: str) -> None:
    if not isinstance(value, Mapping):
        raise AwsError("SerializationException", "a structure was expected")
    for name in shape.required_members:
        if value.get(name) is None:
            raise model_violation(_violation(None, f"{where}.{_lower(name)}", "Member must not be null"))
    for name, member in shape.members.items():
        if value.get(name) is not None:
            _check(member, value[name], f"{where}.{_lower(name)}")


def _check_text(shape: Any, value: str, where: str) -> None:
    shown = None if shape.metadata.get("sensitive") else value
    _check_size(shape, len(value), where, shown)
    if shape.enum and value not in shape.enum:
        raise model_violation(
            _violation(shown, where, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
        )
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(pattern, value):
        raise model_violation(_violation(shown, where, f"Member must satisfy regular expression pattern: {pattern}"))


def _check_size(shape: Any, size: int, where: str, shown: str | None) -> None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        raise model_violation(_violation(shown, where, f"Member must have length greater than or equal to {least}"))
    if most is not None and size > most:
        raise model_violation(_violation(shown, where, f"Member must have length less than or equal to {most}"))


def _check_number(shape: Any, value: int, where: str) -> None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and value < least:
        raise model_violation(_violation(str(value), where, f"Member must have value greater than or equal to {least}"))
    if most is not None and value > most:
        raise model_violation(_violation(str(value), where, f"Member must have value less than or equal to {most}"))


def _decoded(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        error = AwsError("SerializationException", "a blob was expected")
    raise error


def _violation(shown: str | None, where: str, why: str) -> str:
    value = "Value" if shown is None else f"Value '{shown}'"
    return f"{value} at '{where.removeprefix('.')}' failed to satisfy constraint: {why}"


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]


# --- IAM
#
# Text of lengths and patterns, which repeats no value, and texts of paths: LocalStack's snapshots of AWS. Text of
# names: public, in versitygw's tests and other code that repeats AWS's refusal.

_NAME: Final = r"[\w+=,.@-]+"
_PATH: Final = "pathType"
_SPACES: Final = r"\u0020\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000"
"""Category Z of Unicode; Python's patterns have no name for it."""


def check_iam_arguments(operation: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that contradict the model: ValidationError."""
    shape = iam_model().operation_model(operation).input_shape
    if shape is not None:
        _check_iam(shape, arguments, "")


def _check_iam(shape: Any, value: Any, where: str) -> None:
    if shape.type_name == "structure":
        _check_iam_structure(shape, value, where)
    elif shape.type_name == "list":
        _check_iam_size(shape, len(value), where, "length")
        for number, member in enumerate(value, 1):
            _check_iam(shape.member, member, f"{where}.{number}.member")
    elif shape.type_name == "string":
        _check_iam_text(shape, value, where)
    elif shape.type_name == "integer":
        _check_iam_size(shape, value, where, "value")


def _check_iam_structure(shape: Any, value: Mapping[str, Any], where: str) -> None:
    for name, member in shape.members.items():
        place = f"{where}.{name[:1].lower()}{name[1:]}".removeprefix(".")
        if name in value:
            _check_iam(member, value[name], place)
        elif name in shape.required_members:
            raise _iam_violation(place, "Member must not be null")


def _check_iam_text(shape: Any, value: str, where: str) -> None:
    pattern = shape.metadata.get("pattern")
    if len(value) <= shape.metadata.get("max", len(value)) and pattern and not _compiled(pattern).fullmatch(value):
        raise _pattern_violation(shape, pattern, where)
    _check_iam_size(shape, len(value), where, "length")
    if shape.enum and value not in shape.enum:
        raise _iam_violation(where, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")


def _pattern_violation(shape: Any, pattern: str, where: str) -> Exception:
    """Return the refusal of characters; names and paths have texts of their own."""
    if pattern == _NAME:
        return validation_error(
            f"The specified value for {where} is invalid. It must contain only alphanumeric characters and/or the "
            "following: +=,.@_-"
        )
    if shape.name == _PATH:
        return validation_error(
            f"The specified value for {where} is invalid. It must begin and end with / and contain only alphanumeric "
            "characters and/or / characters."
        )
    return _iam_violation(where, f"Member must satisfy regular expression pattern: {pattern}")


def _check_iam_size(shape: Any, size: int, where: str, quantity: str) -> None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        raise _iam_violation(where, f"Member must have {quantity} greater than or equal to {least}")
    if most is not None and size > most:
        raise _iam_violation(where, f"Member must have {quantity} less than or equal to {most}")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return one of the model's patterns, which are Java's: `\\w` is ASCII there, and categories have names."""
    if r"\p{" in pattern:
        return re.compile(pattern.replace(r"\p{L}\p{Z}\p{N}_", r"\w" + _SPACES))
    return re.compile(pattern, re.ASCII)


def _iam_violation(where: str, why: str) -> Exception:
    return validation_error(f"1 validation error detected: Value at '{where}' failed to satisfy constraint: {why}")
