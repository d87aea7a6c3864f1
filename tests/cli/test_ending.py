"""The end of the process: signals to the first process of a container, streams that nobody reads."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.support.waiting import HANG_GUARD_S

AS_INIT = """
import os, sys, time
os.getpid = lambda: 1
from phasesync.cli import main

def wait(**_):
    try:
        print("waiting", flush=True)
        time.sleep(600)
    finally:
        print("undone", flush=True)

main.cli.main = wait
main.main()
"""
"""Linux drops a signal without a handler only for the real process 1; what is shown here is that there is one."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_process_1_ends_by_a_signal_and_undoes_what_it_did(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", AS_INIT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"

        process.send_signal(number)

        assert process.wait(HANG_GUARD_S) == 128 + number
        assert process.stdout.read() == "undone\n"


UNREAD = """
import sys
from phasesync.cli import main

def end(**_):
    try:
        print("a line that stays in the buffer", file=sys.stderr)
    except BrokenPipeError:
        pass
    sys.exit(0)

main.cli.main = end
main.main()
"""


def test_a_reader_of_stderr_that_is_gone_does_not_change_the_exit_code() -> None:
    """The interpreter would say 120."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", UNREAD], stderr=write, timeout=HANG_GUARD_S, check=False)
    os.close(write)
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare, to be process 1")
def test_a_real_process_1_ends_by_sigterm() -> None:
    program = AS_INIT.replace("os.getpid = lambda: 1\n", "")
    # The first process of a namespace of its own; the outer one shows its number outside.
    process = subprocess.Popen(
        ["unshare", "-rpf", "--kill-child", sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "waiting\n":
            pytest.skip("this machine allows no namespaces")
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            inner = int(file.read().split()[0])
        os.kill(inner, signal.SIGTERM)
        assert process.wait(HANG_GUARD_S) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
