"""
Opens a database and runs transactions on it: read snapshots, short writes, and repetitions after a conflict.

Only this module knows how SQLite and PostgreSQL begin a transaction; the code above it uses SQLAlchemy Core.
"""

import inspect
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc

from phasesync.errors import AnotherDatabaseError, PhasesyncError, SettingsError, StoreUnavailableError
from phasesync.store.database_url import parse_database_url
from phasesync.store.db_errors import CONFLICTS, invalidates_connections, translate, translate_errors
from phasesync.store.sqlite import (
    BUSY_TIMEOUT_MS,
    Files,
    Installation,
    SqliteConnection,
    SqliteFile,
    access_warnings,
    prepare_sqlite_file,
)

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=type)

ATTEMPTS: Final = 6

_FIRST_PAUSE_S: Final = 0.02


class _Thread(threading.local):
    """What a thread is doing, by database: the transactions that its reads and writes join, and its rehearsals."""

    def __init__(self) -> None:
        self.joined: dict[Database, sa.Connection] = {}
        self.rehearsals: dict[Database, ExitStack] = {}


_thread: Final = _Thread()


def retry_on_conflict(work: Callable[P, T]) -> Callable[P, T]:
    """
    Return a function that repeats its work, after a short random pause, if the database rolled it back.

    PostgreSQL ends one of two transactions that wait for each other (40P01), and one with a snapshot that does not fit
    what others committed (40001). Nothing of it was stored, and the same work succeeds a moment later. Rows are locked
    in the order of their ids, so this is rare; foreign keys, indexes and cascades take locks in orders of their own.
    """

    @wraps(work)
    def repeating(*args: P.args, **kwargs: P.kwargs) -> T:
        if _thread.joined:
            return work(*args, **kwargs)  # The whole transaction is repeated, by whoever opened it.
        for attempt in range(1, ATTEMPTS):
            try:
                return work(*args, **kwargs)
            except StoreUnavailableError as error:
                if error.code not in CONFLICTS:
                    raise
                # A random pause, so that the same two transactions do not collide again.
                time.sleep(_FIRST_PAUSE_S * 2**attempt * secrets.SystemRandom().random())
        return work(*args, **kwargs)

    return repeating


def retry_methods(cls: C) -> C:
    """
    Wrap every public method of a class in `retry_on_conflict`.

    Each method is one piece of work on the database: nothing that it did before the error is stored, or storing it
    twice makes no difference.
    """
    for name, member in vars(cls).copy().items():
        if not name.startswith("_") and inspect.isfunction(member) and not inspect.isgeneratorfunction(member):
            setattr(cls, name, retry_on_conflict(member))
    return cls


_IMMEDIATE: Final = "phasesync_immediate"

_CHECKPOINT_PATIENCE_MS: Final = 200
"""Writes wait while a checkpoint waits for readers."""


class Database:
    """One database: its engine, and the two kinds of transactions. Safe to share between threads."""

    def __init__(self, engine: sa.Engine, file: SqliteFile | None = None) -> None:
        """
        Args:
            engine: opens and pools connections.
            file: the file of a SQLite database; None for PostgreSQL.
        """
        self.engine = engine
        self.url = engine.url
        self._file = file
        self._was_usable = False
        self.observe: Callable[[str, float], None] | None = None
        """Called, with `read` or `write` and the seconds, at the end of each transaction; None = nobody measures."""
        self.before_commit: Callable[[sa.Connection, Sequence[Any]], None] | None = None
        """Called at the end of each write, just before its commit, with what was noted: see `note`."""
        self._notes: dict[sa.Connection, list[Any]] = {}
        self._writing = threading.Lock()
        """SQLite allows one write at a time. It makes others sleep and try again; threads of a process wait in turn."""
        if self.is_sqlite:
            self._readers = self._single = engine
            self._writers = engine.execution_options(**{_IMMEDIATE: True})
        else:
            self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
            self._readers = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            self._writers = engine.execution_options(isolation_level="READ COMMITTED")

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite: one host, one writer at a time, no SKIP LOCKED."""
        return self.engine.dialect.name == "sqlite"

    def expect(self, installation: Installation) -> None:
        """Refuse a file that replaces the database later and belongs to another installation."""
        if self._file is not None:
            self._file.expect(installation)

    def read(self) -> AbstractContextManager[sa.Connection]:
        """Open a snapshot: every answer is of one moment, nothing is locked, nothing can be written."""
        return self._joined() or self._transaction(self._readers, "read")

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """
        Open a write that all reads and writes of this thread join until the end of the block: together they are one.

        It is committed at the end and rolled back by any error. On SQLite nobody else writes meanwhile, and on
        PostgreSQL nobody changes the rows that it changed: no call to AWS belongs in the block.
        """
        with self.write() as connection:
            if self in _thread.joined:
                yield connection  # It is a part of the one that is open already.
                return
            _thread.joined[self] = connection
            try:
                yield connection
            finally:
                del _thread.joined[self]

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Open a read that all reads of this thread join until the end of the block: together they see one moment."""
        with self.read() as connection:
            if self in _thread.joined:
                yield connection
                return
            _thread.joined[self] = connection
            try:
                yield connection
            finally:
                del _thread.joined[self]

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """
        Let this thread find out what writes would do: from the first one on, its reads and writes are one transaction,
        which is rolled back at the end of the block.

        What the block asks AWS should come before the first write: from then on the database is locked as it is in
        `transaction`. A rehearsal in another one rolls back its own writes at its end, and nothing else.
        """
        if (begun_before := _thread.joined.get(self)) is not None:
            savepoint = begun_before.begin_nested()
            noted = len(self._notes.get(begun_before, ()))
            try:
                yield
            finally:
                savepoint.rollback()
                del self._notes.get(begun_before, [])[noted:]
            return
        with ExitStack() as opened:
            outer = _thread.rehearsals.get(self)
            _thread.rehearsals[self] = opened
            try:
                yield
            finally:
                del _thread.rehearsals[self]
                if outer is not None:
                    _thread.rehearsals[self] = outer
                connection = _thread.joined.pop(self, None)
                if connection is not None and (begun := connection.get_transaction()) is not None:
                    begun.rollback()

    @contextmanager
    def apart_from_rehearsal(self) -> Iterator[None]:
        """
        Have the writes of a block count although this thread rehearses: what it shows meanwhile, somebody has seen.

        Only before the first write of the rehearsal; later they are a part of it.
        """
        opened = _thread.rehearsals.pop(self, None)
        try:
            yield
        finally:
            if opened is not None:
                _thread.rehearsals[self] = opened

    def _joined(self) -> AbstractContextManager[sa.Connection] | None:
        """Return the transaction that this thread joins, which its opener ends; None if there is none."""
        connection = _thread.joined.get(self)
        return None if connection is None else nullcontext(connection)

    def write(self) -> AbstractContextManager[sa.Connection]:
        """
        Open a write: committed at the end of the block, rolled back by any error. SQLite allows one at a time.

        On PostgreSQL a conflict with another write may need a repetition: see `retry_on_conflict`.
        """
        if self in _thread.rehearsals and self not in _thread.joined:
            _thread.joined[self] = _thread.rehearsals[self].enter_context(self._write())
        return self._joined() or self._write()

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        began = time.monotonic()
        with self._turn_to_write(), self._transaction(self._writers, "write", began=began) as connection:
            files = files_of(connection)
            self._notes[connection] = []
            try:
                yield connection
                # A rehearsal has rolled everything back.
                if connection.in_transaction():
                    self._end(connection, self._notes[connection])
            finally:
                del self._notes[connection]
        if self._file is not None and files is not None and self._file.has_lost(files):
            self._file.abandon()
            raise StoreUnavailableError(
                f"the database {self._file.path} was moved or replaced during the write, so the change may be lost",
                hint="check whether the change is there; if it is not, repeat the command",
            )

    def note(self, connection: sa.Connection, note: object) -> None:
        """
        Keep something that `before_commit` stores at the end of the outermost write, with all else or not at all.

        `connection` is that of `write` or `transaction`, not of `write_once`.
        """
        self._notes[connection].append(note)

    def _end(self, connection: sa.Connection, notes: Sequence[Any]) -> None:
        if self.before_commit is not None:
            self.before_commit(connection, notes)
        elif notes:
            raise AssertionError("nobody stores what was noted: the database was not opened with its store")

    def read_once(self) -> AbstractContextManager[sa.Connection]:
        """Open a read of one statement, which is a snapshot by itself: PostgreSQL needs no BEGIN and COMMIT around."""
        return self._joined() or self._transaction(self._single, "read")

    def write_once(self) -> AbstractContextManager[sa.Connection]:
        """Open a write of one statement, which is committed with it."""
        if self.is_sqlite or self in _thread.rehearsals:
            return self.write()
        return self._joined() or self._transaction(self._single, "write")

    @contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        if not self.is_sqlite:
            yield
            return
        # Whoever waits for longer than SQLite would lets SQLite say what is wrong.
        acquired = self._writing.acquire(timeout=BUSY_TIMEOUT_MS / 1000)
        try:
            yield
        finally:
            if acquired:
                self._writing.release()

    def check_writable(self) -> None:
        """
        Raise StoreUnavailableError unless a write could begin now, on the database that was opened.

        Nothing is stored, so a disk that is full shows only with the next write.
        """
        with self.write() as connection:
            connection.execute(sa.select(1))

    def warnings(self) -> tuple[str, ...]:
        """Return warnings about who can read or write the database, one line each."""
        return access_warnings(self.url) if self.is_sqlite else ()

    def log_bytes(self) -> int:
        """Return the size of SQLite's write-ahead log; 0 on PostgreSQL."""
        return 0 if self._file is None else self._file.log_bytes()

    def checkpoint(self) -> None:
        """
        Move SQLite's write-ahead log into the database file and shorten the log, as far as readers allow.

        Does not wait for readers: while one is active, the log stays as it is until the next checkpoint.
        """
        if self._file is None:
            return
        with translate_errors(self.url, self._as_transient), closing(self._file.connect()) as connection:
            connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_PATIENCE_MS}")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def connect_to_file(self) -> SqliteConnection:
        """Return a connection to the file of a SQLite database, outside the pool; the caller closes it."""
        if self._file is None:
            raise AssertionError("only SQLite has a file")
        return self._file.connect()

    def log_path(self) -> Path:
        """Return the path of a SQLite database's write-ahead log."""
        if self._file is None:
            raise AssertionError("only SQLite has a log")
        return self._file.log_path

    def is_current(self, connection: SqliteConnection) -> bool:
        """Return whether the files that a connection opened are still in their place."""
        return self._file is not None and self._file.files() == connection.files

    def listen(self, channel: str) -> sa.PoolProxiedConnection:
        """
        Return a connection to PostgreSQL, outside the pool, that gets the notifications of a channel.

        Errors are those of SQLAlchemy and the driver. The caller closes it.
        """
        connection = self.engine.raw_connection()
        connection.detach()
        driver: Any = connection.dbapi_connection
        try:
            driver.autocommit = True
            driver.execute(f"LISTEN {channel}")
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def _transaction(self, engine: sa.Engine, kind: str, *, began: float | None = None) -> Iterator[sa.Connection]:
        """Open a transaction; `kind` and `began` (now, if None) are for `observe`."""
        began = time.monotonic() if began is None else began
        try:
            yield from self._begun(engine)
        finally:
            if self.observe is not None:
                self.observe(kind, time.monotonic() - began)

    def _begun(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with translate_errors(self.url, self._as_transient):
            if self._file is not None and self._file.has_moved:
                # The old connections are closed before a new one is opened, so that a log without a name is not lost.
                self._file.abandon()
                self.engine.dispose()
            with self._connect(engine) as connection, self._returned_to_pool(connection), connection.begin():
                if self._file is not None and (files := files_of(connection)) is not None:
                    # Once a write has begun, no other process empties the log: the write goes to these files.
                    self._file.check(files)
                yield connection
        self._was_usable = True

    def _connect(self, engine: sa.Engine) -> sa.Connection:
        """Return a connection; if the server refuses it, find out why."""
        try:
            return engine.connect()
        except exc.DBAPIError as error:
            if self.is_sqlite:
                raise
            from phasesync.store.postgresql import refusal_of

            raise self._as_transient(translate(error, self.url, refusal_of(error, engine))) from None
        except PhasesyncError as error:
            raise self._as_transient(error) from None

    @contextmanager
    def _returned_to_pool(self, connection: sa.Connection) -> Iterator[None]:
        """Return a connection to the pool at the end; close it if its files were moved or replaced."""
        files, pool = files_of(connection), self.engine.pool
        try:
            yield
        finally:
            if self._file is not None and (self._file.opened != files or self.engine.pool is not pool):
                self._file.abandon()
                connection.invalidate()

    def _as_transient(self, error: PhasesyncError) -> PhasesyncError:
        """Return an error as transient if the database was usable with these settings before."""
        if not self._was_usable or not isinstance(error, SettingsError) or isinstance(error, AnotherDatabaseError):
            return error
        return StoreUnavailableError(error.message, hint=error.hint, code=error.code)


def files_of(connection: sa.Connection) -> Files | None:
    """Return the files that a connection to SQLite has open."""
    opened: Any = connection.connection.dbapi_connection
    return opened.files if isinstance(opened, SqliteConnection) else None


def open_database(database_url: str, *, create: bool = False, synchronous: str = "FULL") -> Database:
    """
    Open a database.

    Args:
        database_url: `sqlite:///file`, `postgres://…` or `postgresql://…`.
        create: create folder and file of a SQLite database if they are missing.
        synchronous: what SQLite waits for at a commit. FULL: a committed intent survives a power cut. Other values are
            for tests and measurements.

    Raises:
        SettingsError: the URL, the file or the driver is not usable.
    """
    url = parse_database_url(database_url)
    if url.get_backend_name() == "sqlite":
        file = SqliteFile(prepare_sqlite_file(url, create=create), synchronous=synchronous)
        return Database(_sqlite_engine(url, file), file)
    return Database(_postgresql_engine(url))


def _sqlite_engine(url: sa.URL, file: SqliteFile) -> sa.Engine:
    engine = sa.create_engine(url, creator=file.connect, hide_parameters=True, pool_size=10, max_overflow=30)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        immediate = connection.get_execution_options().get(_IMMEDIATE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    _invalidate_on_error(engine)
    return engine


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    # Imported here, so that a user of SQLite does not pay for it.
    from phasesync.store.postgresql import configure, connect_arguments, with_addresses

    engine = sa.create_engine(
        url,
        hide_parameters=True,
        pool_size=10,
        max_overflow=30,
        connect_args=connect_arguments(url),
    )

    @event.listens_for(engine, "do_connect")
    def look_hosts_up(_dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]) -> None:
        parameters.update(with_addresses(parameters, url))

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        try:
            configure(connection, url)
        except BaseException:
            connection.close()
            raise

    _ping_idle_connections(engine)
    _invalidate_on_error(engine)
    return engine


def _ping_idle_connections(engine: sa.Engine) -> None:
    """
    Have the pool replace connections that were lost while they were idle.

    SQLAlchemy's own `pool_pre_ping` asks the server before every transaction, which is a fifth of what a run asks it.
    """

    @event.listens_for(engine, "checkin")
    def note(_connection: Any, record: Any) -> None:
        record.info[_USED_AT] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ping(connection: Any, record: Any, _proxy: object) -> None:
        if time.monotonic() - record.info.get(_USED_AT, time.monotonic()) < _IDLE_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise exc.DisconnectionError from error


_USED_AT: Final = "phasesync_used_at"
_IDLE_S: Final = 1.0


def _invalidate_on_error(engine: sa.Engine) -> None:
    """Have the pool drop its connections after an error that may be theirs."""

    @event.listens_for(engine, "handle_error")
    def judge(context: sa.ExceptionContext) -> None:
        if isinstance(context.sqlalchemy_exception, exc.DBAPIError):
            context.is_disconnect |= invalidates_connections(translate(context.sqlalchemy_exception, engine.url))


def row_lock(statement: sa.Select[Any], *tables: sa.Table) -> sa.Select[Any]:
    """
    Lock the rows that a select in a write transaction returns.

    SQLite needs no lock: only one write runs at a time. On PostgreSQL, rows that refer to the locked ones can still be
    added (NO KEY UPDATE).
    """
    return statement.with_for_update(key_share=True, of=tables or None)


def in_id_order(table: sa.Table, which: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """
    Return a condition for an update of several rows that locks the rows of `which` in the order of their ids.

    If two writes lock the same rows in the same order, one waits for the other; in different orders they deadlock. A
    plain update locks rows in the order in which it finds them.
    """
    return table.c.id.in_(sa.select(_locked(table, which).cte("ordered").c.id))


def not_locked(table: sa.Table, which: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return a condition for the removal of old rows: the rows of `which` that no other write has locked."""
    key = next(iter(table.primary_key.columns))
    # No CTE: Python's sqlite3 reports no row count for a statement that begins with one.
    return key.in_(sa.select(key).where(which).order_by(key).with_for_update(skip_locked=True, of=table))


def lock_migrations(connection: sa.Connection) -> None:
    """Wait until no other process migrates the PostgreSQL database; others wait until this transaction ends."""
    # Waiting for another process's migration may take long; its own locks on tables must not.
    connection.exec_driver_sql("SET LOCAL lock_timeout = 600000")
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.literal(_MIGRATIONS, sa.BigInteger()))))
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {BUSY_TIMEOUT_MS}")


_MIGRATIONS: Final = 0x70_68_61_73_65_6D_69_67
"""Advisory lock of PostgreSQL ("phasemig")."""


def lock_rows(connection: sa.Connection, table: sa.Table, which: sa.ColumnElement[bool]) -> None:
    """Lock rows in the order of their ids, before a write that may find them in another order."""
    connection.execute(_locked(table, which)).all()


def _locked(table: sa.Table, which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(table.c.id).where(which).order_by(table.c.id).with_for_update(key_share=True, of=table)


def insert_or_update(dialect: str, table: sa.Table) -> Any:
    """Return an insert with ON CONFLICT; SQLAlchemy has one such class for each database, with the same methods."""
    # Imported here, so that a user of one database does not pay for the dialect of the other.
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)
