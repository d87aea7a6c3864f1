"""
The file of a SQLite database, and whether it is still the one that was opened.

SQLite goes on with the files that it opened, whatever happens to their names: after a file was replaced, what is
written would be lost, and another process would work on other data. So connections remember which files they have, and
are used no longer than these are the ones that the names lead to. A new connection never makes a file.
"""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from weakref import WeakSet

import sqlalchemy as sa

from phasesync.errors import AnotherDatabaseError, KeyUnavailableError, SettingsError, StoreUnavailableError
from phasesync.host_files import MOUNTS, is_passing, make_private_folder, mount_of

BUSY_TIMEOUT_MS: Final = 10_000
"""How long a write waits for another process's; ours take milliseconds."""

LOG_LIMIT_BYTES: Final = 32 * 1024 * 1024
"""What SQLite shortens a longer log to, once nobody needs it; it begins a new one after 4 MB where nobody reads."""

_WAL_PATIENCE_S: Final = 10.0

_ATTEMPTS: Final = 3

_SAVE_LOG_PATIENCE_MS: Final = 200
"""How long the log of a file that lost its name waits for others."""

FileId = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """Which files a connection has: the database, its write-ahead log and the log's index. None = there is none."""

    database: FileId | None
    log: FileId | None
    index: FileId | None


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What tells one installation's database from another's."""

    instance_id: str
    root_key_ids: frozenset[str]


class SqliteConnection(sqlite3.Connection):
    """A connection that knows which files it has open."""

    files: Files

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ending = threading.Lock()

    def close(self) -> None:
        """Close it; not while another thread saves the log through it, which would end the process."""
        with self._ending:
            super().close()

    def save_log(self) -> bool:
        """Write what stands in the log into the file, in any thread; return whether that was all. sqlite3.Error."""
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
            path: of the database.
            synchronous: what SQLite waits for at a commit.
        """
        self.path = Path(os.path.abspath(path))
        self._synchronous = synchronous
        self._opened: Files | None = None
        self._connections: WeakSet[SqliteConnection] = WeakSet()
        self._lock = threading.Lock()
        self._expected: Installation | None = None

    def expect(self, installation: Installation) -> None:
        """Accept a file in the place of the one that was opened only if it is of this installation."""
        self._expected = installation

    def connect(self) -> SqliteConnection:
        """
        Open a connection; nothing is made.

        Raises:
            StoreUnavailableError: the file is gone, or was replaced and cannot be read yet.
            AnotherDatabaseError, KeyUnavailableError: it was replaced by another installation's.
        """
        opened, (log, index) = self._opened, self._side_files()
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
            connection.close()  # It was replaced at the same time, and nothing says which of the two this is.
        raise self._replaced()

    def _open(self) -> SqliteConnection:
        connection = sqlite3.connect(uri_of(self.path), uri=True, check_same_thread=False, factory=SqliteConnection)
        try:
            self._configure(connection)
            connection.files = files = self.files()
            if self._opened is not None and files.database != self._opened.database:
                self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def abandon(self) -> None:
        """
        BaseStore with a file that lost its name, after which every connection to it has to be closed.

        What stands in the log goes into the file that it belongs to, wherever that is now. The log loses its name too:
        SQLite would use it for the next file of this name, while others still use it for the former one.
        """
        now = _id_of(self.path)
        with self._lock:
            former = [one for one in self._connections if one.files.database != now]
        for connection in former:
            with suppress(sqlite3.Error):  # It is in use or closed; another one will do.
                if connection.save_log():
                    break
        if self._opened is not None and self._opened.database != now:
            self._remove_empty_log(self._opened)

    def _remove_empty_log(self, files: Files) -> None:
        log, index = self._side_files()
        with suppress(OSError):
            if _id_of(log) == files.log and log.stat().st_size == 0:
                log.unlink()
                if _id_of(index) == files.index:
                    index.unlink()

    def _side_files(self) -> tuple[Path, Path]:
        return self.path.with_name(f"{self.path.name}-wal"), self.path.with_name(f"{self.path.name}-shm")

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        try:
            return self._side_files()[0].stat().st_size
        except OSError:
            return 0  # There is none once the last connection was closed.

    @property
    def opened(self) -> Files | None:
        """The files of the connection that was opened last; None = there was none."""
        return self._opened

    def files(self) -> Files:
        """Return the files that the names lead to now."""
        log, index = self._side_files()
        return Files(database=_id_of(self.path), log=_id_of(log), index=_id_of(index))

    @property
    def has_moved(self) -> bool:
        """Whether the names lead to other files than those of the connection that was opened last."""
        return self._opened is not None and self._opened != self.files()

    def has_lost(self, files: Files) -> bool:
        """Return whether what was just written to files may not be found under their names."""
        now = self.files()
        # SQLite itself removes the log when the last connection is closed, and has saved what was in it then.
        return now.database != files.database or now.log not in (None, files.log)

    def check(self, files: Files) -> None:
        """Raise StoreUnavailableError unless a connection's files are the ones that the names lead to."""
        now = self.files()
        if now.database is None:
            raise self._gone()
        if now != files:
            raise self._replaced()

    def _configure(self, connection: sqlite3.Connection) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late for a snapshot
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        _use_write_ahead_log(connection)
        connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("SELECT 1 FROM sqlite_schema").fetchone()  # opens the log and its index

    def _check(self, connection: sqlite3.Connection) -> None:
        """Make sure that a file that was put in the place of ours holds the same installation."""
        if self._expected is None:
            return
        try:
            found = connection.execute("SELECT instance_id FROM instance").fetchone()
            keys = frozenset(row[0] for row in connection.execute("SELECT DISTINCT root_key_id FROM data_keys"))
        except sqlite3.Error:
            # It may be on its way: a copy that is not complete yet.
            raise self._replaced("what is there now is no database of phasesync, or not a whole one") from None
        if found is None:
            raise self._replaced("what is there now was never initialised")
        if found[0] != self._expected.instance_id:
            raise AnotherDatabaseError(
                f"{self.path} was replaced by the database of another installation ({found[0]}; this one is "
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
    """Return SQLite's URI for a file that is there: whatever its characters are, and never made by opening it."""
    return f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode={mode}"


def _id_of(path: Path) -> FileId | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreUnavailableError(f"the database {path} cannot be looked at: {error.strerror}") from None
    return found.st_dev, found.st_ino


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


# --- the place of the file, before it is opened

_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "beegfs", "davfs"),
        # Folders of a host that a hypervisor shows to its guest; disks that several hosts share.
        *("vboxsf", "vmhgfs", "prl_fs", "ocfs2", "gfs", "gfs2", "gpfs", "orangefs", "pvfs2", "wekafs", "acfs"),
    }
)
_NETWORK_FUSE: Final = (
    *("sshfs", "glusterfs", "s3fs", "gcsfuse", "rclone", "davfs", "juicefs", "ceph", "seaweedfs", "mount-s3"),
    *("mountpoint-s3", "blobfuse", "goofys", "geesefs", "vmhgfs", "prl_fs", "gvfsd", "curlftpfs", "smbnetfs", "mfs"),
)
"""
How the programs behind FUSE mounts are named, at the beginning. Many name themselves as what is mounted only.

9p and virtiofs are not in these lists: they also carry a machine's own disk into a virtual machine or a sandbox, where
one kernel does all the locking.
"""

_LONGEST_NAME: Final = 255 - len("-journal")
"""Of 255 bytes, which a name may have on the file systems that matter (NAME_MAX)."""

_OLDEST_SQLITE: Final = (3, 35, 0)
"""The first with RETURNING."""


def prepare_sqlite_file(url: sa.URL, *, create: bool, mounts: Path = MOUNTS) -> Path:
    """
    Check the place of a SQLite database, and make folder (0700) and file (0600) where asked.

    Args:
        url: of the database.
        create: make what is missing; otherwise a missing file is an error.
        mounts: the kernel's list of mounts.

    Raises:
        SettingsError: a network file system, no right to write there, no database, or SQLite is too old.
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
    Return message and hint for a database that is not there; `init` comes first only where nothing of ours is.

    A new database beside what an old one has left would look right, and would have lost everything.
    """
    place = "set PHASESYNC_DATABASE_URL or PHASESYNC_DATA_DIR to where it is"
    if not path.parent.is_dir():
        return (
            f"there is no database at {path}: there is no folder {path.parent}",
            f"phasesync init makes a new one; where there should be one already: is a disk not mounted? {place}",
        )
    left = sorted(one.name for one in path.parent.iterdir() if one.is_file() and not one.name.startswith("."))
    if not left:
        return (
            f"there is no database at {path}: the folder is empty",
            f"phasesync init makes a new one; where there should be one already: {place}",
        )
    return (
        f"there is no database at {path}; in its folder there is: {', '.join(left[:10])}",
        f"bring it back from a backup: phasesync db restore FILE; or {place}; phasesync init makes a new one, which is "
        "empty",
    )


def sqlite_file_exists(url: sa.URL) -> bool:
    """Return whether a SQLite database is there. SettingsError where its folder may not be searched."""
    path = Path(url.database or "")
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unusable_file(path, error) from None
    return True


def check_sqlite_version(version: Sequence[int]) -> None:
    """Raise SettingsError for a SQLite library that lacks what we use."""
    if tuple(version) < _OLDEST_SQLITE:
        found, needed = (".".join(map(str, numbers)) for numbers in (version, _OLDEST_SQLITE))
        raise SettingsError(
            f"the SQLite library of this Python is {found}, {needed} or newer is needed",
            hint="use a newer Python, or PostgreSQL",
        )


def access_warnings(url: sa.URL) -> tuple[str, ...]:
    """
    Return what should be better about who can reach a SQLite database, one line each; empty = nothing.

    Whoever may write to it can do what docs/security.md lists. A group is how Kubernetes gives a volume to a pod.
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
            f"everybody on this machine may put files into {path.parent}, where the database is (mode {mode:04o}): "
            f"chmod 700 {path.parent}"
        )
    if file.st_mode & stat.S_IRWXO:
        mode, what = stat.S_IMODE(file.st_mode), "write" if file.st_mode & stat.S_IWOTH else "read"
        side_files = " ".join(f"{path}{end}" for end in ("", "-wal", "-shm") if os.path.exists(f"{path}{end}"))
        warnings.append(
            f"everybody on this machine may {what} the database {path} (mode {mode:04o}): chmod 600 {side_files}"
        )
    return tuple(warnings)


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the network file system that a path lies on; None for a local one, or where nothing tells."""
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
    """Make an empty file that only we may read; SQLite gives its side files the mode of the first."""
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
