"""A daemon whose address is not to be had: it works, says so, tries again, and ends with a code that is restarted."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import timedelta

import pytest

from phasesync.core.chores import DaemonRole
from phasesync.errors import HostUnavailableError
from tests.daemon.conftest import settings_with
from tests.support.waiting import HANG_GUARD_S, wait_until

BRIEFLY = timedelta(milliseconds=200)


@pytest.fixture
def occupied() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def settings_at(occupied: socket.socket):
    return settings_with(http={"listen": f"127.0.0.1:{occupied.getsockname()[1]}"})


def test_a_daemon_works_without_its_address_and_has_it_as_soon_as_it_is_free(run, world, occupied, manager) -> None:
    running = run(settings_at(occupied))
    wait_until(lambda: world.polls > 0, what="the first poll")
    problem = f"http.listen: 127.0.0.1:{occupied.getsockname()[1]} is in use by another process"
    line = f"STATUS=active; health is not served: {problem}"
    wait_until(lambda: any(line in message for message in manager()), what="the status line")

    occupied.close()
    wait_until(lambda: running.listens, what="listening")

    assert running.get("/readyz") == (200, {"ok": True, "role": "active"})
    wait_until(lambda: manager()[-1] == "STATUS=active", what="the status line")
    assert running.stop() == 0


def test_an_address_that_stays_in_use_ends_the_daemon_cleanly_with_a_code_that_is_restarted(
    run, world, occupied
) -> None:
    running = run(settings_at(occupied), listen_patience=BRIEFLY)
    running.thread.join(HANG_GUARD_S)

    (error,) = running.ended
    assert isinstance(error, HostUnavailableError)
    assert error.exit_code == 7
    assert "is in use by another process; it was tried for " in error.message
    assert "PHASESYNC_HTTP__LISTEN" in str(error.hint)
    assert (world.closed, world.members) == (True, set())


def test_it_ends_likewise_while_it_waits_for_the_database(run, world, occupied) -> None:
    world.down = True
    running = run(settings_at(occupied), listen_patience=BRIEFLY)
    running.thread.join(HANG_GUARD_S)
    (error,) = running.ended
    assert isinstance(error, HostUnavailableError)


def test_a_standby_waits_for_the_address_without_end_and_takes_it_with_the_work(run, world, occupied, logs) -> None:
    world.role_to_give = DaemonRole.STANDBY
    running = run(settings_at(occupied), listen_patience=BRIEFLY)
    tries = "standing by without an address; it is taken with the work"
    wait_until(lambda: any(line["event"] == tries for line in logs), what="the standby")

    with pytest.raises(AssertionError):
        wait_until(lambda: not running.thread.is_alive(), within_s=3 * BRIEFLY.total_seconds())

    occupied.close()
    world.role_to_give = DaemonRole.ACTIVE
    wait_until(lambda: running.listens, what="listening")
    wait_until(lambda: running.get("/readyz")[1]["role"] == "active", what="the work")
    assert running.stop() == 0


def test_a_stop_ends_the_tries(run, world, occupied) -> None:
    running = run(settings_at(occupied))
    assert running.stop() == 0
    occupied.close()
    assert not running.listens
