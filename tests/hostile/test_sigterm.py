"""SIGTERM in the middle of the start of a daemon, of `init` and of a migration, at many moments."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from phasesync.store.migrate import EXPECTED, downgrade, status
from tests.hostile.conftest import arrives, assert_versions, measures, says
from tests.hostile.test_locked import Lock
from tests.support.aws import Aws
from tests.support.daemon import ENDS_WITHIN_S
from tests.support.installation import Installation
from tests.support.preloaded import PreloadedProcess
from tests.support.waiting import HANG_GUARD_S

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

KILLED = -signal.SIGTERM
"""Before the daemon listens to signals, it ends like every process, and systemd counts that as a clean end."""


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_at_any_moment_of_the_start_of_a_daemon(installation: Installation, aws: Aws) -> None:
    installation.add_syncs("web")
    codes = set()
    for moment_ms in (0, 25, 50, 75, 100, 140, 200, 300):
        daemon = installation.start_daemon(ready=False)
        time.sleep(moment_ms / 1000)  # The moment is what is tried here: nothing is waited for.
        daemon.signal(signal.SIGTERM)
        codes.add(daemon.ends(ENDS_WITHIN_S))

    assert codes <= {0, KILLED}
    assert 0 in codes
    installation.in_process = True
    assert installation.json("status")["daemons"] == [], "each has signed off"
    daemon = installation.start_daemon()
    installation.wait_for("web")
    arrives(aws, "shop/web", "postgres://db")
    assert_versions(aws, "shop/web", 1)
    assert daemon.stop() == 0


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_while_the_start_waits_for_a_lock(installation: Installation) -> None:
    """Nothing is in hand yet, so that it takes no more than a moment."""
    lock = Lock(installation)
    lock.take()
    daemon = installation.start_daemon(ready=False)
    daemon.wait_for_line("phasesync starts")

    assert daemon.stop(within_s=5) == 0

    lock.release()


STATEMENTS = (3, 12, 30, 60, 120)
"""At which of its statements a command is ended: the first ones look around, and the last ones may never come."""

END_AT = """
import os, signal
import sqlalchemy as sa
left = [{statement}]
@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def end(*_):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGTERM)
from phasesync.__main__ import main
main()
"""


def end_at(statement: int, installation: Installation, *arguments: str) -> int:
    """Run a command that gets SIGTERM right after one of its statements; return its exit code."""
    with open(os.devnull, "r+b") as nothing:
        streams = (nothing.fileno(),) * 3
        program = END_AT.format(statement=statement)
        process = PreloadedProcess(list(arguments), installation.environ, streams, program=program)
        return process.wait(HANG_GUARD_S)


def test_at_any_statement_of_init(database_url: str, tmp_path: Path, aws: Aws) -> None:
    """It leaves nothing, or everything; the next one brings the rest."""
    installation = Installation(tmp_path, database_url, aws.environ)
    codes = []
    for statement in STATEMENTS:
        codes.append(end_at(statement, installation, "init"))
        assert status(database_url).current in (None, EXPECTED)

    assert KILLED in codes and set(codes) <= {0, KILLED}
    installation.in_process = True
    installation.done("init")
    installation.add_syncs("web")
    installation.reconcile("web")
    arrives(aws, "shop/web", "postgres://db")


def test_at_any_statement_of_a_migration(installation: Installation, aws: Aws) -> None:
    """A daemon of the new release waits for it all the while."""
    installation.add_syncs("web")
    installation.in_process = True
    former = "0004"
    downgrade(installation.database_url, former)
    daemon = installation.start_daemon(ready=False)
    daemon.wait_for_line("waiting for the database schema")
    says(daemon, "waiting for the database schema")
    measures(daemon, "phasesync_schema_current", 0)
    codes = []
    for statement in STATEMENTS:
        codes.append(end_at(statement, installation, "db", "migrate"))
        assert status(installation.database_url).current in (former, EXPECTED)

    assert KILLED in codes and set(codes) <= {0, KILLED}
    installation.done("db", "migrate")
    daemon.wait_until_ready()
    measures(daemon, "phasesync_schema_current", 1)
    arrives(aws, "shop/web", "postgres://db")
    installation.wait_for("web")
    assert_versions(aws, "shop/web", 1)
    assert daemon.stop() == 0
