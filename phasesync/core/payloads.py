"""
Payloads: the exact bytes of remote objects, built from the resolved values of one folder.

The same values give the same bytes. It knows nothing of the objects at AWS, and decides nothing.
"""

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from phasesync.core.canonical_json import canonical_json, parse_json_document
from phasesync.core.fingerprint import Digests, fingerprint, key_digest
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.remote import Payload
from phasesync.core.remote_names import clashes, name_of_key
from phasesync.core.sync import Layout, SyncConfig
from phasesync.errors import InvalidInputError, PayloadTooLargeError, PhasesyncError

LIMIT_BYTES = 65_536
"""Length of SecretString and SecretBinary, in bytes: AWS Secrets Manager API reference, PutSecretValue."""

_SHOWN = 3
_EMPTY_JSON = frozenset({'""', "null", "{}", "[]"})
_LONGEST_EMPTY_JSON = 1_024
"""In bytes, with white space around it."""


class SyncShape(Protocol):
    """What payloads are built from, beside the values."""

    @property
    def config(self) -> SyncConfig:
        """Has the layout and the names."""
        ...

    @property
    def app(self) -> str:
        """Name of the app."""
        ...

    @property
    def environment(self) -> str:
        """Name of the environment."""
        ...

    @property
    def path(self) -> str:
        """The folder."""
        ...


@dataclass(frozen=True, kw_only=True)
class BuiltPayloads:
    """
    The payloads of one revision.

    Attributes:
        payloads: remote name -> payload.
        problems: remote name -> why its payload cannot be built; the others are written nevertheless.
    """

    payloads: Mapping[str, Payload]
    problems: Mapping[str, PhasesyncError]


def build_payloads(
    sync: SyncShape, values: Mapping[str, SecretValue], digests: Digests, *, referring: Collection[str] = ()
) -> BuiltPayloads:
    """
    Build every payload of a sync by its layout.

    Args:
        sync: has the layout and the names.
        values: key -> value, references resolved.
        digests: the keyed digests.
        referring: keys that have references in their stored values.
    """
    if sync.config.layout is Layout.JSON:
        name = sync.config.names
        try:
            payload = build_json_payload(name, values, digests, referring=referring)
            check_size(payload)
        except PhasesyncError as error:
            return BuiltPayloads(payloads={}, problems={name: error})
        return BuiltPayloads(payloads={name: payload}, problems={})
    names = {
        key: name_of_key(sync.config, app=sync.app, environment=sync.environment, path=sync.path, key=key)
        for key in values
    }
    problems: dict[str, PhasesyncError] = {}
    for keys in clashes(names).values():
        both = " and ".join(keys)
        problems |= {
            names[key]: InvalidInputError(
                f"the keys {both} would have names that are the same, or differ in case only",
                hint="rename one of the keys, or change --name-template",
            )
            for key in keys
        }
    payloads: dict[str, Payload] = {}
    for key, name in sorted(names.items()):
        if name in problems:
            continue
        try:
            payloads[name] = build_payload(name, key, values[key], digests, referring=referring)
            check_size(payloads[name])
        except PhasesyncError as error:
            payloads.pop(name, None)
            problems[name] = error
    return BuiltPayloads(payloads=payloads, problems=problems)


def _empty(values: Mapping[str, SecretValue]) -> frozenset[str]:
    return frozenset(key for key, value in values.items() if is_empty(value))


def is_empty(value: SecretValue) -> bool:
    """Return whether a value is empty: an empty text, or a JSON document that is empty or null."""
    if value.type is not ValueType.JSON:
        return len(value) == 0
    return len(value) <= _LONGEST_EMPTY_JSON and canonical_json(parse_json_document(value.reveal())) in _EMPTY_JSON


def build_payload(
    remote_name: str, key: str, value: SecretValue, digests: Digests, *, referring: Collection[str] = ()
) -> Payload:
    """
    Build the payload of one key in layout `per-key`: text as it was entered, JSON in canonical form, binary as bytes.

    Args:
        remote_name: the object it is for.
        key: the key.
        value: its value, references resolved.
        digests: the keyed digests.
        referring: keys that have references in their stored values.

    Raises:
        InvalidInputError: the value is empty, which AWS does not accept, or a text is not UTF-8. It names the key.
    """
    if len(value) == 0:
        raise InvalidInputError(
            f"{key} is empty, and AWS does not take an empty value", hint="give it a value, or unset it"
        )
    payload = canonical_value(key, value)
    empty = _empty({key: value})
    return Payload(
        value=payload,
        fingerprint=fingerprint(digests, payload),
        keys={key: key_digest(digests, remote_name, key, payload.reveal())},
        sizes={key: len(payload)},
        empty=empty,
        empty_by_reference=empty.intersection(referring),
    )


def canonical_value(key: str, value: SecretValue) -> SecretValue:
    """Return the text or the bytes to write for one resolved value. InvalidInputError if it is not of its type."""
    if value.type is ValueType.BINARY:
        return value
    try:
        text = value.reveal_text()
        if value.type is ValueType.JSON:
            text = canonical_json(parse_json_document(value.reveal()))
        return SecretValue(text, ValueType.TEXT)
    except UnicodeDecodeError:
        # The decoder's error carries the bytes.
        raise InvalidInputError(f"{key} is not UTF-8 text", hint="set it again with --type binary") from None


def build_json_payload(
    remote_name: str, values: Mapping[str, SecretValue], digests: Digests, *, referring: Collection[str] = ()
) -> Payload:
    """
    Build the payload of layout `json`: one object with every value as a string.

    Values of type json are embedded as JSON, binary ones as base64 text. Keys are sorted by Unicode code point.

    Args:
        remote_name: the object it is for; goes into the digests of the keys.
        values: key -> value, references resolved.
        digests: the keyed digests.
        referring: keys that have references in their stored values.

    Raises:
        InvalidInputError: a text is not UTF-8, or a document is not JSON. It names the key.
    """
    members = {key: (_string(key), json_member(key, values[key])) for key in sorted(values)}
    text = ",".join(f"{name}:{value}" for name, value in members.values())
    payload = SecretValue(f"{{{text}}}", ValueType.TEXT)
    empty = _empty(values)
    return Payload(
        value=payload,
        fingerprint=fingerprint(digests, payload),
        keys={key: key_digest(digests, remote_name, key, value.encode()) for key, (_, value) in members.items()},
        sizes={key: len(f"{name}:{value}".encode()) for key, (name, value) in members.items()},
        empty=empty,
        empty_by_reference=empty.intersection(referring),
    )


def check_size(payload: Payload, limit_bytes: int = LIMIT_BYTES) -> None:
    """Raise PayloadTooLargeError, which names the three largest keys, if a payload is over the limit."""
    size = len(payload.value)
    if size <= limit_bytes:
        return
    largest = sorted(payload.sizes.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    raise PayloadTooLargeError(
        size_bytes=size,
        limit_bytes=limit_bytes,
        largest=tuple(f"{key} ({bytes_:,} bytes)" for key, bytes_ in largest),
    )


def json_member(key: str, value: SecretValue) -> str:
    """Return a resolved value as JSON text, as layout `json` has it. InvalidInputError names the key."""
    try:
        match value.type:
            case ValueType.TEXT:
                return _string(value.reveal_text())
            case ValueType.JSON:
                return canonical_json(parse_json_document(value.reveal()))
            case ValueType.BINARY:
                return _string(base64.b64encode(value.reveal()).decode("ascii"))
    except UnicodeDecodeError:
        # The decoder's error carries the bytes.
        raise InvalidInputError(f"{key} is not UTF-8 text", hint="set it again with --type binary") from None
    except InvalidInputError as error:
        raise InvalidInputError(f"{key}: {error.message}") from None


def _string(text: str) -> str:
    return canonical_json(text)
