"""
Restore of a backup in place of a database.

A restore proves a copy of the backup as `db verify` does, migrates and marks it before anything is replaced; the former
database is kept. The last step is one transaction, so after a crash one or the other is complete.

    SQLite        the copy is made beside the database; SQLite writes its pages over those of the database
    PostgreSQL    every table is emptied and filled, and compared with the copy

Nobody else can write from the moment on that the former content is copied, so no edit is in neither of the two.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import sqlalchemy as sa

from phasesync.errors import (
    ConfirmationRequiredError,
    DatabaseCopyError,
    IllegalTransitionError,
    PhasesyncError,
    SchemaMismatchError,
    SettingsError,
)
from phasesync.host_files import make_private_folder
from phasesync.store import tables
from phasesync.store.backup import backup, keys_if_possible
from phasesync.store.backup_check import VerifiedBackup, copy_checked, file_beside, make_copy, require_file
from phasesync.store.database import Database, open_database, retry_on_conflict
from phasesync.store.database_copy import COPIED
from phasesync.store.database_url import parse_database_url, sqlite_url
from phasesync.store.db_errors import translate_errors
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.instance import lock_registry
from phasesync.store.key_ring import KeyRing
from phasesync.store.migrate import EXPECTED, status_of, upgrade
from phasesync.store.raw_rows import columns_of, digest_of, read_rows
from phasesync.store.raw_writes import NUMBERED, insert_rows, last_number, set_last_number
from phasesync.store.retire import refuse_at_work
from phasesync.store.sqlite import prepare_sqlite_file, sqlite_file_exists
from phasesync.store.tables import backup_schedules, chores, daemons, instance, leases, metadata, schema_compatibility

_LONGEST_NAME: Final = 255
"""Bytes of a name, on every file system that matters (NAME_MAX)."""

_STAMP: Final = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, kw_only=True)
class Consent:
    """
    What a restore does only if somebody asked for it.

    Attributes:
        without_manifest: take a backup whose manifest is missing or has no MAC.
        other_installation: replace the database of another installation than the one that the backup is of.
    """

    without_manifest: bool = False
    other_installation: bool = False


NOTHING: Final = Consent()


@dataclass(frozen=True, kw_only=True)
class Restored:
    """
    What a restore did.

    Attributes:
        kept: where the former database is kept, as a backup; None if there was none, or nothing in it.
        signed: the manifest of what is kept has a MAC; else the root key at hand does not open the former database.
        verified: the backup.
    """

    kept: Path | None
    signed: bool
    verified: VerifiedBackup


def restore(
    database_url: str,
    file: Path,
    *,
    open_keys: Callable[[Database], KeyRing],
    at: datetime,
    keep_in: Path | None = None,
    consent: Consent = NOTHING,
) -> Restored:
    """
    Replace a database with a backup; no daemon may be running on it.

    Args:
        database_url: the database.
        file: the backup; it is not changed.
        open_keys: returns the key ring of a database; raises if the root key does not fit.
        at: the time, for the name of the former database.
        keep_in: the folder for the former content of a PostgreSQL database; a SQLite database is kept beside itself.
        consent: what was asked for.

    Raises:
        NotFoundError: there is no such file.
        SettingsError: a file that is not a database of phasesync, or not the one that its manifest is of; or there is
            no folder for the former database.
        SchemaMismatchError: the backup is from a newer release; or a PostgreSQL database has an older schema.
        KeyUnavailableError, CiphertextError: from `open_keys`, or the backup was altered, or nothing proves it. Nothing
            was changed.
        ConfirmationRequiredError: the database is of another installation. Nothing was changed.
        DatabaseCopyError: the backup has a row that cannot be stored. Nothing was changed.
        IllegalTransitionError: a daemon is running, or the database is retired.
    """
    url = _restorable(database_url, file)
    if url.get_backend_name() != "sqlite":
        return _restore_postgresql(database_url, file, open_keys, at=at, keep_in=keep_in or Path.cwd(), consent=consent)
    target, exists = Path(url.database or ""), sqlite_file_exists(url)
    candidate = _beside(target, ".restoring")
    files = (candidate, file_beside(candidate))
    leftovers = [each.with_name(each.name + end) for each in files for end in ("", "-wal", "-shm", "-journal")]
    _remove(leftovers)  # from a restore that was killed
    try:
        verified = _make_candidate(url, candidate, file, open_keys, consent)
        _refuse_another(database_url, verified, consent)
        prepare_sqlite_file(url, create=True)
        kept: list[tuple[Path, bool]] = []
        with closing(open_database(database_url)) as database, database.read() as connection:
            connection.execute(sa.select(1))  # It has a log from now on, so it can be read while it is locked.
        with translate_errors(url):
            copy_checked(
                candidate,
                target,
                message=f"{target} could not be written",
                locked=lambda: kept.extend(_keep_sqlite(database_url, target, open_keys, at=at, existed=exists)),
            )
    finally:
        _remove(leftovers)
    path, signed = kept[0] if kept else (None, False)
    return Restored(kept=path, signed=signed, verified=verified)


def _keep_sqlite(
    database_url: str, target: Path, open_keys: Callable[[Database], KeyRing], *, at: datetime, existed: bool
) -> list[tuple[Path, bool]]:
    """
    Copy the content of a SQLite database, which nobody can write to.

    Returns where it is, if there is any, and whether its manifest has a MAC.
    """
    with _what_helps_if_damaged(parse_database_url(database_url)), closing(open_database(database_url)) as database:
        _refuse_use(database)
        with database.read() as connection:
            if not sa.inspect(connection).get_table_names():
                return []
    if not existed:
        raise IllegalTransitionError("another process has just filled this database", hint="repeat the command")
    kept = _kept_as(target, at)
    with _what_helps_if_damaged(parse_database_url(database_url)):
        manifest = backup(database_url, kept, open_keys=keys_if_possible(open_keys))
    return [(kept, manifest.mac is not None)]


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
        verified: the backup, with its schema, which would be brought to the one of this release.
        backup: what would be in the database afterwards.
        present: what is in it now; None if there is none, or if it cannot be read.
    """

    kept: Path | None
    verified: VerifiedBackup
    backup: DatabaseContents
    present: DatabaseContents | None


def preview_restore(
    database_url: str,
    file: Path,
    *,
    open_keys: Callable[[Database], KeyRing],
    at: datetime,
    keep_in: Path | None = None,
    consent: Consent = NOTHING,
) -> RestorePreview:
    """
    Carry out a restore up to where it would replace the database, on a copy that is removed afterwards.

    Args and Raises: as `restore`.
    """
    url = _restorable(database_url, file)
    place = None
    if url.get_backend_name() == "sqlite":
        target, exists = Path(url.database or ""), sqlite_file_exists(url)
        kept = _kept_as(target, at) if exists else None
        # Beside the database, where the copy of a restore is: if there is no room for it, that shows.
        place = target.parent if target.parent.is_dir() else None
    else:
        with closing(open_database(database_url)) as database:
            exists = _has_content(database)
        kept = _kept_in(keep_in or Path.cwd(), at) if exists else None
    with _candidate(url, file, open_keys, consent, place=place) as (candidate, verified):
        contents = _contents_of(sqlite_url(candidate))
    _refuse_another(database_url, verified, consent)
    present = None
    if exists:
        with suppress(PhasesyncError):  # One that is damaged is what a restore is for.
            present = _contents_of(database_url)
    return RestorePreview(kept=kept, verified=verified, backup=contents, present=present)


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
    require_file(file)
    if url.get_backend_name() != "sqlite" or sqlite_file_exists(url):
        with _what_helps_if_damaged(url), closing(open_database(database_url)) as database:
            _refuse_use(database)
    return url


@contextmanager
def _what_helps_if_damaged(url: sa.URL) -> Iterator[None]:
    """Say what to do with a SQLite database that is damaged: its content cannot be kept, and nothing is thrown away."""
    try:
        yield
    except SettingsError as error:
        if not (error.code or "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise
        file = url.database
        raise SettingsError(
            f"{file} is damaged, or no database: its content cannot be kept, so it was not replaced",
            hint=f"stop the daemon, move {file}, {file}-wal and {file}-shm away, and repeat the command",
            code=error.code,
        ) from None


def _refuse_another(database_url: str, verified: VerifiedBackup, consent: Consent) -> None:
    """Raise ConfirmationRequiredError if the database is in use by another installation than a backup is of."""
    url = parse_database_url(database_url)
    if consent.other_installation or (url.get_backend_name() == "sqlite" and not sqlite_file_exists(url)):
        return
    with closing(open_database(database_url)) as database:
        if not _has_content(database):
            return
        with database.read() as connection:
            present = connection.scalar(sa.select(instance.c.instance_id))
            is_used = any(
                connection.scalar(sa.select(table.c.id).limit(1)) is not None
                for table in (tables.apps, tables.credentials)
            )
    if present != verified.instance_id and is_used:
        raise ConfirmationRequiredError(
            f"the backup is of another installation ({verified.instance_id}) than the database that it would replace "
            f"({present})",
            hint="is PHASESYNC_DATABASE_URL or PHASESYNC_DATA_DIR that of the other one? to replace it nevertheless: "
            "--other-installation",
        )


@contextmanager
def _candidate(
    url: sa.URL, file: Path, open_keys: Callable[[Database], KeyRing], consent: Consent, *, place: Path | None
) -> Iterator[tuple[Path, VerifiedBackup]]:
    """Yield a database as a restore would put it in place, and the backup; it is removed at the end."""
    with TemporaryDirectory(prefix=".dry-run-", dir=place) as folder:
        candidate = Path(folder) / "candidate.db"
        yield candidate, _make_candidate(url, candidate, file, open_keys, consent)


def _make_candidate(
    url: sa.URL, candidate: Path, file: Path, open_keys: Callable[[Database], KeyRing], consent: Consent
) -> VerifiedBackup:
    """Make the database that a restore puts in place; return the backup. Raises as `restore`."""
    if url.get_backend_name() == "sqlite":
        prepare_sqlite_file(url.set(database=str(candidate)), create=True)
    verified = make_copy(file, candidate, open_keys=open_keys, without_manifest=consent.without_manifest)
    _make_ready(sqlite_url(candidate), open_keys)
    return verified


def _kept_as(target: Path, at: datetime) -> Path:
    """Return where a former SQLite database is kept."""
    return _unused(lambda more: _beside(target, f".before-restore-{at:{_STAMP}}{more}"))


def _kept_in(folder: Path, at: datetime) -> Path:
    """Return where the former content of a PostgreSQL database is kept."""
    return _unused(lambda more: folder / f"before-restore-{at:{_STAMP}}{more}.db")


def _unused(path: Callable[[str], Path]) -> Path:
    """Return the first path that nothing has; two restores may be of one second."""
    return next(each for number in count(1) if not os.path.lexists(each := path(f"-{number}" if number > 1 else "")))


def _beside(target: Path, end: str) -> Path:
    """Return a path beside a database; a long name is shortened to what a file system allows."""
    # SQLite creates files of its own beside it, and a backup a manifest and a hidden file.
    room = _LONGEST_NAME - len(end) - len("..manifest.json.partial")
    return target.with_name(os.fsdecode(os.fsencode(target.name)[:room]) + end)


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise SettingsError(f"{file} cannot be removed: {error.strerror}") from None


def _refuse_use(database: Database) -> None:
    """Raise IllegalTransitionError if somebody is at work on a database, of whichever release, or if it is retired."""
    schema = status_of(database, retirement=True)
    with database.read() as connection:
        if schema.current is not None:
            refuse_at_work(connection)
    if schema.retirement is not None:
        raise IllegalTransitionError(
            "this database is retired: it was copied, and a restore would bring a second one to life",
            hint="restore with the settings of the copy, or to another place; phasesync db status says where it is",
        )


def _make_ready(candidate_url: str, open_keys: Callable[[Database], KeyRing]) -> None:
    """Set the restore mark of the copy of a backup, and remove from it what ends with a restore."""
    with closing(open_database(candidate_url)) as database:
        keys = open_keys(database)
        with database.write() as connection:
            clock = from_microseconds(connection.scalar(sa.select(now())) or 0)
            lock_registry(connection, keys).store(restored_at=clock)
            # Their users may have been removed since; a new lease is cheaper than a key that does not work.
            connection.execute(leases.update().where(leases.c.kept.is_not(None)).values(kept=None))
            # The next daemon makes a backup at once, and what a former one met says nothing of now.
            begun_anew = {"next_at": clock, "failed_at": None, "error_class": None}
            connection.execute(backup_schedules.update().values(**begun_anew))
            # Daemons and chores of the database that the backup is of. One that was alive then is not alive here.
            for table in (daemons, chores):
                connection.execute(table.delete())


# --- PostgreSQL


def _restore_postgresql(
    database_url: str,
    file: Path,
    open_keys: Callable[[Database], KeyRing],
    *,
    at: datetime,
    keep_in: Path,
    consent: Consent,
) -> Restored:
    url = parse_database_url(database_url)
    with _candidate(url, file, open_keys, consent, place=None) as (candidate, verified):
        _refuse_another(database_url, verified, consent)
        with closing(open_database(database_url)) as database:
            if is_used := _has_content(database):
                _require_schema(database)
                _make_folder(keep_in)
        if not is_used:
            upgrade(database_url)
        with closing(open_database(sqlite_url(candidate))) as source, closing(open_database(database_url)) as target:
            keep = partial(_keep_postgresql, database_url, open_keys, keep_in, at) if is_used else None
            kept, signed = _replace(source, target, keep=keep)
    return Restored(kept=kept, signed=signed, verified=verified)


def _keep_postgresql(
    database_url: str, open_keys: Callable[[Database], KeyRing], folder: Path, at: datetime
) -> tuple[Path, bool]:
    """Copy the content of a database to a file; return where it is, and whether its manifest has a MAC."""
    manifest = backup(database_url, kept := _kept_in(folder, at), open_keys=keys_if_possible(open_keys))
    return kept, manifest.mac is not None


def _has_content(database: Database) -> bool:
    """Return whether there is an installation in a database."""
    with database.read() as connection:
        if not sa.inspect(connection).has_table(instance.name):
            return False
        return connection.scalar(sa.select(instance.c.id).limit(1)) is not None


def _require_schema(database: Database) -> None:
    schema = status_of(database).current
    if schema != EXPECTED:
        raise SchemaMismatchError(
            f"the database to be replaced has the schema {schema}, this release needs {EXPECTED}",
            hint="phasesync db migrate, and repeat it; or restore into an empty database, or another schema of it",
        )


def _make_folder(folder: Path) -> None:
    try:
        make_private_folder(folder)
    except OSError as error:
        raise SettingsError(
            f"the former database cannot be kept in {folder}: {error.strerror}",
            hint="name a folder that you may write to: PHASESYNC_DATA_DIR",
        ) from None


@retry_on_conflict
def _replace(
    source: Database, target: Database, *, keep: Callable[[], tuple[Path, bool]] | None
) -> tuple[Path | None, bool]:
    """
    Replace the content of a PostgreSQL database by that of a SQLite file, in one transaction.

    `keep`: keeps the former content; None if there is none. Every attempt keeps it anew: between two of them others
    have written. Returns what it returned in this attempt.
    """
    kept: tuple[Path | None, bool] = (None, False)
    with target.transaction() as connection:
        # While the former content is written to its file, and the new one is read, this transaction waits.
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        names = ", ".join(sorted(metadata.tables))
        # Waits for the writes of others. Others can read until the tables are emptied.
        connection.exec_driver_sql(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")
        refuse_at_work(connection)
        if keep is not None:
            kept = keep()
        elif _has_content(target):
            raise IllegalTransitionError("another process has just filled this database", hint="repeat the command")
        emptied = ", ".join(sorted(metadata.tables.keys() - {schema_compatibility.name}))
        connection.exec_driver_sql(f"TRUNCATE {emptied}")
        try:
            for table in (instance, *COPIED):
                columns = columns_of(table)
                with closing(read_rows(source, table, columns, for_postgresql=True)) as rows:
                    insert_rows(connection, table, columns, rows)
        except DatabaseCopyError as error:
            error.hint = "take another backup: this one holds what phasesync did not write"
            raise
        for table in (instance, *COPIED):
            if digest_of(source, table) != digest_of(target, table):
                raise DatabaseCopyError(
                    f"the table {table.name} would differ from the backup, so nothing was restored", hint="repeat it"
                )
        for table in NUMBERED:
            with source.read() as original:
                last = last_number(original, table)
            set_last_number(connection, table, last)
    return kept
