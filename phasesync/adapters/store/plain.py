"""
Frozen dataclasses of the core to canonical JSON and back, by their annotations.

A field that the core gains is stored without a change here; old rows give it its default.
Secret values are refused: they have no plain form.
"""

import json
from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from phasesync.adapters.store.instants import from_microseconds, to_microseconds

T = TypeVar("T")


def to_json(value: object) -> str:
    """Return compact JSON with sorted keys. TypeError for what has no plain form, secret values above all."""
    return json.dumps(to_plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def from_json(expected: type[T], text: str | bytes) -> T:
    """Return the value that `to_json` wrote."""
    return cast(T, from_plain(expected, json.loads(text)))


def to_plain(value: object) -> Any:
    """Return the value as dicts, lists, text and numbers."""
    match value:
        case Enum():
            return value.value
        case None | str() | bool() | int():
            return value
        case timedelta():
            return value // timedelta(microseconds=1)
        case datetime():
            return to_microseconds(value)
        case Mapping():
            return {str(key): to_plain(item) for key, item in value.items()}
        case list() | tuple():
            return [to_plain(item) for item in value]
        case _ if is_dataclass(value):
            return {one.name: to_plain(getattr(value, one.name)) for one in fields(value)}
        case _:
            raise TypeError(f"{type(value).__name__} has no plain form")


def from_plain(expected: Any, plain: Any) -> Any:
    """Return a value of the expected type; the opposite of `to_plain`."""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin in (Union, UnionType):
        if plain is None:
            return None
        (inner,) = (one for one in arguments if one is not NoneType)
        return from_plain(inner, plain)
    if origin is tuple:
        return tuple(from_plain(arguments[0], item) for item in plain)
    if origin is not None and issubclass(origin, Mapping):
        return {key: from_plain(arguments[1], item) for key, item in plain.items()}
    if expected is timedelta:
        return timedelta(microseconds=plain)
    if expected is datetime:
        return from_microseconds(plain)
    if isinstance(expected, type) and issubclass(expected, Enum):
        return expected(plain)
    if is_dataclass(expected):
        build = cast(type[Any], expected)
        return build(**members(build, plain))
    return plain


def members(expected: type[Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a dataclass that `plain` holds, as values."""
    hints = _hints(cast(Hashable, expected))
    return {name: from_plain(hints[name], item) for name, item in plain.items() if name in hints}


@cache
def _hints(expected: Hashable) -> dict[str, Any]:
    return get_type_hints(expected)
