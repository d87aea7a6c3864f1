"""
Canonical JSON: equal documents have equal bytes.

Keys are sorted by Unicode code point, there is no white space between tokens, and text is UTF-8 as is. Numbers keep the
digits that they were written with: to read `1.10` or a 30-digit integer as a float or an int would change a secret. No
message of this module repeats any part of a document.
"""

import json
from collections.abc import Callable
from typing import NoReturn

from phasesync.errors import InvalidInputError

MAX_DEPTH = 100
"""Nested arrays and objects. Deeper documents are refused, so recursion over a document is safe."""


class NumberLiteral:
    """A JSON number, as it was written."""

    __slots__ = ("literal",)

    def __init__(self, literal: str) -> None:
        self.literal = literal

    def __repr__(self) -> str:
        return "NumberLiteral(***)"


Json = dict[str, "Json"] | list["Json"] | str | NumberLiteral | bool | None
"""A parsed document. Its numbers are `NumberLiteral`."""


def parse_json_document(data: bytes) -> Json:
    """
    Parse one JSON document.

    Args:
        data: UTF-8 without a byte order mark.

    Raises:
        InvalidInputError: not JSON, not Unicode, an object with the same key twice, NaN or Infinity, or nested too
            deeply. The message names the place and repeats nothing.
    """
    try:
        document: Json = json.loads(
            data.decode("utf-8"),
            parse_int=NumberLiteral,
            parse_float=NumberLiteral,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
        _check(document)
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"the value is not JSON: byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"the value is not valid JSON at line {error.lineno}, column {error.colno}",
        ) from None
    except RecursionError:
        raise _too_deep() from None
    return document


def canonical_json(document: Json) -> str:
    """Return the canonical text of a document."""
    match document:
        case dict():
            members = (f"{_quoted(key)}:{canonical_json(document[key])}" for key in sorted(document))
            return f"{{{','.join(members)}}}"
        case list():
            return f"[{','.join(map(canonical_json, document))}]"
        case str():
            return _quoted(document)
        case NumberLiteral():
            return document.literal
        case True:
            return "true"
        case False:
            return "false"
        case _:
            return "null"


def map_strings(document: Json, change: Callable[[str], str]) -> Json:
    """Return a document with `change` applied to every string leaf; keys of objects stay."""
    match document:
        case dict():
            return {key: map_strings(value, change) for key, value in document.items()}
        case list():
            return [map_strings(value, change) for value in document]
        case str():
            return change(document)
        case _:
            return document


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidInputError("the value is not valid JSON: an object has the same key twice")
    for key in members:
        _check_text(key)
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise InvalidInputError("the value is not valid JSON: NaN and Infinity are not numbers there")


def _check(document: Json) -> None:
    """Refuse documents that are nested too deeply or have no UTF-8 form."""
    level: list[Json] = [document]
    for _ in range(MAX_DEPTH + 1):
        following: list[Json] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, dict):
                following.extend(value.values())
            elif isinstance(value, list):
                following.extend(value)
        if not following:
            return
        level = following
    raise _too_deep()


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInputError("the value is not valid JSON: an escaped character has no UTF-8 form") from None


def _too_deep() -> InvalidInputError:
    return InvalidInputError(f"the value is nested more than {MAX_DEPTH} levels deep")
