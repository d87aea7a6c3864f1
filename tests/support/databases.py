"""Fresh databases for tests, on each database that phasesync runs on.

    def test_something(migrated_database_url): ...      runs twice: on SQLite and on PostgreSQL

`database_url` is empty, `migrated_database_url` is at the newest migration and has the keys of `open_test_store`.
To have a test on one of the two only: `@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)`.
In tests/engine and tests/leases it is the other way round: on SQLite, and on both with `on_each_database`.

One server serves a whole test run. Under xdist the controller starts it and tells the workers where it
is; without xdist it starts when the first test asks for it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.postgres import PostgresServer, create_database, drop_database, start_server

BACKENDS = ("sqlite", "postgresql")
TEMPLATE = "phasesync_template"
on_each_database = pytest.mark.parametrize("database_backend", BACKENDS, indirect=True)
"""Where SQLite is the rule: what is tried on both, as it leans on what the database does."""
_SERVER = pytest.StashKey[PostgresServer]()
_WORKER_INPUT = "postgres_socket_directory"


def migrate_template(url: str) -> None:
    """Bring an empty database to the newest migration, and give it keys: nearly every test wants them."""
    from phasesync.store import migrate
    from tests.support.stores import open_test_store

    migrate.upgrade(url)
    open_test_store(url).close()


# --- One server for the whole run ---------------------------------------------------------------


class _TellsWorkers:
    """The plugin of xdist's controller that gives workers the place of the server; registered if xdist is installed."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[_WORKER_INPUT] = _server_of(node.config).socket_directory


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_TellsWorkers())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server at the end, after Ctrl-C too; the server's guard handles every harder end."""
    if server := config.stash.get(_SERVER, None):
        server.stop()


def _server_of(config: pytest.Config) -> PostgresServer:
    if _SERVER not in config.stash:
        directory = getattr(config, "workerinput", {}).get(_WORKER_INPUT)
        config.stash[_SERVER] = PostgresServer(socket_directory=directory) if directory else start_server()
    return config.stash[_SERVER]


# --- Fixtures -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> PostgresServer:
    """The PostgreSQL server of this test run."""
    return _server_of(pytestconfig)


@pytest.fixture(scope="session")
def postgres_administrator(postgres_server: PostgresServer) -> Iterator[psycopg.Connection]:
    """One connection that makes and drops the databases of all tests of this process: each new one costs a process."""
    with postgres_server.connect() as connection:
        yield connection


@pytest.fixture(params=BACKENDS)
def database_backend(request: pytest.FixtureRequest) -> str:
    """`sqlite`, then `postgresql`: a test that uses it runs once on each."""
    return str(request.param)


@pytest.fixture
def database_url(database_backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database of its own."""
    if database_backend == "sqlite":
        yield _sqlite_url(tmp_path / "phasesync.db")
    else:
        yield from fresh_postgres_database(request, template=None)


@pytest.fixture
def migrated_database_url(database_backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database of its own, at the newest migration, with keys."""
    if database_backend == "sqlite":
        yield from _copy_of_file(request.getfixturevalue("migrated_sqlite_template"), tmp_path / "phasesync.db")
    else:
        template = request.getfixturevalue("migrated_postgres_template")
        yield from fresh_postgres_database(request, template=template)


@pytest.fixture(scope="session")
def migrated_sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to copy; each xdist worker makes its own."""
    template = tmp_path_factory.mktemp("template") / "template.db"
    migrate_template(_sqlite_url(template))
    _make_whole(template)
    return template


@pytest.fixture(scope="session")
def migrated_postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a migrated PostgreSQL database, to copy; made by whichever worker needs it first."""
    with postgres_server.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(1)")  # freed when this connection closes
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone():
            unfinished = TEMPLATE + "_unfinished"
            postgres_server.drop_database(unfinished)
            postgres_server.create_database(unfinished)
            migrate_template(postgres_server.url(unfinished))
            connection.execute(f"ALTER DATABASE {unfinished} RENAME TO {TEMPLATE}")
    return TEMPLATE


@pytest.fixture(scope="session")
def filled_templates() -> dict[tuple[str, str], str]:
    """Backend and name -> what `copy_of_filled` copies: a file, or a database on PostgreSQL."""
    return {}


def copy_of_filled(
    request: pytest.FixtureRequest, backend: str, folder: Path, name: str, fill: Callable[[str], None]
) -> Iterator[str]:
    """
    Yield the URL of a database of its own, migrated, with keys and with what `fill` brings.

    Args:
        request: of the fixture.
        backend: one of `BACKENDS`.
        folder: for a file.
        name: of the content; it is made once in a process.
        fill: makes the content at a URL, and leaves no connection.
    """
    templates: dict[tuple[str, str], str] = request.getfixturevalue("filled_templates")
    if (backend, name) not in templates:
        templates[backend, name] = _fill_template(request, backend, name, fill)
    if backend == "sqlite":
        yield from _copy_of_file(Path(templates[backend, name]), folder / "phasesync.db")
    else:
        yield from fresh_postgres_database(request, template=templates[backend, name])


def _fill_template(request: pytest.FixtureRequest, backend: str, name: str, fill: Callable[[str], None]) -> str:
    if backend == "sqlite":
        file = request.getfixturevalue("tmp_path_factory").mktemp("template") / "template.db"
        for url in _copy_of_file(request.getfixturevalue("migrated_sqlite_template"), file):
            fill(url)
        _make_whole(file)
        return str(file)
    server: PostgresServer = request.getfixturevalue("postgres_server")
    made = f"{TEMPLATE}_{name}_{os.getpid()}"
    server.create_database(made, request.getfixturevalue("migrated_postgres_template"))
    fill(server.url(made))
    return made


def _copy_of_file(template: Path, file: Path) -> Iterator[str]:
    shutil.copyfile(template, file)
    file.chmod(0o600)
    yield _sqlite_url(file)


def _make_whole(file: Path) -> None:
    """Have the file alone be the database."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def fresh_postgres_database(request: pytest.FixtureRequest, template: str | None) -> Iterator[str]:
    """Yield the URL of a PostgreSQL database that is there until the end: empty, or like a template."""
    server: PostgresServer = request.getfixturevalue("postgres_server")
    administrator: psycopg.Connection = request.getfixturevalue("postgres_administrator")
    name = f"test_{secrets.token_hex(8)}"
    create_database(administrator, name, template)
    yield server.url(name)
    drop_database(administrator, name)
