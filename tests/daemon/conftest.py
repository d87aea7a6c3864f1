"""A service of fakes in a thread of the test, and what may be asked of it."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from phasesync.adapters.telemetry.metrics import Metrics
from phasesync.daemon.http import LISTEN_PATIENCE
from phasesync.daemon.service import Service
from phasesync.daemon.signals import Command, CommandQueue
from phasesync.errors import PhasesyncError
from phasesync.settings import LoadedSettings, Settings
from tests.daemon.fakes import World
from tests.support.waiting import HANG_GUARD_S, wait_until


@dataclass
class Running:
    """A service under way, its world, and its settings file."""

    world: World
    service: Service
    commands: CommandQueue
    thread: threading.Thread
    ended: list[int | PhasesyncError]
    exits: list[int]
    next_settings: list[LoadedSettings | PhasesyncError] = field(default_factory=list)

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection(self.service.http.address, timeout=HANG_GUARD_S)
        connection.request("GET", path)
        response = connection.getresponse()
        body = json.loads(response.read())
        connection.close()
        return response.status, body

    @property
    def listens(self) -> bool:
        try:
            return bool(self.service.http.address)
        except RuntimeError:
            return False

    @property
    def not_listening(self) -> str | None:
        """Why no one can ask."""
        return self.service._listener.problem

    def wait_for(self, path: str, status: int) -> dict[str, Any]:
        """Return the body as soon as a probe answers with a status."""
        answers: list[tuple[int, dict[str, Any]]] = []

        def answered() -> bool:
            answers.append(self.get(path))
            return answers[-1][0] == status

        wait_until(answered, what=f"{path} = {status}")
        return answers[-1][1]

    def stop(self) -> int | PhasesyncError:
        self.commands.put(Command.STOP)
        self.thread.join(HANG_GUARD_S)
        assert not self.thread.is_alive()
        return self.ended[0]

    def reload(self, outcome: LoadedSettings | PhasesyncError) -> None:
        """Have the settings read again; returns when that is done."""
        self.next_settings.append(outcome)
        self.commands.put(Command.RELOAD)
        wait_until(lambda: not self.next_settings, what="the reload")


def settings_with(**changes: Any) -> LoadedSettings:
    """Return settings that tests can live with: a free port, quick polls."""
    values: dict[str, Any] = {"http": {"listen": "127.0.0.1:0"}, "daemon": {"poll_interval_ms": 10}, **changes}
    return LoadedSettings(settings=Settings(**values))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    """Start a service; it is stopped at the end."""
    monkeypatch.setattr("phasesync.daemon.service.CHECK_SCHEMA_EVERY", world.check_every)
    monkeypatch.setattr("phasesync.daemon.service._TICK_S", 0.02)
    monkeypatch.setattr("phasesync.daemon.http.RETRY_S", 0.02)
    started: list[Running] = []
    ours = logging.getLogger("phasesync")
    monkeypatch.setattr(ours, "level", ours.level)  # reloads change it

    def start(loaded: LoadedSettings | None = None, *, listen_patience: timedelta = LISTEN_PATIENCE) -> Running:
        commands = CommandQueue()
        ended: list[int | PhasesyncError] = []
        exits: list[int] = []
        pending: list[LoadedSettings | PhasesyncError] = []

        def read_again() -> LoadedSettings:
            outcome = pending[0]
            try:
                if isinstance(outcome, PhasesyncError):
                    raise outcome
                return outcome
            finally:
                del pending[0]

        service = Service(
            loaded=loaded or settings_with(),
            reload=read_again,
            schema_status=world.schema_status,
            build=world.build,
            events=world,
            metrics=Metrics(version="test"),
            commands=commands,
            exit_now=exits.append,
            listen_patience=listen_patience,
        )

        def live() -> None:
            try:
                ended.append(service.run())
            except PhasesyncError as error:
                ended.append(error)

        thread = threading.Thread(target=live, name="service", daemon=True)
        running = Running(world, service, commands, thread, ended, exits, pending)
        started.append(running)
        thread.start()
        wait_until(lambda: running.listens or running.not_listening or not thread.is_alive(), what="listening")
        return running

    yield start
    world.let_go()
    for running in started:
        running.commands.put(Command.STOP)
        running.thread.join(HANG_GUARD_S)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Stand in for systemd; the function returns the messages so far."""
    messages: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def read() -> list[str]:
            try:
                while True:
                    messages.append(receiver.recv(4096).decode())
            except BlockingIOError:
                return messages

        yield read
