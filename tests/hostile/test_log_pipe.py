"""
A log whose reader has gone, or reads no more. tests/e2e/test_health.py has one that nobody ever reads, and test_disk.py
one on a full disk.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.hostile.conftest import arrives, assert_versions, counts
from tests.hostile.test_disk import drops_lines
from tests.support.aws import Aws
from tests.support.installation import Installation
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True),
]


def test_a_reader_that_goes_away_stops_no_work(installation: Installation, aws: Aws) -> None:
    """As journald at its restart, or the `head` of a pipe. What is lost is counted, and the end is a clean one."""
    installation.add_syncs("web")
    daemon = installation.start_daemon(first=piped_through(installation.folder / "reader.pid"))
    installation.wait_for("web")
    address = daemon.address
    reader = int((installation.folder / "reader.pid").read_text())

    os.kill(reader, signal.SIGKILL)
    for number in range(3):
        installation.edit("web", URL=f"postgres://{number}")
        arrives(aws, "shop/web", f"postgres://{number}")
    installation.wait_for("web")

    assert daemon.address == address
    wait_until(lambda: daemon.get("/healthz")[1].get("log_lines_lost", 0) > 0, what="lost lines that are counted")
    counts(daemon, "phasesync_log_lines_dropped_total")
    assert [daemon.get(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
    assert_versions(aws, "shop/web", 4)
    assert daemon.stop() == 0


def test_a_reader_that_hangs_stops_no_work(installation: Installation, aws: Aws) -> None:
    """Pipe and queue are full: what comes then is counted. The queue is small here, as 4 MB take their time."""
    installation.add_syncs("web")
    small = """
from phasesync.adapters.telemetry.queued_writer import QueuedWriter
QueuedWriter.__init__.__kwdefaults__["max_bytes"] = 4096
"""
    daemon = installation.start_daemon(first=small + piped_through(installation.folder / "reader.pid", pipe_bytes=4096))
    installation.wait_for("web")
    address = daemon.address
    reader = int((installation.folder / "reader.pid").read_text())

    os.kill(reader, signal.SIGSTOP)
    try:
        wait_until(lambda: drops_lines(daemon), what="lost lines that are counted")
        installation.edit("web", URL="postgres://new")
        arrives(aws, "shop/web", "postgres://new")
        installation.wait_for("web")

        assert daemon.address == address
        assert [daemon.get(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
        assert_versions(aws, "shop/web", 2)
        assert daemon.stop() == 0
    finally:
        os.kill(reader, signal.SIGKILL)


def piped_through(pid_file: Path, *, pipe_bytes: int = 65536) -> str:
    """Return what a daemon runs first so that its log goes through a pipe to a process, which writes it on."""
    return f"""
import fcntl, os, sys
reading, writing = os.pipe()
fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, {pipe_bytes})
parent = os.fork()
if not parent:
    os.setpgid(0, 0)
    os.close(writing)
    open({str(pid_file)!r}, "w").write(str(os.getpid()))
    while data := os.read(reading, 65536):
        os.write(2, data)
    os._exit(0)
os.dup2(writing, 2)
os.close(reading)
os.close(writing)
sys.stderr = open(2, "w", 1, closefd=False)  # Python decides by what a stream is whether it seeks.
"""
