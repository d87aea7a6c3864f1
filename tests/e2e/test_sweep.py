"""A daemon checks fifty objects with two calls, finds the one that somebody changed, and need not wait for lists."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from phasesync.core.sync import Trigger
from phasesync.emulator import Answer, Operation
from tests.e2e.conftest import values_of
from tests.support.aws import Aws
from tests.support.installation import ACCESS_KEY_ID, Installation
from tests.support.stores import TTL

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True),
]


def make_syncs(installation: Installation, count: int) -> None:
    """Make syncs that were written a while ago and have checks due in some seconds."""
    names = [f"sync-{number}" for number in range(count)]
    installation.add_syncs(*names)
    installation.reconcile(*names)
    with installation.application() as application:
        for sync in application.store.syncs.list_syncs():
            claim = application.store.claims.claim(sync.id, "test", trigger=Trigger.MANUAL, actor="test", ttl=TTL)
            for entry in application.store.sync_states.load(claim).journal:
                assert entry.touched_at is not None
                aged = replace(entry, touched_at=entry.touched_at - timedelta(hours=1))
                application.store.journal.save_entry(claim, aged)
            application.store.claims.release(claim)
    with installation.database() as connection:
        soon = (time.time_ns() // 1000) + 18_000_000
        connection.execute(sa.text("UPDATE syncs SET next_due_at = :soon"), {"soon": soon})


def calls_of_phasesync(aws: Aws) -> Counter[str]:
    """Return what phasesync asked of Secrets Manager and STS."""
    return Counter(one.name for one in aws.server.operations if one.access_key_id == ACCESS_KEY_ID)


def test_one_change_among_fifty_objects_takes_two_lists_and_one_look(installation: Installation, aws: Aws) -> None:
    make_syncs(installation, 50)
    aws.boto("secretsmanager").put_secret_value(SecretId="shop/sync-7", SecretString="theirs")
    aws.server.operations.clear()

    daemon = installation.start_daemon()
    swept = daemon.wait_for_line("sweep finished")
    run = daemon.wait_for_line("run finished")

    assert (swept["objects"], swept["suspects"], swept["syncs"], swept["aws_calls"]) == (50, 1, 50, 1)
    assert (run["sync"], run["trigger"], run["outcome"]) == ("sync-7", "drift", "applied")
    assert values_of(aws, "shop/sync-7")["URL"] == "postgres://db"
    assert daemon.stop() == 0
    assert daemon.find("run finished") == [run], "the others needed no run"
    assert calls_of_phasesync(aws) == {
        "GetCallerIdentity": 1,
        "ListSecrets": 2,
        "DescribeSecret": 1,
        "PutSecretValue": 1,
    }


def test_a_change_is_found_by_the_next_list_of_changes(installation: Installation, aws: Aws) -> None:
    installation.configure(daemon__sweep_interval_s=5, log__level="debug")
    make_syncs(installation, 50)
    daemon = installation.start_daemon()
    daemon.wait_for_line("sweep finished", full=True)
    aws.boto("secretsmanager").put_secret_value(SecretId="shop/sync-7", SecretString="theirs")
    aws.server.operations.clear()

    swept = daemon.wait_for_line("sweep finished", full=False, suspects=1)
    run = daemon.wait_for_line("run finished")

    assert swept["aws_calls"] == 1
    assert (run["sync"], run["trigger"], run["outcome"]) == ("sync-7", "drift", "applied")
    assert values_of(aws, "shop/sync-7")["URL"] == "postgres://db"
    assert daemon.stop() == 0
    assert set(calls_of_phasesync(aws)) == {"ListSecrets", "DescribeSecret", "PutSecretValue"}


def test_a_sweep_delays_neither_edits_nor_the_end(installation: Installation, aws: Aws) -> None:
    """Its list does not come back."""
    installation.configure(daemon__drain_s=1)
    make_syncs(installation, 4)
    reached, opened = threading.Event(), threading.Event()

    def hold_up(_operation: Operation) -> Answer | None:
        reached.set()
        assert opened.wait(60)
        return None

    aws.server.do("ListSecrets", hold_up, times=10)
    daemon = installation.start_daemon()
    assert reached.wait(20)

    installation.edit("sync-3", URL="postgres://new")
    daemon.wait_for_line("run finished", sync="sync-3", outcome="applied", within_s=5)
    assert daemon.stop(within_s=4) == 0
    opened.set()

    assert values_of(aws, "shop/sync-3")["URL"] == "postgres://new"
    assert daemon.find("sweep finished") == []
