"""
From a value that somebody else wrote to values of the store, where `${` begins a reference: theirs is literal.

No message repeats a value.
"""

from phasesync.core.canonical_json import Json, canonical_json, map_strings, parse_json_document
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.reference_syntax import escape
from phasesync.errors import InvalidInputError


def split_json(value: SecretValue) -> dict[str, SecretValue]:
    """
    Return the members of a value that is a JSON object, as `split_json_text` does.

    InvalidInputError where it is none: it then needs a name of its own.
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
    """Return one member of a JSON object: a string is text, everything else of type json."""
    if isinstance(member, str):
        return SecretValue(escape(member))
    return SecretValue(canonical_json(map_strings(member, escape)), ValueType.JSON)


def as_literal(value: SecretValue) -> SecretValue:
    """Return a value as it is: text with its `${` escaped, binary byte for byte."""
    if value.type is ValueType.BINARY:
        return value
    return SecretValue(escape(value.reveal_text()))
