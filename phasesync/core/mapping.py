"""
From the resolved values of one folder to the exact bytes of a remote object.

The same values give the same bytes. Knows nothing of what is at AWS, and decides nothing.
"""

import base64
from collections.abc import Mapping

from phasesync.core.canonical import canonical_json, parse_json_document
from phasesync.core.fingerprint import Digests, fingerprint, key_digest
from phasesync.core.model import SecretValue, ValueType
from phasesync.core.remote import Payload
from phasesync.errors import InvalidInputError, PayloadTooLargeError

LIMIT_BYTES = 65_536
"""Length of SecretString and SecretBinary, in bytes: AWS Secrets Manager API reference, PutSecretValue."""

_SHOWN = 3


def map_json(remote_name: str, values: Mapping[str, SecretValue], digests: Digests) -> Payload:
    """
    Make the payload of layout `json`: one object with every value as a string.

    Values of type json are embedded as JSON, binary ones as base64 text. Keys are sorted by Unicode code point.

    Args:
        remote_name: the object it is for; goes into the digests of the keys.
        values: key -> value, references resolved.
        digests: the keyed digests.

    Raises:
        InvalidInputError: a text is not UTF-8, or a document is not JSON. Names the key.
    """
    members = {key: (_string(key), _rendered(key, values[key])) for key in sorted(values)}
    text = ",".join(f"{name}:{value}" for name, value in members.values())
    payload = SecretValue(f"{{{text}}}", ValueType.TEXT)
    return Payload(
        value=payload,
        fingerprint=fingerprint(digests, payload),
        keys={key: key_digest(digests, remote_name, key, value.encode()) for key, (_, value) in members.items()},
        sizes={key: len(f"{name}:{value}".encode()) for key, (name, value) in members.items()},
    )


def check_size(payload: Payload, limit_bytes: int = LIMIT_BYTES) -> None:
    """Raise PayloadTooLargeError, which names the three largest keys, where a payload is over the limit."""
    size = len(payload.value)
    if size <= limit_bytes:
        return
    largest = sorted(payload.sizes.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    raise PayloadTooLargeError(
        size_bytes=size,
        limit_bytes=limit_bytes,
        largest=tuple(f"{key} ({bytes_:,} bytes)" for key, bytes_ in largest),
    )


def _rendered(key: str, value: SecretValue) -> str:
    """Return a value as JSON text."""
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
