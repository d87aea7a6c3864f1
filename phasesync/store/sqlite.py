"""
The file of a SQLite database: its place before it is opened, connections to it, and whether it was replaced.

SQLite keeps working with the files that it opened, whatever happens to their names. After a file was replaced, writes
would be lost, and another process would work on other data. So connections remember which files they opened, and are
used only while the names still lead to these files. A new connection never creates a file.
"""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from weakref import WeakSet

import sqlalchemy as sa

from phasesync.errors import AnotherDatabaseError, KeyUnavailableError, SettingsError, StoreUnavailableError
from phasesync.host_files import MOUNTS, is_passing, make_private_folder, mount_of

BUSY_TIMEOUT_MS: Final = 10_000
"""How long a write waits for a write of another process; ours take milliseconds."""

LOG_LIMIT_BYTES: Final = 32 * 1024 * 1024
"""SQLite shortens a longer log to this once no reader needs it; without readers it restarts the log after 4 MB."""

_WAL_PATIENCE_S: Final = 10.0

_ATTEMPTS: Final = 3

_SAVE_LOG_PATIENCE_MS: Final = 200
"""How long saving the log of a replaced file waits for other connections."""

FileId = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files of a connection: the database, its write-ahead log and the log's index; None if a file is missing."""

    database: FileId | None
    log: FileId | None
    index: FileId | None


@dataclass(frozen=True, kw_only=True)
class Installation:
    """The identity of an installation: what differs between the databases of two installations."""

    instance_id: str
    root_key_ids: frozenset[str]


class SqliteConnection(sqlite3.Connection):
    """A connection that knows which files it opened."""

    files: Files

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ending = threading.Lock()

    def close(self) -> None:
        """Close the connection; wait while another thread saves the log through it, or the process would crash."""
        with self._ending:
            super().close()

    def save_log(self) -> bool:
        """Write the log into the database file, in any thread; return whether all was written. sqlite3.Error."""
        with self._ending:
            self.execute(f"PRAGMA busy_timeout = {_SAVE_LOG_PATIENCE_MS}")
            try:
                saved: int = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                self.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        return saved == 0


class SqliteFile:
    """Opens connections to one path. Safe to share between threads."""

    def __init__(self, path: Path, *, synchronous: str) -> None:
        """
        Args:
            path: path of the database.
            synchronous: SQLite's setting for what a commit waits for.
        """
        self.path = Path(os.path.abspath(path))
        self.log_path = self.path.with_name(f"{self.path.name}-wal")
        """Path of the write-ahead log."""
        self._index_path = self.path.with_name(f"{self.path.name}-shm")
        self._synchronous = synchronous
        self._opened: Files | None = None
        self._connections: WeakSet[SqliteConnection] = WeakSet()
        self._lock = threading.Lock()
        self._expected: Installation | None = None

    def expect(self, installation: Installation) -> None:
        """Accept a replacement of the opened file only if it belongs to this installation."""
        self._expected = installation

    def connect(self) -> SqliteConnection:
        """
        Open a connection; no file is created.

        Raises:
            StoreUnavailableError: the file is missing, or was replaced and cannot be read yet.
            AnotherDatabaseError, KeyUnavailableError: it was replaced by the file of another installation.
        """
        opened, log, index = self._opened, self.log_path, self._index_path
        for _ in range(_ATTEMPTS):
            before = _id_of(self.path)
            if opened is not None and before is None:
                raise self._gone()
            if opened is not None and before != opened.database and _id_of(log) == opened.log is not None:
                raise self._replaced(
                    f"{log} is the log of the one that was there, and would damage it", hint=f"remove {log} and {index}"
                )
            connection = self._open()
            if connection.files.database == before:
                with self._lock:
                    self._connections.add(connection)
                self._opened = connection.files
                return connection
            connection.close()  # The file was replaced at this moment, and it is unknown which one was opened.
        raise self._replaced()

    def _open(self) -> SqliteConnection:
        connection = sqlite3.connect(uri_of(self.path), uri=True, check_same_thread=False, factory=SqliteConnection)
        try:
            self._configure(connection)
            connection.files = files = self.files()
            if self._opened is not None and files.database != self._opened.database:
                self._check(connection)
        except UnicodeDecodeError:
            # SQLite quotes what it found in place of the schema, and the driver fails at that.
            connection.close()
            raise SettingsError(
                f"the database {self.path} is damaged",
                hint="restore the newest backup that phasesync db backup made",
                code="SQLITE_CORRUPT",
            ) from None
        except BaseException:
            connection.close()
            raise
        return connection

    def abandon(self) -> None:
        """
        Give up a file that was moved or replaced; afterwards every connection to it has to be closed.

        The log is written into the file that it belongs to, wherever that is now, and then removed: SQLite would use it
        for the next file of this name, while others still use it for the former one.
        """
        now = _id_of(self.path)
        with self._lock:
            former = [connection for connection in self._connections if connection.files.database != now]
        for connection in former:
            with suppress(sqlite3.Error):  # It is in use or closed; try the next one.
                if connection.save_log():
                    break
        if self._opened is not None and self._opened.database != now:
            self._remove_empty_log(self._opened)

    def _remove_empty_log(self, files: Files) -> None:
        log, index = self.log_path, self._index_path
        with suppress(OSError):
            if _id_of(log) == files.log and log.stat().st_size == 0:
                log.unlink()
                if _id_of(index) == files.index:
                    index.unlink()

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        try:
            return self.log_path.stat().st_size
        except OSError:
            return 0  # SQLite removes the log when the last connection is closed.

    @property
    def opened(self) -> Files | None:
        """The files of the newest connection; None if there was no connection."""
        return self._opened

    def files(self) -> Files:
        """Return the files that have the names now."""
        return Files(database=_id_of(self.path), log=_id_of(self.log_path), index=_id_of(self._index_path))

    @property
    def has_moved(self) -> bool:
        """Whether other files have the names now than those of the newest connection."""
        return self._opened is not None and self._opened != self.files()

    def has_lost(self, files: Files) -> bool:
        """Return whether a write to these files may be lost, because their names lead elsewhere now."""
        now = self.files()
        # SQLite itself removes the log when the last connection is closed, after saving its content.
        return now.database != files.database or now.log not in (None, files.log)

    def check(self, files: Files) -> None:
        """Raise StoreUnavailableError unless a connection's files still have their names."""
        now = self.files()
        if now.database is None:
            raise self._gone()
        if now != files:
            raise self._replaced()

    def _configure(self, connection: sqlite3.Connection) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would be too late for a snapshot
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        _use_write_ahead_log(connection)
        connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("SELECT 1 FROM sqlite_schema").fetchone()  # opens the log and its index

    def _check(self, connection: sqlite3.Connection) -> None:
        """Raise an error unless a replacement of the opened file belongs to the same installation."""
        if self._expected is None:
            return
        try:
            instance_row = connection.execute("SELECT instance_id FROM instance").fetchone()
            keys = frozenset(row[0] for row in connection.execute("SELECT DISTINCT root_key_id FROM data_keys"))
        except sqlite3.Error:
            # It may be a copy that is not complete yet.
            raise self._replaced("what is there now is no database of phasesync, or not a whole one") from None
        if instance_row is None:
            raise self._replaced("what is there now was never initialised")
        if instance_row[0] != self._expected.instance_id:
            raise AnotherDatabaseError(
                f"{self.path} was replaced by the database of another installation ({instance_row[0]}; this one is "
                f"{self._expected.instance_id})",
                hint="put the database of this installation back, or restart the daemon to work with the other one",
            )
        if not keys <= self._expected.root_key_ids:
            raise KeyUnavailableError(
                f"{self.path} was replaced by a database under another root key: {', '.join(sorted(keys))}",
            )

    def _gone(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"the database {self.path} is gone: it was moved or deleted",
            hint="put it back in its place; nothing else has to be done",
        )

    def _replaced(
        self,
        why: str = "it was replaced while it was in use",
        hint: str = "stop the daemon before the file is replaced; phasesync db restore puts a backup in its place",
    ) -> StoreUnavailableError:
        return StoreUnavailableError(f"the database {self.path} is not the file that was opened: {why}", hint=hint)


def uri_of(path: Path, mode: str = "rw") -> str:
    """Return SQLite's URI of an existing file; opening it never creates a file."""
    return f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode={mode}"


@contextmanager
def reading_any_text(connection: sa.Connection) -> Iterator[None]:
    """
    Read any bytes that SQLite holds as text, with replacement characters, where its driver raises an error.

    For work with many rows, which an altered one must not stop. Such a text does not authenticate.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    former, driver.text_factory = driver.text_factory, lambda text: text.decode("utf-8", "replace")
    try:
        yield
    finally:
        driver.text_factory = former


def _id_of(path: Path) -> FileId | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreUnavailableError(f"the database {path} cannot be looked at: {error.strerror}") from None
    return status.st_dev, status.st_ino


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; this happens once for a database, and SQLite does not wait for locks here."""
    deadline = time.monotonic() + _WAL_PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


# --- the place of the file, before it is opened

_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "beegfs", "davfs"),
        # Folders that a hypervisor shares with its guest; disks that several hosts share.
        *("vboxsf", "vmhgfs", "prl_fs", "ocfs2", "gfs", "gfs2", "gpfs", "orangefs", "pvfs2", "wekafs", "acfs"),
    }
)
_NETWORK_FUSE: Final = (
    *("sshfs", "glusterfs", "s3fs", "gcsfuse", "rclone", "davfs", "juicefs", "ceph", "seaweedfs", "mount-s3"),
    *("mountpoint-s3", "blobfuse", "goofys", "geesefs", "vmhgfs", "prl_fs", "gvfsd", "curlftpfs", "smbnetfs", "mfs"),
)
"""
Beginnings of the names of programs behind FUSE mounts. Many programs show their name only as the mount's source.

9p and virtiofs are not in these lists: they also carry the host's own disk into a virtual machine or a sandbox, where
one kernel does all the locking.
"""

_LONGEST_NAME: Final = 255 - len("-journal")
"""Bytes; a name has at most 255 bytes on the file systems that matter (NAME_MAX)."""

_OLDEST_SQLITE: Final = (3, 35, 0)
"""The first version with RETURNING."""


def prepare_sqlite_file(url: sa.URL, *, create: bool, mounts: Path = MOUNTS) -> Path:
    """
    Check the place of a SQLite database, and create folder (0700) and file (0600) on request.

    Args:
        url: URL of the database.
        create: create folder and file if they are missing; otherwise a missing file is an error.
        mounts: the kernel's list of mounts.

    Raises:
        SettingsError: a network file system, no write permission, no database, or SQLite is too old.
    """
    check_sqlite_version(sqlite3.sqlite_version_info)
    path = Path(url.database or "")
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise SettingsError(
            f"the name of the database {path} is too long: {_LONGEST_NAME} bytes are possible, since SQLite names "
            "files of its own after it",
            hint="choose another one with PHASESYNC_DATABASE_URL",
        )
    if (kind := network_file_system(path, mounts)) is not None:
        raise SettingsError(
            f"{path} lies on a network file system ({kind}), where SQLite's locks do not hold",
            hint="use a local disk, or PostgreSQL: PHASESYNC_DATABASE_URL=postgresql://…",
        )
    try:
        if create:
            make_private_folder(path.parent)
            _make_file(path)
    except OSError as error:
        raise _unusable_file(path, error) from None
    if not sqlite_file_exists(url):
        message, hint = missing_database(path)
        raise SettingsError(message, hint=hint)
    return path


def missing_database(path: Path) -> tuple[str, str]:
    """
    Return message and hint for a missing database; the hint names `init` first only if nothing of ours is there.

    A new database beside the remains of an old one would look right, and everything would be lost.
    """
    place = "set PHASESYNC_DATABASE_URL or PHASESYNC_DATA_DIR to where it is"
    if not path.parent.is_dir():
        return (
            f"there is no database at {path}: there is no folder {path.parent}",
            f"phasesync init makes a new one; if there should be one already: is a disk not mounted? {place}",
        )
    files = sorted(file.name for file in path.parent.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        return (
            f"there is no database at {path}: the folder is empty",
            f"phasesync init makes a new one; if there should be one already: {place}",
        )
    return (
        f"there is no database at {path}; in its folder there is: {', '.join(files[:10])}",
        f"bring it back from a backup: phasesync db restore FILE; or {place}; phasesync init makes a new one, which is "
        "empty",
    )


def sqlite_file_exists(url: sa.URL) -> bool:
    """Return whether the file of a SQLite database exists. SettingsError if its folder may not be searched."""
    path = Path(url.database or "")
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unusable_file(path, error) from None
    return True


def check_sqlite_version(version: Sequence[int]) -> None:
    """Raise SettingsError for a SQLite library that is too old."""
    if tuple(version) < _OLDEST_SQLITE:
        installed, needed = (".".join(map(str, numbers)) for numbers in (version, _OLDEST_SQLITE))
        raise SettingsError(
            f"the SQLite library of this Python is {installed}, {needed} or newer is needed",
            hint="use a newer Python, or PostgreSQL",
        )


def access_warnings(url: sa.URL) -> tuple[str, ...]:
    """
    Return warnings about who can read or write a SQLite database, one line each.

    docs/security.md lists what a writer can do. A group is no warning: Kubernetes uses one to give a volume to a pod.
    """
    path = Path(os.path.abspath(url.database or ""))
    warnings = []
    try:
        folder, file = os.stat(path.parent), os.stat(path)
    except OSError:
        return ()  # Opening the database says what is wrong.
    if folder.st_mode & stat.S_IWOTH:
        mode = stat.S_IMODE(folder.st_mode)
        warnings.append(
            f"everyone on this machine may put files into {path.parent}, where the database is (mode {mode:04o}): "
            f"chmod 700 {path.parent}"
        )
    if file.st_mode & stat.S_IRWXO:
        mode, access = stat.S_IMODE(file.st_mode), "write" if file.st_mode & stat.S_IWOTH else "read"
        side_files = " ".join(f"{path}{end}" for end in ("", "-wal", "-shm") if os.path.exists(f"{path}{end}"))
        warnings.append(
            f"everyone on this machine may {access} the database {path} (mode {mode:04o}): chmod 600 {side_files}"
        )
    return tuple(warnings)


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the network file system of a path; None for a local or an unknown one."""
    mount = mount_of(path, mounts)
    if mount is None:
        return None
    family, _, program = mount.kind.partition(".")
    if mount.kind in _NETWORK_FILE_SYSTEMS:
        return mount.kind
    if family == "fuse" and program.startswith(_NETWORK_FUSE):
        return mount.kind
    if family == "fuse" and not program and mount.source.startswith(_NETWORK_FUSE):
        return f"fuse, {mount.source}"
    return None


def _make_file(path: Path) -> None:
    """Create an empty file that only this user may read; SQLite gives its side files the same mode."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)


def _unusable_file(path: Path, error: OSError) -> SettingsError | StoreUnavailableError:
    message = f"the database {path} cannot be made or read: {error.strerror}"
    if is_passing(error):
        return StoreUnavailableError(message)
    return SettingsError(message, hint="choose another place with PHASESYNC_DATA_DIR, or correct the permissions")
