"""The PostgreSQL server for tests starts, serves, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.postgres import PostgresServer, start_server


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_fresh_database_is_empty_and_takes_writes(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    try:
        with engine.begin() as connection:
            assert sa.inspect(connection).get_table_names() == []
            connection.execute(sa.text("CREATE TABLE thing (id INTEGER)"))
            connection.execute(sa.text("INSERT INTO thing VALUES (1)"))
            assert connection.scalar(sa.text("SELECT count(*) FROM thing")) == 1
    finally:
        engine.dispose()


def test_a_copied_database_has_the_content_of_its_template(postgres_server: PostgresServer) -> None:
    postgres_server.create_database("original")
    with postgres_server.connect("original") as connection:
        connection.execute("CREATE TABLE thing (id integer)")
        connection.execute("INSERT INTO thing VALUES (7)")

    postgres_server.create_database("copy", template="original")

    with postgres_server.connect("copy") as connection:
        assert connection.execute("SELECT id FROM thing").fetchall() == [(7,)]
    postgres_server.drop_database("copy")
    postgres_server.drop_database("original")


def test_a_stopped_server_leaves_no_files() -> None:
    with start_server() as server:
        folder = Path(server.socket_directory)
        assert folder.is_dir()

    assert not folder.exists()
    server.stop()  # once more is harmless


@pytest.mark.slow
def test_a_killed_test_run_takes_its_server_along() -> None:
    code = (
        "import time; from tests.support.postgres import start_server\n"
        "print(start_server().socket_directory, flush=True); time.sleep(60)"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root) as run:
        assert run.stdout is not None
        folder = Path(run.stdout.readline().strip())
        assert folder.is_dir()
        os.kill(run.pid, signal.SIGKILL)

    wait_until(lambda: not folder.exists())
