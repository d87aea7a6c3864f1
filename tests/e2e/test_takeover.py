"""Several daemons on one database: standing by and taking over on SQLite, sharing the work on PostgreSQL."""

from __future__ import annotations

import signal
import time

import pytest

from phasesync.emulator import DROP, Answer, Operation
from tests.e2e.conftest import values_of, versions_of
from tests.support.aws import Aws
from tests.support.installation import Installation
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CLAIM_TTL_S = 6
"""The shortest that can be set."""
on_sqlite = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)


@on_sqlite
def test_a_standby_takes_over_at_once_after_a_clean_stop(installation: Installation, aws: Aws) -> None:
    """The membership of the first would last ten minutes: whoever works before that was not waiting for its end."""
    installation.configure(daemon__claim_ttl_s=600)
    installation.add_syncs("web")
    first = installation.start_daemon()
    installation.wait_for("web")
    second = installation.start_daemon()
    assert second.get("/readyz") == (200, {"ok": True, "role": "standby"})
    installation.edit("web", URL="postgres://first")
    installation.wait_for("web")
    assert second.find("run finished") == []

    assert first.stop() == 0
    installation.edit("web", URL="postgres://second")

    second.wait_for_line("role changed", role="active")
    second.wait_for_line("run finished", outcome="applied")
    assert values_of(aws, "shop/web")["URL"] == "postgres://second"
    assert len(versions_of(aws, "shop/web")) == 3
    assert second.stop() == 0


@pytest.mark.parametrize("database_backend", ["sqlite", "postgresql"], indirect=True)
def test_another_daemon_takes_over_within_the_life_of_a_claim_after_a_kill(
    installation: Installation, aws: Aws
) -> None:
    """In the middle of a write, so that there is a claim to take over; on SQLite the role as well."""
    installation.configure(daemon__claim_ttl_s=CLAIM_TTL_S)
    installation.add_syncs("web")
    first = installation.start_daemon()
    installation.wait_for("web")
    second = installation.start_daemon()
    killed: list[float] = []

    def kill(_operation: Operation) -> Answer:
        # On PostgreSQL either of the two may have the sync.
        owner = installation.claim_owner("web")
        writer = next(daemon for daemon in (first, second) if f"-{daemon.pid}-" in owner)
        writer.kill()
        killed.append(time.monotonic())
        return DROP

    aws.server.do("PutSecretValue", kill)
    installation.edit("web", URL="postgres://new")
    wait_until(lambda: killed, what="the kill")
    survivor = second if first.ended else first

    line = survivor.wait_for_line("run finished", outcome="applied", revision=2, within_s=CLAIM_TTL_S + 5)

    assert line["sync"] == "web"
    assert time.monotonic() - killed[0] < CLAIM_TTL_S + 5, "with the default life of a claim it would have been longer"
    assert values_of(aws, "shop/web")["URL"] == "postgres://new"
    assert len(versions_of(aws, "shop/web")) == 2
    assert survivor.stop() == 0


@on_postgresql
def test_many_daemons_share_many_syncs_and_every_edit_arrives_once(installation: Installation, aws: Aws) -> None:
    installation.configure(daemon__coalesce_ms=0, daemon__poll_interval_ms=20)
    names = [f"sync-{number}" for number in range(10)]
    installation.add_syncs(*names)
    daemons = [installation.start_daemon(ready=False) for _ in range(3)]
    assert {daemon.wait_until_ready() for daemon in daemons} == {"active"}
    installation.wait_for(*names)

    edits = 3
    for number in range(edits):
        for name in names:
            installation.edit(name, URL=f"postgres://{name}/{number}")
        installation.wait_for(*names)

    for name in names:
        assert values_of(aws, f"shop/{name}")["URL"] == f"postgres://{name}/{edits - 1}"
        assert len(versions_of(aws, f"shop/{name}")) == 1 + edits, name
    assert aws.server.count("CreateSecret") == len(names)
    assert aws.server.count("PutSecretValue") == len(names) * edits
    runs = [len(daemon.find("run finished", outcome="applied")) for daemon in daemons]
    assert sum(runs) == len(names) * (1 + edits)
    assert min(runs) > 0, "one of them has done nothing"
    # All leave at once; nothing is left behind for anyone.
    for daemon in daemons:
        daemon.signal(signal.SIGTERM)
    assert [daemon.ends() for daemon in daemons] == [0, 0, 0]
    installation.in_process = True
    assert installation.json("status")["daemons"] == []
