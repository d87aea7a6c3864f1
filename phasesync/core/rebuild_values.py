"""
The value that a key had, from what AWS secrets of either layout show of it. Pure; no message repeats a value.

No layout shows every type: in layout per-key a document of type json is a text, in layout json a binary value is base64
text. What one layout leaves open, an AWS secret of the other one may tell: `12` beside `{"KEY":12}` was of type json.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from phasesync.core.canonical_json import canonical_json, map_strings, parse_json_document
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.payloads import canonical_value, json_member
from phasesync.core.reference_syntax import escape
from phasesync.core.secret_json import as_literal, literal_value, value_of_member
from phasesync.core.sync import Layout
from phasesync.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Shown:
    """
    What an AWS secret shows of a key.

    Attributes:
        value: layout json: the canonical JSON text of the member; layout per-key: the text or the bytes.
    """

    layout: Layout
    value: SecretValue = field(repr=False)


def members_of(value: SecretValue) -> dict[str, Shown]:
    """Return key -> what an AWS secret of layout json shows of it. InvalidInputError if it is no object of keys."""
    if value.type is ValueType.BINARY:
        raise InvalidInputError("the value is binary, and not JSON")
    document = parse_json_document(value.reveal())
    if not isinstance(document, dict):
        raise InvalidInputError("the value is JSON, but not an object with keys")
    return {
        key: Shown(layout=Layout.JSON, value=SecretValue(canonical_json(member))) for key, member in document.items()
    }


def value_of(shown: Sequence[Shown]) -> SecretValue | None:
    """Return the literal value that gives all that is shown of one key; None if no value does."""
    return next(
        (value for one in shown for value in _readings(one) if all(_written(value, other) for other in shown)), None
    )


def _readings(shown: Shown) -> Iterator[SecretValue]:
    """Yield the values that an AWS secret can have been written from, the likely one first."""
    if shown.layout is Layout.JSON:
        yield value_of_member(parse_json_document(shown.value.reveal()))
        return
    yield as_literal(shown.value)
    if shown.value.type is ValueType.BINARY:
        return
    try:
        document = parse_json_document(shown.value.reveal())
    except InvalidInputError:
        return
    yield SecretValue(canonical_json(map_strings(document, escape)), ValueType.JSON)


def _written(value: SecretValue, shown: Shown) -> bool:
    """Return whether a value gives what is shown."""
    resolved = literal_value(value) or value
    if shown.layout is Layout.JSON:
        return SecretValue(json_member("", resolved)) == shown.value
    return canonical_value("", resolved) == shown.value
