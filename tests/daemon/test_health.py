"""What health and readiness say of a daemon."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from phasesync.core.daemons import Load, MemberRole
from phasesync.daemon.health import Condition, Heartbeat, Round
from phasesync.errors import SettingsError, StoreUnavailableError
from tests.daemon.fakes import FakeSchema

S = timedelta(seconds=1)


def goes_on(every=S, *, ended=S, succeeded=None) -> Round:
    return Round(every=every, ended=ended, succeeded=ended if succeeded is None else succeeded)


def working(**changes: Any) -> Condition:
    """A daemon at work, with one thing changed."""
    pulse = Heartbeat(role=MemberRole.ACTIVE, beat=goes_on(5 * S), poll=goes_on(), leases=goes_on())
    condition = Condition()
    condition.database_reachable = True
    condition.schema = FakeSchema()
    condition.pulse = lambda: replace(pulse, **changes)
    return condition


def load(*quiet: timedelta, full_for: timedelta = timedelta(0)) -> list[Load]:
    return [Load(threads=8, quiet=quiet, full_for=full_for), Load(threads=8)]


def test_a_daemon_at_work_is_healthy_and_ready() -> None:
    condition = working(loads=load(S, 3 * S))

    assert condition.health().detail == {
        "state": "active",
        "last_heartbeat_s": 1.0,
        "last_poll_s": 1.0,
        "workers_busy": 2,
        "workers_stuck": 0,
    }
    assert (condition.health().ok, condition.ready().ok) == (True, True)
    assert condition.ready().detail == {"role": "active"}


@pytest.mark.parametrize(
    ("pulse", "reason"),
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
        ({"poll": goes_on(ended=31 * S), "role": MemberRole.STANDBY}, "polls have stalled"),
        ({"loads": load(119 * S, 0 * S)}, None),
        ({"loads": load(121 * S, 0 * S)}, "1 worker is stuck: no progress for more than 120 s"),
        ({"loads": load(*[121 * S] * 8)}, "8 workers are stuck: no progress for more than 120 s"),
        ({"loads": load(121 * S), "stuck_after": 300 * S}, None),
    ],
)
def test_what_a_restart_would_help_against_is_unhealthy_and_not_ready(pulse, reason) -> None:
    condition = working(**pulse)

    assert condition.health().ok is (reason is None)
    assert condition.health().detail.get("reason") == reason
    assert condition.ready().ok is (reason is None)


FULL = StoreUnavailableError("the disk is full", code="SQLITE_FULL")


@pytest.mark.parametrize(
    ("pulse", "reason"),
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
def test_what_a_restart_does_not_help_against_is_healthy_and_not_ready(pulse, reason) -> None:
    condition = working(**pulse)

    assert condition.health().ok
    assert (condition.ready().ok, condition.ready().detail) == (False, {"reason": reason})
    assert condition.words() == reason == condition.health().detail["state"]


def test_why_the_database_cannot_be_reached_is_told() -> None:
    condition = working()
    condition.database_reachable, condition.database_problem = False, "the database file was replaced"

    assert condition.health().ok
    assert condition.ready().detail == {"reason": "the database cannot be reached: the database file was replaced"}


def test_workers_that_are_all_busy_are_shown_and_harm_nothing() -> None:
    condition = working(loads=load(*[S] * 8, full_for=95 * S))

    assert condition.health().ok and condition.ready().ok
    assert condition.health().detail["workers_full_for_s"] == 95.0
    assert condition.words() == "active; every worker is busy and none has ended for 95 s"


def test_lines_of_the_log_that_were_lost_are_shown_and_harm_nothing() -> None:
    condition = working()
    condition.lines_lost = lambda: 7

    assert condition.health().ok and condition.ready().ok
    assert condition.health().detail["log_lines_lost"] == 7


def test_before_the_role_is_known_it_is_not_ready() -> None:
    assert working(role=None).ready().detail == {"reason": "starting"}


def test_at_the_very_start_it_is_healthy_and_not_ready() -> None:
    condition = Condition()

    assert condition.health().ok
    assert condition.ready().detail == {"reason": "starting"}


def test_while_it_stops_it_is_healthy_and_not_ready() -> None:
    condition = working(poll=goes_on(ended=60 * S), loads=load(600 * S))
    condition.stopping = True

    assert condition.health().ok
    assert (condition.ready().ok, condition.ready().detail) == (False, {"reason": "stopping"})
