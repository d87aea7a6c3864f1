"""SQLite's write-ahead log grows while a reader is active, and is short again afterwards."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from phasesync.store import open_database
from phasesync.store.sqlite import LOG_LIMIT_BYTES

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "phasesync.db"


def fill(database, megabytes: int) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS filler (x BLOB)")
        for _ in range(megabytes):
            connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(1048576))")


def test_a_log_that_a_reader_held_open_is_shortened_by_the_next_checkpoint(path: Path) -> None:
    database = open_database(f"sqlite:///{path}", create=True, synchronous="OFF")
    with closing(sqlite3.connect(path)) as reader:
        fill(database, 1)
        reader.execute("BEGIN").execute("SELECT count(*) FROM filler").fetchone()
        for _ in range(3):
            fill(database, 4)
        assert database.log_bytes() > 10 * MIB
        database.checkpoint()  # no one is held up, and nothing fails
        assert database.log_bytes() > 10 * MIB
        reader.rollback()
        database.checkpoint()
        assert database.log_bytes() == 0
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM filler").scalar() == 13
    database.close()


def test_every_connection_keeps_the_log_below_the_limit(path: Path) -> None:
    database = open_database(f"sqlite:///{path}", create=True)
    for transaction in (database.read, database.write):
        with transaction() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_size_limit").scalar() == LOG_LIMIT_BYTES
    database.close()


def test_no_log_has_no_size(path: Path) -> None:
    open_database(f"sqlite:///{path}", create=True).close()
    database = open_database(f"sqlite:///{path}")
    assert database.log_bytes() == 0
    database.close()
