"""
Waits until something may be due: another process committed, this process woke it, or a time is over.

SQLite has no notifications, but a number that changes when another connection commits (`PRAGMA data_version`). Reading
it takes microseconds and no lock. Linux notifies of writes to the write-ahead log, which come just before the number
changes; so the number is read often for a moment after a write, and rarely otherwise. Elsewhere it is read in a rhythm.

PostgreSQL sends notifications (LISTEN). All this only makes a daemon look earlier: what is missed, for example behind a
pooler that swallows notifications, costs a poll interval.
"""

import math
import os
import select
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from phasesync.errors import PhasesyncError, StoreUnavailableError
from phasesync.store.database import Database
from phasesync.store.db_errors import translate_errors
from phasesync.store.file_watch import FileWatch
from phasesync.store.sqlite import SqliteConnection
from phasesync.store.wake_ups import CHANNEL

_LOOK_EVERY_S: Final = 0.01
"""Between two reads of SQLite's number without notifications; 1 to 2 % of a core."""
_LOOK_RARELY_S: Final = 0.5
"""The same with them: a file system may notify of nothing, such as one that several machines share."""
_LOOK_AFTER_WRITE_S: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256)
"""After a write to the log: a commit shows once the disk has it, which may be slow."""
_RECONNECT_AFTER_S: Final = 1.0


class ChangeWatch:
    """Watches one database. `wait` is for one thread, `wake` for any."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wake_out, self._wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._pipe = threading.Lock()
        self._closed = False
        self._numbered: tuple[SqliteConnection, int] | None = None
        """The connection to SQLite, and the number that it read last."""
        self._file_watch: FileWatch | None = None
        self._listening: sa.PoolProxiedConnection | None = None
        self._next_attempt = float("-inf")

    def wake(self) -> None:
        """End the wait, or the next one if there is none."""
        # Runs may end after the last wait: by then the descriptor may be another file's.
        with self._pipe, suppress(BlockingIOError):  # A full pipe wakes as well.
            if not self._closed:
                os.write(self._wake_in, b"x")

    def wait(self, timeout: timedelta) -> None:
        """Return when something may be due, at the latest after `timeout`. Without a database it is just a wait."""
        deadline = time.monotonic() + timeout.total_seconds()
        try:
            if self._database.is_sqlite:
                self._wait_for_sqlite(deadline)
            else:
                self._wait_for_postgresql(deadline)
        except (PhasesyncError, self._database.engine.dialect.loaded_dbapi.Error):
            self._disconnect()
            self._next_attempt = time.monotonic() + _RECONNECT_AFTER_S
            self._wait_for_wake(deadline)

    def close(self) -> None:
        """Close the connection. For the thread that waits, once it waits no more."""
        self._disconnect()
        with self._pipe:
            self._closed = True
            os.close(self._wake_in)
            os.close(self._wake_out)

    def _wait_for_sqlite(self, deadline: float) -> None:
        with translate_errors(self._database.url):
            connection, former = self._number()
            pauses: Iterator[float] = iter(())
            while (left := deadline - time.monotonic()) > 0:
                number = _read_number(connection)
                if number != former:
                    self._numbered = (connection, number)
                    return
                watch, pause = self._file_watch, next(pauses, None)
                if pause is not None:
                    readable = self._select(min(left, pause))
                elif watch is None:
                    readable = self._select(min(left, _LOOK_EVERY_S))
                else:
                    readable = self._select(min(left, _LOOK_RARELY_S), watch.descriptor)
                if self._wake_out in readable:
                    return
                if watch is not None and watch.descriptor in readable:
                    watch.drain()
                    pauses = iter(_LOOK_AFTER_WRITE_S)

    def _number(self) -> tuple[SqliteConnection, int]:
        """Return a connection to the file that is in its place now, and the number that it read last."""
        if self._numbered is not None and not self._database.is_current(self._numbered[0]):
            self._disconnect()
        if self._numbered is None:
            connection = self._database.connect_to_file()
            # What was committed before this is not noticed: the caller polls after each wait.
            self._numbered = (connection, _read_number(connection))
            self._file_watch = FileWatch.of(self._database.log_path())
        return self._numbered

    def _wait_for_postgresql(self, deadline: float) -> None:
        with translate_errors(self._database.url):
            if self._listening is None:
                if time.monotonic() < self._next_attempt:
                    self._wait_for_wake(deadline)
                    return
                self._listening = self._database.listen(CHANNEL)
            driver: Any = self._listening.dbapi_connection
            readable = self._select(deadline - time.monotonic(), driver.fileno())
            if driver.fileno() in readable:
                _drain(driver)

    def _wait_for_wake(self, deadline: float) -> None:
        self._select(deadline - time.monotonic())

    def _select(self, timeout_s: float, *descriptors: int) -> list[int]:
        """Return the descriptors that can be read, in time; a wake is taken off the pipe."""
        # Not `select.select`, which takes no descriptor above 1,023: a daemon may have more open.
        poll = select.poll()
        for descriptor in (self._wake_out, *descriptors):
            poll.register(descriptor, select.POLLIN)
        readable = [descriptor for descriptor, _ in poll.poll(math.ceil(max(0.0, timeout_s) * 1000))]
        if self._wake_out in readable:
            os.read(self._wake_out, 4096)
        return readable

    def _disconnect(self) -> None:
        if self._numbered is not None:
            self._numbered[0].close()
            self._numbered = None
        if self._file_watch is not None:
            self._file_watch.close()
            self._file_watch = None
        if self._listening is not None:
            driver: Any = self._listening.dbapi_connection
            # The pool would roll it back first, and log an error if it was lost.
            self._listening.invalidate()
            driver.close()
            self._listening = None


def _read_number(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute("PRAGMA data_version").fetchone()
    return int(number)


def _drain(driver: Any) -> None:
    """Take all notifications off a connection of psycopg. StoreUnavailableError: the connection was lost."""
    from psycopg import Error  # not installed where there is only SQLite

    try:
        driver.pgconn.consume_input()
    except Error:
        raise StoreUnavailableError("the connection that listens was lost") from None
    while driver.pgconn.notifies() is not None:
        pass
