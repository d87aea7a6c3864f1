"""
Backup of a SQLite database while it is in use, and restore of a backup in its place.

A backup is as encrypted as the database: it is useless without the root key, which is not in it.

A restore checks, migrates and marks a copy of the backup beside the database before anything is replaced; the former
database is kept under another name. The last step is one transaction of SQLite, so after a crash one or the other is
complete.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import sqlalchemy as sa

from phasesync.errors import (
    AlreadyExistsError,
    IllegalTransitionError,
    NotFoundError,
    PhasesyncError,
    SchemaMismatchError,
    SettingsError,
)
from phasesync.host_files import UnusableFileError, file_exists
from phasesync.store import tables
from phasesync.store.daemons import DaemonRegistry
from phasesync.store.database import Database, open_database
from phasesync.store.database_url import parse_database_url, sqlite_url
from phasesync.store.db_errors import translate_errors
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.instance import lock_registry, read_instance_id
from phasesync.store.key_ring import KeyRing
from phasesync.store.migrate import status_of, upgrade
from phasesync.store.sqlite import prepare_sqlite_file, sqlite_file_exists, uri_of
from phasesync.store.tables import leases


def backup(database_url: str, target: Path) -> None:
    """
    Copy a database to a new file with mode 0600; it is on disk when this returns.

    Raises:
        AlreadyExistsError: the target exists; it is left alone.
        SettingsError: a PostgreSQL database, or the target cannot be written.
        StoreUnavailableError: the disk is full, or the database is locked.
    """
    url, source = _source_of(database_url)
    try:
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise _exists_already(target) from None
    except OSError as error:
        raise SettingsError(
            f"the backup cannot be written to {target}: {error.strerror}",
            hint="name a file in a folder that exists and that you may write to",
        ) from None
    try:
        with translate_errors(url.set(database=str(target))):
            _copy_live(source, target)
        _sync(target)
        _sync(target.parent)
    except BaseException:
        target.unlink(missing_ok=True)  # an incomplete backup is worse than none
        raise


def preview_backup(database_url: str, target: Path) -> int:
    """Return the bytes that `backup` would copy, about; creates nothing. Raises as that does, as far as can be seen."""
    _, source = _source_of(database_url)
    if os.path.lexists(target):
        raise _exists_already(target)
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise SettingsError(
            f"the backup cannot be written to {target}",
            hint="name a file in a folder that exists and that you may write to",
        )
    return source.stat().st_size


def _source_of(database_url: str) -> tuple[sa.URL, Path]:
    """Return the URL and the file of the database to copy. SettingsError."""
    url = parse_database_url(database_url)
    if url.get_backend_name() != "sqlite":
        raise SettingsError(
            "a PostgreSQL database is not copied by phasesync", hint="pg_dump --format=custom, with PostgreSQL's tools"
        )
    return url, prepare_sqlite_file(url, create=False)


def _exists_already(target: Path) -> AlreadyExistsError:
    return AlreadyExistsError(f"{target} exists already; a backup never overwrites")


def _copy_live(source: Path, target: Path) -> None:
    """Copy a database that other processes may be writing."""
    with (
        closing(sqlite3.connect(uri_of(source), uri=True, timeout=10)) as live,
        closing(sqlite3.connect(uri_of(target), uri=True)) as copy,
    ):
        live.backup(copy)
        # A single file: a log beside it would be left behind when the backup is moved.
        copy.execute("PRAGMA journal_mode = DELETE")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_LONGEST_NAME: Final = 255
"""Bytes of a name, on every file system that matters (NAME_MAX)."""


def restore(database_url: str, file: Path, *, open_keys: Callable[[Database], KeyRing], at: datetime) -> Path | None:
    """
    Replace a SQLite database with a backup; no daemon may be running on it.

    Args:
        database_url: the database.
        file: the backup; it is not changed.
        open_keys: returns the key ring of a database; raises if the root key does not fit.
        at: the time, for the name of the former database.

    Returns:
        Where the former database was kept; None if there was no database.

    Raises:
        NotFoundError: there is no such file.
        SettingsError: a PostgreSQL database, or a file that is not a database of phasesync.
        SchemaMismatchError: the backup is from a newer release.
        KeyUnavailableError, CiphertextError: from `open_keys`, or the backup was altered. Nothing was changed.
        IllegalTransitionError: a daemon is running, or the database is retired.
    """
    url = _restorable(database_url, file)
    target, exists = Path(url.database or ""), sqlite_file_exists(url)
    candidate = _beside(target, ".restoring")
    leftovers = (candidate, *(candidate.with_name(candidate.name + end) for end in ("-wal", "-shm", "-journal")))
    _remove(leftovers)  # from a restore that was killed
    try:
        _make_candidate(url, candidate, file, open_keys)
        kept = None
        if exists:
            kept = _kept_as(target, at)
            backup(database_url, kept)
        prepare_sqlite_file(url, create=True)
        with translate_errors(url):
            _copy_checked(candidate, target, message=f"{target} could not be written")
    finally:
        _remove(leftovers)
    return kept


@dataclass(frozen=True, kw_only=True)
class DatabaseContents:
    """
    What is in a database, as far as it can be read without a key.

    Attributes:
        schema: its revision.
        counts: what there is -> how many.
        syncs: their names, sorted.
        objects: number of remote objects that the syncs wrote, or may have.
    """

    schema: str | None
    counts: Mapping[str, int]
    syncs: tuple[str, ...]
    objects: int


@dataclass(frozen=True, kw_only=True)
class RestorePreview:
    """
    What a restore would do.

    Attributes:
        kept: where the present database would be kept; None if there is none.
        schema: revision of the backup, which would be brought to the one of this release.
        backup: what would be in the database afterwards.
        present: what is in it now; None if there is none, or if it cannot be read.
    """

    kept: Path | None
    schema: str | None
    backup: DatabaseContents
    present: DatabaseContents | None


def preview_restore(
    database_url: str, file: Path, *, open_keys: Callable[[Database], KeyRing], at: datetime
) -> RestorePreview:
    """
    Carry out a restore up to where it would replace the database, on a copy that is removed afterwards.

    Args and Raises: as `restore`.
    """
    url = _restorable(database_url, file)
    target, exists = Path(url.database or ""), sqlite_file_exists(url)
    # Beside the database, where the copy of a restore is: if there is no room for it, that shows.
    place = target.parent if target.parent.is_dir() else None
    with TemporaryDirectory(prefix=".dry-run-", dir=place) as folder:
        candidate = Path(folder) / "candidate.db"
        schema = _make_candidate(url, candidate, file, open_keys)
        contents = _contents_of(sqlite_url(candidate))
    present = None
    if exists:
        with suppress(PhasesyncError):  # One that is damaged is what a restore is for.
            present = _contents_of(database_url)
    return RestorePreview(
        kept=_kept_as(target, at) if exists else None, schema=schema, backup=contents, present=present
    )


_COUNTED: Final = {
    "apps": tables.apps,
    "environments": tables.environments,
    "secrets": tables.secrets,
    "credentials": tables.credentials,
    "syncs": tables.syncs,
    "dynamic_secrets": tables.dynamic_secrets,
    "leases": tables.leases,
}


def _contents_of(database_url: str) -> DatabaseContents:
    with closing(open_database(database_url)) as database:
        schema = status_of(database).current
        with database.read() as connection:
            counts = {
                noun: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for noun, table in _COUNTED.items()
            }
            names = connection.scalars(sa.select(tables.syncs.c.name).order_by(tables.syncs.c.name_key)).all()
            objects = connection.scalar(sa.select(sa.func.count()).select_from(tables.journal)) or 0
    return DatabaseContents(schema=schema, counts=counts, syncs=tuple(names), objects=objects)


def _restorable(database_url: str, file: Path) -> sa.URL:
    """Return the URL of a database that can be replaced by a backup. Raises as `restore`."""
    url = parse_database_url(database_url)
    if url.get_backend_name() != "sqlite":
        raise SettingsError(
            "a PostgreSQL database is not restored by phasesync",
            hint="stop the daemons, pg_restore with PostgreSQL's tools, then: phasesync db accept-restore",
        )
    _require_file(file)
    if sqlite_file_exists(url):
        _require_unused(database_url)
    return url


def _make_candidate(url: sa.URL, candidate: Path, file: Path, open_keys: Callable[[Database], KeyRing]) -> str | None:
    """Make the database that a restore puts in place; return the schema that the backup has. Raises as `restore`."""
    prepare_sqlite_file(url.set(database=str(candidate)), create=True)
    _copy_checked(file, candidate, message=f"{file} is not a database")
    return _make_ready(sqlite_url(candidate), file, open_keys)


def _kept_as(target: Path, at: datetime) -> Path:
    """Return where the former database is kept."""
    return _beside(target, f".before-restore-{at:%Y%m%dT%H%M%SZ}")


def _require_file(file: Path) -> None:
    try:
        exists = file_exists(file)
    except UnusableFileError as error:
        raise SettingsError(f"the backup {file} cannot be read: {error.reason}") from None
    if not exists:
        raise NotFoundError(f"there is no backup at {file}", hint="phasesync db backup FILE makes one")
    if not file.is_file():
        raise SettingsError(f"{file} is no backup: a regular file is needed")


def _beside(target: Path, end: str) -> Path:
    """Return a path beside a database; a long name is shortened to what a file system allows."""
    room = _LONGEST_NAME - len(end) - len("-journal")  # SQLite creates files of its own beside it
    return target.with_name(os.fsdecode(os.fsencode(target.name)[:room]) + end)


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise SettingsError(f"{file} cannot be removed: {error.strerror}") from None


def _require_unused(database_url: str) -> None:
    database = open_database(database_url)
    try:
        schema = status_of(database, retirement=True)
        if schema.is_current and (alive := DaemonRegistry(database).alive()):
            raise IllegalTransitionError(
                f"a daemon is at work on this database: pid {alive[0]['pid']} on {alive[0]['host']}",
                hint="stop it first: systemctl stop phasesync",
            )
        if schema.retirement is not None:
            raise IllegalTransitionError(
                "this database is retired: it was copied, and a restore would bring a second one to life",
                hint="restore with the settings of the copy, or to another place; phasesync db status says where it is",
            )
    finally:
        database.close()


def _make_ready(candidate_url: str, file: Path, open_keys: Callable[[Database], KeyRing]) -> str | None:
    """
    Migrate the copy of a backup to this release's schema, check that it is usable, and set the restore mark.

    Returns the schema that it had.
    """
    database = open_database(candidate_url)
    try:
        if (former := status_of(database).current) is None:
            raise SettingsError(f"{file} is not a database of phasesync")
    finally:
        database.close()
    upgrade(candidate_url, open_keys, in_use=False)
    database = open_database(candidate_url)
    try:
        read_instance_id(database)
        keys = open_keys(database)
        with database.write() as connection:
            clock = from_microseconds(connection.scalar(sa.select(now())) or 0)
            lock_registry(connection, keys).store(restored_at=clock)
            # Their users may have been removed since; a new lease is cheaper than a key that does not work.
            connection.execute(leases.update().where(leases.c.kept.is_not(None)).values(kept=None))
    except SchemaMismatchError:
        raise SettingsError(f"{file} was never initialised, so nothing is in it") from None
    finally:
        database.close()
    return former


def _copy_checked(source: Path, target: Path, *, message: str) -> None:
    """Check a database that is not in use, and copy it; it is on disk when this returns. SettingsError(message)."""
    try:
        # Opened read-only, so that a backup on a read-only disk works and stays as it is.
        with closing(sqlite3.connect(uri_of(source, "ro"), uri=True, timeout=10)) as original:
            if original.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise SettingsError(f"{source} is damaged: SQLite's check of it fails")
            with closing(sqlite3.connect(uri_of(target), uri=True, timeout=10)) as copy:
                original.backup(copy)
    except sqlite3.DatabaseError:
        raise SettingsError(message) from None
    _sync(target)
