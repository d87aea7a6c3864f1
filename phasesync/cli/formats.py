"""
Formats of files of secrets: reading dotenv and JSON, writing literal values in these and for shells.

A written file reads back with the same keys and texts. Input is literal: a `${` in it is escaped. The JSON that keeps
types, comments and references is in `core/secret_json.py`. No message repeats a value.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from phasesync.core.canonical_json import Json, canonical_json, parse_json_document
from phasesync.core.dotenv import PYTHON, Note, dotenv_line, read_dotenv, write_shell
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.names import check_stored_key
from phasesync.core.reference_syntax import escape
from phasesync.core.secret_json import FileEntry, entries_of_json
from phasesync.errors import InvalidInputError

_MAX_PLACES = 100
"""Most places that are named; the others are only counted."""


class Format(StrEnum):
    """Formats of files that can be read; each can be written too."""

    DOTENV = "dotenv"
    JSON = "json"


class WrittenFormat(StrEnum):
    """Formats of files that can be written."""

    DOTENV = "dotenv"
    JSON = "json"
    SHELL = "shell"


@dataclass(frozen=True, kw_only=True)
class Entries:
    """
    The content of a file.

    Attributes:
        by_key: key -> value and comment.
        notes: what is lost of the file, and where other readers read something else.
    """

    by_key: dict[str, FileEntry] = field(repr=False)
    notes: tuple[Note, ...] = ()


def format_of(name: str) -> Format:
    """Guess the format of a file from its name; `-` and unknown endings are dotenv."""
    return Format.JSON if name.lower().endswith(".json") else Format.DOTENV


def read(data: bytes, format_: Format) -> dict[str, SecretValue]:
    """Read the values of a file of secrets; see `read_entries`."""
    return {key: entry.value for key, entry in read_entries(data, format_, allow_null=True).by_key.items()}


def read_entries(data: bytes, format_: Format, *, allow_null: bool = False) -> Entries:
    """
    Read a file of secrets; a `${` in it is literal and comes out escaped, but in members that an export has marked.

    JSON is one object: strings become text, marked members what they say, everything else type json. In dotenv every
    value is text, nothing is interpolated, and the last of several lines with one key counts; see
    `core/dotenv.py`. A byte order mark at the start of a file is dropped.

    Args:
        data: the file.
        format_: its format.
        allow_null: a null in JSON is a value.

    Raises:
        InvalidInputError: not that format, or a key that no store can have. Names the line or the key.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"the file is not UTF-8 text (byte {error.start})") from None
    if format_ is Format.JSON:
        entries = Entries(by_key=entries_of_json(text.removeprefix("\ufeff"), allow_null=allow_null))
    else:
        try:
            dotenv = read_dotenv(text)
        except InvalidInputError as error:
            raise InvalidInputError(error.message, hint=f"{error.hint}; JSON needs --format json") from None
        values = {key: FileEntry(value=SecretValue(escape(value))) for key, value in dotenv.values.items()}
        entries = Entries(by_key=values, notes=dotenv.notes)
    for key in entries.by_key:
        check_stored_key(key)
    return entries


def note_lines(notes: Sequence[Note]) -> list[str]:
    """Return one line for each form, with the keys and lines in which it occurs."""
    lines = []
    for form in dict.fromkeys(note.form for note in notes):
        places = [f"{note.key} (line {note.line})" for note in notes if note.form is form and note.key is not None]
        more = f" and {len(places) - _MAX_PLACES} more" if len(places) > _MAX_PLACES else ""
        lines.append(f"{', '.join(places[:_MAX_PLACES])}{more}: {form.value}" if places else form.value)
    return lines


def write(values: Mapping[str, SecretValue], format_: Format | WrittenFormat) -> str:
    """
    Write a file of literal values, by key: in JSON what AWS gets in layout json, a newline after it.

    Binary values become base64 text. InvalidInputError if a key or a value cannot stand in that format.
    """
    match WrittenFormat(format_.value):
        case WrittenFormat.JSON:
            members: dict[str, Json] = {key: _document(value) for key, value in values.items()}
            return canonical_json(members) + "\n"
        case WrittenFormat.SHELL:
            return write_shell({key: _text(value) for key, value in values.items()})
        case WrittenFormat.DOTENV:
            lines = [dotenv_line(key, _text(values[key])) for key in sorted(values)]
            # Lines that some readers misread come last: a reader that fails on one may misread what follows.
            return "".join(line.text for line in sorted(lines, key=lambda line: line.misread_by not in ((), (PYTHON,))))


def misreaders(values: Mapping[str, SecretValue]) -> dict[str, tuple[str, ...]]:
    """Return key -> readers that misread its line in dotenv; keys that all readers read are left out."""
    lines = {key: dotenv_line(key, _text(value)) for key, value in sorted(values.items())}
    return {key: line.misread_by for key, line in lines.items() if line.misread_by}


def _text(value: SecretValue) -> str:
    if value.type is ValueType.BINARY:
        return base64.b64encode(value.reveal()).decode("ascii")
    return value.reveal_text()


def _document(value: SecretValue) -> Json:
    return parse_json_document(value.reveal()) if value.type is ValueType.JSON else _text(value)
