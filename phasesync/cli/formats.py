"""
Files of secrets: reading dotenv and JSON, writing literal values.

A file that was written reads back with the same keys and texts. What is read is literal: a `${` in it comes out
escaped. The JSON that keeps types, comments and references is in `core/exported_values.py`. No message repeats a value.
"""

import base64
import re
from collections.abc import Mapping
from enum import StrEnum

from phasesync.core.canonical import Json, canonical_json, parse_json_document
from phasesync.core.exported_values import Entry, entries_of_json
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.names import check_stored_key
from phasesync.core.reference_syntax import escape
from phasesync.errors import InvalidInputError

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-]*")
"""Values that need no quotes, whoever reads them."""
_DOTENV_KEY = re.compile(r"[A-Za-z0-9_.-]+")


class Format(StrEnum):
    """Formats of files."""

    DOTENV = "dotenv"
    JSON = "json"


def format_of(name: str) -> Format:
    """Guess the format of a file from its name; `-` and unknown endings are dotenv."""
    return Format.JSON if name.lower().endswith(".json") else Format.DOTENV


def read(data: bytes, format_: Format) -> dict[str, SecretValue]:
    """Read the values of a file of secrets; see `read_entries`."""
    return {key: entry.value for key, entry in read_entries(data, format_, allow_null=True).items()}


def read_entries(data: bytes, format_: Format, *, allow_null: bool = False) -> dict[str, Entry]:
    """
    Read a file of secrets; a `${` in it is literal and comes out escaped, but in members that an export has marked.

    JSON is one object: strings become text, marked members what they say, everything else type json. In dotenv every
    value is text, nothing is interpolated, and the last of several lines with one key counts.

    Args:
        data: the file.
        format_: its format.
        allow_null: a null in JSON is a value.

    Raises:
        InvalidInputError: not that format, or a key that no store can have. Names the line or the key.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"the file is not UTF-8 text (byte {error.start})") from None
    if format_ is Format.JSON:
        found = entries_of_json(text, allow_null=allow_null)
    else:
        found = {key: Entry(value=value) for key, value in _read_dotenv(text).items()}
    return {check_stored_key(key): entry for key, entry in found.items()}


def write(values: Mapping[str, SecretValue], format_: Format) -> str:
    """
    Write a file of literal values, by key: in JSON what AWS gets in layout json, a newline after it.

    Binary values become base64 text. InvalidInputError where a key cannot stand in that format.
    """
    if format_ is Format.JSON:
        members: dict[str, Json] = {key: _document(value) for key, value in values.items()}
        return canonical_json(members) + "\n"
    return "".join(f"{_dotenv_key(key)}={_quoted(_text(values[key]))}\n" for key in sorted(values))


def is_dotenv_key(key: str) -> bool:
    """Return whether a key can stand in a dotenv file."""
    return _DOTENV_KEY.fullmatch(key) is not None


def _read_dotenv(text: str) -> dict[str, SecretValue]:
    from io import StringIO

    from dotenv.parser import parse_stream

    found: dict[str, SecretValue] = {}
    for binding in parse_stream(StringIO(text, newline="")):
        if binding.error:
            raise InvalidInputError(
                f"line {binding.original.line} is not dotenv", hint="KEY=VALUE on each line; JSON needs --format json"
            )
        if binding.key is None:
            continue
        if binding.value is None:
            raise InvalidInputError(
                f"line {binding.original.line} has a key without a value", hint="KEY=VALUE; JSON needs --format json"
            )
        found[binding.key] = SecretValue(escape(binding.value))
    return found


def _dotenv_key(key: str) -> str:
    if not is_dotenv_key(key):
        raise InvalidInputError(f"the key {key!r} cannot stand in a dotenv file", hint="add --format json")
    return key


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _text(value: SecretValue) -> str:
    if value.type is ValueType.BINARY:
        return base64.b64encode(value.reveal()).decode("ascii")
    return value.reveal_text()


def _document(value: SecretValue) -> Json:
    return parse_json_document(value.reveal()) if value.type is ValueType.JSON else _text(value)
