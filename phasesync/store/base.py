"""
Ids may be shortened to a beginning that only one of them has, as git does it with hashes.

What every part of the store stands on: the database, the key ring, and ids. Knows no table.
"""

import uuid
from typing import Any, Final

import sqlalchemy as sa

from phasesync.errors import CiphertextError, IllegalTransitionError, InvalidInputError, NotFoundError, PhasesyncError
from phasesync.store.database import Database, repeat_methods
from phasesync.store.keys import KeyRing

SHORTEST: Final = 4
"""Characters; less is more likely a mistake."""

_SHOWN: Final = 3


def full_id(connection: sa.Connection, column: sa.Column[str], given: str, *, what: str, lists: str) -> str | None:
    """
    Return the id that begins with what was given, None where there is none.

    Args:
        connection: to the database.
        column: of the ids.
        given: an id, or its beginning.
        what: what has such ids, for the message.
        lists: the command that lists them.

    Raises:
        InvalidInputError: several begin so, or it is too short to tell.
    """
    if connection.scalar(sa.select(column).where(column == given)) is not None:
        return given
    beginning = column.startswith(given.lower(), autoescape=True)
    found = list(connection.scalars(sa.select(column).where(beginning).order_by(column).limit(_SHOWN + 1)))
    if not found:
        return None
    if len(given) < SHORTEST:
        raise InvalidInputError(
            f"{given!r} is too short for the id of a {what}", hint=f"{SHORTEST} characters at least"
        )
    if len(found) > 1:
        shown = ", ".join(found[:_SHOWN]) + (" and more" if len(found) > _SHOWN else "")
        raise InvalidInputError(f"several {what}s begin with {given}: {shown}", hint=f"more of the id: {lists}")
    return found[0]


class BaseStore:
    """One part of the store; the stores are put together from several. Its public methods are repeated where needed."""

    def __init_subclass__(cls) -> None:
        repeat_methods(cls)

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys


def new_id() -> str:
    """Return a fresh id: 32 hex digits."""
    return uuid.uuid4().hex


def listed(names: list[str]) -> str:
    """Return names for a message: the first ten, and how many more there are."""
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown or "none"


def absent(what: str, name: str, names: list[str], group: str) -> NotFoundError:
    """
    Return the error for a name that nothing has; the hint is `list` where there is something to see.

    Args:
        what: the kind of thing.
        name: what was looked for.
        names: what there is.
        group: the group of commands for this kind.
    """
    if names:
        return NotFoundError(f"there is no {what} {name}; there is: {listed(names)}", hint=f"phasesync {group} list")
    return NotFoundError(f"there is no {what} {name}, and no other either", hint=f"phasesync {group} add --help")


def live_leases(what: str, live: int, command: str) -> IllegalTransitionError:
    """Return the error for the removal of something that has live leases."""
    counted = "1 live lease" if live == 1 else f"{live} live leases"
    return IllegalTransitionError(f"{what} has {counted}", hint=f"to revoke them first: {command}")


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
