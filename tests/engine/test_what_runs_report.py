"""What a run reports for metrics: the lag of what it applied, drift that it found itself, the version budget."""

from __future__ import annotations

from datetime import timedelta

import pytest

from phasesync.core.events import RunFinished
from phasesync.core.planning.version_budget import BURST
from phasesync.core.run import Outcome
from phasesync.core.sync import Trigger
from phasesync.errors import DestinationUnavailableError
from phasesync.store.figures import Figures
from tests.support.world import NAME, World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)


def report(world: World, trigger: Trigger = Trigger.MANUAL) -> RunFinished:
    """Let a run happen; return what it reports."""
    world.events.clear()
    world.run(trigger)
    (event,) = (event for event in world.events if isinstance(event, RunFinished))
    return event


def figures(world: World) -> Figures:
    return world.store.figures.read(revocable=())


def test_a_run_that_applies_an_edit_reports_its_lag(world: World) -> None:
    assert report(world).lag_ms is not None, "the first content counts from the addition of the sync"
    assert report(world).lag_ms is None, "there was no edit"

    world.edit(URL="postgres://other")
    applied = report(world, Trigger.CHANGE)

    assert applied.outcome is Outcome.APPLIED
    assert applied.lag_ms is not None and 0 <= applied.lag_ms < 10_000


def test_a_failed_attempt_reports_no_lag_and_the_next_one_reports_all_of_it(world: World) -> None:
    world.run()
    world.edit(URL="postgres://other")
    world.destinations.fail("put_value", error=DestinationUnavailableError("no network"))

    failed = report(world, Trigger.CHANGE)
    assert (failed.outcome, failed.lag_ms, figures(world).behind) == (Outcome.FAILED, None, 1)

    applied = report(world, Trigger.RETRY)
    assert applied.lag_ms is not None and figures(world).behind == 0


def test_an_edit_that_changes_nothing_at_aws_has_no_lag(world: World) -> None:
    world.run()
    world.edit(URL="postgres://db")

    run = report(world, Trigger.CHANGE)

    assert (run.outcome, run.lag_ms, figures(world).behind) == (Outcome.UNCHANGED, None, 0)


@pytest.mark.parametrize(
    ("trigger", "found"), [(Trigger.SCHEDULE, True), (Trigger.MANUAL, True), (Trigger.DRIFT, False)]
)
def test_drift_is_found_by_a_run_unless_a_sweep_has_asked_for_it(world: World, trigger: Trigger, found: bool) -> None:
    world.run()
    assert not report(world, Trigger.SCHEDULE).found_drift
    world.remote.outside_put(NAME, "theirs")

    assert report(world, trigger).found_drift is found


def test_the_budget_that_is_left_is_counted_down_and_runs_that_wait_are_counted(world: World) -> None:
    for number in range(BURST):
        world.edit(URL=f"postgres://{number}")
        world.run(Trigger.CHANGE)
    assert (figures(world).versions_left, figures(world).waiting_for_budget) == (0, 0)

    world.edit(URL="postgres://last")
    waiting = report(world, Trigger.CHANGE)
    assert (waiting.versions_written, figures(world).waiting_for_budget, figures(world).behind) == (0, 1, 1)

    world.clock.pass_(seconds=timedelta(hours=1).total_seconds())
    applied = report(world, Trigger.SCHEDULE)
    assert applied.versions_written == 1 and applied.lag_ms is not None
    assert (figures(world).waiting_for_budget, figures(world).behind) == (0, 0)
