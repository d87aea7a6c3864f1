"""The AWS that enforces starts on loopback alone, says why it does not start, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ministack import MinistackUnavailable, start_ministack
from tests.support.waiting import wait_until

LISTENING = "0A"
LOOPBACK = "0100007F"
"""127.0.0.1 as Linux writes it in /proc/net/tcp."""


def listening_addresses(pid: int) -> list[str]:
    """Return the addresses that a process listens on, in hexadecimal."""
    sockets = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    addresses = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in sockets:
                addresses.append(fields[1].partition(":")[0])
    return addresses


def test_it_listens_on_one_port_of_loopback_and_ends_when_it_is_stopped(tmp_path: Path) -> None:
    with start_ministack(tmp_path) as ministack:
        assert listening_addresses(ministack.process.pid) == [LOOPBACK]

    assert ministack.process.poll() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["ministack.log"]
    ministack.stop()  # once more is harmless


def test_that_it_is_not_installed_is_said_with_what_installs_it(tmp_path: Path) -> None:
    with pytest.raises(MinistackUnavailable, match=r"not installed for this Python: .*make pytest"):
        start_ministack(tmp_path, tmp_path / "nothing")


def test_that_it_does_not_start_is_said_with_the_end_of_its_log(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho no such module\nexit 1\n")
    python.chmod(0o755)

    with pytest.raises(MinistackUnavailable, match=r"did not start .*no such module"):
        start_ministack(tmp_path, tmp_path)


@pytest.mark.slow
def test_a_killed_test_run_takes_it_along(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.support.ministack import start_ministack\n"
        "print(start_ministack(Path(sys.argv[1])).process.pid, flush=True); time.sleep(60)"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert "ministack_program" in Path(f"/proc/{pid}/cmdline").read_text()
        os.kill(run.pid, signal.SIGKILL)

    wait_until(lambda: is_gone(pid), what="its end")


def is_gone(pid: int) -> bool:
    """Whether no process of this number runs: it may still wait for someone to note its end."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
