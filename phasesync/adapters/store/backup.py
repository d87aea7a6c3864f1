"""
Copies a SQLite database while it is in use.

What is copied is as encrypted as it was: a backup is useless without the root key, and the root key is not in it.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from phasesync.adapters.store.failures import translated
from phasesync.adapters.store.locations import parse_database_url, prepare_sqlite_file
from phasesync.adapters.store.sqlite_file import uri_of
from phasesync.errors import AlreadyExistsError, SettingsError


def backup(database_url: str, target: Path) -> None:
    """
    Copy a database to a new file, mode 0600, on disk before this returns.

    Raises:
        AlreadyExistsError: something is at the target; it is left alone.
        SettingsError: a PostgreSQL database, or the target cannot be written.
        StoreUnavailableError: the disk is full, or the database is locked.
    """
    url = parse_database_url(database_url)
    if url.get_backend_name() != "sqlite":
        raise SettingsError(
            "a PostgreSQL database is not copied by phasesync", hint="pg_dump --format=custom, with PostgreSQL's tools"
        )
    source = prepare_sqlite_file(url, create=False)
    try:
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise AlreadyExistsError(f"{target} exists already; a backup never overwrites") from None
    except OSError as error:
        raise SettingsError(
            f"the backup cannot be written to {target}: {error.strerror}",
            hint="name a file in a folder that exists and that you may write to",
        ) from None
    try:
        with translated(url.set(database=str(target))):
            _copy(source, target)
        _sync(target)
        _sync(target.parent)
    except BaseException:
        target.unlink(missing_ok=True)  # half a backup is worse than none
        raise


def _copy(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(uri_of(source), uri=True, timeout=10)) as live,
        closing(sqlite3.connect(uri_of(target), uri=True)) as copy,
    ):
        live.backup(copy)
        # One file: the log beside it would be left behind when it is moved.
        copy.execute("PRAGMA journal_mode = DELETE")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
