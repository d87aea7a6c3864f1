"""Sweeps where lists come newest first: one call where nothing changed, and what somebody changed is found in one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phasesync.core.events import (
    ChoreFailed,
    DriftMissedByIncrementalSweep,
    IncrementalSweepUnavailable,
    SweepDenied,
    SweepFinished,
)
from phasesync.core.planning.listing_check import LAG as KEPT
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC
from phasesync.core.run import Outcome
from phasesync.core.sync import AWS_MANAGED_KEY, Layout, OnDrift, OnRemove, Paused, SyncConfig, Trigger
from phasesync.errors import CredentialRejectedError, DestinationUnavailableError, PermissionDeniedError
from tests.engine.test_metadata import POLICY
from tests.engine.test_sweep import OUTSIDE
from tests.support.databases import on_each_database
from tests.support.fleet import SOON, Fleet
from tests.support.stores import TTL
from tests.support.world import KEY_ARN, MovableClock, World

LAG = timedelta(minutes=5)
"""As late as AWS says that a list may be."""


def covered(world: World, **config: Any) -> Fleet:
    """A fleet whose place was listed in full a moment ago."""
    fleet = Fleet(world, **config)
    assert fleet.sweep() == ["sweep_newest", "sweep"]
    assert fleet.run() == []
    world.events.clear()
    return fleet


def events_of(fleet: Fleet, kind: type[Any]) -> list[Any]:
    return [event for event in fleet.world.events if isinstance(event, kind)]


def list_everything(fleet: Fleet) -> list[str]:
    """Sweep as if an hour had passed."""
    with fleet.world.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE sweeps SET full_at = full_at - 3600000000")
    return fleet.sweep()


def due_in(fleet: Fleet, name: str) -> timedelta:
    due = fleet.sync(name).next_due_at
    assert due is not None
    return due - datetime.now(UTC)


@on_each_database
def test_it_begins_with_everything_and_goes_on_with_one_call(world: World) -> None:
    fleet = Fleet(world)

    assert [fleet.sweep() for _ in range(4)] == [["sweep_newest", "sweep"], *[["sweep_newest"]] * 3]

    assert fleet.run() == []
    full = [told for told in fleet.swept if told.full]
    assert [(told.objects, told.suspects, told.syncs, told.calls) for told in full] == [(4, 0, 4, 1)]
    assert {told.suspects for told in fleet.swept} == {0}


def test_one_call_also_among_many_objects(world: World) -> None:
    fleet = Fleet(world)
    for number in range(250):
        fleet.remote.outside_create(f"a/{number:03}", tags={TAG_INSTANCE: world.store.instance_id})
    world.clock.pass_(minutes=10)
    fleet.remote.outside_create("z", tags={TAG_INSTANCE: world.store.instance_id})

    assert fleet.sweep() == ["sweep_newest", "sweep", "sweep", "sweep"]
    assert fleet.sweep() == ["sweep_newest"]


def test_a_burst_of_changes_is_not_listed_for_ever(world: World) -> None:
    fleet = covered(world)
    for number in range(250):
        fleet.remote.outside_create(f"a/{number:03}", tags={TAG_INSTANCE: world.store.instance_id})

    assert fleet.sweep() == ["sweep_newest"] * 3
    world.clock.pass_(minutes=7)
    assert fleet.sweep() == ["sweep_newest"] * 3
    assert fleet.sweep() == ["sweep_newest"]


@pytest.mark.parametrize("happening", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_what_somebody_changed_is_found_in_one_call(world: World, happening: Callable[[Fleet], object]) -> None:
    fleet = covered(world, description="ours", tags={"team": "web"}, kms_key=KEY_ARN)
    world.clock.pass_(minutes=1)
    happening(fleet)
    is_gone = fleet.remote.find("shop/s1") is None

    assert fleet.sweep() == ["sweep_newest"]
    runs = fleet.run()
    if is_gone:
        assert runs == [], "no list of changes shows what is gone for good"
        assert list_everything(fleet) == ["sweep_newest", "sweep"]
        runs = fleet.run()

    (run,) = runs
    assert (run.sync, run.trigger, run.outcome) == ("s1", Trigger.DRIFT, Outcome.APPLIED)
    found = fleet.object("s1")
    assert found.text() == '{"URL":"postgres://s1"}'
    assert (found.description, found.kms_key, found.deleted_at) == ("ours", KEY_ARN, None)
    assert found.tags == {"team": "web", TAG_INSTANCE: world.store.instance_id, TAG_SYNC: fleet.sync("s1").id}
    fleet.let_writes_grow_old()
    fleet.sweep()
    assert fleet.run() == []


def test_what_a_list_shows_late_is_found_when_it_shows_it(world: World) -> None:
    fleet = Fleet(world, lag=LAG)
    world.clock.pass_(minutes=6)
    fleet.sweep()
    fleet.remote.outside_put("shop/s1", "theirs")
    for _ in range(10):
        world.clock.pass_(seconds=29)
        fleet.remote.outside_describe("shop/s2", description=f"theirs at {world.clock.passed}")
        assert fleet.sweep() == ["sweep_newest"]
        assert fleet.run() == []

    world.clock.pass_(seconds=11)
    fleet.sweep()

    assert [run.sync for run in fleet.run()] == ["s1"]
    assert fleet.object("s1").text() == '{"URL":"postgres://s1"}'


def test_changes_of_one_instant_are_all_read(world: World) -> None:
    """More of them than fit on a page, and the next sweep reads them again."""
    fleet = covered(world)
    at = world.clock.now()
    world.remote.now = lambda: at
    for number in range(120):
        fleet.remote.outside_create(f"a/{number:03}", tags={TAG_INSTANCE: world.store.instance_id})
    fleet.remote.outside_put("shop/s1", "theirs")

    assert fleet.sweep() == ["sweep_newest", "sweep_newest"]
    assert [run.sync for run in fleet.run()] == ["s1"]
    assert fleet.sweep() == ["sweep_newest", "sweep_newest"]


def test_what_changed_while_it_was_listed_is_no_disorder(world: World) -> None:
    fleet = covered(world)
    for number in range(150):
        fleet.remote.outside_create(f"a/{number:03}", tags={TAG_INSTANCE: world.store.instance_id})
    fleet.remote.outside_put("shop/s1", "theirs")
    original = fleet.remote.newest_first
    first: list[Any] = []

    def in_the_order_of_the_first_page(listed: list[Any]) -> list[Any]:
        if not first:
            first.extend(original(listed))
            return first
        world.clock.pass_(seconds=1)
        fleet.remote.outside_describe(first[-1].name, description="theirs")
        fresh = {observed.name: observed for observed in fleet.remote.listed(account=ACCOUNT_OF, region=REGION_OF)}
        return [fresh[observed.name] for observed in first]

    ACCOUNT_OF, REGION_OF = fleet.object("s1").account, fleet.object("s1").region
    fleet.remote.newest_first = in_the_order_of_the_first_page  # type: ignore[method-assign]

    assert fleet.sweep() == ["sweep_newest", "sweep_newest"]

    assert events_of(fleet, IncrementalSweepUnavailable) == []


# --- what is not compared at once


def test_a_change_right_after_our_own_write_is_found_later(world: World) -> None:
    fleet = covered(world)
    fleet.edit("s1", "postgres://new")
    fleet.run()
    world.clock.pass_(seconds=10)
    fleet.remote.outside_put("shop/s1", "theirs")
    found = []

    for _ in range(20):
        world.clock.pass_(seconds=30)
        fleet.remote.outside_describe("shop/s2", description=f"theirs at {world.clock.passed}")
        fleet.sweep()
        found += [run.sync for run in fleet.run()]

    assert found == ["s1"]
    assert fleet.object("s1").text() == '{"URL":"postgres://new"}'


def test_a_clock_that_is_set_back_hides_nothing(world: World) -> None:
    """What we wrote counts as recent for longer; until then it is read again."""
    fleet = covered(world)
    fleet.edit("s1", "postgres://new")
    fleet.run()
    fleet.remote.outside_put("shop/s1", "theirs")
    aws = MovableClock()
    aws.passed = world.clock.passed
    world.remote.now = aws.now
    world.clock.pass_(minutes=-3)

    for _ in range(4):
        world.clock.pass_(minutes=2, seconds=59)
        aws.pass_(minutes=2, seconds=59)
        fleet.remote.outside_describe("shop/s2", description=f"theirs at {aws.passed}")
        fleet.sweep()

    assert [run.sync for run in fleet.run()] == ["s1"]


def test_a_suspect_that_runs_meanwhile_runs_once_more(world: World) -> None:
    fleet = covered(world)
    claim = world.store.claims.claim(fleet.sync("s1").id, "x", trigger=Trigger.CHANGE, actor="x", ttl=TTL)
    fleet.remote.outside_put("shop/s1", "theirs")

    fleet.sweep()
    world.store.claims.release(claim)

    assert [(run.sync, run.outcome) for run in fleet.run()] == [("s1", Outcome.APPLIED)]


def test_a_suspect_that_is_paused_is_checked_afterwards(world: World) -> None:
    fleet = covered(world)
    world.store.sync_requests.pause("s1", Paused(by="ada", at=datetime.now(UTC), reason="", until=None))
    fleet.remote.outside_put("shop/s1", "theirs")

    fleet.sweep()
    assert fleet.run() == []
    with world.store.database.write() as connection:
        due = connection.exec_driver_sql("SELECT next_due_at FROM syncs WHERE name = 's1'").scalar_one()
    assert due <= datetime.now(UTC).timestamp() * 1_000_000


# --- when checks come


def test_a_check_after_a_run_is_deferred_without_a_call(world: World) -> None:
    fleet = covered(world)
    fleet.edit("s1", "postgres://new")
    (run,) = fleet.run()
    assert run.outcome is Outcome.APPLIED
    assert due_in(fleet, "s1") < SOON

    assert fleet.sweep() == ["sweep_newest"]

    assert due_in(fleet, "s1") > timedelta(hours=1.9)
    assert fleet.sync("s1").settled_status == "in-sync"


@on_each_database
def test_a_full_sweep_defers_all_checks_to_the_second_one_after_it(world: World) -> None:
    fleet = covered(world)

    for name in fleet.names:
        assert timedelta(hours=1.9) < due_in(fleet, name) < timedelta(hours=2.3)


def test_syncs_that_ask_for_more_frequent_checks_keep_them(world: World) -> None:
    fleet = Fleet(world, interval=timedelta(seconds=5))

    fleet.sweep()
    fleet.sweep()

    assert due_in(fleet, "s1") < timedelta(seconds=6)
    assert due_in(fleet, "web") > timedelta(hours=1)


@pytest.mark.parametrize(
    "config",
    [{"replicas": {"us-east-1": AWS_MANAGED_KEY}}, {"resource_policy": POLICY}],
    ids=["replicas", "resource policy"],
)
def test_what_lists_do_not_show_is_checked_by_itself_but_suspected_too(world: World, config: dict[str, Any]) -> None:
    world.remote.replicates_at_once = True
    fleet = covered(world, **config)
    assert due_in(fleet, "s1") < SOON

    fleet.remote.outside_put("shop/s1", "theirs")
    fleet.sweep()

    assert [run.sync for run in fleet.run()] == ["s1"]
    assert fleet.object("s1").text() == '{"URL":"postgres://s1"}'


def test_a_sync_with_an_object_in_its_grace_keeps_its_time(world: World) -> None:
    fleet = Fleet(world, size=1)
    world.configure(layout=Layout.PER_KEY, remote_name=None, name_template="{app}/{env}/{key}")
    fleet.run()
    held = world.run()
    if held.error is not None:
        digest = world.reconciler.prepare(world.store.sync_states.state_of("web")).guarded.digest
        assert digest is not None
        world.store.sync_requests.approve("web", digest, actor="ada")
        fleet.run()
    fleet.let_writes_grow_old()
    fleet.sweep()
    world.configure(on_remove=OnRemove.DELETE, grace=timedelta(days=2))
    fleet.run()
    world.edit(USER=None)
    fleet.run()
    fleet.let_writes_grow_old()
    due = fleet.sync("web").next_due_at

    fleet.sweep()
    list_everything(fleet)

    assert fleet.sync("web").next_due_at == due


def test_nothing_is_deferred_where_full_sweeps_do_not_come(world: World) -> None:
    fleet = covered(world)
    with world.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE sweeps SET full_at = full_at - 7200000000")
    world.destinations.fail("sweep", times=100)
    fleet.edit("s1", "postgres://new")
    fleet.run()

    fleet.sweep()
    fleet.sweep()

    assert due_in(fleet, "s1") < SOON
    assert len(events_of(fleet, ChoreFailed)) == 1, "a failure is told once"


# --- what a full sweep finds besides


def test_what_the_date_does_not_show_is_found_by_the_full_sweep_and_counted(world: World) -> None:
    fleet = covered(world)
    world.clock.pass_(minutes=10)
    fleet.remote.outside_create("new", tags={TAG_INSTANCE: world.store.instance_id})
    fleet.sweep()
    fleet.remote.undated = True
    fleet.remote.outside_put("shop/s1", "theirs")
    fleet.remote.outside_tag("shop/s2", {}, untag=[TAG_INSTANCE, TAG_SYNC])

    assert fleet.sweep() == ["sweep_newest"]
    assert fleet.run() == []
    assert list_everything(fleet) == ["sweep_newest", "sweep"]

    (told,) = events_of(fleet, DriftMissedByIncrementalSweep)
    assert (told.listed, told.unlisted) == (1, 1)
    assert {run.sync for run in fleet.run()} == {"s1", "s2"}
    fleet.let_writes_grow_old()
    list_everything(fleet)
    assert events_of(fleet, DriftMissedByIncrementalSweep) == [told]


def test_what_the_incremental_sweep_found_is_not_missed(world: World) -> None:
    fleet = covered(world)
    fleet.remote.outside_put("shop/s1", "theirs")
    fleet.sweep()

    list_everything(fleet)
    list_everything(fleet)

    assert events_of(fleet, DriftMissedByIncrementalSweep) == []
    assert [run.sync for run in fleet.run()] == ["s1"]


def test_a_change_that_is_younger_than_the_lag_is_not_missed(world: World) -> None:
    fleet = covered(world, on_drift=OnDrift.HOLD)
    fleet.remote.outside_put("shop/s1", "theirs")

    list_everything(fleet)

    assert events_of(fleet, DriftMissedByIncrementalSweep) == []


def test_the_first_full_sweep_misses_nothing(world: World) -> None:
    fleet = Fleet(world)
    fleet.remote.outside_put("shop/s1", "theirs")
    world.clock.pass_(minutes=10)
    fleet.remote.outside_describe("shop/s2", description="theirs")

    assert fleet.sweep() == ["sweep_newest", "sweep"]

    assert events_of(fleet, DriftMissedByIncrementalSweep) == []
    assert [run.sync for run in fleet.run()] == ["s1"]


# --- where lists are not sorted, or not to be had


@pytest.mark.parametrize(
    ("sorting", "reason"), [("refused", "refused"), ("ignored", "unordered")], ids=["refused", "ignored"]
)
def test_where_lists_are_not_sorted_full_sweeps_alone_are_told_once(world: World, sorting: Any, reason: str) -> None:
    fleet = Fleet(world, sorting=sorting)
    fleet.remote.outside_describe("shop/s2", description="theirs")  # behind older ones by its name
    before = len(world.destinations.log)

    for _ in range(3):
        fleet.sweep()
        assert fleet.run() == []

    assert world.destinations.log[before:] == ["sweep_newest", "sweep", "sweep", "sweep"]
    (told,) = events_of(fleet, IncrementalSweepUnavailable)
    assert told.reason == reason
    assert due_in(fleet, "s1") <= SOON


def test_where_entries_have_no_date_full_sweeps_alone_are_made(world: World) -> None:
    fleet = Fleet(world)
    for name in fleet.names:
        fleet.object(name).changed_at = None
        fleet.remote.show(fleet.object(name))

    assert fleet.sweep() == ["sweep_newest", "sweep"]

    assert [told.reason for told in events_of(fleet, IncrementalSweepUnavailable)] == ["undated"]


def test_lists_are_tried_again_after_an_hour(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(world, sorting="refused")
    hours = [0.0]
    monkeypatch.setattr(world.clock, "monotonic", lambda: hours[0] * 3600)
    assert fleet.sweep() == ["sweep"]
    fleet.remote.sorting = "done"
    assert fleet.sweep() == ["sweep"]
    hours[0] = 1.1

    assert fleet.sweep() == ["sweep_newest", "sweep"]
    assert fleet.sweep() == ["sweep_newest"]


@on_each_database
def test_where_order_is_lost_the_deferred_checks_come_back(world: World) -> None:
    fleet = covered(world)
    fleet.remote.sorting = "refused"

    fleet.sweep()

    assert due_in(fleet, "s1") < timedelta(minutes=5)


def test_where_the_right_to_list_is_lost_the_deferred_checks_come_back(world: World) -> None:
    fleet = covered(world)
    world.destinations.fail("sweep_newest", error=PermissionDeniedError(action="secretsmanager:ListSecrets"), times=9)

    assert fleet.sweep() == ["sweep_newest"]
    assert fleet.sweep() == []

    assert len(events_of(fleet, SweepDenied)) == 1
    assert due_in(fleet, "s1") < timedelta(minutes=5)
    assert fleet.run() == []


@pytest.mark.parametrize("error", [DestinationUnavailableError("no connection"), CredentialRejectedError("no")])
def test_a_sweep_that_fails_passes_nothing_over(world: World, error: Any) -> None:
    fleet = covered(world)
    fleet.remote.outside_put("shop/s1", "theirs")
    world.destinations.fail("sweep_newest", error=error)
    fleet.sweep()
    assert fleet.run() == []
    world.clock.pass_(hours=3)
    fleet.remote.outside_describe("shop/s2", description="theirs")

    fleet.sweep()

    assert [run.sync for run in fleet.run()] == ["s1"]


def test_a_full_sweep_that_breaks_off_is_made_again(world: World) -> None:
    fleet = Fleet(world)
    world.destinations.fail("sweep", times=1)
    assert fleet.sweep() == ["sweep_newest", "sweep"]
    assert fleet.swept[-1].full is False

    assert fleet.sweep() == ["sweep_newest", "sweep"]
    assert fleet.sweep() == ["sweep_newest"]


# --- other daemons, and later ones


@on_each_database
def test_another_daemon_goes_on_where_the_first_one_ended(world: World) -> None:
    fleet = covered(world)
    fleet.remote.outside_put("shop/s1", "theirs")
    world.clock.pass_(days=2)
    fleet.remote.outside_describe("shop/s2", description="theirs")
    fleet.sweeper = fleet.another_sweeper(owner="second")

    assert fleet.sweep() == ["sweep_newest"]

    assert [run.sync for run in fleet.run()] == ["s1"]


def test_a_daemon_that_stops_in_between_leaves_the_changes_to_the_next(world: World) -> None:
    fleet = covered(world)
    fleet.remote.outside_put("shop/s1", "theirs")
    calls = len(world.destinations.log)
    fleet.sweep(lambda: len(world.destinations.log) > calls)
    assert fleet.run() == []
    world.clock.pass_(hours=1)
    fleet.remote.outside_describe("shop/s2", description="theirs")

    fleet.another_sweeper(owner="second").sweep(lambda: False)

    assert [run.sync for run in fleet.run()] == ["s1"]


@on_each_database
def test_of_several_daemons_one_sweeps_and_one_lists_everything(world: World) -> None:
    fleet = Fleet(world)
    first = fleet.another_sweeper(world.store.daemons, "first")
    second = fleet.another_sweeper(world.store.daemons, "second")

    for _ in range(2):
        first.sweep(lambda: False)
        second.sweep(lambda: False)

    assert [event.full for event in fleet.swept] == [False, True]


def test_the_time_of_a_list_that_a_later_clock_stored_is_no_reason_to_wait(world: World) -> None:
    fleet = covered(world)
    with world.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE sweeps SET full_at = full_at + 86400000000")

    assert fleet.sweep() == ["sweep_newest", "sweep"]
    assert fleet.sweep() == ["sweep_newest"]


@on_each_database
def test_dates_are_kept_as_far_back_as_lists_may_lag(world: World) -> None:
    covered(world)
    (place,) = world.store.sweeps.places()
    assert place.changed_since is not None

    assert timedelta(0) <= world.clock.now() - KEPT - place.changed_since < timedelta(seconds=30)


# --- memory


def test_a_full_sweep_reads_pages_and_keeps_no_object_that_agrees(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reads at once does not grow with what there is."""
    fleet = Fleet(world, size=1)
    sizes: list[int] = []
    store = fleet.world.store
    for number in range(30):
        fleet.add(f"t{number}", SyncConfig(remote_name=f"shop/t{number}", interval=SOON))
    fleet.run()
    fleet.let_writes_grow_old()
    sweeps = type(store.sweeps)
    for name in ("journalled", "objects"):
        read = getattr(sweeps, name)

        def counted(*args: Any, read: Any = read) -> Any:
            found = read(*args)
            sizes.append(len(found))
            return found

        monkeypatch.setattr(sweeps, name, counted)
    monkeypatch.setattr("phasesync.engine.sweep.PAGE", 10)
    entries = sweeps.entries
    monkeypatch.setattr(sweeps, "entries", lambda self, *args, **more: entries(self, *args, **{**more, "limit": 7}))

    fleet.sweep()

    assert fleet.swept[-1] == SweepFinished(**{**vars(fleet.swept[-1]), "objects": 32, "suspects": 0, "syncs": 32})
    assert max(sizes) <= 10
