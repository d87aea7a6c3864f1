"""What health and readiness say of a daemon."""

from __future__ import annotations

from datetime import timedelta

import pytest

from phasesync.daemon.condition import Condition, Pulse
from phasesync.ports import MemberRole
from tests.daemon.fakes import FakeSchema

S = timedelta(seconds=1)


def working(*, role=MemberRole.ACTIVE, poll_age=S, leases_age=S, beat_age=S, beat_every=5 * S) -> Condition:
    condition = Condition()
    condition.database_reachable = True
    condition.schema = FakeSchema()
    condition.pulse = lambda: Pulse(
        role=role, poll_age=poll_age, leases_age=leases_age, beat_age=beat_age, beat_every=beat_every
    )
    return condition


def test_a_daemon_at_work_is_healthy_and_ready() -> None:
    condition = working()

    assert condition.health().detail == {"state": "active", "last_poll_s": 1.0}
    assert (condition.health().ok, condition.ready().ok) == (True, True)


@pytest.mark.parametrize(
    ("pulse", "ok"),
    [
        ({"poll_age": 30 * S}, True),
        ({"poll_age": 30.1 * S}, False),
        ({"leases_age": 30 * S}, True),
        ({"leases_age": 31 * S}, False),
        ({"beat_age": 30 * S}, True),
        ({"beat_age": 30.1 * S}, False),
        ({"beat_age": 599 * S, "beat_every": 200 * S}, True),
        ({"beat_age": 601 * S, "beat_every": 200 * S}, False),
        ({"poll_age": 31 * S, "role": MemberRole.STANDBY}, False),
    ],
)
def test_rounds_that_stall_for_more_than_30_s_are_unhealthy(pulse, ok) -> None:
    assert working(**pulse).health().ok is ok


def test_before_the_role_is_known_it_is_not_ready() -> None:
    assert working(role=None).ready().detail == {"reason": "starting"}


def test_at_the_very_start_it_is_healthy_and_not_ready() -> None:
    condition = Condition()

    assert condition.health().ok
    assert condition.ready().detail == {"reason": "starting"}


def test_while_it_stops_it_is_healthy_and_not_ready() -> None:
    condition = working(poll_age=60 * S)
    condition.stopping = True

    assert condition.health().ok
    assert (condition.ready().ok, condition.ready().detail) == (False, {"reason": "stopping"})
