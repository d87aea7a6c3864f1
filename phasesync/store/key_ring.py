"""
The key ring: root keys open data keys, data keys encrypt columns, and the digest key makes keyed digests.

Data keys are unwrapped once and kept in memory. The table `data_keys` holds them wrapped. A root key is never stored.
The ring notes which data keys a thread encrypts with, so that none is removed that a write has used: `data_keys.py`.

A ciphertext is AES-256-GCM with a header that names its key:

    format (1 byte) | data key id (6 bytes) | nonce (12 bytes) | ciphertext and tag

The associated data binds it to its place (table, row, column, version and more), each part with its length, so that
two different places never give the same bytes.
"""

import hmac
import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar, cast

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from phasesync.core.fingerprint import Digests
from phasesync.errors import CiphertextError, KeyUnavailableError, StoreUnavailableError
from phasesync.store.database import Database
from phasesync.store.db_time import now
from phasesync.store.serialization import from_json, to_json
from phasesync.store.tables import data_keys, root_keys

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


T = TypeVar("T")

KEY_BYTES: Final = 32

DIGEST_KEY: Final = "digest"
"""Purpose of the key behind fingerprints, tokens and lookups; never replaced."""

CREDENTIALS_KEY: Final = "credentials"
"""Purpose of the data key that all credentials share."""

ENVIRONMENT_KEY: Final = "environment"
"""Purpose of the data keys of environments; every environment has its own."""

NEXT: Final = "next"
"""Status of a root key that is going to take the place of the current one; it wraps nothing yet."""

CURRENT: Final = "current"
"""Status of the root key that wraps new data keys."""

FORMER: Final = "former"
"""Status of a root key that was replaced: no data key may be wrapped under it any more."""


@dataclass(frozen=True, kw_only=True)
class RootKey:
    """
    A root key and its source. Neither repr nor str shows the key.

    Attributes:
        source: for the operator: a path or the name of a variable.
        kind: word for the kind of source, as in the table `root_keys`.
        warnings: what the operator should improve about the source.
    """

    material: bytes = field(repr=False)
    source: str
    kind: str = "file"
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.material) != KEY_BYTES:
            raise malformed_root_key(self.source)

    @property
    def id(self) -> str:
        """Short keyed digest of the key: identifies it and reveals nothing."""
        return hmac.digest(self.material, b"phasesync root key id", "sha256")[:6].hex()


NEW_KEY_COMMAND: Final = f"head -c {KEY_BYTES} /dev/urandom | base64"


def malformed_root_key(source: str, *, hint: str | None = None) -> KeyUnavailableError:
    """Return the error for a file or a variable that does not hold a root key."""
    return KeyUnavailableError(
        f"{source} does not hold a root key: {KEY_BYTES} bytes as base64 are expected",
        hint=hint
        or f"put a copy of the root key in use there; if it is to be the next root key, a new one: {NEW_KEY_COMMAND} "
        "prints one",
    )


@dataclass(frozen=True, kw_only=True)
class WrappedKey:
    """
    A data key as the store keeps it: encrypted under the root key.

    Attributes:
        id: short name of the data key; part of every ciphertext made with it.
        purpose: `environment`, `credentials` or `digest`.
        root_key_id: id of the root key that wraps it.
        wrapped: the wrapped key.
    """

    id: str
    purpose: str
    root_key_id: str
    wrapped: bytes = field(repr=False)


class KeyRing:
    """AES-256-GCM envelope encryption. Safe to share between threads."""

    def __init__(
        self,
        roots: Sequence[RootKey],
        read_wrapped_keys: Callable[[], list[WrappedKey]],
        *,
        load_roots: Callable[[Collection[str]], Sequence[RootKey]] | None = None,
        read_statuses: Callable[[], Mapping[str, str]] | None = None,
        read_current: Callable[[Callable[[], Digests]], str | None] = lambda _: None,
        hint_for: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """
        Args:
            roots: the root keys at hand, at least one. All unwrap. The one that the database names wraps, or the first.
            read_wrapped_keys: returns every wrapped key of the database, oldest first; see `read_wrapped_keys`.
            load_roots: returns the root keys that are at hand by now, but for those whose ids it gets; called if the
                database names one that is not among `roots`, since it is being replaced.
            read_statuses: returns root key id -> status; see `read_root_statuses`. None: the database knows of none.
            read_current: returns the id of the root key that wraps, proved with the digests that it may ask for; see
                `root_keys.read_current_root`. None: the first one does.
            hint_for: returns what to do if the root key of an id is not at hand; None: what the error says by itself.
        """
        self._roots: dict[str, AESGCM] = {}
        self._places: dict[str, tuple[str, str]] = {}
        for root in roots:
            self.add_root(root)
        self._current_root_id = roots[0].id
        self._read_wrapped_keys = read_wrapped_keys
        self._load_roots = load_roots
        self._read_statuses = read_statuses
        self._read_current = read_current
        self._hint_for = hint_for
        self._lock = threading.Lock()
        self._wrapped: dict[str, WrappedKey] = {}
        self._known: dict[str, WrappedKey] = {}
        """Removed ones as well: a snapshot may hold rows from before the removal."""
        self._outdated = False
        self._used = _Used()
        self._open: dict[str, AESGCM] = {}
        self._digests: _KeyedDigests | None = None
        self._opened_json: dict[tuple[str, ...], tuple[object, object]] = {}
        """Table, row and column -> its context and ciphertext, and what was in it."""

    @property
    def root_key_id(self) -> str:
        """Id of the root key that wraps new data keys, as far as this process has learned."""
        return self._current_root_id

    @property
    def root_key_ids(self) -> tuple[str, ...]:
        """Ids of all root keys at hand."""
        return tuple(self._roots)

    @property
    def root_ids_in_use(self) -> frozenset[str]:
        """Ids of the root keys that wrap the data keys, as they were read last."""
        return frozenset(key.root_key_id for key in self._wrapped.values())

    def reload_roots(self) -> None:
        """Load root keys that came since. Errors of their source, such as KeyUnavailableError."""
        if self._load_roots is not None:
            for root in self._load_roots(self.root_key_ids):
                self.add_root(root)

    def add_root(self, root: RootKey) -> None:
        """Have one more root key at hand."""
        self._roots.setdefault(root.id, AESGCM(_derive(root.material, "wrap")))
        self._places.setdefault(root.id, (root.kind, root.source))

    def place_of(self, root_key_id: str) -> tuple[str, str] | None:
        """Return the kind and the name of the source of a root key; None if it is not at hand."""
        return self._places.get(root_key_id)

    def ids(self) -> dict[str, str]:
        """Return purpose -> id of the keys of the installation itself; not those of environments."""
        return {
            "root": self.root_key_id,
            DIGEST_KEY: self.digests.key_id,
            CREDENTIALS_KEY: self.data_key(CREDENTIALS_KEY),
        }

    @property
    def digests(self) -> Digests:
        """The keyed digests. KeyUnavailableError if the database has no keys yet."""
        if self._digests is None:
            key = self._newest(DIGEST_KEY)
            self._digests = _KeyedDigests(key.id, self._unwrap(key))
        return self._digests

    def digests_of(self, key: WrappedKey) -> Digests:
        """Return the keyed digests of a digest key that is not stored yet."""
        return _KeyedDigests(key.id, self._unwrap(key))

    def verify(self) -> None:
        """
        Make sure that the root key unwraps all keys of this database. A database without keys passes.

        Raises:
            KeyUnavailableError: the keys are wrapped under another root key; names both.
            CiphertextError: a wrapped key was altered.
        """
        with self._lock:
            self._reload()
            keys = list(self._wrapped.values())
        for key in keys:
            self._unwrap(key)

    def new_data_key(self, purpose: str) -> WrappedKey:
        """
        Make a data key; the caller stores it in the transaction that stores the data it protects.

        CiphertextError: what says which root key wraps was altered.
        """
        self._current_root_id = self._read_current(lambda: self.digests) or self._current_root_id
        key_id, material = os.urandom(KEY_ID_BYTES).hex(), os.urandom(KEY_BYTES)
        wrapped = self._wrap(key_id, purpose, material, self._current_root_id)
        self._open[key_id] = AESGCM(material)
        return wrapped

    def rewrap(self, key: WrappedKey, root_key_id: str) -> WrappedKey:
        """Return a data key wrapped under another root key; what it encrypted stays readable. KeyUnavailableError."""
        return self._wrap(key.id, key.purpose, self._unwrap(key), root_key_id)

    def data_key(self, purpose: str) -> str:
        """Return the id of the newest data key for a purpose that has one key. KeyUnavailableError."""
        return self._newest(purpose).id

    def encrypt(self, key_id: str, context: Sequence[str], plaintext: bytes) -> bytes:
        """
        Encrypt one column of one row.

        Args:
            key_id: id of the data key.
            context: table, row, column, version, and more where needed; bound to the ciphertext as associated data.
            plaintext: any bytes.
        """
        cipher = self._cipher(key_id)
        if cipher is None:
            raise KeyUnavailableError(
                f"the data key {key_id} is missing from this database",
                hint="repeat the command; if that does not help, restore a backup: phasesync db restore FILE",
            )
        self._used.ids.add(key_id)
        return seal(cipher, key_id, context, plaintext)

    def decrypt(self, context: Sequence[str], ciphertext: bytes) -> bytes:
        """Decrypt one column; the ciphertext names its data key. CiphertextError, KeyUnavailableError."""
        key_id = key_id_of(ciphertext)
        cipher = self._cipher(key_id) if key_id is not None else None
        if cipher is None:
            raise unauthentic(context, "names a key that this database does not have")
        return open_sealed(cipher, context, ciphertext)

    def encrypt_text(self, key_id: str, context: Sequence[str], text: str | None) -> bytes | None:
        """Encrypt text as `encrypt` does; None stays NULL."""
        return None if text is None else self.encrypt(key_id, context, text.encode("utf-8", "replace"))

    def decrypt_text(self, context: Sequence[str], ciphertext: bytes | None) -> str | None:
        """Decrypt what `encrypt_text` encrypted. CiphertextError."""
        return None if ciphertext is None else self.decrypt(context, ciphertext).decode()

    def encrypt_json(self, key_id: str, context: Sequence[str], value: object) -> bytes:
        """Encrypt a dataclass, mapping or list as canonical JSON."""
        return self.encrypt(key_id, context, to_json(value).encode("utf-8", "replace"))

    def decrypt_json(self, expected: type[T], context: Sequence[str], ciphertext: bytes) -> T:
        """Decrypt what `encrypt_json` encrypted. CiphertextError."""
        return from_json(expected, self.decrypt(context, ciphertext))

    def decrypt_json_once(self, expected: type[T], context: Sequence[str], ciphertext: bytes) -> T:
        """
        Decrypt as `decrypt_json` does, and remember the result until the row has another ciphertext or context.

        For a value that is never changed and of which there are few rows.
        """
        row, bound = tuple(context[:3]), (tuple(context), bytes(ciphertext))
        known, value = self._opened_json.get(row, (None, None))
        if known != bound:
            value = self.decrypt_json(expected, context, ciphertext)
            self._opened_json[row] = (bound, value)
        return cast(T, value)

    def take_used(self) -> set[str]:
        """Return the ids of the data keys that this thread has encrypted with since the last call."""
        used, self._used.ids = self._used.ids, set()
        return used

    def forget_used(self, key_id: str) -> None:
        """Forget that this thread has encrypted with a data key, since it looks after that key itself."""
        self._used.ids.discard(key_id)

    def expect_newer(self) -> None:
        """Read the keys again before a shared one encrypts next: another process has replaced one."""
        self._outdated = True

    def _cipher(self, key_id: str) -> AESGCM | None:
        """Return an unwrapped data key; None if the database has no key of this id, and never had."""
        if (cipher := self._open.get(key_id)) is not None:
            return cipher
        with self._lock:
            if key_id not in self._known:
                self._reload()  # another process may have made it
            key = self._known.get(key_id)
        if key is None:
            return None
        return self._open.setdefault(key_id, AESGCM(self._unwrap(key)))

    def _newest(self, purpose: str) -> WrappedKey:
        with self._lock:
            if self._outdated or not any(key.purpose == purpose for key in self._wrapped.values()):
                self._outdated = False
                self._reload()
            keys = [key for key in self._wrapped.values() if key.purpose == purpose]
        if not keys:
            raise KeyUnavailableError("this database has no keys yet", hint="phasesync init")
        return keys[-1]

    def _reload(self) -> None:
        # All keys at once: one statement, however many environments a run reads.
        self._wrapped = {key.id: key for key in self._read_wrapped_keys()}
        self._known |= self._wrapped

    def _statuses(self) -> Mapping[str, str]:
        return {} if self._read_statuses is None else self._read_statuses()

    def note_statuses(self, statuses: Mapping[str, str]) -> None:
        """Learn which root key wraps, from root key id -> status: another process may have replaced the one so far."""
        current = [root for root, status in statuses.items() if status == CURRENT]
        self._current_root_id = (current or [self._current_root_id])[0]

    def _root(self, root_key_id: str) -> AESGCM:
        if root_key_id not in self._roots:
            self.reload_roots()
        root = self._roots.get(root_key_id)
        if root is not None:
            return root
        former = [root for root in self._roots if self._statuses().get(root) == FORMER]
        if former:
            raise KeyUnavailableError(
                f"the root key {former[0]} was replaced by {root_key_id}, which is not at hand",
                hint="give the key that took its place; a former one opens only backups of its time",
            )
        raise KeyUnavailableError(
            f"this database was made with the root key {root_key_id}; the one given is {', '.join(self._roots)}",
            hint=self._hint_for(root_key_id),
        )

    def _wrap(self, key_id: str, purpose: str, material: bytes, root_key_id: str) -> WrappedKey:
        nonce = os.urandom(NONCE_BYTES)
        wrapped = nonce + self._root(root_key_id).encrypt(nonce, material, _wrap_context(key_id, purpose))
        return WrappedKey(id=key_id, purpose=purpose, root_key_id=root_key_id, wrapped=wrapped)

    def _unwrap(self, key: WrappedKey) -> bytes:
        root = self._root(key.root_key_id)
        nonce, sealed = key.wrapped[:NONCE_BYTES], key.wrapped[NONCE_BYTES:]
        try:
            return root.decrypt(nonce, sealed, _wrap_context(key.id, key.purpose))
        except (InvalidTag, ValueError):
            raise CiphertextError(
                f"the stored data key {key.id} does not authenticate: it was altered or damaged"
            ) from None


class _Used(threading.local):
    """Ids of the data keys that a thread has encrypted with."""

    def __init__(self) -> None:
        self.ids: set[str] = set()


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
    """Return a key for one purpose (HKDF-SHA256, RFC 5869); keys for different purposes are independent."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"phasesync v1 {purpose}".encode()).derive(
        material
    )


def _wrap_context(key_id: str, purpose: str) -> bytes:
    return join_parts([b"data key", key_id.encode(), purpose.encode()])


_WRAPPED_KEYS: Final = sa.select(
    # By name: a database that is migrated with its keys lacks the newest columns.
    *(data_keys.c.id, data_keys.c.purpose, data_keys.c.root_key_id, data_keys.c.wrapped)
).order_by(data_keys.c.created_at, data_keys.c.id)


def read_wrapped_keys(database: Database) -> list[WrappedKey]:
    """Return every wrapped key of a database, oldest first."""
    with database.read() as connection:
        rows = connection.execute(_WRAPPED_KEYS).all()
    return [
        WrappedKey(id=row.id, purpose=row.purpose, root_key_id=row.root_key_id, wrapped=row.wrapped) for row in rows
    ]


_ROLLED_BACK: Final = "40001"
"""SQLSTATE of a transaction that began before something that it depends on was changed."""


def read_root_statuses(database: Database) -> dict[str, str]:
    """Return root key id -> status; empty if no root key was ever registered."""
    with database.read() as connection:
        if not sa.inspect(connection).has_table(root_keys.name):
            return {}  # A database that is not migrated yet.
        return {row.id: row.status for row in connection.execute(sa.select(root_keys.c.id, root_keys.c.status))}


def insert_key(connection: sa.Connection, key: WrappedKey) -> None:
    """
    Store a new wrapped key in the transaction that stores what it protects.

    Raises:
        StoreUnavailableError: its root key was replaced since it was wrapped. The code is that of a conflict, so that
            the transaction is repeated, with the root key of now.
    """
    # Whoever replaces a root key locks the same row first, so that no key comes under the former one afterwards.
    connection.execute(sa.select(data_keys.c.id).where(data_keys.c.purpose == DIGEST_KEY).with_for_update(read=True))
    status = connection.scalar(sa.select(root_keys.c.status).where(root_keys.c.id == key.root_key_id))
    if status == FORMER:
        raise StoreUnavailableError(
            f"the root key {key.root_key_id} was replaced meanwhile", hint="repeat the command", code=_ROLLED_BACK
        )
    connection.execute(
        data_keys.insert().values(
            id=key.id,
            purpose=key.purpose,
            root_key_id=key.root_key_id,
            wrapped=key.wrapped,
            created_at=now(),
        )
    )
