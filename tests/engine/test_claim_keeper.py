"""A run keeps its permit although an earlier claim of the same sync ends beside it, in the same process."""

from datetime import timedelta

import pytest

from phasesync.adapters.clock import SystemClock
from phasesync.engine.claims import ClaimKeeper, Permit
from phasesync.ports import Claim
from tests.support.stores import TTL
from tests.support.world import World


def test_a_run_that_ends_late_does_not_take_its_successors_permit(world: World) -> None:
    """Its claim is free as soon as its result is stored; the next run may begin before the former lets go."""
    keeper = ClaimKeeper(world.store.state, SystemClock(), TTL)
    former = world.claim()
    keeper.hold(former)
    latter = world.claim()
    permit = keeper.hold(latter)

    keeper.drop(former)

    permit()
    assert keeper.held() == [latter]


def test_a_renewal_that_was_under_way_does_not_take_its_successors_permit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It renewed the former claim; that one is gone, the new one stays."""
    keeper = ClaimKeeper(world.store.state, SystemClock(), TTL)
    keeper.hold(world.claim())
    later: list[Claim] = []
    permits: list[Permit] = []

    def renew(claims: list[Claim], *, ttl: timedelta) -> set[str]:
        later.append(world.claim())
        permits.append(keeper.hold(later[0]))
        return set()

    monkeypatch.setattr(world.store.state, "renew", renew)
    keeper.renew()

    assert keeper.held() == later
    permits[0]()
