"""
Opens a database and hands out transactions: read snapshots and short writes.

One place knows how the two databases begin a transaction; everything above speaks SQLAlchemy Core.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

from phasesync.adapters.store.failures import translated
from phasesync.adapters.store.locations import parse_database_url, prepare_sqlite_file

BUSY_TIMEOUT_MS: Final = 10_000
"""How long a write waits for another process's; ours take milliseconds."""

_IMMEDIATE: Final = "phasesync_immediate"
_CONNECT_TIMEOUT_S: Final = 5
_WAL_PATIENCE_S: Final = 10.0


class Database:
    """One database: its engine, and the two kinds of transactions. Safe to share between threads."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.url = engine.url
        if self.is_sqlite:
            self._readers = engine
            self._writers = engine.execution_options(**{_IMMEDIATE: True})
        else:
            self._readers = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            self._writers = engine.execution_options(isolation_level="READ COMMITTED")

    @property
    def is_sqlite(self) -> bool:
        """Whether one host has it all: no SKIP LOCKED, one writer at a time."""
        return self.engine.dialect.name == "sqlite"

    def read(self) -> AbstractContextManager[sa.Connection]:
        """Open a snapshot: every answer is of one moment, nothing is locked, nothing can be written."""
        return self._transaction(self._readers)

    def write(self) -> AbstractContextManager[sa.Connection]:
        """Open a write; committed at the end of the block, undone by any error. On SQLite the only one at a time."""
        return self._transaction(self._writers)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with translated(self.url), engine.begin() as connection:
            yield connection


def open_database(database_url: str, *, create: bool = False, synchronous: str = "FULL") -> Database:
    """
    Open a database.

    Args:
        database_url: `sqlite:///file`, `postgres://…` or `postgresql://…`.
        create: make folder and file of a SQLite database where they are missing.
        synchronous: what SQLite waits for at a commit. FULL: a committed intent survives a power cut. Anything else is
            for measuring.

    Raises:
        SettingsError: the URL, the place or the driver is not usable.
    """
    url = parse_database_url(database_url)
    if url.get_backend_name() == "sqlite":
        prepare_sqlite_file(url, create=create)
        return Database(_sqlite_engine(url, synchronous))
    return Database(_postgresql_engine(url))


def _sqlite_engine(url: sa.URL, synchronous: str) -> sa.Engine:
    engine = sa.create_engine(url, hide_parameters=True, pool_size=10, max_overflow=30)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late for a snapshot
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        _use_write_ahead_log(connection)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        immediate = connection.get_execution_options().get(_IMMEDIATE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """The switch is made once in a database's life and does not wait for locks by itself."""
    deadline = time.monotonic() + _WAL_PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    arguments: dict[str, Any] = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "application_name": "phasesync",
        "keepalives_idle": 30,
        # A host that vanished is noticed within this time even with a query under way.
        "tcp_user_timeout": 15_000,
    }
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    # Prepared statements do not survive PgBouncer in transaction mode.
    arguments["prepare_threshold"] = None
    engine = sa.create_engine(
        url, hide_parameters=True, pool_size=10, max_overflow=30, pool_pre_ping=True, connect_args=arguments
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # A process that was stopped in the middle of a transaction must not hold up the others for ever.
        connection.autocommit = True
        connection.execute(
            f"SET lock_timeout = {BUSY_TIMEOUT_MS}; SET idle_in_transaction_session_timeout = 60000; "
            "SET timezone = 'UTC'"
        )
        connection.autocommit = False

    return engine


def row_lock(statement: sa.Select[Any], *tables: sa.Table) -> sa.Select[Any]:
    """
    Lock the rows that a select in a write transaction returns.

    On SQLite nothing has to be done: only one write runs at a time. On PostgreSQL the lock lets rows that refer to
    these be added (NO KEY UPDATE).
    """
    return statement.with_for_update(key_share=True, of=tables or None)


def insert_or_update(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an insert with ON CONFLICT; SQLAlchemy has one class of it for each database, with the same methods."""
    # Imported here: whoever works on one database does not pay for the other's dialect.
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)
