"""Real signals to real processes, which begin after their imports (tests/support/preloaded.py)."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.support.preloaded import PreloadedProcess
from tests.support.waiting import HANG_GUARD_S, wait_until

PROGRAM = "import sys; from tests.daemon.program import main; sys.exit(main(*sys.argv[1:]))"
SETTINGS = 'http.listen = "127.0.0.1:0"\n'


class Daemon:
    """A process and its log."""

    def __init__(self, folder: Path, settings: str, *switches: str) -> None:
        self.config = folder / "phasesync.toml"
        self.config.write_text(settings)
        self.config.chmod(0o600)
        self._log = folder / "log"
        self._stdout = folder / "stdout"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PHASESYNC_")}
        with self._log.open("wb") as log, self._stdout.open("wb") as stdout, open(os.devnull, "rb") as nothing:
            streams = (nothing.fileno(), stdout.fileno(), log.fileno())
            self.process = PreloadedProcess([str(self.config), *switches], environ, streams, program=PROGRAM)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def wait_for_line(self, event: str, count: int = 1) -> dict[str, Any]:
        wait_until(lambda: len([1 for line in self.lines() if line["event"] == event]) >= count, what=event)
        return [line for line in self.lines() if line["event"] == event][-1]

    def wait_until_ready(self) -> None:
        address = self.wait_for_line("phasesync starts")["listening"]

        def ready() -> bool:
            try:
                with urlopen(f"http://{address}/readyz", timeout=HANG_GUARD_S) as answer:
                    return answer.status == 200
            except HTTPError:
                return False

        wait_until(ready, what="readiness")

    def ends(self, within_s: float = 10) -> tuple[int, str]:
        """Return exit code and what it wrote to stdout."""
        return self.process.wait(within_s), self._stdout.read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    daemons: list[Daemon] = []

    def begin(settings: str = SETTINGS, *switches: str) -> Daemon:
        folder = tmp_path / f"daemon-{len(daemons) + 1}"
        folder.mkdir()
        daemons.append(Daemon(folder, settings, *switches))
        return daemons[-1]

    yield begin
    for daemon in daemons:
        daemon.process.kill()
        daemon.process.wait(HANG_GUARD_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number, start) -> None:
    daemon = start()
    daemon.wait_until_ready()
    daemon.process.send_signal(number)

    code, world = daemon.ends()
    assert (code, json.loads(world)) == (0, {"members": [], "claims": 0, "closed": True})
    assert [line["event"] for line in daemon.lines()][-2:] == ["stopping", "phasesync has stopped"]


def test_threads_that_hang_do_not_keep_it(start) -> None:
    daemon = start(SETTINGS + "daemon.drain_s = 1\n", "hang")
    daemon.wait_until_ready()
    began = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)

    code, _ = daemon.ends(within_s=8)
    assert code == 0
    assert time.monotonic() - began >= 1, "the call in hand had its time"
    assert daemon.lines()[-1]["event"] == "stopped with work unfinished"
    assert daemon.lines()[-1]["signed_off"] is True


def test_a_poll_that_hangs_does_not_keep_it(start) -> None:
    """Its thread is APScheduler's, which the interpreter waits for."""
    daemon = start(SETTINGS + "daemon.drain_s = 0\n", "stuck-poll")
    daemon.wait_until_ready()
    daemon.process.send_signal(signal.SIGTERM)

    assert daemon.ends(within_s=8)[0] == 0


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(first, start) -> None:
    daemon = start(SETTINGS + "daemon.drain_s = 300\n", "hang")
    daemon.wait_until_ready()
    daemon.process.send_signal(first)
    daemon.wait_for_line("stopping")
    daemon.process.send_signal(signal.SIGTERM)

    assert daemon.ends(within_s=5)[0] == 130


def test_sighup_reads_the_settings_again(start) -> None:
    daemon = start()
    daemon.wait_until_ready()
    daemon.config.write_text(SETTINGS + "[daemon]\npoll_interval_ms = 20\nworkers = 2\n")
    daemon.process.send_signal(signal.SIGHUP)
    line = daemon.wait_for_line("settings reloaded")
    assert (line["applied"], line["needs_restart"]) == (["daemon.poll_interval_ms"], ["daemon.workers"])
    daemon.config.write_text(SETTINGS + '[log]\nlevel = "loud"\n')
    daemon.process.send_signal(signal.SIGHUP)

    reason = daemon.wait_for_line("settings not reloaded; the former ones stay")["reason"]
    assert reason.startswith("log.level: must be ") and "loud" not in reason
    assert daemon.process.poll() is None
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.ends()[0] == 0


def test_an_address_that_can_never_be_had_is_exit_6(start) -> None:
    daemon = start(f'http.listen = "{"x" * 64}.example:8787"\n')

    code, printed = daemon.ends(within_s=HANG_GUARD_S)
    assert code == 6
    assert printed.startswith("http.listen: cannot listen on ")


def test_an_address_in_use_keeps_nobody_from_work(start) -> None:
    first = start()
    address = first.wait_for_line("phasesync starts")["listening"]
    second = start(f'http.listen = "{address}"\n')

    reason = second.wait_for_line("no health and readiness yet; it is tried again")["reason"]
    assert reason == f"http.listen: {address} is in use by another process"
    assert second.wait_for_line("phasesync starts")["listening"] is None
    second.process.send_signal(signal.SIGTERM)
    assert second.ends(within_s=HANG_GUARD_S)[0] == 0
