"""
Copies a database to another one, on SQLite or PostgreSQL, and retires the original.

    1. the target gets tables, and the row of the instance as a mark: it is a copy that is not complete
    2. the original is retired: nothing can be written to it any more
    3. each table is copied, in a transaction of its own
    4. both databases are read, and their rows compared
    5. the mark of the target is removed: from now on it is the database

The process may die at any point. Before 2 the original is in use, between 2 and 5 neither can be used, after 5 the
target alone. Repeated, a copy goes on where it stopped: mark and retirement have the same instant. The row of a daemon
or of a chore belongs to a place and is not copied.

Ciphertexts, ids and MACs are copied byte for byte; no key is needed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from phasesync.core.counted import counted
from phasesync.errors import (
    AlreadyExistsError,
    DatabaseCopyError,
    IllegalTransitionError,
    InvalidInputError,
    PhasesyncError,
    RetiredDatabaseError,
    SchemaMismatchError,
    SettingsError,
    StoreUnavailableError,
)
from phasesync.store.database import Database, open_database, row_lock
from phasesync.store.database_url import parse_database_url, sqlite_url
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.migrate import EXPECTED, open_migrated, status, upgrade
from phasesync.store.raw_rows import TableDigest, columns_of, digest_of, read_rows
from phasesync.store.raw_writes import NUMBERED, insert_rows, last_number, set_last_number
from phasesync.store.retire import clock_of, refuse_at_work, retire
from phasesync.store.retirement import read_retirement, refuse_retired
from phasesync.store.tables import chores, daemons, instance, metadata, schema_compatibility

_STATE: Final = ("retired_at", "retired_to")
"""Columns of the instance that say which of the two databases is in use."""

OF_A_PLACE: Final = (instance, daemons, chores, schema_compatibility)
"""Tables with rows that belong to a database and not to what it holds; that of the instance is copied by itself."""

COPIED: Final = tuple(table for table in metadata.sorted_tables if table not in OF_A_PLACE)
"""Tables in an order in which rows refer to rows that are there already."""

_FOREIGN_KEY: Final = ("23503", "SQLITE_CONSTRAINT_FOREIGNKEY")


@dataclass(frozen=True, kw_only=True)
class CopiedDatabase:
    """
    A complete copy.

    Attributes:
        source: the original, without a password.
        target: the copy, without a password.
        instance_id: of both.
        tables: what is in both.
        clocks_apart: by how much the clock of the copy is ahead of that of the original.
    """

    source: str
    target: str
    instance_id: str
    tables: tuple[TableDigest, ...]
    clocks_apart: timedelta


def shown_url(url: sa.URL) -> str:
    """Return a URL without its passwords: what a message may show, and a setting may be with a password elsewhere."""
    if url.get_backend_name() == "sqlite":
        return sqlite_url(Path(url.database or "").absolute())
    query = {name: value for name, value in url.query.items() if name not in _SECRET}
    shown = url.set(drivername="postgresql", query=query)
    return sa.URL.create(**(shown._asdict() | {"password": None})).render_as_string()


_SECRET: Final = ("password", "sslpassword")


def copy_database(
    source_url: str,
    target_url: str,
    *,
    report: Callable[[TableDigest], object] = lambda _table: None,
    check: Callable[[Database], object] = lambda _source: None,
    verify: Callable[[Database], object] | None = None,
) -> CopiedDatabase:
    """
    Copy a database, compare the two, and retire the original; a copy that was interrupted goes on.

    Args:
        source_url: the original.
        target_url: an empty database, or a SQLite file that does not exist; or what an interrupted copy left there.
        report: is called with each table once it is copied and compared.
        check: looks at the original before anything is made or retired; raises if `verify` could not succeed.
        verify: checks the copy before it can be used; raises if something is wrong with it.

    Raises:
        SchemaMismatchError: the original, or what is at the target, is not at the newest schema.
        IllegalTransitionError: a daemon or a command is at work on the original; or the target is in use.
        AlreadyExistsError: the target is not empty.
        RetiredDatabaseError: the original was copied elsewhere.
        DatabaseCopyError: a row cannot be copied, or the copy differs. The target cannot be used.
        SettingsError, StoreUnavailableError: one of them cannot be opened.
    """
    _refuse_same_file(source_url, target_url)
    with closing(open_migrated(source_url, exactly=True)) as source:
        _check_source(source)
        check(source)
        _prepare(target_url)
        with closing(open_database(target_url)) as target:
            copying = _begin(source, target)
            try:
                for table in COPIED:
                    copying.copy(table)
                copying.copy_instance()
                copying.set_numbers()
                compared = []
                for table in (instance, *COPIED):
                    compared.append(copying.compare(table))
                    report(compared[-1])
                if verify is not None:
                    verify(target)
                return copying.finish(tuple(compared))
            except PhasesyncError as error:
                copying.explain(error)
                raise


@dataclass(frozen=True, kw_only=True)
class CopyPreview:
    """
    What a copy would hold.

    Attributes:
        source: the original, without a password.
        target: the copy, without a password.
        instance_id: of both.
        rows: table -> number of rows.
        begun: an interrupted copy would go on.
    """

    source: str
    target: str
    instance_id: str
    rows: dict[str, int]
    begun: bool


def preview_copy(
    source_url: str, target_url: str, *, check: Callable[[Database], object] = lambda _source: None
) -> CopyPreview:
    """
    Return what `copy_database` would copy; makes and changes nothing.

    Raises: as `copy_database`, as far as it can be seen before a row is copied.
    """
    _refuse_same_file(source_url, target_url)
    with closing(open_migrated(source_url, exactly=True)) as source:
        _check_source(source)
        check(source)
        with source.read() as connection:
            row = connection.execute(sa.select(instance)).one()
            rows = {
                table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for table in (instance, *COPIED)
            }
        if _check_target(target_url):
            with closing(open_database(target_url)) as target, target.rehearsal(), target.write() as connection:
                begun = _read_mark(connection, target, row.instance_id)
                _require_target_of(row.retired_at, row.retired_to, begun)
        else:
            begun = None
            _require_target_of(row.retired_at, row.retired_to, begun)
        return CopyPreview(
            source=shown_url(source.url),
            target=shown_url(parse_database_url(target_url)),
            instance_id=row.instance_id,
            rows=rows,
            begun=begun is not None,
        )


def _refuse_same_file(source_url: str, target_url: str) -> None:
    paths = []
    for url in (parse_database_url(source_url), parse_database_url(target_url)):
        if url.get_backend_name() == "sqlite":
            paths.append(Path(url.database or ""))
    if len(paths) == 2 and all(path.exists() for path in paths) and paths[0].samefile(paths[1]):
        raise InvalidInputError(
            "the target is the database itself", hint="name another file: --to sqlite:////path/new.db"
        )


def _check_source(source: Database) -> None:
    """Raise an error if the copy would be refused, before anything is made at the target."""
    with source.read() as connection:
        row = connection.execute(sa.select(instance)).first()
        if row is None:
            raise SchemaMismatchError("this database is not initialised, so there is nothing to copy")
        if row.retired_at is None:
            refuse_at_work(connection)
        elif row.retired_to is None:
            refuse_retired(row.retired_at, row.retired_to)


def _prepare(target_url: str) -> None:
    """Give the target the tables of this release, unless it has them or is something else."""
    if not _check_target(target_url):
        upgrade(target_url)


def _check_target(target_url: str) -> bool:
    """Return whether the target has the tables of this release, or is empty. AlreadyExistsError for anything else."""
    try:
        schema = status(target_url)
    except (SettingsError, StoreUnavailableError) as error:
        # The hints are about the setting; `init` would make another installation there.
        hint = (error.hint or "").replace("PHASESYNC_DATABASE_URL", "--to")
        error.hint = hint.replace(", then phasesync init", ", and repeat the command") or None
        raise
    if schema.current is None:
        url = parse_database_url(target_url)
        if url.get_backend_name() == "sqlite" and Path(url.database or "").exists():
            with closing(open_database(target_url)) as target, target.read() as connection:
                if sa.inspect(connection).get_table_names():
                    raise _not_empty(target, "tables of something else")
    elif schema.current != EXPECTED:
        raise AlreadyExistsError(
            f"the tables of the target are at schema {schema.current}, and is no copy of this database",
            hint="give an empty database, another schema of it, or a new file",
        )
    return schema.current is not None


def _begin(source: Database, target: Database) -> "_Copying":
    """
    Mark the target as not complete, and retire the source; or find that both was done.

    Of two processes that begin at once one fails, and the source and the target belong together nevertheless: each
    looks at the source while it has locked the mark of the target.
    """
    with target.write() as connection:
        clock = clock_of(connection)
        with source.read() as original:
            row = original.execute(sa.select(instance, now().label("clock"))).one()
        marked_at = _read_mark(connection, target, row.instance_id)
        with source.read() as original:  # again, since the lock may have waited for another process
            retirement = read_retirement(original)
        copying = _Copying(
            source,
            target,
            instance_id=row.instance_id,
            at=from_microseconds(row.clock) if retirement is None else retirement.at,
            clocks_apart=clock - from_microseconds(row.clock),
        )
        if retirement is None:
            _mark(connection, row, copying.at, again=marked_at is not None)
        else:
            _require_target_of(retirement.at, retirement.to, marked_at)
    if retirement is None:
        with copying.writing():
            retire(source, at=copying.at, to=shown_url(target.url))
    return copying


def _require_target_of(retired_at: datetime | None, retired_to: str | None, marked_at: datetime | None) -> None:
    """Refuse a target that is not the one for which a source was retired. RetiredDatabaseError."""
    if retired_at is not None and marked_at != retired_at:
        raise RetiredDatabaseError(
            f"this database is retired: it was copied to {retired_to}, and that is not the target",
            hint="give the same target to go on with the copy; if nobody has ever worked with the copy: "
            "phasesync db unretire, and copy it again",
        )


def _read_mark(connection: sa.Connection, target: Database, instance_id: str) -> datetime | None:
    """Return since when the target is an incomplete copy of the instance, with its row locked; None if it is empty."""
    row = connection.execute(row_lock(sa.select(instance))).first()
    if row is None:
        for table in COPIED:
            if _has_rows(connection, table):
                raise _not_empty(target, f"rows in {table.name}")
        return None
    if row.instance_id != instance_id:
        raise _not_empty(target, f"another installation ({row.instance_id})")
    place = shown_url(target.url)
    if row.retired_at is None:
        raise IllegalTransitionError(
            f"{place} is this installation already, and is in use",
            hint=f"set PHASESYNC_DATABASE_URL to it, if it is a copy; otherwise give another target than {place}",
        )
    if row.retired_to is not None:
        raise IllegalTransitionError(
            f"{place} is a retired database of this installation (since {row.retired_at:%Y-%m-%d %H:%M:%SZ})",
            hint="move its file away, or drop its schema, or give another target",
        )
    at: datetime = row.retired_at
    return at


def _mark(connection: sa.Connection, original: sa.Row[Any], at: datetime, *, again: bool) -> None:
    """Mark the target as a copy that is not complete; what a copy that was given up left there is removed."""
    if again:
        for table in reversed(COPIED):
            connection.execute(table.delete())
        connection.execute(instance.delete())
    row = {column.name: getattr(original, column.name) for column in instance.columns}
    try:
        connection.execute(instance.insert().values(row | {"retired_at": at, "retired_to": None}))
    except exc.IntegrityError:
        raise _another_copies() from None


def _not_empty(target: Database, what: str) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"{shown_url(target.url)} is not empty: it holds {what}",
        hint="give an empty database, another schema of it, or a new file",
    )


def _another_copies() -> IllegalTransitionError:
    return IllegalTransitionError(
        "another process is copying to the same target, or has just completed the copy",
        hint="phasesync db status, with the settings of the target, says what it is; this command can be repeated",
    )


class _Copying:
    """One copy under way, from a retired source to a marked target."""

    def __init__(
        self, source: Database, target: Database, *, instance_id: str, at: datetime, clocks_apart: timedelta
    ) -> None:
        self._source = source
        self._target = target
        self._instance_id = instance_id
        self.at = at
        self._clocks_apart = clocks_apart

    def copy(self, table: sa.Table) -> None:
        """Copy a table, all rows or none, unless that was done."""
        columns = columns_of(table)
        try:
            with self.writing() as connection:
                if _has_rows(connection, table):
                    return
                # Closed here: a generator that an error leaves behind would keep its connection.
                with closing(
                    read_rows(self._source, table, columns, for_postgresql=not self._target.is_sqlite)
                ) as rows:
                    insert_rows(connection, table, columns, rows)
        except IllegalTransitionError as error:
            if error.code not in _FOREIGN_KEY:
                raise
            raise DatabaseCopyError(
                f"rows of {table.name} refer to rows that are gone: some were removed outside phasesync",
                hint="restore a backup: phasesync db restore FILE; or go on with the original: phasesync db unretire",
                code=error.code,
            ) from None

    def copy_instance(self) -> None:
        """Copy the row of the instance as it was when the source was retired; the mark stays."""
        with self._source.read() as connection:
            row = connection.execute(sa.select(instance)).one()._asdict()
        with self.writing() as connection:
            connection.execute(
                instance.update().values({name: value for name, value in row.items() if name not in _STATE})
            )

    def set_numbers(self) -> None:
        """Have the target give higher numbers than the source ever gave, also to rows that are gone."""
        for table in NUMBERED:
            with self._source.read() as connection:
                last = last_number(connection, table)
            with self.writing() as connection:
                set_last_number(connection, table, last)

    def compare(self, table: sa.Table) -> TableDigest:
        """Return what is in both databases. DatabaseCopyError if they differ."""
        without = _STATE if table is instance else ()
        original = digest_of(self._source, table, without=without)
        copied = digest_of(self._target, table, without=without)
        if original != copied:
            counts = f"{counted(original.rows, 'row')}, {copied.rows} in the copy"
            raise DatabaseCopyError(
                f"the table {table.name} differs in the copy ({counts}); the copy cannot be used",
                hint="go on with the original: phasesync db unretire; then copy it again, to an empty target",
            )
        return original

    def finish(self, tables: tuple[TableDigest, ...]) -> CopiedDatabase:
        """
        Remove the mark of the target: from now on it is the database.

        The source is locked until that is committed, so that nobody takes it back in between: never are both usable.

        Raises:
            DatabaseCopyError: somebody took the source back while it was copied; the mark stays.
        """
        with ExitStack() as after_target, self.writing() as connection:
            original = after_target.enter_context(self._source.write())
            original.execute(row_lock(sa.select(instance.c.id))).all()
            retirement = read_retirement(original)
            if retirement is None or retirement.at != self.at:
                raise DatabaseCopyError(
                    f"{shown_url(self._source.url)} was unretired while it was copied; the copy cannot be used",
                    hint="to copy it as it is now, repeat the command; otherwise remove the copy",
                )
            connection.execute(instance.update().values(retired_at=None))
        return CopiedDatabase(
            source=shown_url(self._source.url),
            target=shown_url(self._target.url),
            instance_id=self._instance_id,
            tables=tables,
            clocks_apart=self._clocks_apart,
        )

    def explain(self, error: PhasesyncError) -> None:
        """Say in the hint of an error that the source is retired, if it is, and what helps."""
        if isinstance(error, IllegalTransitionError) or "db unretire" in (error.hint or ""):
            return  # Another process goes on with the copy; or the hint says it.
        with suppress(PhasesyncError), self._source.read() as connection:
            retirement = read_retirement(connection)
            if retirement is not None and retirement.at == self.at:
                goes_on = "the original is retired: repeat the command, or go on with it: phasesync db unretire"
                error.hint = f"{error.hint}; {goes_on}" if error.hint else goes_on

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a write on the target that no other copy can do at the same time."""
        with self._target.write() as connection:
            row = connection.execute(row_lock(sa.select(instance))).first()
            if row is None or (row.retired_at, row.retired_to) != (self.at, None):
                raise _another_copies()
            yield connection


def _has_rows(connection: sa.Connection, table: sa.Table) -> bool:
    return connection.scalar(sa.select(sa.literal(1)).select_from(table).limit(1)) is not None
