"""A disk without room, and a file system that has become read-only, under the database and the log of a daemon."""

from __future__ import annotations

import resource
import signal
import threading

import pytest

from phasesync.emulator import Answer, Operation
from tests.hostile.conftest import arrives, assert_versions, measures, says
from tests.support.aws import Aws
from tests.support.daemon import Daemon
from tests.support.hostile import fill, mounted
from tests.support.installation import Installation
from tests.support.metrics import scrape
from tests.support.waiting import HANG_GUARD_S, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "shop/web"


def test_a_full_disk_stops_nothing_for_good(small: Installation, aws: Aws) -> None:
    """It fills up at the worst moment: AWS has taken a value, and the run has not been recorded."""
    small.configure(daemon__claim_ttl_s=6)
    small.add_syncs("web")
    small.reconcile("web")
    disk = small.folder / "disk"
    daemon = small.start_daemon()
    full = threading.Event()

    def fill_up(_operation: Operation) -> Answer | None:
        fill(disk)
        full.set()
        return None

    aws.server.do("PutSecretValue", fill_up)
    small.edit("web", URL="postgres://before")
    assert full.wait(HANG_GUARD_S)

    says(daemon, "the database cannot be written (SQLITE_FULL)")
    measures(daemon, "phasesync_database_writable", 0)
    measures(daemon, "phasesync_ready", 0)
    wait_until(lambda: drops_lines(daemon), what="lost lines that are counted")
    small.in_process = True
    refused = small.run("secrets", "set", "shop/web", "URL", "-", stdin="postgres://during")
    assert (refused.exit_code, "is full; nothing was stored" in refused.stderr) == (7, True), refused
    (disk / "ballast").unlink()

    assert daemon.wait_until_ready() == "active"
    small.wait_for("web")
    arrives(aws, NAME, "postgres://before")
    assert_versions(aws, NAME, 2)
    assert daemon.stop() == 0


def drops_lines(daemon: Daemon) -> bool:
    """Have the daemon log something; return whether it could not write it, or something before."""
    daemon.signal(signal.SIGHUP)
    return scrape(daemon.address).total("phasesync_log_lines_dropped_total") > 0


def test_a_file_system_that_has_become_read_only(small: Installation, aws: Aws) -> None:
    """As the kernel makes one whose disk has errors. It can be written again without a restart."""
    small.configure(daemon__claim_ttl_s=6)
    small.add_syncs("web")
    disk = small.folder / "disk"
    daemon = small.start_daemon()
    small.wait_for("web")
    small.in_process = True

    with mounted("--bind", "-o", "ro", str(disk), at=disk):
        # What is open goes on through the mount below until its first error, which a real disk has by itself.
        before = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        says(daemon, "the database cannot be")  # Written; or reached, if a check comes first that opens it anew.
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, before)
        says(daemon, "lies on a file system that is mounted read-only")
        measures(daemon, "phasesync_database_writable", 0)
        refused = small.run("secrets", "set", "shop/web", "URL", "-", stdin="postgres://during")
        assert (refused.exit_code, "mounted read-only" in refused.stderr) == (7, True), refused

    assert daemon.wait_until_ready() == "active"
    small.edit("web", URL="postgres://after")
    arrives(aws, NAME, "postgres://after")
    assert_versions(aws, NAME, 2)
    assert daemon.stop() == 0
