"""Leases of a command that runs: renewed from their own request on, up to their maximum, whoever reads what is said."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from phasesync.cli.output import Output
from phasesync.cli.run.renewal import LeaseRenewer
from phasesync.core.lease_claim import LeaseEvent
from phasesync.engine.leases.issuance import IssuedLease
from tests.support.lease_world import LeaseWorld
from tests.support.stores import ACTOR
from tests.support.waiting import wait_until

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)

MINUTE = timedelta(minutes=1)


class Gone(io.StringIO):
    """A stderr that no one reads any more."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def look_after(world: LeaseWorld, issued: IssuedLease, *, asked_s_ago: float, until: Callable[[], bool]) -> None:
    """Look after a lease that was asked for a while ago, until a condition holds."""
    with LeaseRenewer(world.operations, actor=ACTOR, out=Output(as_json=False)) as renewer:
        renewer.add(issued.lease, since_s=time.monotonic() - asked_s_ago)
        wait_until(until, what="the renewal")


def renewals(world: LeaseWorld, issued: IssuedLease) -> list[str | None]:
    records = world.leases.records(issued.lease.id)
    return [record.detail for record in records if record.event is LeaseEvent.RENEWED]


def test_a_lease_is_renewed_at_two_thirds_of_a_life_that_began_when_it_was_asked_for(world: LeaseWorld) -> None:
    issued = world.issue(ttl=MINUTE)
    world.let_time_pass(seconds=41)
    end = world.lease(issued.lease.id).expires_at

    look_after(world, issued, asked_s_ago=41, until=lambda: world.lease(issued.lease.id).expires_at > end)

    assert world.lease(issued.lease.id).expires_at - end > timedelta(seconds=40)


def test_one_that_was_just_asked_for_is_left_alone(world: LeaseWorld) -> None:
    old, new = world.issue(ttl=MINUTE), world.issue(ttl=MINUTE)
    with LeaseRenewer(world.operations, actor=ACTOR, out=Output(as_json=False)) as renewer:
        renewer.add(new.lease, since_s=time.monotonic())
        renewer.add(old.lease, since_s=time.monotonic() - 41)
        wait_until(lambda: renewals(world, old), what="the renewal")

    assert renewals(world, new) == []


def test_the_last_renewal_goes_to_the_maximum_itself(
    make_lease_world: Callable[..., LeaseWorld], capsys: pytest.CaptureFixture[str]
) -> None:
    world = make_lease_world(default_ttl=MINUTE, max_ttl=MINUTE)
    issued = world.issue(ttl=MINUTE)
    most = issued.lease.max_expires_at
    world.let_time_pass(seconds=41)

    look_after(world, issued, asked_s_ago=41, until=lambda: world.lease(issued.lease.id).expires_at == most)

    assert renewals(world, issued) == [f"until {most:%Y-%m-%d %H:%M:%S} UTC"]
    assert "for good: its maximum is reached" in capsys.readouterr().err


def test_nobody_to_tell_keeps_no_lease_from_being_renewed(
    make_lease_world: Callable[..., LeaseWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_lease_world(default_ttl=MINUTE, max_ttl=MINUTE)
    first, second = world.issue(ttl=MINUTE), world.issue(ttl=MINUTE)
    monkeypatch.setattr("sys.stderr", Gone())

    with LeaseRenewer(world.operations, actor=ACTOR, out=Output(as_json=False)) as renewer:
        for one in (first, second):
            renewer.add(one.lease, since_s=time.monotonic() - 41)
        wait_until(lambda: renewals(world, first) and renewals(world, second), what="both renewals")
