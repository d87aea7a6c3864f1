"""A daemon that freezes in the middle of a write and wakes after a successor has written a newer value."""

from __future__ import annotations

import threading

import pytest

from phasesync.emulator import Answer, Operation
from tests.e2e.conftest import values_of, versions_of
from tests.support.aws import Aws
from tests.support.daemon import Daemon
from tests.support.installation import Installation
from tests.support.waiting import HANG_GUARD_S

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "shop/web"


@pytest.fixture
def in_step(installation: Installation) -> Installation:
    """The sync `web` has been written once."""
    installation.configure(daemon__claim_ttl_s=6)
    installation.add_syncs("web")
    installation.reconcile("web")
    return installation


def freeze_apart_from_locks(installation: Installation, daemon: Daemon) -> None:
    """
    Freeze a daemon outside of any transaction, of which another of its threads may be in the middle.

    Frozen with the only write lock of SQLite, or with a row lock, it would hold up everyone: another story.
    """
    while True:
        daemon.freeze()
        if installation.nobody_holds_a_lock():
            return
        daemon.thaw()


def test_what_woke_late_writes_nothing_any_more(in_step: Installation, aws: Aws) -> None:
    """It froze before it could send its write; when it wakes, the claim is another's."""
    frozen = in_step.start_daemon()
    done = threading.Event()

    def freeze(_operation: Operation) -> None:
        freeze_apart_from_locks(in_step, frozen)
        done.set()

    aws.server.do("DescribeSecret", freeze, when="after")
    in_step.edit("web", URL="postgres://old")
    assert done.wait(HANG_GUARD_S)
    in_step.edit("web", URL="postgres://newest")
    successor = in_step.start_daemon()
    # No help with the time here: the claim really ends while its holder is frozen.
    successor.wait_for_line("run finished", outcome="applied")
    puts = aws.server.count("PutSecretValue")

    frozen.thaw()

    frozen.wait_for_line("claim lost")
    assert aws.server.count("PutSecretValue") == puts
    in_step.wait_for("web")
    assert values_of(aws, NAME)["URL"] == "postgres://newest"
    assert len(versions_of(aws, NAME)) == 2
    # The frozen one stands by on SQLite and works on on PostgreSQL; either way both end well.
    assert successor.stop() == 0
    assert frozen.stop() == 0


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_a_write_on_its_way_that_lands_late_is_refused_by_aws(in_step: Installation, aws: Aws) -> None:
    """It froze with its request on the wire. The successor has spent the same token on the newer value."""
    frozen = in_step.start_daemon()
    reached, opened = threading.Event(), threading.Event()

    def hold_up(_operation: Operation) -> Answer | None:
        freeze_apart_from_locks(in_step, frozen)
        reached.set()
        assert opened.wait(2 * HANG_GUARD_S)
        return None

    aws.server.do("PutSecretValue", hold_up)
    in_step.edit("web", URL="postgres://old")
    assert reached.wait(HANG_GUARD_S)
    in_step.edit("web", URL="postgres://newest")
    in_step.let_time_pass_for(frozen)
    successor = in_step.start_daemon()
    successor.wait_for_line("run finished", outcome="applied")
    in_step.wait_for("web")

    opened.set()
    frozen.thaw()

    frozen.wait_for_line("claim lost")
    assert values_of(aws, NAME)["URL"] == "postgres://newest"
    in_step.wait_for("web")
    assert successor.stop() == 0
    assert frozen.stop() == 0
    assert values_of(aws, NAME)["URL"] == "postgres://newest"
    assert len(versions_of(aws, NAME)) == 2
