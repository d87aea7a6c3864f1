"""
Writes rows into a database as `raw_rows` reads them: the inserts of a copy, a backup and a restore.

Also the numbers that a database gives: it has to give higher ones than the database that the rows come from.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from phasesync.store.raw_rows import Row, quoted
from phasesync.store.tables import lease_events, runs

NUMBERED: Final = (runs, lease_events)
"""Tables with numbers that the database gives, each higher than any before."""


def insert_rows(
    connection: sa.Connection, table: sa.Table, columns: Sequence[sa.Column[Any]], rows: Iterator[Row]
) -> None:
    """Insert checked rows into an empty table, in one statement."""
    insert = _insert_into_sqlite if connection.dialect.name == "sqlite" else _insert_into_postgresql
    insert(connection, table, columns, rows)


def _insert_into_sqlite(
    connection: sa.Connection, table: sa.Table, columns: Sequence[sa.Column[Any]], rows: Iterator[Row]
) -> None:
    # A credential may refer to one that comes later; checked at the commit.
    connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    names, values = ", ".join(map(quoted, columns)), ", ".join("?" * len(columns))
    driver: Any = connection.connection.driver_connection
    driver.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({values})", rows)  # noqa: S608 -- our own names


def _insert_into_postgresql(
    connection: sa.Connection, table: sa.Table, columns: Sequence[sa.Column[Any]], rows: Iterator[Row]
) -> None:
    import psycopg  # not there for a user of SQLite

    # One statement: references among its rows are checked at its end.
    statement = f"COPY {table.name} ({', '.join(map(quoted, columns))}) FROM STDIN"
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)
            cursor.execute(f"ANALYZE {table.name}")
    except psycopg.Error as error:
        raise exc.DBAPIError.instance(None, None, error, psycopg.Error) from None


def last_number(connection: sa.Connection, table: sa.Table) -> int:
    """Return the highest number that a database ever gave to a row of a table; 0 if none."""
    if connection.dialect.name == "sqlite":
        query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
        return int(connection.exec_driver_sql(query, (table.name,)).scalar() or 0)
    sequence = connection.scalar(sa.select(_sequence_of(table)))
    last, is_given = connection.exec_driver_sql(f"SELECT last_value, is_called FROM {sequence}").one()  # noqa: S608
    return int(last) if is_given else int(last) - 1


def set_last_number(connection: sa.Connection, table: sa.Table, last: int) -> None:
    """Have a database give higher numbers than `last`, and than those of its rows."""
    highest = max(last, connection.scalar(sa.select(sa.func.max(table.c.number))) or 0)
    if highest == 0:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
        connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, highest))
    else:
        connection.execute(sa.select(sa.func.setval(_sequence_of(table), highest)))


def _sequence_of(table: sa.Table) -> sa.Function[Any]:
    return sa.func.pg_get_serial_sequence(table.name, "number")
