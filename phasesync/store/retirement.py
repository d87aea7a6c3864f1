"""
Whether a database is retired: it was copied, and its copy is in use. `retire.py` retires it.

A copy that is not complete is marked in the same way, without the place of a copy.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from phasesync.core.times import instant_text
from phasesync.errors import RetiredDatabaseError
from phasesync.store.tables import instance


@dataclass(frozen=True, kw_only=True)
class Retirement:
    """
    That nobody may work with a database.

    Attributes:
        at: since when.
        to: where its copy is, without a password; None: it is itself a copy that is not complete.
    """

    at: datetime
    to: str | None


def read_retirement(connection: sa.Connection) -> Retirement | None:
    """Return the retirement of a database at the newest schema; None if it may be used."""
    row = connection.execute(sa.select(instance.c.retired_at, instance.c.retired_to)).first()
    return None if row is None or row.retired_at is None else Retirement(at=row.retired_at, to=row.retired_to)


def refuse_retired(at: datetime | None, to: str | None) -> None:
    """Raise RetiredDatabaseError by the columns of the instance, unless the database may be used (`at` is None)."""
    if at is None:
        return
    if to is None:
        raise RetiredDatabaseError(
            "this database is a copy of another one, and it is not complete",
            hint="repeat phasesync db copy with the settings of the original; or go on with the original, with its "
            "settings: phasesync db unretire",
        )
    raise RetiredDatabaseError(
        f"this database is retired since {instant_text(at)}: it was copied to {to}",
        hint="set PHASESYNC_DATABASE_URL to the copy; if nobody has ever worked with the copy, this one can be taken "
        "back: phasesync db unretire",
    )
