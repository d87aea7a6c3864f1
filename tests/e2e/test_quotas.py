"""Calls that wait for AWS's quotas end with the daemon that waits, and what they were for is done by the next one."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from phasesync.core.run import Outcome
from tests.e2e.conftest import versions_of
from tests.support.aws import Aws
from tests.support.installation import Installation
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAMES = ("one", "two", "three")
CROWD = 1_000
"""So many daemons leave each of them one call at once, and the next one in 25 s."""


@pytest.fixture
def crowded(installation: Installation) -> Iterator[Installation]:
    """Many daemons are alive, as far as the database says."""
    now = int(time.time() * 1_000_000)
    soon = now + 1_800 * 1_000_000  # Further ahead it would be a clock that was set back.
    row = {"host": "elsewhere", "pid": 1, "role": "active", "started_at": 1, "beat_at": now, "until": soon}
    with installation.database() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO daemons (owner, host, pid, role, started_at, beat_at, until) "
                "VALUES (:owner, :host, :pid, :role, :started_at, :beat_at, :until)"
            ),
            [row | {"owner": f"other-{number}"} for number in range(CROWD)],
        )
    yield installation
    leave(installation)


def leave(installation: Installation) -> None:
    """End the other daemons."""
    with installation.database() as connection:
        connection.execute(sa.text("DELETE FROM daemons WHERE host = 'elsewhere'"))


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_sigterm_ends_calls_that_wait_for_their_turn(crowded: Installation, aws: Aws) -> None:
    """On PostgreSQL, where many may work. The share of one lets one of three syncs through; two wait for 10 s."""
    crowded.add_syncs(*NAMES)
    daemon = crowded.start_daemon()
    wait_until(
        lambda: aws.server.count("CreateSecret") == 1 and sum(bool(crowded.claim_owner(name)) for name in NAMES) == 2,
        what="one is through and two wait",
    )

    daemon.signal(signal.SIGTERM)
    assert daemon.ends(within_s=10) == 0

    assert not daemon.find("stopped with work unfinished"), (
        "their threads ended by themselves, and not at the time limit"
    )
    assert [crowded.claim_owner(name) for name in NAMES] == ["", "", ""]
    with crowded.application() as application:
        outcomes = sorted(run.outcome for run in application.store.runs.list_runs())
    assert outcomes == [Outcome.APPLIED, Outcome.INTERRUPTED, Outcome.INTERRUPTED]
    assert aws.server.count("CreateSecret") == 1

    leave(crowded)
    successor = crowded.start_daemon()
    crowded.wait_for(*NAMES)
    assert [len(versions_of(aws, f"shop/{name}")) for name in NAMES] == [1, 1, 1]
    assert successor.stop() == 0
