"""Encryption of columns, and where wrapped keys are kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from phasesync.core.fingerprint import Digests


@dataclass(frozen=True, kw_only=True)
class WrappedKey:
    """
    A data key as the store keeps it: encrypted under the root key.

    Attributes:
        id: short name of the data key; stands in every ciphertext made with it.
        purpose: `environment`, `credentials` or `digest`.
        root_key_id: id of the root key that it is wrapped under.
        wrapped: the wrapped key.
    """

    id: str
    purpose: str
    root_key_id: str
    wrapped: bytes = field(repr=False)


class WrappedKeys(Protocol):
    """Where the key ring finds its wrapped keys."""

    def list_all(self) -> list[WrappedKey]:
        """Return every wrapped key, oldest first. StoreUnavailableError, SchemaMismatchError."""
        ...


class KeyRing(Protocol):
    """Encrypts and decrypts columns; wraps data keys under the root key."""

    @property
    def digests(self) -> Digests:
        """The keyed digests. KeyUnavailableError where the database has no keys yet."""
        ...

    def verify(self) -> None:
        """
        Make sure that the root key opens what this database has; nothing happens where it has no keys yet.

        Raises:
            KeyUnavailableError: its keys are wrapped under another root key; names both.
            CiphertextError: a wrapped key was altered.
        """
        ...

    def new_data_key(self, purpose: str) -> WrappedKey:
        """Make a data key; the caller stores it in the transaction that stores what it protects."""
        ...

    def data_key(self, purpose: str) -> str:
        """Return the id of the newest data key for a purpose that has one key. KeyUnavailableError."""
        ...

    def encrypt(self, key_id: str, context: Sequence[str], plaintext: bytes) -> bytes:
        """
        Encrypt one column of one row.

        Args:
            key_id: id of the data key.
            context: table, row, column, version and whatever else belongs to it: bound to the ciphertext as
                associated data.
            plaintext: any bytes.
        """
        ...

    def decrypt(self, context: Sequence[str], ciphertext: bytes) -> bytes:
        """Decrypt one column; the data key's id stands in the ciphertext. CiphertextError, KeyUnavailableError."""
        ...
