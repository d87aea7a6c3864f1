"""
Takes the rows of a backup into tables that phasesync itself made, and nothing else of the file.

A SQLite file may hold more than rows. A trigger in it would run at the first write, also during a restore, and delete
or change rows after they were proved; no MAC covers that. So the file itself is never what is proved and restored.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from phasesync.errors import CiphertextError, SettingsError
from phasesync.store.database_url import parse_database_url, sqlite_url
from phasesync.store.db_errors import translate
from phasesync.store.migrate import upgrade
from phasesync.store.sqlite import uri_of
from phasesync.store.tables import metadata

_BY_MIGRATIONS: Final = ("alembic_version", "schema_compatibility")
"""Tables whose rows the migrations write."""

_OBJECTS: Final = """
    SELECT type || ' ' || name FROM {0}.sqlite_schema
    WHERE substr(name, 1, 7) <> 'sqlite_' OR name = 'sqlite_sequence'
    UNION
    SELECT 'column ' || t.name || '.' || c.name FROM {0}.sqlite_schema t JOIN pragma_table_xinfo(t.name, '{0}') c
    WHERE t.type = 'table' AND substr(t.name, 1, 7) <> 'sqlite_'
"""
"""SQLite keeps names with this beginning for itself; one of these tables has the numbers that it gave."""

_OURS: Final = frozenset(f"table {table}" for table in metadata.tables) | {
    f"column {table.name}.{column.name}" for table in metadata.tables.values() for column in table.columns
}
"""What this release knows."""

_COLUMNS: Final = """
    SELECT t.name, c.name FROM main.sqlite_schema t JOIN pragma_table_xinfo(t.name, 'main') c
    WHERE t.type = 'table' AND substr(t.name, 1, 7) <> 'sqlite_' AND c.hidden = 0
"""
"""What the database computes is hidden."""


def take_rows(source: Path, target: Path, *, schema: str, name: Path) -> tuple[str, ...]:
    """
    Make a database with the rows of another one.

    Args:
        source: a private copy of a SQLite database that is not damaged; it is only read.
        target: an empty file, or none.
        schema: revision that the source says it has.
        name: the file to name in messages.

    Returns:
        What the source has that phasesync did not make there, such as `trigger t`; it was left out.

    Raises:
        SettingsError: a table or a column is missing.
        CiphertextError: the schema is another one, or rows are there that phasesync cannot have written.
        StoreUnavailableError: the disk is full.
    """
    upgrade(sqlite_url(target), to=schema, in_use=False)
    with closing(sqlite3.connect(uri_of(target), uri=True, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("ATTACH ? AS original", (uri_of(source, "ro"),))
            ours, theirs = (
                {row[0] for row in connection.execute(_OBJECTS.format(each))} for each in ("main", "original")
            )
            if lacking := sorted(each for each in ours - theirs if not each.startswith("index ")):
                raise SettingsError(f"{name} says that it has schema {schema}, and has no {lacking[0]}")
            if newer := sorted((theirs - ours) & _OURS):
                raise CiphertextError(f"{name} says that it has schema {schema}, and has the {newer[0]} of a newer one")
            connection.execute("BEGIN")
            _insert_all(connection)
            connection.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise CiphertextError(f"{name} has rows that its own schema refuses: it was altered") from None
        except sqlite3.Error as error:
            raise translate(error, parse_database_url(sqlite_url(target))) from None
    return tuple(sorted(theirs - ours))


def _insert_all(connection: sqlite3.Connection) -> None:
    columns: dict[str, list[str]] = {}
    for table, column in connection.execute(_COLUMNS):
        columns.setdefault(table, []).append(f'"{column}"')
    for table, named in columns.items():
        if table not in _BY_MIGRATIONS:
            names = ", ".join(named)
            # The names are those of our own tables.
            connection.execute(f'INSERT INTO main."{table}" ({names}) SELECT {names} FROM original."{table}"')  # noqa: S608
    connection.execute("DELETE FROM main.sqlite_sequence")
    connection.execute("INSERT INTO main.sqlite_sequence (name, seq) SELECT name, seq FROM original.sqlite_sequence")
