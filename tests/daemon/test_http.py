"""Probes get an answer, and nobody can wear the daemon out."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from itertools import pairwise
from socketserver import TCPServer
from typing import Any

import pytest

from phasesync.daemon import http
from phasesync.daemon.http import HealthServer, Page, ProbeResult
from phasesync.errors import HostUnavailableError, SettingsError
from tests.support.waiting import HANG_GUARD_S, wait_until

OK = ProbeResult(ok=True, detail={"role": "active"})
NOT_OK = ProbeResult(ok=False, detail={"reason": "the database cannot be reached"})


@pytest.fixture
def serve() -> Iterator[Callable[..., HealthServer]]:
    servers: list[HealthServer] = []

    def make(*, health=lambda: OK, ready=lambda: OK, host="127.0.0.1", port=0) -> HealthServer:
        server = HealthServer(host=host, port=port, health=health, ready=ready)
        server.start()
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop()


def ask(server: HealthServer, path: str = "/healthz", method: str = "GET") -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection(server.address, timeout=5)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def connect(server: HealthServer) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=5)


def test_a_storm_of_scrapers_keeps_no_probe_from_its_answer() -> None:
    release, under_way = threading.Event(), threading.Semaphore(0)

    def slow(*_: str) -> Page:
        under_way.release()
        assert release.wait(timeout=HANG_GUARD_S)
        return Page(content_type="text/plain", content=b"phasesync_up 1\n")

    server = HealthServer(host="127.0.0.1", port=0, health=lambda: OK, ready=lambda: OK, metrics=slow)
    server.start()
    try:
        scrapers = [connect(server) for _ in range(http.MAX_SCRAPES)]
        for scraper in scrapers:
            scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert under_way.acquire(timeout=HANG_GUARD_S)
        response, _ = ask(server, "/metrics")
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert ask(server)[0].status == 200
        release.set()
        for scraper in scrapers:
            with scraper, scraper.makefile("rb") as answer:
                assert b" 200 " in answer.readline()
        wait_until(lambda: ask(server, "/metrics")[0].status == 200, what="the next scrape")
    finally:
        release.set()
        server.stop()


def test_each_probe_answers_for_itself(serve) -> None:
    server = serve(health=lambda: OK, ready=lambda: NOT_OK)

    healthy, body = ask(server, "/healthz")
    assert (healthy.status, json.loads(body)) == (200, {"ok": True, "role": "active"})
    assert healthy.headers["Content-Type"] == "application/json"
    ready, body = ask(server, "/readyz?verbose=1")
    assert (ready.status, json.loads(body)) == (503, {"ok": False, "reason": "the database cannot be reached"})


def test_an_answer_is_as_of_now(serve) -> None:
    reports = [OK, NOT_OK]
    server = serve(health=lambda: reports.pop(0))

    assert [ask(server)[0].status for _ in range(2)] == [200, 503]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/healthz/", 404, None),
        ("GET", "/etc/passwd", 404, None),
        ("POST", "/healthz", 405, "GET, HEAD"),
        ("DELETE", "/readyz", 405, "GET, HEAD"),
        ("PURGE", "/healthz", 405, "GET, HEAD"),
    ],
)
def test_everything_else_is_refused_as_json(method, path, status, allow, serve) -> None:
    response, body = ask(serve(), path, method)

    assert (response.status, response.headers["Allow"]) == (status, allow)
    assert json.loads(body) == {"error": response.reason}


def test_head_is_an_answer_without_a_body(serve) -> None:
    response, body = ask(serve(), method="HEAD")

    assert (response.status, body) == (200, b"")


def test_a_check_that_fails_is_a_no(serve) -> None:
    def broken() -> ProbeResult:
        raise ValueError("hush")

    response, body = ask(serve(health=broken))

    assert response.status == 503
    assert json.loads(body)["reason"] == "the check itself failed (ValueError)"


def test_nothing_of_a_request_is_logged_or_sent_back(serve, capfd) -> None:
    server = serve()
    _, body = ask(server, "/canary-in-path")
    with connect(server) as connection:
        connection.sendall(b"canary-not-http\r\n\r\n")
        answer = connection.recv(4096)

    assert b"canary" not in body + answer
    assert capfd.readouterr() == ("", "")


def test_port_0_takes_a_free_port_and_says_which(serve) -> None:
    one, other = serve(), serve()

    assert one.address != other.address
    assert not one.address.endswith(":0")


def test_a_port_in_use_is_named_with_its_setting_and_may_be_free_later(serve) -> None:
    host, _, port = serve().address.rpartition(":")

    with pytest.raises(HostUnavailableError) as caught:
        serve(host=host, port=int(port))

    assert caught.value.exit_code == 7
    assert caught.value.message == f"http.listen: {host}:{port} is in use by another process"
    assert "PHASESYNC_HTTP__LISTEN" in str(caught.value.hint)


def test_an_address_that_is_not_there_may_come(serve) -> None:
    with pytest.raises(HostUnavailableError, match=r"http.listen: cannot listen on 192.0.2.1:8787: Cannot assign"):
        serve(host="192.0.2.1", port=8787)


@pytest.mark.parametrize(
    ("code", "expected", "reason"),
    [
        (socket.EAI_AGAIN, HostUnavailableError, "the name cannot be looked up now"),
        (socket.EAI_NONAME, SettingsError, "the name is not known"),
    ],
)
def test_a_name_that_is_not_known_yet_is_told_from_one_that_does_not_exist(
    code, expected, reason, serve, monkeypatch
) -> None:
    def refuse(*args: object, **rest: object) -> None:
        raise socket.gaierror(code, "text of the resolver")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(expected, match=rf"http.listen: cannot listen on health.example:8787: {reason}$"):
        serve(host="health.example", port=8787)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EAFNOSUPPORT])
def test_an_address_that_this_process_never_gets_is_a_settings_error(code, serve, monkeypatch) -> None:
    def refuse(server: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("socketserver.TCPServer.server_bind", refuse)
    with pytest.raises(SettingsError, match=r"http.listen: cannot listen on 127.0.0.1:80: "):
        serve(port=80)


def test_a_name_that_no_dns_could_hold_is_a_settings_error(serve) -> None:
    with pytest.raises(SettingsError, match=r"http.listen: cannot listen on x+\.example:8787: the name is not known"):
        serve(host="x" * 64 + ".example", port=8787)


def test_a_process_without_a_free_descriptor_waits_between_two_looks_and_answers_later(serve, monkeypatch) -> None:
    server = serve()
    accept = TCPServer.get_request
    tries: list[float] = []

    def full(of: TCPServer) -> Any:
        tries.append(time.monotonic())
        if len(tries) <= 4:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(of)

    monkeypatch.setattr(TCPServer, "get_request", full)
    monkeypatch.setattr("phasesync.daemon.http._NO_DESCRIPTOR_PAUSE_S", 0.05)

    response, _ = ask(server)

    assert response.status == 200
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(tries[::2])), "two at once: the spare one"


def test_ipv6_is_served(serve) -> None:
    try:
        server = serve(host="::1")
    except SettingsError:
        pytest.skip("this machine has no IPv6")

    assert server.address.startswith("[::1]:")
    assert ask(server)[0].status == 200


def test_no_host_means_every_address(serve) -> None:
    server = serve(host="")
    port = server.address.rpartition(":")[2]

    with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.0 200 ")


def test_a_silent_client_is_cut_off(serve, monkeypatch) -> None:
    monkeypatch.setattr(http._Handler, "timeout", 0.1)
    with connect(serve()) as connection:
        assert connection.recv(100) == b""


def test_a_client_that_trickles_is_cut_off_too(serve, monkeypatch) -> None:
    monkeypatch.setattr(http, "CONNECTION_LIFE_S", 0.3)
    started = time.monotonic()
    with connect(serve()) as connection:
        connection.settimeout(0.02)
        try:
            while time.monotonic() < started + 10:
                connection.sendall(b"G")
                try:
                    answer = connection.recv(100)
                except TimeoutError:
                    continue
                if not answer:
                    break
        except OSError:
            pass
    assert time.monotonic() < started + 5


def test_too_many_clients_cost_the_oldest_and_the_next_is_served(serve, monkeypatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 3)
    server = serve()
    idle = [connect(server) for _ in range(3)]

    assert ask(server)[0].status == 200

    assert idle[0].recv(100) == b""
    for connection in idle:
        connection.close()


def test_clients_that_trickle_hold_up_no_probe(serve) -> None:
    """They send a byte of their request now and then, or do not take their response."""
    server = serve()
    slow = [connect(server) for _ in range(http.MAX_CONNECTIONS + 20)]
    began = time.monotonic()
    for connection in slow[-8:]:
        connection.sendall(b"G")

    assert [ask(server, path)[0].status for path in ("/readyz", "/healthz")] == [200, 200]
    assert time.monotonic() - began < 2
    for connection in slow:
        connection.close()


def test_a_check_that_hangs_does_not_keep_the_process() -> None:
    program = (
        "import socket, threading\n"
        "from phasesync.daemon.http import HealthServer\n"
        "asked, never = threading.Event(), threading.Event()\n"
        "def hang():\n"
        "    asked.set(); never.wait()\n"
        "server = HealthServer(host='127.0.0.1', port=0, health=hang, ready=hang)\n"
        "server.start()\n"
        "host, _, port = server.address.rpartition(':')\n"
        "client = socket.create_connection((host, int(port)))\n"
        "client.sendall(b'GET /healthz HTTP/1.0\\r\\n\\r\\n')\n"
        "assert asked.wait(50)\n"
        "server.stop()\n"
        "print('ended')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG_GUARD_S, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_after_the_end_nobody_listens(serve) -> None:
    server = serve()
    host, _, port = server.address.rpartition(":")
    server.stop()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
    server.stop()
