"""`phasesync status --probe`: what the health check of a container is told, whatever stands in its environment."""

from __future__ import annotations

import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from phasesync.cli.main import cli
from phasesync.cli.status import probe
from phasesync.daemon.http import HealthServer, ProbeResult
from phasesync.errors import SettingsError, UnhealthyError
from tests.support.raw_http import port_that_refuses

HEALTHY = ProbeResult(ok=True, detail={"state": "active"})
STUCK = ProbeResult(ok=False, detail={"state": "polls have stalled", "reason": "polls have stalled"})
# Nothing is at 192.0.2.0/24 (RFC 5737): whoever went through it would not come back in time.
PROXIES = dict.fromkeys(
    ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), "http://192.0.2.1:3128"
)


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    servers: list[HealthServer] = []

    def make(report: ProbeResult = HEALTHY, host: str = "127.0.0.1") -> int:
        server = HealthServer(host=host, port=0, health=lambda: report, ready=lambda: report)
        server.start()
        servers.append(server)
        return int(server.address.rpartition(":")[2])

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def answers() -> Iterator[Callable[[bytes], int]]:
    """Serve bytes as they are; the function returns the port."""
    servers: list[socketserver.TCPServer] = []

    def make(response: bytes) -> int:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.request.recv(4096)
                self.wfile.write(response)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return server.server_address[1]

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def status(listen: str, *options: str, **environ: str) -> Result:
    given = {"PHASESYNC_HTTP__LISTEN": listen, "PHASESYNC_ROOT_KEY_FILE": "/nowhere/root.key", **environ}
    return CliRunner().invoke(cli, ["status", "--probe", *options], env=given)


def test_a_healthy_daemon_is_exit_code_0(serve) -> None:
    port = serve()

    done = status(f"127.0.0.1:{port}")

    assert (done.exit_code, done.stderr) == (0, "healthy; state: active\n")
    as_json = status(f"127.0.0.1:{port}", "-o", "json")
    assert json.loads(as_json.stdout) == {"ok": True, "state": "active"}


def test_an_unhealthy_daemon_is_exit_code_7_with_its_reason(serve) -> None:
    done = status(f"127.0.0.1:{serve(STUCK)}")

    assert done.exit_code == 7
    assert "is not healthy: polls have stalled" in done.stderr


def test_no_proxy_stands_in_between(serve) -> None:
    began = time.monotonic()
    assert status(f"127.0.0.1:{serve()}", **PROXIES).exit_code == 0
    assert time.monotonic() - began < 4


def test_nothing_that_listens_is_exit_code_7() -> None:
    with port_that_refuses() as port:
        done = status(f"127.0.0.1:{port}")

    assert done.exit_code == 7
    assert f"127.0.0.1:{port} cannot be reached: nothing listens there" in done.stderr


@pytest.mark.parametrize(
    ("listens", "asked"), [("", ""), ("0.0.0.0", "0.0.0.0"), ("127.0.0.1", ""), ("127.0.0.1", "localhost")]
)
def test_every_address_is_asked_on_loopback(listens, asked, serve) -> None:
    assert probe(asked, serve(host=listens)).detail["state"] == "active"


@pytest.mark.parametrize(("listens", "asked"), [("::1", "::1"), ("::", "::"), ("::1", "")])
def test_ipv6_is_asked_as_well(listens, asked, serve) -> None:
    try:
        port = serve(host=listens)
    except SettingsError:
        pytest.skip("this machine has no IPv6")

    assert probe(asked, port).status == 200


def test_a_free_port_is_known_to_the_daemon_alone() -> None:
    done = status("127.0.0.1:0")

    assert done.exit_code == 6
    assert "PHASESYNC_HTTP__LISTEN" in done.stderr


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n<html>another program</html>",
        b'HTTP/1.0 200 OK\r\n\r\n{"status": "up"}',
        b"HTTP/1.0 \xff\xfe OK\r\n\r\n{}",
        b'HTTP/1.0 503 Service Unavailable\r\n\r\n{"ok": false}',
    ],
)
def test_what_is_no_healthy_daemon_is_not_taken_for_one(response, answers) -> None:
    with pytest.raises(UnhealthyError):
        probe("127.0.0.1", answers(response))


def test_a_daemon_that_does_not_answer_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(UnhealthyError, match="does not answer in time"):
            probe("127.0.0.1", silent.getsockname()[1], within_s=0.2)
    assert time.monotonic() - began < 3


def test_it_needs_neither_database_nor_the_sdk() -> None:
    """A health check comes every few seconds."""
    program = (
        "import sys\n"
        "from phasesync.cli.main import cli\n"
        "try:\n"
        "    cli.main(['status', '--probe'])\n"
        "except SystemExit as end:\n"
        "    loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "    print(end.code, sorted(loaded & {'boto3', 'botocore', 'sqlalchemy', 'cryptography', 'structlog'}))\n"
    )
    with port_that_refuses() as port:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PHASESYNC_HTTP__LISTEN": f"127.0.0.1:{port}", "HOME": str(Path("/nowhere"))},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.splitlines() == ["7 []"], done.stderr
