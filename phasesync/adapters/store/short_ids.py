"""Ids may be shortened to a beginning that only one of them has, as git does it with hashes."""

from typing import Final

import sqlalchemy as sa

from phasesync.errors import InvalidInputError

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
