"""What health and readiness say of a daemon."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from phasesync.core.chores import DaemonRole, Load
from phasesync.daemon.health import ChoreProgress, HealthState, Heartbeat
from phasesync.errors import SettingsError, StoreUnavailableError
from tests.daemon.fakes import FakeSchema

if TYPE_CHECKING:
    from phasesync.store.migrate import SchemaStatus

S = timedelta(seconds=1)


def goes_on(every=S, *, ended=S, succeeded=None) -> ChoreProgress:
    return ChoreProgress(every=every, ended=ended, succeeded=ended if succeeded is None else succeeded)


def working(**changes: Any) -> HealthState:
    """A daemon at work, with one thing changed."""
    heartbeat = Heartbeat(role=DaemonRole.ACTIVE, beat=goes_on(5 * S), poll=goes_on(), leases=goes_on())
    state = HealthState()
    state.database_reachable = True
    state.schema = cast("SchemaStatus", FakeSchema())
    state.heartbeat = lambda: replace(heartbeat, **changes)
    return state


def load(*quiet: timedelta, full_for: timedelta = timedelta(0)) -> list[Load]:
    return [Load(threads=8, quiet=quiet, full_for=full_for), Load(threads=8)]


def test_a_daemon_at_work_is_healthy_and_ready() -> None:
    state = working(loads=load(S, 3 * S))

    assert state.health().detail == {
        "state": "active",
        "last_heartbeat_s": 1.0,
        "last_poll_s": 1.0,
        "workers_busy": 2,
        "workers_stuck": 0,
    }
    assert (state.health().ok, state.ready().ok) == (True, True)
    assert state.ready().detail == {"role": "active"}


@pytest.mark.parametrize(
    ("heartbeat", "reason"),
    [
        ({"poll": goes_on(ended=30 * S)}, None),
        ({"poll": goes_on(ended=30.1 * S)}, "polls have stalled"),
        ({"poll": goes_on(60 * S, ended=179 * S)}, None),
        ({"poll": goes_on(60 * S, ended=181 * S)}, "polls have stalled"),
        ({"leases": goes_on(ended=30 * S)}, None),
        ({"leases": goes_on(ended=31 * S)}, "expiries of leases have stalled"),
        ({"beat": goes_on(5 * S, ended=30 * S)}, None),
        ({"beat": goes_on(5 * S, ended=30.1 * S)}, "heartbeats have stalled"),
        ({"beat": goes_on(200 * S, ended=599 * S)}, None),
        ({"beat": goes_on(200 * S, ended=601 * S)}, "heartbeats have stalled"),
        ({"poll": goes_on(ended=31 * S), "role": DaemonRole.STANDBY}, "polls have stalled"),
        ({"loads": load(119 * S, 0 * S)}, None),
        ({"loads": load(121 * S, 0 * S)}, "1 worker is stuck: no progress for more than 120 s"),
        ({"loads": load(*[121 * S] * 8)}, "8 workers are stuck: no progress for more than 120 s"),
        ({"loads": load(121 * S), "stuck_after": 300 * S}, None),
    ],
)
def test_what_a_restart_would_help_against_is_unhealthy_and_not_ready(heartbeat, reason) -> None:
    state = working(**heartbeat)

    assert state.health().ok is (reason is None)
    assert state.health().detail.get("reason") == reason
    assert state.ready().ok is (reason is None)


FULL = StoreUnavailableError("the disk is full", code="SQLITE_FULL")


@pytest.mark.parametrize(
    ("heartbeat", "reason"),
    [
        ({"heartbeat_failure": FULL}, "the database cannot be written (SQLITE_FULL)"),
        ({"heartbeat_failure": SettingsError("no")}, "the database cannot be written: no"),
        (
            {"role": None, "beat": goes_on(5 * S, succeeded=16 * S)},
            "the role has expired: the last heartbeat succeeded 16 s ago",
        ),
        ({"poll": goes_on(succeeded=31 * S)}, "polls have not succeeded for 31 s"),
        ({"leases": goes_on(succeeded=31 * S)}, "expiries of leases have not succeeded for 31 s"),
        (
            {"loads": [Load(threads=8, failing_for=40 * S)]},
            "no result of a run could be recorded for 40 s",
        ),
    ],
)
def test_what_a_restart_does_not_help_against_is_healthy_and_not_ready(heartbeat, reason) -> None:
    state = working(**heartbeat)

    assert state.health().ok
    assert (state.ready().ok, state.ready().detail) == (False, {"reason": reason})
    assert state.status_line() == reason == state.health().detail["state"]


def test_why_the_database_cannot_be_reached_is_told() -> None:
    state = working()
    state.database_reachable, state.database_problem = False, "the database file was replaced"

    assert state.health().ok
    assert state.ready().detail == {"reason": "the database cannot be reached: the database file was replaced"}


def test_workers_that_are_all_busy_are_shown_and_harm_nothing() -> None:
    state = working(loads=load(*[S] * 8, full_for=95 * S))

    assert state.health().ok and state.ready().ok
    assert state.health().detail["workers_full_for_s"] == 95.0
    assert state.status_line() == "active; every worker is busy and none has ended for 95 s"


def test_lines_of_the_log_that_were_lost_are_shown_and_harm_nothing() -> None:
    state = working()
    state.lines_lost = lambda: 7

    assert state.health().ok and state.ready().ok
    assert state.health().detail["log_lines_lost"] == 7


def test_before_the_role_is_known_it_is_not_ready() -> None:
    assert working(role=None).ready().detail == {"reason": "starting"}


def test_at_the_very_start_it_is_healthy_and_not_ready() -> None:
    state = HealthState()

    assert state.health().ok
    assert state.ready().detail == {"reason": "starting"}


def test_while_it_stops_it_is_healthy_and_not_ready() -> None:
    state = working(poll=goes_on(ended=60 * S), loads=load(600 * S))
    state.stopping = True

    assert state.health().ok
    assert (state.ready().ok, state.ready().detail) == (False, {"reason": "stopping"})
