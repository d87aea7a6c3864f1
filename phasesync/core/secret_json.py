"""
Secret values in JSON files: what an export writes and what an import reads. No message repeats a value.

An export is one JSON object by key, and an import of it restores the same values. A member is plain if reading it gives
the value back:

    "KEY": "text"                       text without ${ in it
    "KEY": {"a": [1, 2]}                type json in canonical form without ${ in it, neither a string nor null
    "KEY": {"phasesync:type": "text",   everything else: text, json or binary
            "value": "...",             as it was entered: text, the text of the JSON document, base64 of the bytes
            "comment": "..."}           left out if there is none

A value from another program is literal text: `${` begins a reference in the store, so it is escaped on import. An
object with a name that begins with `phasesync:` is never plain; it is an error if it does not have the form above.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from phasesync.core.canonical_json import Json, canonical_json, map_strings, parse_json_document
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.reference_syntax import escape, literal_of
from phasesync.errors import InvalidInputError

MARK: Final = "phasesync:type"
_RESERVED: Final = "phasesync:"
_HINT: Final = 'write {"phasesync:type": "text|json|binary", "value": "...", "comment": "..."}, as secrets export does'


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """
    One key of a file.

    Attributes:
        comment: None if the file has none for it.
    """

    value: SecretValue
    comment: str | None = field(default=None, repr=False)


def export_json(entries: Mapping[str, FileEntry]) -> str:
    """Return one JSON object from which `entries_of_json` reads the same. InvalidInputError names the key."""
    members: dict[str, Json] = {}
    for key, entry in entries.items():
        try:
            members[key] = _member_of(entry)
        except UnicodeDecodeError:
            # The decoder's error carries the bytes.
            raise InvalidInputError(f"{key} is not UTF-8 text", hint="set it again with --type binary") from None
    return canonical_json(members) + "\n"


def entries_of_json(text: str, *, allow_null: bool = False) -> dict[str, FileEntry]:
    """
    Return the members of one JSON object.

    Args:
        text: the object; nothing but white space is one without members.
        allow_null: a plain null is a value of type json. By default it is refused, since programs write it for
            values that they did not find.

    Raises:
        InvalidInputError: not JSON, no object, or a member that has neither form. It names the key.
    """
    if not text.strip():
        return {}
    document = parse_json_document(text.encode("utf-8"))
    if not isinstance(document, dict):
        raise InvalidInputError("the file must hold one JSON object")
    entries = {key: _entry_of(key, member) for key, member in document.items()}
    nulls = sorted(key for key, member in document.items() if member is None)
    if nulls and not allow_null:
        raise InvalidInputError(
            f"the value of {', '.join(nulls)} is null, which is not a value",
            hint="to import the JSON document null, add --allow-empty",
        )
    return entries


def literal_value(value: SecretValue) -> SecretValue | None:
    """
    Return a value as literal text without escapes; None if it has references.

    An import of that literal text gives a value that resolves to the same.
    """
    if value.type is ValueType.BINARY:
        return value
    if value.type is ValueType.TEXT:
        text = literal_of(value.reveal_text())
        return None if text is None else SecretValue(text)
    document, refers = parse_json_document(value.reveal()), False

    def literal(leaf: str) -> str:
        nonlocal refers
        text = literal_of(leaf)
        refers = refers or text is None
        return text or ""

    changed = map_strings(document, literal)
    if refers:
        return None
    return value if changed == document else SecretValue(canonical_json(changed), ValueType.JSON)


def split_json(value: SecretValue) -> dict[str, SecretValue]:
    """
    Return the members of a value that is a JSON object, as `split_json_text` does.

    InvalidInputError if it is not: it then needs a name in the store.
    """
    try:
        return split_json_text(value.reveal_text())
    except (InvalidInputError, UnicodeDecodeError):
        raise InvalidInputError(
            "the value is not a JSON object of keys", hint="give it a name in the store: --key NAME"
        ) from None


def split_json_text(text: str) -> dict[str, SecretValue]:
    """Return the members of a JSON object: strings become text, everything else type json. InvalidInputError."""
    document = parse_json_document(text.encode("utf-8"))
    if not isinstance(document, dict):
        raise InvalidInputError("the file must hold one JSON object")
    return {key: value_of_member(member) for key, member in document.items()}


def value_of_member(member: Json) -> SecretValue:
    """Return the value of a member of a JSON object: a string becomes text, everything else type json."""
    if isinstance(member, str):
        return SecretValue(escape(member))
    return SecretValue(canonical_json(map_strings(member, escape)), ValueType.JSON)


def as_literal(value: SecretValue) -> SecretValue:
    """Return a value that resolves to exactly this one: text with `${` escaped, binary as it is."""
    if value.type is ValueType.BINARY:
        return value
    return SecretValue(escape(value.reveal_text()))


def _member_of(entry: FileEntry) -> Json:
    value = entry.value
    if not entry.comment and (plain := _plain(value)) is not None:
        return plain
    content = (
        base64.b64encode(value.reveal()).decode("ascii") if value.type is ValueType.BINARY else value.reveal_text()
    )
    member: dict[str, Json] = {MARK: value.type.value, "value": content}
    return member | {"comment": entry.comment} if entry.comment else member


def _plain(value: SecretValue) -> Json:
    """Return a value as a plain member, None if reading that would not give the value back."""
    if value.type is ValueType.TEXT:
        text = value.reveal_text()
        return None if "${" in text else text
    if value.type is ValueType.BINARY:
        return None
    try:
        # Within the object of the export it is one level deeper.
        whole = parse_json_document(b'{"":' + value.reveal() + b"}")
    except InvalidInputError:
        return None
    document = whole[""] if isinstance(whole, dict) and len(whole) == 1 else None
    if document is None or isinstance(document, str) or _is_marked(document) or value_of_member(document) != value:
        return None
    return document


def _entry_of(key: str, member: Json) -> FileEntry:
    if not _is_marked(member):
        return FileEntry(value=value_of_member(member))
    assert isinstance(member, dict)  # noqa: S101 - nothing else is marked
    type_, content, comment = member.get(MARK), member.get("value"), member.get("comment", "")
    if not isinstance(type_, str) or not isinstance(content, str) or not isinstance(comment, str):
        raise InvalidInputError(
            f"{key}: an object with phasesync's names needs {MARK} and value as strings", hint=_HINT
        )
    if unknown := member.keys() - {MARK, "value", "comment"}:
        raise InvalidInputError(f"{key}: unknown members beside {MARK}, value and comment: {len(unknown)}", hint=_HINT)
    if type_ not in list(ValueType):
        raise InvalidInputError(f"{key}: {MARK} is neither text nor json nor binary", hint=_HINT)
    return FileEntry(value=_value_of(key, ValueType(type_), content), comment=comment if "comment" in member else None)


def _value_of(key: str, type_: ValueType, content: str) -> SecretValue:
    if type_ is ValueType.TEXT:
        return SecretValue(content)
    if type_ is ValueType.JSON:
        try:
            parse_json_document(content.encode("utf-8"))
        except InvalidInputError as error:
            raise InvalidInputError(f"{key}: {error.message}") from None
        return SecretValue(content, ValueType.JSON)
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if base64.b64encode(data).decode("ascii") != content:
        raise InvalidInputError(f"{key}: its value is not base64", hint=_HINT)
    return SecretValue(data, ValueType.BINARY)


def _is_marked(member: Json) -> bool:
    return isinstance(member, dict) and any(name.startswith(_RESERVED) for name in member)
