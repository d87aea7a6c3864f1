"""
Types of the fields of a document: how each is read and checked, and how the JSON Schema describes it.

A check raises `wrong`, whose text is for people. Text of pydantic's own is translated in `translate.py`. No check
repeats what may be a value.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from phasesync.core.canonical_json import Json, NumberLiteral, canonical_json
from phasesync.core.names import check_name, check_stored_key, normalise_path, parse_environment_label
from phasesync.core.project.nodes import Unquoted
from phasesync.core.regions import check_region
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.core.times import duration_text, parse_duration
from phasesync.errors import InvalidInputError

WRONG: Final = "phasesync"
"""Type of our own errors within those of pydantic."""

QUOTES: Final = "write it in quotes"


def wrong(
    what: str, fix: str | None = None, *, at: tuple[str | int, ...] = (), whole: bool = False
) -> PydanticCustomError:
    """
    Return the error of a check.

    Args:
        what: what is wrong, as a clause whose subject is the field.
        fix: how to correct it.
        at: the way from the field to the wrong part of it.
        whole: `what` is a whole sentence.
    """
    return PydanticCustomError(WRONG, "wrong", {"what": what, "fix": fix, "at": at, "whole": whole})


def nearest(word: str, words: "Mapping[str, Any] | list[str] | tuple[str, ...]") -> str | None:
    """Return the word that was probably meant, None if no word is near."""
    by_folded = {known.lower(): known for known in words}
    close = get_close_matches(word.lower(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def not_text(value: object) -> tuple[str, str] | None:
    """Return what a value is that should be text, and the fix; None if it is text."""
    match value:
        case str():
            return None
        case None:
            return "is empty", "write a text, or leave the field out"
        case bool():
            return "is true or false, and a text is expected", QUOTES
        case int() | NumberLiteral():
            return "is a number, and a text is expected", QUOTES
        case Unquoted(what=what):
            return f"is {what} to programs that read YAML, and a text is expected", QUOTES
        case list():
            return "is a list, and a text is expected", "write one text"
        case _:
            return "is a mapping, and a text is expected", "write one text"


def _checked(check: Callable[[str], Any], value: str) -> Any:
    try:
        return check(value)
    except InvalidInputError as error:
        raise wrong(error.message, fix_of(error), whole=True) from None


_OPTION: Final = re.compile(r"(?:^|such as )--[a-z-]+ (?=\S)")


def fix_of(error: InvalidInputError) -> str | None:
    """Return the hint of a check as a fix, without options of the command line; None if nothing is left."""
    hint = _OPTION.sub("such as ", error.hint or "")
    return hint if hint and "--" not in hint else None


def checked(check: Callable[[str], Any]) -> AfterValidator:
    """Return a validator for a check of the core: it returns the value, or raises InvalidInputError."""
    return AfterValidator(partial(_checked, check))


def _filled(text: str) -> str:
    if not text.strip():
        raise wrong("is empty", "write a text, or leave the field out")
    if "\0" in text:
        raise wrong("has a NUL character")
    return text


Text = Annotated[str, AfterValidator(_filled)]
AnyText = Annotated[str, Field(strict=True)]
"""Text that may be empty."""


def name_of(kind: str) -> AfterValidator:
    """Return a validator for the name of an object of a kind."""
    return checked(partial(check_name, kind=kind))


def _label(text: str) -> str:
    parse_environment_label(text)
    return text


Label = Annotated[str, checked(_label)]
"""`app/env`."""
Folder = Annotated[str, checked(normalise_path)]
Region = Annotated[str, checked(check_region)]

KeyName = tuple[str, str]
"""Folder and key."""


_PART_OF_KEY: Final = re.compile(r"(?:[^/\\]|\\.)*", re.DOTALL)
"""What stands between two slashes that are not escaped."""


def key_with_folder(text: str) -> KeyName:
    """Read `KEY` or `/db/KEY`; behind a folder, a slash of the key itself is written `\\/`. InvalidInputError."""
    if not text.startswith("/"):
        return "/", check_stored_key(text)
    at = 0
    while (end := _PART_OF_KEY.match(text, at + 1).end()) < len(text) and text[end] == "/":  # type: ignore[union-attr]
        at = end
    key = re.sub(r"\\(.)", r"\1", text[at + 1 :], flags=re.DOTALL)
    return normalise_path(text[:at] or "/"), check_stored_key(key)


def key_text(folder: str, key: str) -> str:
    """Return a key with its folder, as `key_with_folder` reads it."""
    if folder == "/" and not key.startswith("/"):
        return key
    escaped = key.replace("\\", "\\\\").replace("/", "\\/")
    return f"{'' if folder == '/' else folder}/{escaped}"


def _key(text: str) -> str:
    key_with_folder(text)
    return text


Key = Annotated[str, checked(_key)]


# --- templates

PLACEHOLDERS: Final = ("app", "env")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


def _template(text: str) -> str:
    _filled(text)
    for placeholder in _PLACEHOLDER.findall(text):
        if placeholder not in PLACEHOLDERS:
            raise wrong(
                f"has the placeholder {{{placeholder}}}, which does not exist here", "placeholders: {app}, {env}"
            )
    if set("{}") & set(_PLACEHOLDER.sub("", text)):
        raise wrong("has a brace on its own", "placeholders: {app}, {env}")
    return text


Template = Annotated[str, AfterValidator(_template)]
"""Text in which {app} and {env} are filled in."""


def has_placeholder(template: str) -> bool:
    """Return whether anything is filled in."""
    return _PLACEHOLDER.search(template) is not None


def fill(template: str, *, app: str, environment: str) -> str:
    """Return a template with its placeholders filled in."""
    words = {"app": app, "env": environment}
    return _PLACEHOLDER.sub(lambda match: words[match[1]], template)


# --- words, durations, numbers


def _word(words: tuple[str, ...], convert: Callable[[str], Any], value: Any) -> Any:
    if isinstance(value, str) and value in words:
        return convert(value)
    if isinstance(value, str):
        fix = f"did you mean {near}?" if (near := nearest(value, words)) else None
        raise wrong(f"{value[:60]!r} is not one of {', '.join(words)}", fix, whole=True)
    what, _ = not_text(value) or ("", "")
    raise wrong(what, f"write one of: {', '.join(words)}")


def words_of(kind: type[StrEnum], *more: str) -> Any:
    """Return the type of a field that takes a word of an enum."""
    words = (*(str(word) for word in kind), *more)
    return Annotated[
        kind, BeforeValidator(partial(_word, words, kind)), WithJsonSchema({"type": "string", "enum": list(words)})
    ]


def one_of(words: tuple[str, ...]) -> Any:
    """Return the type of a field that takes one of some words, as text."""
    return Annotated[
        str,
        BeforeValidator(partial(_word, words, str)),
        WithJsonSchema({"type": "string", "enum": list(words)}),
    ]


def exactly(word: str) -> Any:
    """Return the type of a field that takes one word only."""
    return Annotated[
        str, BeforeValidator(partial(_word, (word,), str)), WithJsonSchema({"type": "string", "const": word})
    ]


def _duration(shortest: timedelta | None, longest: timedelta | None, value: Any) -> timedelta:
    if (refused := not_text(value)) is not None:
        raise wrong(refused[0].replace("a text", "a duration"), "write it with its unit, such as 90s, 15m, 1h or 7d")
    duration: timedelta = _checked(parse_duration, value)
    if shortest is not None and duration < shortest:
        raise wrong(f"is {value}, which is too short", f"write {duration_text(shortest)} or longer")
    if longest is not None and duration > longest:
        raise wrong(f"is {value}, which is too long", f"write {duration_text(longest)} or shorter")
    return duration


def duration(shortest: timedelta | None = None, longest: timedelta | None = None) -> Any:
    """Return the type of a field that takes a duration, within bounds."""
    return Annotated[
        timedelta,
        BeforeValidator(partial(_duration, shortest, longest)),
        WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,9}[smhd]$"}),
    ]


def number(least: int, most: int | None = None) -> Any:
    """Return the type of a field that takes a whole number, within bounds."""
    return Annotated[int, Field(strict=True, ge=least, le=most)]


# --- lists and mappings


def list_of(kind: Any) -> Any:
    """Return the type of a field that takes a list."""
    return Annotated[tuple[kind, ...], Field(strict=False)]


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    seen: set[str] = set()
    for number_, value in enumerate(values):
        if value in seen:
            raise wrong(f"{value!r} is listed twice", "list it once", at=(number_,), whole=True)
        seen.add(value)
    return values


def distinct(kind: Any) -> Any:
    """Return the type of a field that takes a list in which nothing occurs twice."""
    return Annotated[tuple[kind, ...], Field(strict=False), AfterValidator(_unique)]


Tags = dict[Text, AnyText]


def _replicas(value: Any) -> Any:
    if isinstance(value, dict):
        for region in value:
            _check_replica(region, at=(region,))
        return value
    if not isinstance(value, list):
        raise wrong("is not a list of Regions", "write [eu-west-1], or {eu-west-1: ARN}, or [] for no copies")
    regions: dict[str, str] = {}
    for number_, region in enumerate(value):
        if (refused := not_text(region)) is not None:
            raise wrong(*refused, at=(number_,))
        _check_replica(region, at=(number_,))
        if region in regions:
            raise wrong(f"{region!r} is listed twice", "list it once", at=(number_,), whole=True)
        regions[region] = AWS_MANAGED_KEY
    return regions


def _check_replica(region: str, *, at: tuple[str | int, ...]) -> None:
    try:
        check_region(region)
    except InvalidInputError as error:
        raise wrong(error.message, error.hint, at=at, whole=True) from None


Replicas = Annotated[
    dict[Text, Text],
    BeforeValidator(_replicas),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
                {"type": "object", "additionalProperties": {"type": "string"}},
            ]
        }
    ),
]


def _window(value: Any) -> Any:
    # `- deny: 08:00-18:00 Mon-Fri` without quotes is a mapping to YAML, and what is meant is plain.
    if isinstance(value, dict) and len(value) == 1:
        ((word, rest),) = value.items()
        if word in ("allow", "deny") and isinstance(rest, str):
            return f"{word}: {rest}"
    return value


def _canonical_window(text: str) -> str:
    # Imported here, so that documents without windows do not pay for it.
    from phasesync.core.windows import parse_window

    return parse_window(text).text


Window = Annotated[
    Text,
    BeforeValidator(_window),
    checked(_canonical_window),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"allow": {"type": "string"}, "deny": {"type": "string"}},
                    "additionalProperties": False,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            ]
        }
    ),
]


# --- policies


@dataclass(frozen=True, kw_only=True)
class PolicySource:
    """A policy: inline as canonical JSON, or in a file."""

    document: str | None = None
    file: str | None = None


def _policy(value: Any) -> Any:
    if isinstance(value, PolicySource):
        return value
    if isinstance(value, str):
        raise wrong("is a text, and a policy is expected", "write the policy as a mapping, or {file: PATH}")
    if not isinstance(value, dict):
        raise wrong("is not a policy", "write the policy as a mapping, or {file: PATH}")
    if value.keys() == {"file"}:
        if (refused := not_text(value["file"])) is not None:
            raise wrong(*refused, at=("file",))
        return PolicySource(file=_filled(value["file"]))
    if "Statement" not in value:
        raise wrong("has no Statement", "write the policy as a mapping with a Statement, or {file: PATH}")
    return PolicySource(document=canonical_json(_json_of(value, ())))


def _json_of(value: Any, at: tuple[str | int, ...]) -> Json:
    match value:
        case dict():
            return {key: _json_of(member, (*at, key)) for key, member in value.items()}
        case list():
            return [_json_of(member, (*at, number_)) for number_, member in enumerate(value)]
        case Unquoted(what=what):
            raise wrong(f"is {what} to programs that read YAML, and a policy has none", QUOTES, at=at)
        case int() if not isinstance(value, bool):
            return NumberLiteral(str(value))
        case str() | NumberLiteral() | bool() | None:
            return value
        case _:
            raise wrong("cannot be a part of a policy", at=at)


Policy = Annotated[
    PolicySource,
    BeforeValidator(_policy),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "object", "required": ["Statement"]},
                {
                    "type": "object",
                    "properties": {"file": {"type": "string", "description": "JSON file with the policy."}},
                    "required": ["file"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
