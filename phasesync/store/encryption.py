"""
The form of a ciphertext: AES-256-GCM with a header that names its key.

    format (1 byte) | data key id (6 bytes) | nonce (12 bytes) | ciphertext and tag

The associated data binds it to its place (table, row, column, version and more), each part with its length, so that
two different places never give the same bytes. Does not know where keys come from.
"""

import hmac
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from phasesync.errors import CiphertextError

UNVERSIONED: Final = "-"
"""Version in the context of columns that are simply replaced."""

FORMAT: Final = 1
KEY_ID_BYTES: Final = 6
NONCE_BYTES: Final = 12
_HEADER_BYTES: Final = 1 + KEY_ID_BYTES + NONCE_BYTES
_SHORTEST: Final = _HEADER_BYTES + 16
"""The tag of GCM has 16 bytes."""


def join_parts(parts: Sequence[bytes]) -> bytes:
    """Return bytes that no other sequence of parts gives: each part follows its length."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def seal(cipher: AESGCM, key_id: str, context: Sequence[str], plaintext: bytes) -> bytes:
    """
    Encrypt one column.

    Nonces are random: 96 bits are safe for 2^32 messages under one key, and every environment has its own
    (NIST SP 800-38D, 8.3).
    """
    header = bytes((FORMAT,)) + bytes.fromhex(key_id)
    nonce = os.urandom(NONCE_BYTES)
    return header + nonce + cipher.encrypt(nonce, plaintext, _associated(header, context))


def key_id_of(ciphertext: object) -> str | None:
    """
    Return the id of the key that a ciphertext names; None if it has no header that this release knows.

    SQLite stores a value of any type in any column, so the argument may be anything.
    """
    if not isinstance(ciphertext, bytes) or len(ciphertext) < _SHORTEST or ciphertext[0] != FORMAT:
        return None
    return ciphertext[1 : 1 + KEY_ID_BYTES].hex()


def open_sealed(cipher: AESGCM, context: Sequence[str], ciphertext: bytes) -> bytes:
    """Decrypt what `seal` made for the same place. CiphertextError names table and column, never content."""
    header, nonce = ciphertext[: 1 + KEY_ID_BYTES], ciphertext[1 + KEY_ID_BYTES : _HEADER_BYTES]
    try:
        return cipher.decrypt(nonce, ciphertext[_HEADER_BYTES:], _associated(header, context))
    except InvalidTag:
        raise unauthentic(context) from None


def unauthentic(
    context: Sequence[str], why: str = "does not authenticate: it was altered, moved or damaged"
) -> CiphertextError:
    """Return the error for a ciphertext that cannot be trusted. `context` begins with table, row, column."""
    table, _, column, *_ = context
    return CiphertextError(f"a stored value (column {column} in table {table}) {why}; nothing is planned or written")


def _associated(header: bytes, context: Sequence[str]) -> bytes:
    return join_parts([header, *(part.encode() for part in context)])


def same_mac(stored: object, expected: bytes) -> bool:
    """Return whether a stored MAC is the expected one; NULL and other types, which SQLite may hold, are not."""
    return isinstance(stored, bytes) and hmac.compare_digest(stored, expected)
