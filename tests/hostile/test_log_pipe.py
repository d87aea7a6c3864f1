"""
A log whose reader has gone. tests/e2e/test_health.py has one that nobody reads, and test_disk.py one on a full disk.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.hostile.conftest import arrives, assert_versions, counts
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

    os.kill(reader, 9)
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


def piped_through(pid_file: Path) -> str:
    """Return what a daemon runs first so that its log goes through a pipe to a process, which writes it on."""
    return f"""
import os, sys
reading, writing = os.pipe()
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
