"""Signals of a command that is run for somebody: none is lost while it is started, none comes twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from phasesync.cli.child import Child
from phasesync.cli.output import Output
from tests.support.waiting import HANG_GUARD_S

COUNTS = """
import os, signal
got = []
def interrupted(*_):
    got.append(1)
    os.kill(os.getppid(), signal.SIGUSR1)  # It comes back after whatever else we are to be sent.
signal.signal(signal.SIGINT, interrupted)
signal.signal(signal.SIGUSR1, lambda *_: os._exit(40 + len(got)))
print("ready", flush=True)
while True:
    signal.pause()
"""
"""Exits with 40 + how many SIGINT came."""
ON_A_TERMINAL = """
import os, sys
os.open(sys.argv[1], os.O_RDWR)  # The first terminal that the head of a session opens is the one that controls it.
from phasesync.cli.child import Child
from phasesync.cli.output import Output
with Child(Output(as_json=False)) as child:
    raise SystemExit(child.run([sys.executable, "-c", sys.argv[2]], os.environ))
"""


def test_a_signal_in_the_moment_of_the_start_reaches_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is there, and nobody knows it yet: breaking off would leave it alone for ever."""
    execute: Any = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    started: list[subprocess.Popen[bytes]] = []

    def execute_and_signal(process: subprocess.Popen[bytes], *args: Any) -> None:
        execute(process, *args)
        started.append(process)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(subprocess.Popen, "_execute_child", execute_and_signal)
    try:
        with Child(Output(as_json=False)) as child:
            assert child.run([sys.executable, "-c", "import time; time.sleep(60)"], os.environ) == 128 + signal.SIGTERM
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_ctrl_c_at_a_terminal_reaches_the_command_once_whatever_stdin_is() -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, os.ttyname(theirs), COUNTS],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.write(ours, b"\x03")
        assert process.wait(HANG_GUARD_S) == 41
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        os.close(ours)
        os.close(theirs)
