"""What every class of the store needs: `BaseStore`, ids and their short forms, names, and errors for unknown names."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.audit import AuditEntry, AuditKind, AuditOutcome
from phasesync.core.names import is_name
from phasesync.core.pages import bad_cursor
from phasesync.errors import (
    AlreadyExistsError,
    CiphertextError,
    IllegalTransitionError,
    InvalidInputError,
    NotFoundError,
    PhasesyncError,
)
from phasesync.store.audit_chain import configuration_digest
from phasesync.store.database import Database, retry_methods
from phasesync.store.db_time import to_microseconds
from phasesync.store.key_ring import KeyRing

MIN_PREFIX: Final = 4
"""Characters; a shorter prefix is probably a mistake."""

_MAX_SHOWN: Final = 3
_HEX_DIGITS: Final = frozenset("0123456789abcdef")
_NAMES_SHOWN: Final = 10
_PAIR: Final = re.compile(r"(-?[0-9]{1,18})-([0-9a-f]{1,40})")


def full_id(connection: sa.Connection, column: sa.Column[str], prefix: str, *, kind: str, lists: str) -> str | None:
    """
    Return the only id that begins with a prefix, as git does with hashes; None if there is no such id.

    Args:
        connection: to the database.
        column: the ids.
        prefix: an id, or its beginning.
        kind: the kind of thing, for the message.
        lists: the command that lists them.

    Raises:
        InvalidInputError: several ids begin with the prefix, or it is too short.
    """
    if connection.scalar(sa.select(column).where(column == prefix)) is not None:
        return prefix
    first = prefix.lower()
    if not set(first) <= _HEX_DIGITS:
        return None
    # A range, not LIKE, for which PostgreSQL has no index unless the order is that of bytes. "g" follows every digit.
    matches = (column >= first) & (column < f"{first}g")
    ids = list(connection.scalars(sa.select(column).where(matches).order_by(column).limit(_MAX_SHOWN + 1)))
    if not ids:
        return None
    if len(prefix) < MIN_PREFIX:
        raise InvalidInputError(
            f"{prefix!r} is too short for the id of a {kind}", hint=f"{MIN_PREFIX} characters at least"
        )
    if len(ids) > 1:
        shown = ", ".join(ids[:_MAX_SHOWN]) + (" and more" if len(ids) > _MAX_SHOWN else "")
        raise InvalidInputError(f"several {kind}s begin with {prefix}: {shown}", hint=f"more of the id: {lists}")
    return ids[0]


class BaseStore:
    """Base of the store's classes: database and key ring. Public methods are repeated after a database conflict."""

    def __init_subclass__(cls) -> None:
        retry_methods(cls)

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys

    def _audit(
        self,
        connection: sa.Connection,
        action: str,
        object: str,
        *,
        kind: AuditKind = AuditKind.CHANGE,
        outcome: AuditOutcome = AuditOutcome.DONE,
        details: Mapping[str, Any] | None = None,
        before: object = None,
        after: object = None,
        actor: str | None = None,
    ) -> None:
        """
        Write to the audit log, at the end of the transaction, what it does; nothing if it is rolled back.

        Args:
            connection: of the write.
            action: noun and verb as on the command line: `sync.approve`.
            object: label or name; no key of a secret, no remote name.
            kind: for retention.
            outcome: how it ended.
            details: names of keys, counts and more, but no value; stored encrypted.
            before: the configuration of the object as plain data, of which only a keyed digest is stored; None: none.
            after: the same afterwards.
            actor: who asked for it; None: the caller of the store.
        """
        entry = AuditEntry(
            action=action,
            object=object,
            kind=kind,
            outcome=outcome,
            details=details or {},
            before=configuration_digest(self._keys, before),
            after=configuration_digest(self._keys, after),
            actor=actor,
        )
        self._database.note(connection, entry)


def renaming(name: str, new_name: str) -> dict[str, str]:
    """Return the details of a change in the audit log that may have renamed its object."""
    return {} if name == new_name else {"renamed_to": new_name}


def new_id() -> str:
    """Return a fresh id: 32 hex digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True, kw_only=True)
class Names:
    """
    Names for a message.

    Attributes:
        first: the first few, in order.
        count: how many there are.
    """

    first: tuple[str, ...]
    count: int

    @classmethod
    def of(cls, connection: sa.Connection, table: sa.Table, *where: sa.ColumnElement[bool]) -> "Names":
        """Return the names of rows of a table, by name, without reading all of them."""
        first = sa.select(table.c.name).where(*where).order_by(table.c.name_key).limit(_NAMES_SHOWN)
        count = sa.select(sa.func.count()).select_from(table).where(*where)
        return cls(first=tuple(connection.scalars(first)), count=connection.scalar(count) or 0)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = self.count - len(self.first)
        shown = ", ".join(self.first)
        return f"{shown} and {more} more" if more > 0 else shown or "none"


NO_NAMES: Final = Names(first=(), count=0)


def name_of_cursor(cursor: str) -> str:
    """Return the search key of the name that a cursor is. InvalidInputError."""
    if not is_name(cursor):
        raise bad_cursor()
    return cursor.lower()


def to_pair_cursor(at: datetime, second: str | int) -> str:
    """Return the cursor of an item in an order by an instant and an id or a number."""
    return f"{to_microseconds(at)}-{second}"


def from_pair_cursor(cursor: str) -> tuple[int, str]:
    """Return the instant, in microseconds, and the id or number that a cursor is. InvalidInputError."""
    match = _PAIR.fullmatch(cursor)
    if match is None:
        raise bad_cursor()
    return int(match[1]), match[2]


def no_such(kind: str, name: str, names: Names, group: str) -> NotFoundError:
    """
    Return the error for an unknown name; it lists names that exist.

    Args:
        kind: the kind of thing.
        name: the unknown name.
        names: the names that exist.
        group: the group of commands for this kind.
    """
    if names:
        return NotFoundError(f"there is no {kind} {name}; there is: {names}", hint=f"phasesync {group} list")
    return NotFoundError(f"there is no {kind} {name}, and no other either", hint=f"phasesync {group} add --help")


def refuse_taken_name(connection: sa.Connection, table: sa.Table, kind: str, name: str, *, but: str) -> None:
    """Raise AlreadyExistsError if a row other than `but` (an id) has a name, regardless of case."""
    taken = connection.scalar(sa.select(table.c.name).where(table.c.name_key == name.lower(), table.c.id != but))
    if taken is not None:
        raise AlreadyExistsError(f"the {kind} {taken} exists already", hint="choose another name")


def has_live_leases(owner: str, live: int, command: str) -> IllegalTransitionError:
    """Return the error for the removal of something that has live leases."""
    counted = "1 live lease" if live == 1 else f"{live} live leases"
    return IllegalTransitionError(f"{owner} has {counted}", hint=f"to revoke them first: {command}")


def check_name_key(table: sa.Table, row: sa.Row[Any]) -> None:
    """Raise CiphertextError if the search key of a row does not belong to its name, which is authenticated."""
    if row.name_key != row.name.lower():
        raise _altered_name(table, row.name)


def lookup_error(
    connection: sa.Connection, table: sa.Table, name: str, error: NotFoundError, *where: sa.ColumnElement[bool]
) -> PhasesyncError:
    """
    Return the error for a name that finds no row: `error`, or a CiphertextError if a row has that name.

    The search key of such a row was altered: lists would show a name that no command finds.

    Args:
        connection: in the transaction of the search.
        table: the table that was searched.
        name: the name that finds no row.
        error: says that there is no such name.
        where: other conditions of the search.
    """
    key = name.lower()
    altered = sa.select(table.c.id).where(sa.func.lower(table.c.name) == key, table.c.name_key != key, *where).limit(1)
    return error if connection.scalar(altered) is None else _altered_name(table, name)


def _altered_name(table: sa.Table, name: str) -> CiphertextError:
    return CiphertextError(
        f"name and name_key of {name} in table {table.name} do not belong together: one was altered outside phasesync",
        hint="restore a backup: phasesync db restore FILE",
    )
