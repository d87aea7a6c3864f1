"""
The file of a SQLite database, and whether it is still the one that was opened.

SQLite goes on with the files that it opened, whatever happens to their names: after a file was replaced, what is
written would be lost, and another process would work on other data. So connections remember which files they have, and
are used no longer than these are the ones that the names lead to. A new connection never makes a file.
"""

import os
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from weakref import WeakSet

from phasesync.errors import AnotherDatabaseError, KeyUnavailableError, StoreUnavailableError

BUSY_TIMEOUT_MS: Final = 10_000
"""How long a write waits for another process's; ours take milliseconds."""

LOG_LIMIT_BYTES: Final = 32 * 1024 * 1024
"""What SQLite shortens a longer log to, once nobody needs it; it begins a new one after 4 MB where nobody reads."""

_WAL_PATIENCE_S: Final = 10.0

_ATTEMPTS: Final = 3

_SAVING_MS: Final = 200
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
            self.execute(f"PRAGMA busy_timeout = {_SAVING_MS}")
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

    def give_up(self) -> None:
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
