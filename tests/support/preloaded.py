"""
Daemons and demos that begin with everything imported: a process of its own each, but without the start of Python.

That start is most of the CPU time that they take in a test, and it is the same every time. tests/e2e/test_start.py and
test_main_job.py show the installed command; tests/demo has a demo and a sandbox that start as users start them.
`preloaded_program.py` is what the processes are forked from.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class PreloadedProcess:
    """A process of phasesync; used like `subprocess.Popen`."""

    def __init__(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        streams: tuple[int, int, int],
        *,
        kind: str = "daemon",
        program: str | None = None,
        terminal: bool = False,
    ) -> None:
        """
        Args:
            arguments: of `phasesync`.
            environ: its whole environment.
            streams: stdin, stdout and stderr.
            kind: what it has imported, a key of `preloaded_program.PRELOADED`.
            program: Python to run in place of `phasesync`.
            terminal: stdin is a terminal that it is to control.
        """
        self.returncode: int | None = None
        self._lock = threading.Lock()
        self._status, peer = socket.socketpair()
        request = {"arguments": list(arguments), "environ": dict(environ), "program": program, "terminal": terminal}
        with peer:
            _program(kind).fork(request, (*streams, peer.fileno()))
        self.pid = int.from_bytes(self._status.recv(4, socket.MSG_WAITALL))
        assert self.pid, "the program that forks has ended"
        self._status.setblocking(False)

    def poll(self) -> int | None:
        """Return the exit code, negative = the signal that ended it; None while it runs."""
        with self._lock:
            if self.returncode is None:
                try:
                    status = self._status.recv(4)
                except BlockingIOError:
                    return None
                assert status, "what waits for the process was killed"
                self.returncode = os.waitstatus_to_exitcode(int.from_bytes(status))
                self._status.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; subprocess.TimeoutExpired if it does not end in time."""
        began = time.monotonic()
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() > began + timeout:
                raise subprocess.TimeoutExpired("phasesync", timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM if it still runs."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL if it still runs."""
        self.send_signal(signal.SIGKILL)


class _Program:
    """A running `preloaded_program.py`."""

    def __init__(self, kind: str) -> None:
        self._requests, peer = socket.socketpair()
        with peer:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.preloaded_program", str(peer.fileno()), kind],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[peer.fileno()],
                start_new_session=True,  # Ctrl-C is for the tests.
            )

    def fork(self, request: Mapping[str, object], descriptors: Sequence[int]) -> None:
        """Request a process."""
        socket.send_fds(self._requests, [json.dumps(request).encode()], list(descriptors))

    def stop(self) -> None:
        """End it; processes that it forked go on."""
        self._requests.close()
        self._process.wait(timeout=30)


_running: dict[str, _Program] = {}
"""Kind -> the program of this test process."""
_starting = threading.Lock()


def _program(kind: str) -> _Program:
    """Return the program of a kind, started when the first test wants such a process."""
    with _starting:
        if kind not in _running:
            _running[kind] = _Program(kind)
        return _running[kind]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Runs at the end, after Ctrl-C too. When the tests are killed, the program ends with its socket."""
    while _running:
        _running.popitem()[1].stop()
