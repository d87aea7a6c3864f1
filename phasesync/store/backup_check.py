"""
Proves that a backup can be restored, on a private copy: the file, its manifest, its schema, and every MAC in it. The
copy has the rows of the file in tables of our own; `db verify`, `db drill` and `db restore` go on with it.

The file itself is only read. What is returned says what was proved; whatever is wrong is an error.
"""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.audit import Finding
from phasesync.core.counted import counted
from phasesync.errors import CiphertextError, NotFoundError, SchemaMismatchError, SettingsError, StoreUnavailableError
from phasesync.host_files import UnusableFileError, file_exists, is_passing
from phasesync.store.audit_verify import verify_chain
from phasesync.store.authenticity import Authenticated, authenticate_all
from phasesync.store.backup import digest_of_file, sync_to_disk
from phasesync.store.backup_manifest import Manifest, check_mac, manifest_of, read_manifest
from phasesync.store.backup_rows import take_rows
from phasesync.store.database import Database, open_database
from phasesync.store.database_url import parse_database_url, sqlite_url
from phasesync.store.db_errors import translate
from phasesync.store.instance import read_instance_id
from phasesync.store.key_ring import KeyRing
from phasesync.store.migrate import EXPECTED, REVISIONS, status_of, upgrade
from phasesync.store.raw_rows import digest_of
from phasesync.store.sqlite import uri_of
from phasesync.store.tables import metadata

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OF_THE_DISK: Final = ("SQLITE_FULL", "SQLITE_IOERR")


@dataclass(frozen=True, kw_only=True)
class VerifiedBackup:
    """
    A backup that was proved.

    Attributes:
        instance_id: the installation.
        schema: revision that the file has; a restore brings it to the one of this release.
        rows: table -> how many rows the file has.
        authenticated: how many rows of each kind authenticate.
        manifest: what lay beside it; None if nothing did: then nothing proves that it is whole and of which time.
        signed: the manifest authenticates.
        tampered: what is wrong with the audit log in it; that is no reason not to restore it.
        left_out: what the file has that phasesync did not make, such as `trigger t`; the copy does not have it.
    """

    instance_id: str
    schema: str
    rows: Mapping[str, int]
    authenticated: Authenticated
    manifest: Manifest | None
    signed: bool
    tampered: tuple[Finding, ...]
    left_out: tuple[str, ...]

    @property
    def made_at(self) -> datetime | None:
        """When it was made, as far as that is proved."""
        return self.manifest.made_at if self.manifest is not None and self.signed else None


def verify_backup(
    file: Path,
    *,
    open_keys: Callable[[Database], KeyRing],
    folder: Path | None = None,
    without_manifest: bool = False,
) -> VerifiedBackup:
    """Prove a backup. Args and Raises: as `opened_copy`."""
    with opened_copy(file, open_keys=open_keys, folder=folder, without_manifest=without_manifest) as (_, verified):
        return verified


@contextmanager
def opened_copy(
    file: Path,
    *,
    open_keys: Callable[[Database], KeyRing],
    folder: Path | None = None,
    without_manifest: bool = False,
) -> Iterator[tuple[Path, VerifiedBackup]]:
    """
    Yield a private copy of a backup that was proved, at the schema of this release; it is removed at the end.

    Args:
        file: the backup; it is not changed.
        open_keys: returns the key ring of a database; raises if the root key does not fit.
        folder: where the copy is made; None: where temporary files are.
        without_manifest: take also one whose manifest is missing or has no MAC; nothing tells then which rows it lacks.

    Raises:
        NotFoundError: there is no such file.
        SettingsError: it is damaged, no database of phasesync, or not the file that its manifest is of.
        SchemaMismatchError: it is from a newer release.
        KeyUnavailableError: it is another root key.
        CiphertextError: the manifest or a row was altered, or proves nothing; names the first one.
    """
    with TemporaryDirectory(prefix="phasesync-backup-", dir=folder) as place:
        copy = Path(place) / "copy.db"
        yield copy, make_copy(file, copy, open_keys=open_keys, without_manifest=without_manifest)


def make_copy(
    file: Path, copy: Path, *, open_keys: Callable[[Database], KeyRing], without_manifest: bool = False
) -> VerifiedBackup:
    """
    Prove a backup on a copy that the caller removes, also after an error.

    Args:
        file: the backup.
        copy: where the copy is made; a further file is beside it for a time (`file_beside`).
        open_keys, without_manifest: as for `opened_copy`, which also has what this raises.
    """
    require_file(file)
    manifest = read_manifest(file)
    if manifest is not None:
        _check_file(file, manifest)
    pages = file_beside(copy)
    copy_checked(file, pages, message=f"{file} is not a database")
    with closing(open_database(sqlite_url(pages))) as database:
        schema = known_schema(database, file)
    left_out = take_rows(pages, copy, schema=schema, name=file)
    pages.unlink()
    rows = _read_rows(copy, file, schema, manifest)
    upgrade(sqlite_url(copy), open_keys, in_use=False)
    with closing(open_database(sqlite_url(copy))) as database:
        try:
            instance_id = read_instance_id(database)
        except SchemaMismatchError:
            raise never_initialised(file) from None
        keys = open_keys(database)
        signed = manifest is not None and check_mac(manifest, keys)
        if manifest is not None and manifest.instance_id != instance_id:
            raise CiphertextError(f"{manifest_of(file)} is of another installation ({manifest.instance_id})")
        authenticated = authenticate_all(database, keys, with_audit=False)
        if not (signed or without_manifest):
            raise _unproved(file, manifest)
        with database.read() as connection:
            audit = verify_chain(keys, connection, ())
    return VerifiedBackup(
        instance_id=instance_id,
        schema=schema,
        rows=rows,
        authenticated=replace(authenticated, audit=audit.rows),
        manifest=manifest,
        signed=signed,
        tampered=audit.findings,
        left_out=left_out,
    )


def file_beside(copy: Path) -> Path:
    """Return the file that `make_copy` needs beside the copy while it works."""
    return copy.with_name(f"{copy.name}.pages")


def _unproved(file: Path, manifest: Manifest | None) -> CiphertextError:
    name = manifest_of(file).name
    what = f"no {name} lies beside it" if manifest is None else f"{name} has no MAC: it was made without the root key"
    return CiphertextError(
        f"nothing proves that {file} has all its rows, nor of which time it is: {what}; the rows that are there "
        "authenticate",
        hint="bring the manifest that was made with it; to take the backup as it is: --without-manifest",
    )


def require_file(file: Path) -> None:
    """Raise an error unless there is a regular file. NotFoundError, SettingsError."""
    try:
        exists = file_exists(file)
    except UnusableFileError as error:
        raise SettingsError(f"the backup {file} cannot be read: {error.reason}") from None
    if not exists:
        raise NotFoundError(f"there is no backup at {file}", hint="phasesync db backup FILE makes one")
    if not file.is_file():
        raise SettingsError(
            f"{file} is no backup: a regular file is needed", hint="name the file that phasesync db backup made"
        )
    if file.stat().st_size == 0:
        raise SettingsError(
            f"{file} is empty: a copy of it was cut off, or a disk was full",
            hint="copy it again from where it came from, or take another backup",
        )


def known_schema(database: Database, file: Path) -> str:
    """Return the revision of a backup. SettingsError; SchemaMismatchError if this release does not know it."""
    try:
        schema = status_of(database).current
    except SchemaMismatchError as error:
        raise SchemaMismatchError(f"{file} is altered: {error.message}", hint="take another backup") from None
    if schema is None:
        raise SettingsError(f"{file} is not a database of phasesync")
    if schema not in REVISIONS:
        raise SchemaMismatchError(
            f"{file} has the schema {schema}, which is newer than this release of phasesync, which knows {EXPECTED}",
            hint="use the release that made the backup, or a newer one",
        )
    return schema


def never_initialised(file: Path) -> SettingsError:
    """Return the error for a backup of a database that `init` never filled."""
    return SettingsError(f"{file} was never initialised, so nothing is in it")


def copy_checked(source: Path, target: Path, *, message: str, locked: Callable[[], object] = lambda: None) -> None:
    """
    Check a database that is not in use, and copy it to a file with mode 0600, on disk.

    Args:
        source: is only read.
        target: what is in it is replaced, all of it or nothing.
        message: of the error, if one of the two is no database.
        locked: called once nobody else can write to the target, which still has its former content for all who read
            it. What it raises leaves the target as it is.

    Raises:
        SettingsError: `message`, or the source is damaged.
        StoreUnavailableError: somebody else writes to the target, and does not end; or its disk is full.
    """
    is_locked = False

    def called(status: int, *_: int) -> None:
        nonlocal is_locked
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreUnavailableError(f"the database {target} is locked: another process writes to it")
        if not is_locked:
            is_locked = True
            locked()

    try:
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        # Opened read-only, so that a backup on a read-only disk works and stays as it is.
        with closing(sqlite3.connect(uri_of(source, "ro"), uri=True, timeout=10)) as original:
            if original.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise SettingsError(f"{source} is damaged: SQLite's check of it fails")
            with closing(sqlite3.connect(uri_of(target), uri=True, timeout=10)) as copy:
                # The first page takes the lock for writing, and only the last one commits.
                original.backup(copy, pages=1, progress=called)
        sync_to_disk(target)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith(_OF_THE_DISK):
            raise translate(error, parse_database_url(sqlite_url(target))) from None
        raise SettingsError(message) from None
    except OSError as error:
        kind = StoreUnavailableError if is_passing(error) or error.errno in _NO_ROOM else SettingsError
        raise kind(f"{target} cannot be written: {error.strerror}") from None


def _check_file(file: Path, manifest: Manifest) -> None:
    """Raise SettingsError unless a file is, byte for byte, the one that its manifest is of."""
    try:
        size, digest = file.stat().st_size, digest_of_file(file)
    except OSError as error:
        raise SettingsError(f"the backup {file} cannot be read: {error.strerror}") from None
    if (size, digest) != (manifest.size, manifest.sha256):
        what = f"{size:,} bytes, not {manifest.size:,}" if size != manifest.size else "other bytes"
        raise SettingsError(
            f"{file} is not the file that its manifest is of: it has {what}",
            hint="copy it again from where it came from, or take another backup; to use it nevertheless, move "
            f"{manifest_of(file).name} away",
        )


def _read_rows(copy: Path, file: Path, schema: str, manifest: Manifest | None) -> dict[str, int]:
    """Return table -> rows of the copy of a backup; SettingsError if they are not those of the manifest."""
    with closing(open_database(sqlite_url(copy))) as database:
        with database.read() as connection:
            if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise CiphertextError(f"{file} has rows that refer to nothing: some were removed outside phasesync")
            present = set(sa.inspect(connection).get_table_names())
            rows: dict[str, Any] = {
                table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for table in metadata.sorted_tables
                if table.name in present
            }
        if manifest is not None:
            for table, number in manifest.rows.items():
                if rows.get(table) != number:
                    raise SettingsError(
                        f"{file} has {counted(rows.get(table, 0), 'row')} in {table}, and its manifest says {number}"
                    )
            if schema == EXPECTED:
                for table, digest in manifest.digests.items():
                    if digest_of(database, metadata.tables[table]).digest != digest:
                        raise SettingsError(f"the rows of {table} in {file} are not those of its manifest")
    return rows
