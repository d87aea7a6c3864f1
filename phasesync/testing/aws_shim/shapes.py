"""
What the API model says of every parameter: required, length, range, allowed characters, allowed words, list sizes.

Source: the service model of Secrets Manager that botocore carries (the API reference is made from it), and AWS's own
answer, `1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must have length
less than or equal to ...` (public: cluster-api-provider-aws issue 1531). botocore itself checks only minimum lengths.
Texts count as characters here; that a value counts in bytes is in `values.py`.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from phasesync.testing.aws_shim.errors import AwsError, unreadable


def check_shape(operation: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that contradict the model: ValidationException; values that are sensitive are not repeated."""
    shape = _model().operation_model(operation).input_shape
    if shape is not None:
        _check(shape, arguments, "")


def is_operation(name: str) -> bool:
    """Return whether Secrets Manager has an operation."""
    return name in _model().operation_names


@cache
def _model() -> Any:
    import botocore.session
    from botocore.model import ServiceModel

    data = botocore.session.get_session().get_data("secretsmanager/2017-10-17/service-2")
    return ServiceModel(data, "secretsmanager")


def _check(shape: Any, value: Any, where: str) -> None:
    kind = shape.type_name
    if kind == "structure":
        _check_structure(shape, value, where)
    elif kind == "list":
        if not isinstance(value, list):
            raise AwsError("SerializationException", "a list was expected")
        _check_size(shape, len(value), where, str(len(value)))
        for number, one in enumerate(value, 1):
            _check(shape.member, one, f"{where}.{number}.member")
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
            raise unreadable(_told(None, f"{where}.{_lower(name)}", "Member must not be null"))
    for name, member in shape.members.items():
        if value.get(name) is not None:
            _check(member, value[name], f"{where}.{_lower(name)}")


def _check_text(shape: Any, value: str, where: str) -> None:
    shown = None if shape.metadata.get("sensitive") else value
    _check_size(shape, len(value), where, shown)
    if shape.enum and value not in shape.enum:
        raise unreadable(_told(shown, where, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"))
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(pattern, value):
        raise unreadable(_told(shown, where, f"Member must satisfy regular expression pattern: {pattern}"))


def _check_size(shape: Any, size: int, where: str, shown: str | None) -> None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        raise unreadable(_told(shown, where, f"Member must have length greater than or equal to {least}"))
    if most is not None and size > most:
        raise unreadable(_told(shown, where, f"Member must have length less than or equal to {most}"))


def _check_number(shape: Any, value: int, where: str) -> None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and value < least:
        raise unreadable(_told(str(value), where, f"Member must have value greater than or equal to {least}"))
    if most is not None and value > most:
        raise unreadable(_told(str(value), where, f"Member must have value less than or equal to {most}"))


def _decoded(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        error = AwsError("SerializationException", "a blob was expected")
    raise error


def _told(shown: str | None, where: str, why: str) -> str:
    value = "Value" if shown is None else f"Value '{shown}'"
    return f"{value} at '{where.removeprefix('.')}' failed to satisfy constraint: {why}"


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]
