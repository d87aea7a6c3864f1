"""What systemd is told, over the two kinds of sockets that it uses."""

from __future__ import annotations

import os
import resource
import secrets
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from phasesync.daemon.systemd import Notifier


class Manager:
    """The other end: keeps what it received."""

    def __init__(self, address: str, environ: str) -> None:
        self.environ = environ
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def told(self) -> list[str]:
        messages = []
        try:
            while True:
                messages.append(self.socket.recv(4096).decode())
        except BlockingIOError:
            return messages


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path) -> Iterator[Manager]:
    if request.param == "path":
        manager = Manager(str(tmp_path / "notify"), str(tmp_path / "notify"))
    else:
        name = f"phasesync-test-{secrets.token_hex(8)}"
        manager = Manager(f"\0{name}", f"@{name}")
    yield manager
    manager.socket.close()


@pytest.fixture(autouse=True)
def closed_at_the_end(monkeypatch) -> Iterator[None]:
    """A notifier keeps its socket, so that it can send without a file descriptor left."""
    made: list[Notifier] = []
    initialise = Notifier.__init__

    def remember(self: Notifier, *arguments: Any) -> None:
        initialise(self, *arguments)
        made.append(self)

    monkeypatch.setattr(Notifier, "__init__", remember)
    yield
    for notifier in made:
        notifier.close()


def test_without_a_file_descriptor_left_the_watchdog_is_fed(manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.environ})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, before[1]))
    try:
        notifier.watchdog()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert manager.told() == ["WATCHDOG=1"]


def test_every_message_arrives(manager) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier = Notifier({"NOTIFY_SOCKET": manager.environ})
    notifier.ready("active")
    notifier.status("standing\nby")
    notifier.reloading()
    notifier.watchdog()
    notifier.stopping()

    ready, status, reloading, watchdog, stopping = manager.told()
    assert ready == "READY=1\nSTATUS=active"
    assert status == "STATUS=standing by"
    assert watchdog == "WATCHDOG=1"
    assert stopping == "STOPPING=1\nSTATUS=stopping"
    word, _, since = reloading.partition("\nMONOTONIC_USEC=")
    assert word == "RELOADING=1"
    assert before <= int(since) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_the_same_status_is_told_once(manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.environ})
    for text in ("active", "active", "standby", "active"):
        notifier.status(text)

    assert manager.told() == ["STATUS=active", "STATUS=standby", "STATUS=active"]


def test_without_a_manager_nothing_is_sent_and_nothing_fails(monkeypatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr(socket, "socket", lambda *args: opened.append(args))
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
        notifier = Notifier(environ)
        notifier.ready("active")
        notifier.watchdog()

    assert opened == []


def test_a_manager_that_is_gone_is_no_error(tmp_path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("active")

    assert not (tmp_path / "nobody").exists()


def test_a_manager_that_reads_nothing_does_not_block(manager, monkeypatch) -> None:
    monkeypatch.setattr("phasesync.daemon.systemd._SEND_TIMEOUT_S", 0.05)
    notifier = Notifier({"NOTIFY_SOCKET": manager.environ})
    manager.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)

    for _ in range(20):
        notifier.watchdog()

    assert 0 < len(manager.told()) <= 20


@pytest.mark.parametrize(
    ("environ", "every"),
    [
        ({"WATCHDOG_USEC": "30000000"}, timedelta(seconds=15)),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, timedelta(seconds=15)),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ""}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_patience_and_only_by_the_process_it_watches(environ, every) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/run/notify", **environ}).watchdog_every == every


def test_a_watchdog_without_a_socket_is_none() -> None:
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_every is None
