"""
Converts frozen dataclasses of the core to canonical JSON and back, by their annotations.

A new field of a dataclass is stored without a change here; an old row gives it its default. Secret values are refused:
they have no plain form.
"""

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from phasesync.errors import CiphertextError
from phasesync.store.db_time import from_microseconds, to_microseconds

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

_Reader = Callable[[Any], Any]


def to_json(value: object) -> str:
    """Return compact JSON with sorted keys. TypeError for a type without a plain form, above all secret values."""
    return json.dumps(to_plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def from_json(expected: type[T], text: str | bytes) -> T:
    """Return the value that `to_json` wrote."""
    return cast(T, from_plain(expected, json.loads(text)))


def to_plain(value: object) -> Any:
    """Return a value as dicts, lists, text and numbers."""
    if type(value) in _PLAIN_TYPES:
        return value
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
            return {member.name: to_plain(getattr(value, member.name)) for member in fields(value)}
        case _:
            raise TypeError(f"{type(value).__name__} has no plain form")


_PLAIN_TYPES = frozenset({str, int, bool, NoneType})
"""The types of most values; a pattern takes ten times as long to match."""


def from_plain(expected: Any, plain: Any) -> Any:
    """Return a value of the expected type; the opposite of `to_plain`."""
    return _reader(expected)(plain)


def to_member(expected: type[E], stored: Any, kind: str) -> E:
    """Return the member of an enum that a column holds. CiphertextError for a value that phasesync never writes."""
    try:
        return expected(stored)
    except ValueError:
        raise CiphertextError(
            f"a stored {kind} is not what phasesync writes: it was altered outside phasesync"
        ) from None


def members(expected: type[Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a dataclass that `plain` holds, as values."""
    readers = _readers(cast(Hashable, expected))
    return {name: readers[name](item) for name, item in plain.items() if name in readers}


@cache
def _readers(expected: Any) -> dict[str, _Reader]:
    return {name: _reader(hint) for name, hint in get_type_hints(expected).items()}


@cache
def _reader(expected: Any) -> _Reader:
    """Return a function that converts a plain value to a type; cached, since rows come by the thousand."""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin in (Union, UnionType):
        (inner,) = (_reader(argument) for argument in arguments if argument is not NoneType)
        return lambda plain: None if plain is None else inner(plain)
    if origin is tuple:
        item = _reader(arguments[0])
        return lambda plain: tuple(map(item, plain))
    if origin is not None and issubclass(origin, Mapping):
        value = _reader(arguments[1])
        return lambda plain: {key: value(entry) for key, entry in plain.items()}
    if expected is timedelta:
        return lambda plain: timedelta(microseconds=plain)
    if expected is datetime:
        return from_microseconds
    if isinstance(expected, type) and issubclass(expected, Enum):
        return expected
    if is_dataclass(expected):
        build = cast(type[Any], expected)
        return lambda plain: build(**members(build, plain))
    return _unchanged


def _unchanged(plain: Any) -> Any:
    return plain
