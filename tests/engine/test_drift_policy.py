"""What a run does with an object that somebody else changed: repair it, hold it, and when it gives up."""

import pytest

from phasesync.core.run import Outcome
from phasesync.core.sync import OnDrift, SyncStatus, Trigger
from phasesync.errors import (
    DestinationError,
    DestinationUnavailableError,
    OutcomeUnknownError,
    PermissionDeniedError,
)
from tests.support.databases import on_each_database
from tests.support.stores import ACTOR
from tests.support.world import NAME, World


@pytest.fixture
def holding(world: World) -> World:
    """In step; the sync holds on drift."""
    world.configure(on_drift=OnDrift.HOLD, description="ours")
    world.run()
    return world


def digest(world: World) -> str:
    """What `syncs plan` shows."""
    found = world.reconciler.prepare(world.store.sync_states.state_of("web")).guarded.digest
    assert found is not None
    return found


def put(world: World) -> None:
    world.remote.outside_put(NAME, "theirs")


def schedule(world: World) -> None:
    world.remote.outside_delete(NAME)


def delete(world: World) -> None:
    world.remote.outside_delete(NAME, recovery_days=None)


def describe(world: World) -> None:
    world.object.description = "theirs"


@pytest.mark.parametrize("somebody", [put, schedule, delete, describe])
def test_a_sync_that_holds_writes_nothing_until_somebody_approves(holding: World, somebody) -> None:
    somebody(holding)
    holding.destinations.log.clear()

    held = holding.run(Trigger.SCHEDULE)

    assert (held.outcome, held.trigger) == (Outcome.HELD, Trigger.DRIFT)
    assert holding.writes() == []
    assert holding.sync.settled_status is SyncStatus.HELD
    holding.store.sync_requests.approve("web", digest(holding), actor=ACTOR)
    assert holding.run().outcome is Outcome.APPLIED
    assert holding.text == '{"URL":"postgres://db","USER":"shop"}'
    assert holding.object.description == "ours"
    assert holding.run().outcome is Outcome.UNCHANGED


@on_each_database
def test_an_approval_is_for_the_version_that_was_seen(holding: World) -> None:
    put(holding)
    holding.run()
    approved = digest(holding)
    put(holding)
    holding.store.sync_requests.approve("web", approved, actor=ACTOR)

    assert holding.run().outcome is Outcome.HELD
    assert holding.text == "theirs"


def test_an_approval_is_for_the_metadata_that_was_seen(holding: World) -> None:
    describe(holding)
    holding.run()
    approved = digest(holding)
    holding.object.description = "theirs, later"
    holding.store.sync_requests.approve("web", approved, actor=ACTOR)

    assert holding.run().outcome is Outcome.HELD
    assert holding.object.description == "theirs, later"


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_somebody_wrote_is_held_although_a_write_of_ours_was_not_answered(holding: World, when) -> None:
    """Whether ours had landed before theirs, or not."""
    holding.edit(URL="postgres://new")
    holding.destinations.fail("put_value", when=when)
    holding.run()
    put(holding)

    assert holding.run().outcome is Outcome.HELD
    assert holding.text == "theirs"
    holding.store.sync_requests.approve("web", digest(holding), actor=ACTOR)
    assert holding.run().outcome is Outcome.APPLIED
    assert "postgres://new" in holding.text
    assert holding.run().outcome is Outcome.UNCHANGED


def test_an_edit_still_goes_out_where_nobody_interfered(holding: World) -> None:
    holding.edit(URL="postgres://new")

    assert holding.run().outcome is Outcome.APPLIED


def test_a_change_of_the_sync_is_no_drift(holding: World) -> None:
    holding.configure(description="ours, reworded", tags={"team": "shop"})

    assert holding.run().outcome is Outcome.APPLIED
    assert holding.object.description == "ours, reworded"


def test_somebody_who_keeps_writing_is_given_way_to(world: World) -> None:
    """Three repairs in 24 hours; then it waits, and says who has to decide."""
    world.run()
    for _ in range(3):
        put(world)
        assert world.run().outcome is Outcome.APPLIED
        world.clock.pass_(hours=1)
    put(world)

    run = world.run()

    assert run.outcome is Outcome.HELD
    assert run.error is not None and "contested" in run.error.message and "3 times" in run.error.message
    assert world.text == "theirs"


@on_each_database
def test_contested_is_over_a_day_later_or_when_approved(world: World) -> None:
    world.run()
    for _ in range(3):
        put(world)
        world.run()
    put(world)
    world.run()
    world.store.sync_requests.approve("web", digest(world), actor=ACTOR)
    assert world.run().outcome is Outcome.APPLIED
    put(world)
    assert world.run().outcome is Outcome.HELD
    world.clock.pass_(hours=25)
    assert world.run().outcome is Outcome.APPLIED


@pytest.mark.parametrize(
    ("somebody", "call"), [(delete, "create"), (schedule, "restore"), (describe, "update_metadata")]
)
@pytest.mark.parametrize("error", [DestinationUnavailableError("no connection"), PermissionDeniedError("denied")])
def test_a_repair_that_fails_is_no_repair(world: World, somebody, call: str, error: DestinationError) -> None:
    """An outage of AWS is no quarrel: no one has to approve what no one contests."""
    world.configure(description="ours")
    world.run()
    somebody(world)

    def refuse(when: str, what: str) -> None:
        if (when, what) == ("before", call):
            raise error

    with world.steps(refuse):
        outcomes = {world.run(Trigger.RETRY).outcome for _ in range(5)}

    assert outcomes == {Outcome.FAILED}
    assert world.run(Trigger.RETRY).outcome is Outcome.APPLIED
    assert world.text == '{"URL":"postgres://db","USER":"shop"}'
    assert world.object.description == "ours"


def test_a_repair_whose_answers_are_lost_counts_once(world: World) -> None:
    world.run()
    delete(world)

    def lose(when: str, what: str) -> None:
        if (when, what) == ("before", "create"):
            raise OutcomeUnknownError("no answer")

    with world.steps(lose):
        for _ in range(4):
            assert world.run(Trigger.RETRY).outcome is Outcome.UNKNOWN

    assert world.run(Trigger.RETRY).outcome is Outcome.APPLIED
    assert len(world.entry.enforced_at) == 1


def test_edits_of_ours_are_never_contested(world: World) -> None:
    world.run()
    for number in range(6):
        world.edit(URL=f"postgres://{number}")
        assert world.run().outcome is Outcome.APPLIED
