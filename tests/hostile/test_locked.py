"""A database that somebody else keeps locked for longer than any of the daemon's waits."""

from __future__ import annotations

import threading
import time

import pytest

from phasesync.emulator import Answer, Operation
from tests.hostile.conftest import arrives, assert_versions, measures, says
from tests.support.aws import Aws
from tests.support.installation import Installation
from tests.support.waiting import HANG_GUARD_S, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "shop/web"
LOCKED_S = 11.5
"""Longer than a write waits for a lock (10 s), and than a role of 6 s lasts."""


class Lock:
    """A lock that no write passes, held from `take` to `release`."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._taken, self._released = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True)

    def take(self) -> None:
        """Return when it is held."""
        self._thread.start()
        assert self._taken.wait(HANG_GUARD_S)

    def release(self) -> None:
        """Let writes through."""
        self._released.set()
        self._thread.join()

    def _hold(self) -> None:
        with self._installation.database() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql("LOCK TABLE daemons, chores, syncs, runs IN ACCESS EXCLUSIVE MODE")
            self._taken.set()
            self._released.wait(2 * HANG_GUARD_S)


def test_a_lock_of_somebody_else_delays_and_loses_nothing(installation: Installation, aws: Aws) -> None:
    """It is taken while AWS carries out a write: the run cannot be recorded, and nothing is written twice."""
    installation.configure(daemon__claim_ttl_s=6)
    installation.add_syncs("web")
    daemon = installation.start_daemon()
    installation.wait_for("web")
    lock, began = Lock(installation), time.monotonic()

    def take(_operation: Operation) -> Answer | None:
        lock.take()
        return None

    aws.server.do("PutSecretValue", take)
    installation.edit("web", URL="postgres://before")

    says(daemon, "the role has expired: the last heartbeat succeeded", "the database cannot be")
    measures(daemon, "phasesync_role", 0, role="active")
    says(daemon, "the database cannot be")  # written, and on SQLite perhaps not even opened
    measures(daemon, "phasesync_database_writable", 0)
    wait_until(lambda: time.monotonic() > began + LOCKED_S, what="the end of every wait for a lock")
    assert daemon.get("/healthz")[0] == 200, "a restart would not help"
    lock.release()

    assert daemon.wait_until_ready() == "active"
    installation.wait_for("web")
    arrives(aws, NAME, "postgres://before")
    assert_versions(aws, NAME, 2)
    assert daemon.stop() == 0
