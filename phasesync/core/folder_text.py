r"""
A folder of secrets as a text that a person edits: what `secrets edit` shows, and what it reads back. Pure.

    # lines that begin with # are not stored
    URL=postgres://db                   a value, as it was entered: ${KEY} is a reference
    KEY='two words'  # what it is for   a comment after a value in quotes is the comment of the key
    LIMITS='{"max": 5}'  # [json] why   its type comes before the comment; none is text
    CERT='(binary, 1,024 bytes)'  # [binary]    what cannot be typed has a place holder, and stays as it is

It is dotenv, and not the JSON of an export: people know it, values of several lines stand in it as they are, and a
password needs no escapes. Everything that a key has stands on its line, so that a removed line removes all of it.
Reading what was written gives the same. No message contains a value.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from phasesync.core.canonical_json import parse_json_document
from phasesync.core.dotenv import Binding, Form, dotenv_line, is_dotenv_key, read_bindings
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.names import check_key
from phasesync.core.secret_json import FileEntry
from phasesync.errors import InvalidInputError

Entries = Mapping[str, FileEntry]
"""Key -> value and comment; a comment is never None."""

_TYPES: Final = {f"[{type_}]": type_ for type_ in ValueType}
_KEPT: Final = "[kept]"
"""Marks a text that has a place holder, since it cannot be shown exactly."""
_MARKS: Final = (*_TYPES, _KEPT)


def text_of_entries(entries: Entries, head: Sequence[str]) -> str:
    """
    Return the text of a folder.

    Args:
        entries: what is in it.
        head: lines for the reader, without #.
    """
    hidden = sum(_named(key) is None for key in entries)
    if hidden:
        head = [*head, f"{hidden} keys have names that cannot stand here: they stay as they are."]
    lines = [f"# {line}\n" if line else "#\n" for line in head]
    return "".join([*lines, "\n", *(_line(key, entries[key]) for key in sorted(entries) if _named(key) is not None)])


def entries_of_text(text: str, shown: Entries) -> dict[str, FileEntry]:
    """
    Return what is in a text.

    Args:
        text: what was edited.
        shown: what it was made from: values behind place holders come from there.

    Raises:
        InvalidInputError: it cannot be read exactly, or a key is not valid. Names the line, and no value.
    """
    entries: dict[str, FileEntry] = {key: entry for key, entry in shown.items() if _named(key) is None}
    for binding in read_bindings(text):
        if binding.key in entries:
            _refuse(binding, "names a key for the second time", "remove one of the lines")
        if Form.CUT in binding.forms:
            _refuse(
                binding, "has a # after a value without quotes", "put the value in quotes, with the # in or after it"
            )
        entries[binding.key] = _entry(binding, shown.get(binding.key))
    return entries


def _line(key: str, entry: FileEntry) -> str:
    line = _line_with_value(key, entry)
    if line is not None:
        try:
            if entries_of_text(line, {key: entry}) == {key: entry}:
                return line
        except InvalidInputError:
            pass
    mark = "[binary]" if entry.value.type is ValueType.BINARY else _KEPT
    return f"{_named(key)}='{_place_holder(entry.value)}'{_remark(mark, entry.comment or '')}\n"


def _line_with_value(key: str, entry: FileEntry) -> str | None:
    """Return a line that should read as the entry, None if its value is not text."""
    if entry.value.type is ValueType.BINARY:
        return None
    try:
        text = entry.value.reveal_text()
    except UnicodeDecodeError:
        return None
    remark = _remark("[json]" if entry.value.type is ValueType.JSON else "", entry.comment or "")
    written = dotenv_line("K", text).text.removeprefix("K=").removesuffix("\n")
    if remark and written == text:
        written = f"'{text}'"  # After a value without quotes a # would end it.
    return f"{_named(key)}={written}{remark}\n"


def _named(key: str) -> str | None:
    """Return a key as it stands before the equals sign; None if it cannot."""
    if is_dotenv_key(key):
        return key
    return next((f"{quote}{key}{quote}" for quote in "'\"" if quote not in key), None)


def _place_holder(value: SecretValue) -> str:
    kind = "binary" if value.type is ValueType.BINARY else "cannot be shown"
    return f"({kind}, {len(value):,} bytes)"


def _remark(mark: str, comment: str) -> str:
    plain = comment.isprintable() and comment == comment.strip() and not comment.startswith(('"', *_MARKS))
    written = comment if plain else json.dumps(comment, ensure_ascii=not comment.isprintable())
    parts = [part for part in (mark, written if comment else "") if part]
    return f"  # {' '.join(parts)}" if parts else ""


def _entry(binding: Binding, before: FileEntry | None) -> FileEntry:
    mark = next((mark for mark in _MARKS if binding.comment.startswith(mark)), "")
    comment = _comment(binding, binding.comment.removeprefix(mark).strip())
    # A place holder that has lost its mark is no value either.
    if mark in ("[binary]", _KEPT) or (before is not None and _holds_place(before, binding.value)):
        if before is None or binding.value != _place_holder(before.value):
            _refuse(
                binding,
                "has a value that cannot be typed here",
                "leave such a line as it is, or: secrets set KEY --type binary --from-file FILE",
            )
        return FileEntry(value=before.value, comment=comment)
    if before is None or before.value != SecretValue(binding.value, _TYPES.get(mark, ValueType.TEXT)):
        _check_new(binding, mark, new_key=before is None)
    return FileEntry(value=SecretValue(binding.value, _TYPES.get(mark, ValueType.TEXT)), comment=comment)


def _holds_place(before: FileEntry, text: str) -> bool:
    return before.value.type is ValueType.BINARY and text == _place_holder(before.value)


def _check_new(binding: Binding, mark: str, *, new_key: bool) -> None:
    """Refuse a value or a key that `secrets set` refuses. What was there before may be older than the rules."""
    if new_key:
        try:
            check_key(binding.key)
        except InvalidInputError as error:
            # A misplaced quote makes a part of a value look like a key.
            _refuse(binding, "has a key that is not valid", error.hint or "1 to 255 characters that can be seen")
    if mark == "[json]":
        try:
            parse_json_document(binding.value.encode())
        except InvalidInputError:
            _refuse(binding, "has a value that is not a JSON document", "correct it, or remove [json]")


def _comment(binding: Binding, written: str) -> str:
    if not written.startswith('"'):
        return written
    try:
        comment = json.loads(written)
    except ValueError:
        comment = None
    if not isinstance(comment, str):
        _refuse(binding, 'has a comment that begins with " and is no JSON string', "begin it with another character")
    return comment


def _refuse(binding: Binding, problem: str, hint: str) -> NoReturn:
    raise InvalidInputError(f"line {binding.line} {problem}", hint=hint)
