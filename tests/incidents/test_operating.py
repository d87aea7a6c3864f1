"""Incidents in which operators waited, could not see what would happen, or could not find out what had happened."""

from datetime import timedelta

import pytest

from phasesync.core.run import Outcome
from phasesync.core.sync import Paused, SyncStatus, Trigger
from phasesync.engine.claims import ClaimKeeper
from phasesync.errors import (
    ClaimHeldError,
    DestinationRejectedError,
    DestinationUnavailableError,
    IllegalTransitionError,
)
from tests.support.stores import ACTOR, TTL
from tests.support.world import NAME, World


def test_an_edit_is_due_at_once_and_not_at_the_next_interval(world: World) -> None:
    world.run()
    assert not world.due()
    world.edit(URL="postgres://new")

    assert world.due()


def test_a_person_does_not_wait_for_back_off(world: World) -> None:
    """A failing sync waits; a run that someone asks for does not."""
    world.destinations.fail("observe", error=DestinationUnavailableError("no connection"))
    world.run(Trigger.CHANGE)
    assert not world.due()

    world.store.sync_requests.request("web", Trigger.MANUAL, actor=ACTOR)

    assert world.due()


def test_a_paused_sync_writes_nothing_and_forgets_nothing(world: World) -> None:
    """With who and why; a run that is under way stops before its next write."""
    world.run()
    world.edit(URL="postgres://new")
    keeper = ClaimKeeper(world.context)
    claim = world.claim(Trigger.CHANGE)
    paused = Paused(by=ACTOR, at=world.clock.now(), reason="a migration", until=None)
    world.store.sync_requests.pause("web", paused)

    run = world.another_reconciler().reconcile(claim, keeper.hold(claim))

    assert run is not None and run.outcome is Outcome.INTERRUPTED
    assert "postgres://new" not in world.text
    assert world.sync.paused is not None
    assert (world.sync.paused.by, world.sync.paused.reason) == (ACTOR, "a migration")
    assert not world.due()
    with pytest.raises(IllegalTransitionError):
        world.store.sync_requests.request("web", Trigger.MANUAL, actor=ACTOR)
    world.store.sync_requests.resume("web", actor=ACTOR)
    assert world.due()


def test_a_pause_ends_by_itself_where_it_was_given_an_end(world: World) -> None:
    world.run()
    ended = world.clock.now() - timedelta(hours=1)
    world.store.sync_requests.pause("web", Paused(by=ACTOR, at=ended, reason="lunch", until=ended))
    world.edit(URL="postgres://new")

    assert world.due()


def test_a_plan_makes_no_writing_call(world: World) -> None:
    """Nothing is written at AWS, in the journal or in the log of runs, and it says what would be."""
    world.run()
    world.edit(URL="postgres://new")
    world.destinations.log.clear()
    entry, runs = world.entry, len(world.store.runs.list_runs())

    plan = world.reconciler.prepare(world.store.sync_states.state_of("web")).plan

    assert [str(change.action) for change in plan.changes] == ["put"]
    assert world.writes() == []
    assert world.entry == entry
    assert len(world.store.runs.list_runs()) == runs


def test_a_change_by_hand_is_told_and_repaired(world: World) -> None:
    world.run()
    world.remote.outside_put(NAME, "theirs")

    run = world.run(Trigger.SCHEDULE)

    assert run.trigger is Trigger.DRIFT
    assert [change.reason for change in run.changes if change.outcome is Outcome.APPLIED] == [
        "changed outside phasesync"
    ]
    assert "theirs" not in world.text


def test_a_failure_names_object_code_request_and_next_try(keyed: World) -> None:
    """The operator finds the bad key without asking anyone."""
    error = DestinationRejectedError("AWS rejects it", code="InvalidParameterException", request_id="r-1")
    keyed.destinations.fail("create", error=error)

    run = keyed.run()

    assert run.error is not None
    assert (run.error.code, run.error.request_id) == ("InvalidParameterException", "r-1")
    assert "shop/production/URL" in run.error.message
    assert run.error.message.count("postgres") == 0
    failed = [change.remote_name for change in run.changes if change.outcome is Outcome.FAILED]
    assert failed == ["shop/production/URL"]


def test_one_failing_object_does_not_stop_the_others(keyed: World) -> None:
    keyed.destinations.fail("create", error=DestinationRejectedError("AWS rejects it"))
    keyed.run()

    assert keyed.remote.object("shop/production/USER").text() == "shop"
    keyed.run()
    assert keyed.remote.object("shop/production/URL").text() == "postgres://db"
    assert keyed.sync.settled_status is SyncStatus.IN_SYNC


def test_a_sync_has_one_writer_at_a_time(world: World) -> None:
    """Who finds it claimed does not write beside the other; who lost it learns it before its next write."""
    held = world.store.claims.claim(world.sync_id, "daemon-a", trigger=Trigger.MANUAL, actor=ACTOR, ttl=TTL)
    with pytest.raises(ClaimHeldError):
        world.store.claims.claim(world.sync_id, "daemon-b", trigger=Trigger.MANUAL, actor=ACTOR, ttl=TTL)
    world.store.claims.release(held)
    world.claim()

    assert world.another_reconciler().reconcile(held, lambda: None) is None
    assert world.writes() == []


def test_a_restart_does_nothing_again(world: World) -> None:
    """A new process on the same store neither writes nor forgets."""
    world.run()
    versions = world.versions
    world.reconciler = world.another_reconciler()

    assert world.run().outcome is Outcome.UNCHANGED
    assert world.versions == versions
