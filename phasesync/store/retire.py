"""
Retires a database whose copy takes its place, and takes it back.

Nothing can be written to a retired database, by nobody: triggers refuse every write. So a process that was at work
before (a daemon that stood still during the copy, a command, an older release) changes nothing there any more, and a
write to AWS needs an intent in the journal first. Whoever opens the database later is refused by the row of the
instance; `retirement.refuse_retired` says where the copy is.

Triggers, because they need no statement of a database at work: they exist only here.
"""

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from phasesync.errors import IllegalTransitionError
from phasesync.store.daemons import is_alive
from phasesync.store.database import Database, retry_on_conflict
from phasesync.store.db_errors import RETIRED_STATE
from phasesync.store.db_time import LONGEST_WAIT, after, from_microseconds, now
from phasesync.store.retirement import Retirement, read_retirement
from phasesync.store.tables import daemons, instance, leases, metadata, syncs

_FUNCTION: Final = "phasesync_retired"
_MESSAGE: Final = "this database of phasesync is retired"
_EVENTS: Final = ("INSERT", "UPDATE", "DELETE")


@retry_on_conflict
def retire(database: Database, *, at: datetime, to: str) -> None:
    """
    Retire a database, unless somebody is at work in it.

    Claims that have expired are moved to 1970, so that a copy on a server with another clock frees them at once.

    Args:
        database: has no retirement.
        at: by the clock of the database.
        to: where its copy will be, without a password.

    Raises:
        IllegalTransitionError: a daemon or a command is at work. Nothing was changed.
    """
    with database.write() as connection:
        if not database.is_sqlite:
            # Waits for the writes of others; what they have stored is then seen by the checks.
            names = ", ".join(sorted(metadata.tables))
            connection.exec_driver_sql(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")
        refuse_at_work(connection)
        if read_retirement(connection) is not None:
            raise IllegalTransitionError("another process is copying this database", hint="repeat the command")
        for table in (syncs, leases):
            expired = {"claim_until": from_microseconds(0)}
            connection.execute(table.update().where(table.c.claim_owner.is_not(None)).values(expired))
        connection.execute(instance.update().values(retired_at=at, retired_to=to))
        _refuse_writes(connection)


@retry_on_conflict
def unretire(database: Database) -> Retirement:
    """
    Take a retired database back into use; return what its retirement was.

    The caller knows that nobody has worked with the copy.

    Raises:
        IllegalTransitionError: it is not retired, or it is itself a copy that is not complete.
    """
    with database.write() as connection:
        retirement = read_retirement(connection)
        if retirement is None:
            raise IllegalTransitionError("this database is not retired")
        if retirement.to is None:
            raise IllegalTransitionError(
                "this database is a copy that is not complete, and no database that was retired",
                hint="phasesync db unretire, with the settings of the original",
            )
        for name, table in _triggers(connection):
            on_table = "" if connection.dialect.name == "sqlite" else f" ON {table}"
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}{on_table}")
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {_FUNCTION}()")
        connection.execute(instance.update().values(retired_at=None, retired_to=None))
    return retirement


def refuse_at_work(connection: sa.Connection) -> None:
    """Raise IllegalTransitionError if a daemon is alive, or a command holds a claim."""
    alive = connection.execute(sa.select(daemons.c.host, daemons.c.pid).where(is_alive()).limit(1)).first()
    if alive is not None:
        raise IllegalTransitionError(
            f"a daemon is at work on this database: pid {alive.pid} on {alive.host}",
            hint="stop it first: systemctl stop phasesync",
        )
    for table, what in ((syncs, "a sync is being reconciled"), (leases, "a lease is being issued or revoked")):
        if not sa.inspect(connection).has_table(table.name):
            continue  # An older schema.
        owner = connection.scalar(
            sa.select(table.c.claim_owner)
            .where(table.c.claim_owner.is_not(None), table.c.claim_until.between(now(), after(LONGEST_WAIT)))
            .limit(1)
        )
        if owner is not None:
            raise IllegalTransitionError(f"{what} by {owner}", hint="wait until it has ended, and repeat the command")


def _refuse_writes(connection: sa.Connection) -> None:
    """Add the triggers that refuse every write from now on."""
    sqlite = connection.dialect.name == "sqlite"
    if not sqlite:
        connection.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION '{_MESSAGE}' USING ERRCODE = '{RETIRED_STATE}'; END $$"
        )
    for name, table in _triggers(connection):
        if sqlite:
            event = name.rpartition("_")[2].upper()
            connection.exec_driver_sql(
                f"CREATE TRIGGER {name} BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END"
            )
        else:
            connection.exec_driver_sql(
                f"CREATE TRIGGER {name} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION {_FUNCTION}()"
            )


def _triggers(connection: sa.Connection) -> list[tuple[str, str]]:
    """Return name and table of each trigger: SQLite has one for each kind of write."""
    if connection.dialect.name == "sqlite":
        return [(f"retired_{table}_{event.lower()}", table) for table in sorted(metadata.tables) for event in _EVENTS]
    return [(f"retired_{table}", table) for table in sorted(metadata.tables)]


def clock_of(connection: sa.Connection) -> datetime:
    """Return the database's time."""
    clock: Any = connection.scalar(sa.select(now()))
    return from_microseconds(int(clock or 0))
