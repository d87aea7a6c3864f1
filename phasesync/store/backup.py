"""
Backup of a database while it is in use: one SQLite file, whichever database it is of, and its manifest.

A backup is as encrypted as the database: it is useless without the root key, which is not in it.

    SQLite        its own online backup: the pages as they are, of one moment
    PostgreSQL    the rows of one snapshot, in a SQLite file with the same tables: no tool of PostgreSQL is needed, so
                  none of another version can fail, and whatever reads one backup reads the other

The file has its name only once it is complete: it is made beside it, under a hidden name, and renamed. Its manifest is
there before it.
"""

import errno
import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from phasesync import __version__
from phasesync.errors import (
    AlreadyExistsError,
    CiphertextError,
    DatabaseCopyError,
    DestinationError,
    HostUnavailableError,
    IllegalTransitionError,
    KeyUnavailableError,
    SchemaMismatchError,
    SettingsError,
    StoreUnavailableError,
)
from phasesync.host_files import is_passing
from phasesync.store.backup_manifest import Manifest, mac_of, manifest_of, write_manifest
from phasesync.store.database import Database, open_database
from phasesync.store.database_copy import OF_A_PLACE
from phasesync.store.database_url import parse_database_url, sqlite_url
from phasesync.store.db_errors import translate_errors
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.key_ring import KeyRing
from phasesync.store.migrate import EXPECTED, REVISIONS, status_of, upgrade
from phasesync.store.raw_rows import RowDigest, columns_of, digest_of, read_rows
from phasesync.store.raw_writes import NUMBERED, insert_rows, last_number, set_last_number
from phasesync.store.sqlite import prepare_sqlite_file, uri_of
from phasesync.store.tables import data_keys, instance, metadata

OpenKeys = Callable[[Database], KeyRing | None]
"""Returns the key ring of a database; None if there is none."""

_HASHED_AT_ONCE: Final = 1 << 20
_SIDE_FILES: Final = ("-wal", "-shm", "-journal")


def backup(
    database_url: str,
    target: Path,
    *,
    open_keys: OpenKeys | None = None,
    checkpoint: Callable[[], object] = lambda: None,
) -> Manifest:
    """
    Copy a database to a new file with mode 0600, and write its manifest; both are on disk when this returns.

    Args:
        database_url: the database; others may be writing it.
        target: the file.
        open_keys: returns the key ring of a database, for the MAC of the manifest; None, or returns None: it has none.
        checkpoint: called between the parts of the work; what it raises ends the backup.

    Raises:
        AlreadyExistsError: the target exists; it is left alone.
        IllegalTransitionError: another process makes this file now.
        SchemaMismatchError: the database has no tables of phasesync that this release knows, or is not initialised.
        SettingsError: the target cannot be written.
        StoreUnavailableError: the disk is full, or the database is locked or down.
        DatabaseCopyError: a row of PostgreSQL was altered so that it cannot be copied.
        KeyUnavailableError: from `open_keys`.
    """
    url = parse_database_url(database_url)
    source = prepare_sqlite_file(url, create=False) if url.get_backend_name() == "sqlite" else None
    with _made_beside(target) as partial:
        with translate_errors(url.set(database=str(partial)) if source else url):
            if source is not None:
                _copy_live(source, partial)
                checkpoint()
                manifest, keys = _describe(partial, open_keys)
            else:
                with closing(open_database(database_url)) as database:
                    manifest, keys = _copy_snapshot(database, partial, open_keys, checkpoint)
        checkpoint()
        make_whole(partial)
        manifest = replace(manifest, size=partial.stat().st_size, sha256=digest_of_file(partial))
        if keys is not None:
            manifest = replace(manifest, mac=mac_of(manifest, keys))
        checkpoint()
        write_manifest(manifest, manifest_of(target))
    return manifest


def keys_if_possible(open_keys: Callable[[Database], KeyRing]) -> OpenKeys:
    """Return what opens the keys of a database, or returns None if the root key is away or does not open them."""

    def opened(database: Database) -> KeyRing | None:
        try:
            return open_keys(database)
        except (KeyUnavailableError, CiphertextError, SettingsError, HostUnavailableError, DestinationError):
            return None  # AWS KMS is away, for example: an outage is when a backup is wanted.

    return opened


def preview_backup(database_url: str, target: Path) -> int:
    """Return the bytes that `backup` would copy, about; creates nothing. Raises as that does, as far as can be seen."""
    url = parse_database_url(database_url)
    if os.path.lexists(target):
        raise _exists_already(target)
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise _cannot_be_written(target)
    if url.get_backend_name() == "sqlite":
        return prepare_sqlite_file(url, create=False).stat().st_size
    with closing(open_database(database_url)) as database:
        _schema_of(database)
        with database.read() as connection:
            sizes = sa.func.sum(sa.func.pg_table_size(sa.literal_column("c.oid")))
            mine = sa.text("pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace")
            ours = sa.and_(
                sa.literal_column("n.nspname") == sa.func.current_schema(),
                sa.literal_column("c.relname").in_(sorted(metadata.tables)),
            )
            return int(connection.scalar(sa.select(sizes).select_from(mine).where(ours)) or 0)


def digest_of_file(file: Path) -> str:
    """Return the SHA-256 of a file in hex. OSError."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while part := opened.read(_HASHED_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()


def sync_to_disk(path: Path) -> None:
    """Return once a file, or the names in a folder, are on disk. OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_whole(file: Path) -> None:
    """Have a file alone be the database: a log beside it would be left behind when it is moved."""
    with closing(sqlite3.connect(uri_of(file), uri=True)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    _remove_side_files(file)
    sync_to_disk(file)


def _remove_side_files(file: Path) -> None:
    for end in _SIDE_FILES:
        file.with_name(file.name + end).unlink(missing_ok=True)


def _exists_already(target: Path) -> AlreadyExistsError:
    return AlreadyExistsError(f"{target} exists already; a backup never overwrites", hint="name another file")


def _cannot_be_written(target: Path, error: OSError | None = None) -> SettingsError | StoreUnavailableError:
    reason = f": {error.strerror}" if error is not None else ""
    if error is not None and (is_passing(error) or error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return StoreUnavailableError(f"the backup cannot be written to {target} now{reason}; it was not made")
    return SettingsError(
        f"the backup cannot be written to {target}{reason}",
        hint="name a file in a folder that exists and that you may write to",
    )


@contextmanager
def _made_beside(target: Path) -> Iterator[Path]:
    """
    Yield an empty file beside the target, and give it the name of the target once the block has succeeded.

    What a process left there that was killed is made anew. Whoever makes it holds a lock of it.
    """
    if os.path.lexists(target):
        raise _exists_already(target)
    partial = target.with_name(f".{target.name}.partial")
    try:
        descriptor = _lock_new(partial, target)
        try:
            try:
                yield partial
                _rename_new(partial, target)
            except BaseException:  # an incomplete backup is worse than none
                with suppress(OSError):
                    if not os.path.lexists(target):
                        manifest_of(target).unlink(missing_ok=True)
                raise
            finally:
                _remove_side_files(partial)
                partial.unlink(missing_ok=True)
            sync_to_disk(target.parent)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _cannot_be_written(target, error) from None


def _lock_new(partial: Path, target: Path) -> int:
    """Return a descriptor of an empty file that this process alone works on. IllegalTransitionError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        descriptor = os.open(partial, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                # Otherwise it became the target of another process, between the two calls.
                if os.path.samestat(os.fstat(descriptor), os.stat(partial)):
                    # SQLite would take the log of a process that was killed for that of the new file.
                    _remove_side_files(partial)
                    os.ftruncate(descriptor, 0)
                    os.fchmod(descriptor, 0o600)
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise IllegalTransitionError(
                f"another process makes the backup {target} now", hint="wait for it, or name another file"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _rename_new(partial: Path, target: Path) -> None:
    """Rename a file unless something has the name. AlreadyExistsError, OSError."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise _exists_already(target) from None
    except OSError:  # A file system without hard links.
        if os.path.lexists(target):
            raise _exists_already(target) from None
        os.rename(partial, target)


# --- SQLite


def _copy_live(source: Path, target: Path) -> None:
    """Copy a database that other processes may be writing."""
    with (
        closing(sqlite3.connect(uri_of(source), uri=True, timeout=10)) as live,
        closing(sqlite3.connect(uri_of(target), uri=True)) as copy,
    ):
        live.backup(copy)


def _describe(file: Path, open_keys: OpenKeys | None) -> tuple[Manifest, KeyRing | None]:
    """Return the manifest of a copy of SQLite's, without what is known once it is closed, and its keys."""
    with closing(open_database(sqlite_url(file))) as database:
        schema = _schema_of(database)
        with database.read() as connection:
            has = set(sa.inspect(connection).get_table_names())
            rows = {
                table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for table in metadata.sorted_tables
                if table.name in has and (table is instance or table not in OF_A_PLACE)
            }
        digests = {}
        if schema == EXPECTED:
            with suppress(DatabaseCopyError):  # An altered row is no reason to have no backup; `db verify` names it.
                digests = {name: digest_of(database, metadata.tables[name]).digest for name in rows}
        keys = None if open_keys is None else open_keys(database)
        return _manifest(database, schema, "sqlite", rows, digests), keys


def _manifest(
    database: Database, schema: str, source: str, rows: Mapping[str, int], digests: Mapping[str, str]
) -> Manifest:
    with database.read() as connection:
        instance_id = connection.scalar(sa.select(instance.c.instance_id))
        if instance_id is None:
            raise SchemaMismatchError("this database is not initialised, so there is nothing to back up")
        root_keys = connection.scalars(sa.select(data_keys.c.root_key_id).distinct().order_by(data_keys.c.root_key_id))
        return Manifest(
            instance_id=instance_id,
            schema=schema,
            release=__version__,
            source=source,
            made_at=from_microseconds(connection.scalar(sa.select(now())) or 0),
            root_key_ids=tuple(root_keys),
            size=0,
            sha256="",
            rows=rows,
            digests=digests,
        )


def _schema_of(database: Database) -> str:
    """Return the revision of a database. SchemaMismatchError unless this release knows it."""
    schema = status_of(database).current
    if schema is None:
        raise SchemaMismatchError("the database has no tables of phasesync yet, so there is nothing to back up")
    if schema not in REVISIONS:
        raise SchemaMismatchError(
            f"the database's schema {schema} is newer than this release of phasesync, which knows {EXPECTED}",
            hint="make the backup with the release that migrated the database",
        )
    return schema


# --- PostgreSQL


def _copy_snapshot(
    database: Database,
    file: Path,
    open_keys: OpenKeys | None,
    checkpoint: Callable[[], object],
) -> tuple[Manifest, KeyRing | None]:
    """Copy the rows of one snapshot of PostgreSQL to an empty SQLite file with the tables of its schema; see above."""
    schema = _schema_of(database)
    upgrade(sqlite_url(file), to=schema, in_use=False)
    rows, digests = {}, {}
    with closing(open_database(sqlite_url(file), synchronous="OFF")) as copy, database.snapshot() as connection:
        keys = None if open_keys is None else open_keys(database)
        manifest = _manifest(database, schema, "postgresql", {}, {})
        for table, columns in _tables_of(copy).items():
            checkpoint()
            digest = RowDigest()
            with (
                closing(read_rows(database, table, columns, for_postgresql=False)) as read,
                copy.write() as target,
            ):
                insert_rows(target, table, columns, digest.passing(read))
                rows[table.name] = digest.of(table).rows
            if schema == EXPECTED:
                digests[table.name] = digest.of(table).digest
        for table in NUMBERED:
            last = last_number(connection, table)
            with copy.write() as target:
                set_last_number(target, table, last)
    return replace(manifest, rows=rows, digests=digests), keys


def _tables_of(copy: Database) -> dict[sa.Table, list[sa.Column[Any]]]:
    """
    Return the tables whose rows are copied, each after those that its rows refer to, with the columns that they have.

    SchemaMismatchError if the schema has a table or a column that this release does not know.
    """
    with copy.read() as connection:
        inspector = sa.inspect(connection)
        present = {
            name: {column["name"] for column in inspector.get_columns(name)} for name in inspector.get_table_names()
        }
    known = {table.name: table for table in metadata.sorted_tables}
    if unknown := present.keys() - known.keys() - {"alembic_version"}:
        raise SchemaMismatchError(
            f"this release does not know the table {min(unknown)} of an older schema",
            hint="make the backup with the release of that schema, or migrate first: phasesync db migrate",
        )
    return {
        table: [column for column in columns_of(table) if column.name in present[table.name]]
        for table in (instance, *known.values())
        if table.name in present and (table is instance or table not in OF_A_PLACE)
    }
