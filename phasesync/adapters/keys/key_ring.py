"""
The key ring: root keys open data keys, data keys open columns, and the digest key makes keyed digests.

Data keys are unwrapped once and kept in memory. Where wrapped keys are stored is behind the port `WrappedKeys`.
"""

import hmac
import os
import threading
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from phasesync.adapters.keys.envelope import KEY_ID_BYTES, join_parts, key_id_of, open_sealed, seal, unauthentic
from phasesync.adapters.keys.root_key import RootKey
from phasesync.errors import CiphertextError, KeyUnavailableError
from phasesync.ports import Digests, WrappedKey, WrappedKeys

DIGEST: Final = "digest"
"""Purpose of the key behind fingerprints, tokens and lookups."""

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class EnvelopeKeyRing:
    """AES-256-GCM envelope encryption. Safe to share between threads."""

    def __init__(self, roots: Sequence[RootKey], stored: WrappedKeys) -> None:
        """
        Args:
            roots: the current root key first, then former ones that may still be in use: the first wraps, all unwrap.
            stored: where wrapped keys are found.
        """
        self._roots = {root.id: AESGCM(_derive(root.material, "wrap")) for root in roots}
        self._current_root_id = roots[0].id
        self._stored = stored
        self._lock = threading.Lock()
        self._wrapped: dict[str, WrappedKey] = {}
        self._open: dict[str, AESGCM] = {}
        self._digests: _KeyedDigests | None = None

    @property
    def root_key_id(self) -> str:
        """Id of the root key that wraps new data keys."""
        return self._current_root_id

    @property
    def digests(self) -> Digests:
        """The keyed digests. KeyUnavailableError where the database has no keys yet."""
        if self._digests is None:
            key = self._newest(DIGEST)
            self._digests = _KeyedDigests(key.id, self._unwrap(key))
        return self._digests

    def verify(self) -> None:
        """Make sure that our root keys open every key of the database. KeyUnavailableError, CiphertextError."""
        with self._lock:
            self._reload()
            keys = list(self._wrapped.values())
        for key in keys:
            self._unwrap(key)

    def new_data_key(self, purpose: str) -> WrappedKey:
        """Make a data key; the caller stores it in the transaction that stores what it protects."""
        key_id, material, nonce = os.urandom(KEY_ID_BYTES).hex(), os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES)
        wrapped = nonce + self._roots[self._current_root_id].encrypt(nonce, material, _wrap_context(key_id, purpose))
        self._open[key_id] = AESGCM(material)
        return WrappedKey(id=key_id, purpose=purpose, root_key_id=self._current_root_id, wrapped=wrapped)

    def data_key(self, purpose: str) -> str:
        """Return the id of the newest data key for a purpose that has one key. KeyUnavailableError."""
        return self._newest(purpose).id

    def encrypt(self, key_id: str, context: Sequence[str], plaintext: bytes) -> bytes:
        """Encrypt one column of one row. KeyUnavailableError where the data key is unknown."""
        cipher = self._cipher(key_id)
        if cipher is None:
            raise KeyUnavailableError(f"the data key {key_id} is missing from this database")
        return seal(cipher, key_id, context, plaintext)

    def decrypt(self, context: Sequence[str], ciphertext: bytes) -> bytes:
        """Decrypt one column. CiphertextError, KeyUnavailableError."""
        key_id = key_id_of(ciphertext)
        cipher = self._cipher(key_id) if key_id is not None else None
        if cipher is None:
            raise unauthentic(context, "names a key that this database does not have")
        return open_sealed(cipher, context, ciphertext)

    def _cipher(self, key_id: str) -> AESGCM | None:
        """Return an unwrapped data key; None where the database has none of this id."""
        if (cipher := self._open.get(key_id)) is not None:
            return cipher
        with self._lock:
            if key_id not in self._wrapped:
                self._reload()  # another process may have made it
            key = self._wrapped.get(key_id)
        if key is None:
            return None
        return self._open.setdefault(key_id, AESGCM(self._unwrap(key)))

    def _newest(self, purpose: str) -> WrappedKey:
        with self._lock:
            if not any(key.purpose == purpose for key in self._wrapped.values()):
                self._reload()
            found = [key for key in self._wrapped.values() if key.purpose == purpose]
        if not found:
            raise KeyUnavailableError("this database has no keys yet", hint="phasesync init")
        return found[-1]

    def _reload(self) -> None:
        # All at once: one statement, however many environments a run reads.
        self._wrapped = {key.id: key for key in self._stored.list_all()}

    def _unwrap(self, key: WrappedKey) -> bytes:
        root = self._roots.get(key.root_key_id)
        if root is None:
            raise KeyUnavailableError(
                f"this database was made with the root key {key.root_key_id}; the one given is {self._current_root_id}"
            )
        nonce, sealed = key.wrapped[:_NONCE_BYTES], key.wrapped[_NONCE_BYTES:]
        try:
            return root.decrypt(nonce, sealed, _wrap_context(key.id, key.purpose))
        except (InvalidTag, ValueError):
            raise CiphertextError(
                f"the stored data key {key.id} does not authenticate: it was altered or damaged"
            ) from None


class _KeyedDigests:
    """HMAC-SHA256 under a key of its own for every purpose."""

    def __init__(self, key_id: str, material: bytes) -> None:
        self._key_id = key_id
        self._material = material
        self._keys: dict[str, bytes] = {}

    @property
    def key_id(self) -> str:
        """Short name of the digest key."""
        return self._key_id

    def digest(self, purpose: str, *parts: bytes) -> bytes:
        """Return 32 bytes."""
        if (key := self._keys.get(purpose)) is None:
            key = self._keys[purpose] = _derive(self._material, f"digest {purpose}")
        return hmac.digest(key, join_parts(parts), "sha256")


def _derive(material: bytes, purpose: str) -> bytes:
    """Return a key for one purpose (HKDF-SHA256, RFC 5869); keys for different purposes tell nothing of each other."""
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=f"phasesync v1 {purpose}".encode()).derive(
        material
    )


def _wrap_context(key_id: str, purpose: str) -> bytes:
    return join_parts([b"data key", key_id.encode(), purpose.encode()])
