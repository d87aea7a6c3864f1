"""
Text and JSON columns in and out of their ciphertexts.

Says what a ciphertext is bound to: (table, row, column, version, …). Key names travel only through here.
"""

import hmac
from typing import Any, TypeVar

import sqlalchemy as sa

from phasesync.errors import CiphertextError, NotFoundError, PhasesyncError
from phasesync.store.keys import KeyRing
from phasesync.store.serialization import from_json, to_json

T = TypeVar("T")

UNVERSIONED = "-"
"""Version in the context of columns that are simply replaced."""


def same_mac(stored: object, expected: bytes) -> bool:
    """Return whether a stored MAC is the expected one; NULL, or whatever SQLite keeps in such a column, is not."""
    return isinstance(stored, bytes) and hmac.compare_digest(stored, expected)


def check_name_key(table: sa.Table, row: sa.Row[Any]) -> None:
    """Raise CiphertextError where a row would be found by a name that is not its own, which is authenticated."""
    if row.name_key != row.name.lower():
        raise _altered_name(table, row.name)


def not_found(
    connection: sa.Connection, table: sa.Table, name: str, error: NotFoundError, *where: sa.ColumnElement[bool]
) -> PhasesyncError:
    """
    Return the error for a name by which no row is found: `error`, but where a row shows that name.

    Such a row would be listed, and the name from the list would be unknown to every command.

    Args:
        connection: in the transaction of the search.
        table: of the rows.
        name: what was looked for.
        error: says that there is none.
        where: what else was looked for.
    """
    altered = sa.select(table.c.name).where(table.c.name_key != name.lower(), *where)
    shows_it = any(one.lower() == name.lower() for one in connection.scalars(altered))
    return _altered_name(table, name) if shows_it else error


def _altered_name(table: sa.Table, name: str) -> CiphertextError:
    return CiphertextError(
        f"name and name_key of {name} in table {table.name} do not belong together: one was altered outside phasesync",
        hint="restore a backup: phasesync db restore FILE",
    )


class ColumnCipher:
    """Encrypts and decrypts columns."""

    def __init__(self, keys: KeyRing) -> None:
        self.keys = keys

    def text(self, key_id: str, context: tuple[str, ...], text: str | None) -> bytes | None:
        """Encrypt text; None stays NULL."""
        return None if text is None else self.keys.encrypt(key_id, context, text.encode("utf-8", "replace"))

    def open_text(self, context: tuple[str, ...], sealed: bytes | None) -> str | None:
        """Decrypt text. CiphertextError."""
        return None if sealed is None else self.keys.decrypt(context, sealed).decode()

    def json(self, key_id: str, context: tuple[str, ...], value: object) -> bytes:
        """Encrypt a dataclass, mapping or list as canonical JSON."""
        return self.keys.encrypt(key_id, context, to_json(value).encode("utf-8", "replace"))

    def open_json(self, expected: type[T], context: tuple[str, ...], sealed: bytes) -> T:
        """Decrypt what `json` encrypted. CiphertextError."""
        return from_json(expected, self.keys.decrypt(context, sealed))
