"""The table of conditions in docs/operations.md, met with a real daemon. What takes minutes is in tests/daemon."""

from __future__ import annotations

import fcntl
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from http.client import HTTPConnection
from typing import Any

import pytest
import sqlalchemy as sa

from phasesync.adapters.telemetry.log_events import LogEvents
from phasesync.adapters.telemetry.metrics import Metrics
from phasesync.core.sync import Layout
from phasesync.daemon.build import build_components
from phasesync.daemon.http import MAX_CONNECTIONS
from phasesync.emulator import Operation
from phasesync.settings import load_settings
from tests.e2e.conftest import values_of
from tests.support.aws import Aws
from tests.support.daemon import ENDS_WITHIN_S, PHASESYNC, Daemon
from tests.support.installation import Installation
from tests.support.vouching import vouch_for_leases
from tests.support.waiting import HANG_GUARD_S, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PER_KEY: dict[str, Any] = {"layout": Layout.PER_KEY, "remote_name": None, "name_template": "shop/web/{key}"}

on_sqlite = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)


def wait_for_ready(daemon: Daemon, status: int, reason: str = "") -> dict[str, Any]:
    """Return what /readyz says once it answers so; /healthz answers 200 all the while."""
    answers: list[dict[str, Any]] = []

    def answered() -> bool:
        assert daemon.get("/healthz")[0] == 200
        found, body = daemon.get("/readyz")
        answers.append(body)
        return found == status and str(body.get("reason", "")).startswith(reason)

    try:
        wait_until(answered, what=f"/readyz = {status} {reason}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it said {answers[-1:]}") from None
    return answers[-1]


@contextmanager
def unwritable(installation: Installation, daemon: Daemon) -> Iterator[None]:
    """Have every write of the daemon to its database fail, as on a full disk or a standby; reads go on."""
    url = sa.make_url(installation.database_url)
    if url.get_backend_name() == "sqlite":
        # Another process has the database open, as a standby would: its log and index stay, so that reads go on even if
        # the daemon has to open it anew.
        with installation.database() as reader:
            reader.exec_driver_sql("SELECT count(*) FROM daemons").scalar()
            # No file of the process may grow beyond this: the system's answer to every write of SQLite is an error.
            before = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            yield
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, before)
        return
    with installation.database() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'as on a standby' USING ERRCODE = 'read_only_sql_transaction'; END $$"
        )
        for table in ("daemons", "chores", "syncs"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION refuse()"
            )
    yield
    with installation.database() as connection:
        connection.exec_driver_sql("DROP FUNCTION refuse CASCADE")


@contextmanager
def unreachable(installation: Installation) -> Iterator[None]:
    """Have PostgreSQL refuse every connection to the database."""
    _alter(installation, "ALLOW_CONNECTIONS false")
    yield
    _alter(installation, "ALLOW_CONNECTIONS true")


def _alter(installation: Installation, how: str) -> None:
    """Alter the database, and end the connections that still have it as it was."""
    url = sa.make_url(installation.database_url)
    engine = sa.create_engine(url.set(database="postgres"), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{url.database}" {how}')
        end = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
        connection.execute(end, {"name": url.database}).all()


def test_a_database_that_cannot_be_written(installation: Installation, aws: Aws) -> None:
    installation.configure(daemon__claim_ttl_s=6)
    installation.add_syncs("web")
    daemon = installation.start_daemon()
    installation.wait_for("web")
    log_is_written = not installation.database_url.startswith("sqlite")  # there it is a file of the same process

    with unwritable(installation, daemon):
        reason = wait_for_ready(daemon, 503, "the database cannot be written (")["reason"]
        assert daemon.get("/healthz")[1]["state"] == reason, "systemd's status line is the same"
        if log_is_written:
            daemon.wait_for_line("readiness changed", ok=False)

    assert wait_for_ready(daemon, 200)["role"] == "active"
    installation.edit("web", URL="postgres://new")
    wait_until(lambda: values_of(aws, "shop/web")["URL"] == "postgres://new", what="the edit at AWS")
    if log_is_written:
        daemon.wait_for_line("readiness changed", ok=True)
    assert daemon.stop() == 0


@on_postgresql
def test_a_database_that_cannot_be_reached(installation: Installation, aws: Aws) -> None:
    installation.add_syncs("web")
    daemon = installation.start_daemon()
    installation.wait_for("web")

    with unreachable(installation):
        wait_for_ready(daemon, 503, "the database cannot be reached")
        assert daemon.wait_for_line("readiness changed", ok=False)["level"] == "warning"

    wait_for_ready(daemon, 200)
    installation.edit("web", URL="postgres://new")
    wait_until(lambda: values_of(aws, "shop/web")["URL"] == "postgres://new", what="the edit at AWS")
    assert daemon.stop() == 0


@on_sqlite
def test_aws_that_does_not_work_harms_neither(installation: Installation, aws: Aws) -> None:
    installation.add_syncs("web")
    aws.server.fail("DescribeSecret", times=None)  # the connection drops
    daemon = installation.start_daemon()

    installation.wait_for("web", status="failing")

    assert [daemon.get(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
    assert daemon.stop() == 0


@on_sqlite
def test_a_run_makes_progress_with_every_call_and_none_while_aws_does_not_answer(
    installation: Installation, aws: Aws
) -> None:
    """What distinguishes a stuck worker from a busy one; in this process, to observe it."""
    installation.add_syncs("web", values={f"KEY_{number}": "x" for number in range(4)}, **PER_KEY)
    settings = load_settings(installation.config, environ=installation.environ).settings
    components = build_components(lambda: settings, LogEvents(), Metrics(version="test"))
    quiet: list[float] = []
    opened = threading.Event()

    def longest_quiet() -> float:
        return max((quiet_for.total_seconds() for quiet_for in components.dispatcher.load().quiet), default=0.0)

    def hold_up(_operation: Operation) -> None:
        quiet.append(longest_quiet())
        if len(quiet) == 4:
            opened.wait(HANG_GUARD_S)
        time.sleep(0.4)

    aws.server.do("DescribeSecret", hold_up, times=None)
    began = time.monotonic()
    try:
        assert components.scheduler.beat() and components.scheduler.poll()
        wait_until(lambda: len(quiet) == 4, what="the fourth call")
        assert time.monotonic() - began > 1.2
        assert max(quiet) < 1.2, "every call is progress"
        wait_until(lambda: longest_quiet() > 1.5, what="a worker that makes no progress")
        opened.set()
        wait_until(lambda: not components.dispatcher.running(), what="the end of the run")
        assert longest_quiet() == 0
    finally:
        opened.set()
        components.dispatcher.drain(timedelta(seconds=HANG_GUARD_S))
        components.application.close()


@on_sqlite
def test_clients_that_drip_hold_up_no_probe(installation: Installation) -> None:
    daemon = installation.start_daemon()
    host, _, port = daemon.address.rpartition(":")
    clients = [socket.create_connection((host, int(port)), timeout=5) for _ in range(MAX_CONNECTIONS + 8)]
    for client in clients[-8:]:
        client.sendall(b"G")

    began = time.monotonic()
    assert daemon.get("/readyz")[0] == 200
    assert time.monotonic() - began < 5
    assert installation.run("status", "--probe").exit_code == 6, "port 0: only the daemon knows it"
    probe = installation.run(
        "status", "--probe", PHASESYNC_HTTP__LISTEN=daemon.address, HTTP_PROXY="http://192.0.2.1:3128"
    )
    assert (probe.exit_code, probe.stderr) == (0, "healthy; state: active\n")
    for client in clients:
        client.close()
    assert daemon.stop() == 0


@on_sqlite
def test_a_log_that_nobody_reads_stops_no_work(installation: Installation, aws: Aws) -> None:
    """Its stderr is a pipe that is full from the start."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    installation.configure(http__listen=f"127.0.0.1:{port}", daemon__coalesce_ms=0)
    installation.add_syncs("web")
    process = subprocess.Popen(
        [str(PHASESYNC), "daemon"],
        env=installation.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    installation._commands.append(process)
    assert process.stderr is not None
    fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)

    def status(path: str) -> int:
        with closing(HTTPConnection("127.0.0.1", port, timeout=HANG_GUARD_S)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status

    def is_there(value: str) -> bool:
        return values_of(aws, "shop/web")["URL"] == value

    wait_until(lambda: _or_none(lambda: status("/readyz")) == 200, what="readiness")
    installation.wait_for("web")
    for number in range(12):
        installation.edit("web", URL=f"postgres://{number}")
        wait_until(partial(is_there, f"postgres://{number}"), what="the edit at AWS")

    assert (status("/healthz"), status("/readyz")) == (200, 200)
    process.send_signal(signal.SIGTERM)
    assert process.wait(ENDS_WITHIN_S) == 0
    lines = process.stderr.read().decode()
    assert "phasesync starts" in lines and "phasesync has stopped" not in lines, "the pipe was full"


def _or_none(ask: Callable[[], int]) -> int | None:
    try:
        return ask()
    except OSError:
        return None


@pytest.mark.parametrize(
    ("database_backend", "back"),
    [("sqlite", timedelta(minutes=30)), ("postgresql", timedelta(days=30))],
    indirect=["database_backend"],
    ids=["sqlite-30min", "postgresql-30d"],
)
def test_a_clock_that_is_set_back_delays_no_edit(installation: Installation, aws: Aws, back: timedelta) -> None:
    """The rows are moved ahead under the daemon, which is the same."""
    installation.add_syncs("web")
    daemon = installation.start_daemon()
    installation.wait_for("web")
    by = back // timedelta(microseconds=1)
    with installation.database() as connection:
        for table, columns in {
            "syncs": ("claimed_at", "next_due_at", "retry_at"),
            "daemons": ("started_at", "beat_at", "until"),
            "chores": ("claimed_at",),
        }.items():
            moved = ", ".join(f"{name} = {name} + {by}" for name in columns)
            connection.exec_driver_sql(f"UPDATE {table} SET {moved}")
        # As after a run that failed: no edit is to go out for another minute, by the clock as it was.
        connection.exec_driver_sql("UPDATE syncs SET retry_at = next_due_at")

    began = time.monotonic()
    installation.edit("web", URL="postgres://new")
    wait_until(lambda: values_of(aws, "shop/web")["URL"] == "postgres://new", what="the edit at AWS")
    took_s = time.monotonic() - began

    daemon.wait_for_line("the database's clock was set back; what lay ahead was moved")
    assert took_s < 5
    assert daemon.get("/readyz")[0] == 200
    assert daemon.stop() == 0


@on_sqlite
def test_a_lease_lives_no_longer_because_the_clock_was_set_back(installation: Installation, aws: Aws) -> None:
    installation.in_process = True
    installation.add_dynamic()
    daemon = installation.start_daemon()
    with installation.application() as application:
        lease = application.lease_operations.issue("ci", actor="test", probe_for=None).lease
    installation.ends_in(lease.id, seconds=3)
    by = timedelta(minutes=30) // timedelta(microseconds=1)
    with installation.database() as connection:
        connection.exec_driver_sql(
            f"UPDATE leases SET requested_at = requested_at + {by}, expires_at = expires_at + {by}"
        )
    vouch_for_leases(installation.database_url)
    with installation.database() as connection:
        connection.exec_driver_sql(f"UPDATE chores SET claimed_at = claimed_at + {by}")

    began = time.monotonic()
    daemon.wait_for_line("lease taken back", status="expired")
    assert time.monotonic() - began < 15
    (moved,) = daemon.find("the database's clock was set back; what lay ahead was moved")
    assert moved["leases"] == 1 and 1790 < moved["back_s"] <= 1800
    assert daemon.stop() == 0
