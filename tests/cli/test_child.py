"""Signals of a command that is run for somebody: none is lost while it is started, none comes twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from phasesync.cli.output import Output
from phasesync.cli.run.child import Child, Stopped
from tests.support.waiting import HANG_GUARD_S

COUNTS = """
import os, signal, sys, time
came, heeded = sys.argv[1:]
got = []
def interrupted(*_):
    got.append(1)
    open(came, "w").close()
signal.signal(signal.SIGINT, interrupted)
print("ready", flush=True)
while not os.path.exists(heeded):
    time.sleep(0.01)
sys.exit(40 + len(got))
"""
"""Exits with 40 + how many SIGINT came, once whoever runs it has done what it does at one."""
ON_A_TERMINAL = """
import os, sys, time
from phasesync.cli.run.child import Child
from phasesync.cli.output import Output
terminal, counts, came, heeded = sys.argv[1:]
os.open(terminal, os.O_RDWR)  # The first terminal that the head of a session opens is the one that controls it.
class Later(Child):
    def _take(self, number, frame):
        while not os.path.exists(came):  # Two that come together would count as one.
            time.sleep(0.01)
        super()._take(number, frame)
        open(heeded, "w").close()
with Later(Output(as_json=False)) as child:
    sys.exit(child.run([sys.executable, "-c", counts, came, heeded], os.environ))
"""


def test_a_signal_in_the_moment_of_the_start_reaches_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is there, and no one knows it yet: breaking off would leave it alone for ever."""
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
    except Stopped:
        pytest.fail("the command was left alone")
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_ctrl_c_at_a_terminal_reaches_the_command_once_whatever_stdin_is(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            ON_A_TERMINAL,
            os.ttyname(theirs),
            COUNTS,
            str(tmp_path / "came"),
            str(tmp_path / "heeded"),
        ],
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
