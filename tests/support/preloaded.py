"""
Daemons that begin with everything imported: a process of its own each, but without the start of Python.

That start is most of the CPU time that a daemon of a test takes, and it is the same every time; tests/e2e/test_start.py
and test_main_job.py show the installed command. `preloaded_program.py` is what the processes are forked from.
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

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], stderr: int) -> None:
        self.returncode: int | None = None
        self._lock = threading.Lock()
        self._status, peer = socket.socketpair()
        with peer:
            _program().fork(arguments, environ, (stderr, peer.fileno()))
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

    def wait(self, timeout: float) -> int:
        """Return the exit code; subprocess.TimeoutExpired if it does not end in time."""
        ends = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > ends:
                raise subprocess.TimeoutExpired("phasesync", timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL if it still runs."""
        self.send_signal(signal.SIGKILL)


class _Program:
    """The running `preloaded_program.py`."""

    def __init__(self) -> None:
        self._requests, peer = socket.socketpair()
        with peer:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.preloaded_program", str(peer.fileno())],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[peer.fileno()],
                start_new_session=True,  # Ctrl-C is for the tests.
            )

    def fork(self, arguments: Sequence[str], environ: Mapping[str, str], descriptors: Sequence[int]) -> None:
        """Request a process."""
        request = json.dumps({"arguments": list(arguments), "environ": dict(environ)}).encode()
        socket.send_fds(self._requests, [request], list(descriptors))

    def stop(self) -> None:
        """End it; processes that it forked go on."""
        self._requests.close()
        self._process.wait(timeout=30)


_running: list[_Program] = []


def _program() -> _Program:
    """Return the program of this test process, started when the first test wants a daemon."""
    if not _running:
        _running.append(_Program())
    return _running[0]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Runs at the end, after Ctrl-C too. When the tests are killed, the program ends with its socket."""
    while _running:
        _running.pop().stop()
