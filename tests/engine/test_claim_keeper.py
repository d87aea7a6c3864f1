"""A run keeps its permit although an earlier claim of the same sync ends beside it, in the same process."""

from datetime import UTC, datetime, timedelta

import pytest

from phasesync.core.sync_claim import Claim
from phasesync.engine.claims import Checkpoint, ClaimKeeper
from phasesync.errors import ClaimLostError
from tests.support.aws_builders import HandClock
from tests.support.context import context_of
from tests.support.databases import on_each_database
from tests.support.stores import TTL
from tests.support.world import World

pytestmark = on_each_database


@pytest.fixture(autouse=True)
def compared(world: World) -> None:
    """The world is a copy of another database, and no run compares it with AWS here."""
    world.store.comparison.note(world.store.comparison.standing().run)


def test_a_run_that_ends_late_does_not_take_its_successors_permit(world: World) -> None:
    """Its claim is free as soon as its result is stored; the next run may begin before the former lets go."""
    keeper = ClaimKeeper(world.context)
    former = world.claim()
    keeper.hold(former)
    latter = world.claim()
    checkpoint = keeper.hold(latter)

    keeper.drop(former)

    checkpoint()
    assert keeper.held() == [latter]


def test_a_renewal_that_was_under_way_does_not_take_its_successors_permit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It renewed the former claim; that one is gone, the new one stays."""
    keeper = ClaimKeeper(world.context)
    keeper.hold(world.claim())
    later: list[Claim] = []
    permits: list[Checkpoint] = []

    def renew(claims: list[Claim], *, ttl: timedelta) -> set[str]:
        later.append(world.claim())
        permits.append(keeper.hold(later[0]))
        return set()

    monkeypatch.setattr(world.context.store.claims, "renew", renew)
    keeper.renew()

    assert keeper.held() == later
    permits[0]()


def test_the_claim_of_a_call_that_does_not_end_ends(world: World) -> None:
    """Another daemon may take over, and the run may write no more; where the call ends in time, it goes on."""
    overdue: set[str] = set()
    clock = HandClock(datetime(2030, 1, 1, tzinfo=UTC))
    keeper = ClaimKeeper(context_of(world.store, clock=clock), overdue=lambda: overdue)
    claim = world.claim()
    checkpoint = keeper.hold(claim)
    overdue.add(claim.sync_id)
    clock.turn(TTL / 2)
    keeper.renew()
    checkpoint()
    overdue.clear()
    keeper.renew()
    clock.turn(TTL * 0.9)
    checkpoint()

    overdue.add(claim.sync_id)
    keeper.renew()
    clock.turn(TTL / 2)
    with pytest.raises(ClaimLostError):
        checkpoint()
