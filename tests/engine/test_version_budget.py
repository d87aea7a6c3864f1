"""No object gets more versions than AWS keeps: what is too much is coalesced and delayed, never dropped."""

from datetime import datetime, timedelta

import pytest

from phasesync.core.planning.version_budget import BURST
from phasesync.core.run import Outcome
from phasesync.core.sync import SyncStatus, Trigger
from tests.support.world import NAME, World

DAY = timedelta(hours=24)

# What is counted is in the journal, which the contract suite keeps the same on both databases.
pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)


def written(world: World) -> list[datetime]:
    """When each version came into being."""
    return sorted(version.written_at for version in world.object.versions.values())


@pytest.mark.slow
def test_two_hundred_edits_in_an_hour_make_no_more_than_ninety_versions_in_a_day(world: World) -> None:
    """An edit every 18 seconds for an hour, then the daemon on its own until everything is there."""
    waits = []
    for number in range(200):
        world.edit(URL=f"postgres://{number}")
        run = world.run(Trigger.CHANGE)
        if run.versions_written == 0:
            assert world.sync.settled_status is SyncStatus.PENDING
            assert world.sync.status_reason is not None and "version budget" in world.sync.status_reason
        world.clock.pass_(seconds=18)
    waited_from = world.clock.now()
    for _ in range(120):
        if "postgres://199" in world.text:
            waits.append(world.clock.now() - waited_from)
            break
        world.clock.pass_(minutes=1)
        world.run(Trigger.SCHEDULE)

    assert "postgres://199" in world.text
    assert waits[0] <= timedelta(minutes=24)
    times = written(world)
    assert max(sum(at <= one < at + DAY for one in times) for at in times) <= 90
    assert len(times) == BURST + 3  # one every 24 minutes: two within the hour, one after it


@pytest.mark.slow
def test_days_of_constant_editing_stay_within_the_budget(world: World) -> None:
    """An edit every ten minutes for thirty hours: more than any day that is counted."""
    for number in range(30 * 6):
        world.edit(URL=f"postgres://{number}")
        world.run(Trigger.CHANGE)
        world.clock.pass_(minutes=10)

    times = written(world)
    assert max(sum(at <= one < at + DAY for one in times) for at in times) <= 90


def test_a_person_may_use_what_is_kept_for_that(world: World) -> None:
    """Ten more; AWS's own limit is never reached."""
    manual = 0
    for number in range(60):
        world.edit(URL=f"postgres://{number}")
        if world.run(Trigger.CHANGE).versions_written == 0 and world.run(Trigger.MANUAL).versions_written:
            manual += 1

    assert manual == 10
    assert len(world.object.versions) == BURST + 10


def test_metadata_is_not_delayed_with_the_value(world: World) -> None:
    for number in range(BURST + 1):
        world.edit(URL=f"postgres://{number}")
        world.run(Trigger.CHANGE)
    world.configure(description="new")

    run = world.run(Trigger.CHANGE)

    assert world.object.description == "new"
    assert run.outcome is Outcome.APPLIED
    assert world.sync.settled_status is SyncStatus.PENDING


def test_a_delayed_write_is_due_when_the_budget_allows_it(world: World) -> None:
    for number in range(BURST + 1):
        world.edit(URL=f"postgres://{number}")
        world.run(Trigger.CHANGE)

    due = world.sync.next_due_at
    assert due is not None
    assert timedelta(0) < due - world.clock.now() <= timedelta(minutes=24, seconds=5)
    assert world.remote.object(NAME).text().count(f"postgres://{BURST - 1}") == 1
    assert not world.due(), "not at once, although there is a newer revision"


def test_a_clock_that_was_years_ahead_blocks_nothing(world: World) -> None:
    """A machine may start with a wrong date, write, and be corrected."""
    world.clock.pass_(days=3650)
    world.edit(URL="postgres://ahead")
    world.run(Trigger.CHANGE)
    world.clock.pass_(days=-3650)
    world.edit(URL="postgres://new")

    assert world.run(Trigger.CHANGE).versions_written == 1
    assert "postgres://new" in world.text
    assert len(world.entry.versions_at) == 2
