"""
Sweeps where lists come in no order: what is in step costs one list, what somebody changed is repaired, and a list alone
decides nothing. Lists that are sorted are in `test_incremental_sweep.py`.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import cast

import pytest

from phasesync.core.events import ChoreFailed, SweepDenied, SweepFinished
from phasesync.core.remote import CURRENT, TAG_INSTANCE, TAG_SYNC
from phasesync.core.run import Outcome
from phasesync.core.sync import AWS_MANAGED_KEY, Layout, OnDrift, OnRemove, SyncConfig, SyncStatus, Trigger
from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.reconcile import Reconciler
from phasesync.engine.scheduler import Scheduler
from phasesync.errors import (
    CredentialRejectedError,
    DestinationUnavailableError,
    InterruptedRunError,
    PermissionDeniedError,
    ThrottledError,
)
from phasesync.ports.runtime import SyncDispatcher
from tests.fakes.remote import REGION
from tests.support.context import context_of
from tests.support.databases import on_each_database
from tests.support.fleet import SOON, SWEEP_EVERY, Fleet
from tests.support.stores import access_key
from tests.support.world import KEY_ARN, World

LAG = timedelta(minutes=5)
"""As late as AWS says that a list may be."""


@pytest.fixture
def fleet(world: World) -> Fleet:
    return Fleet(world, sorting="refused")


def denied() -> PermissionDeniedError:
    return PermissionDeniedError(action="secretsmanager:ListSecrets")


@on_each_database
def test_what_is_in_step_costs_one_list_and_no_run(fleet: Fleet) -> None:
    runs = len(fleet.world.store.runs.list_runs())
    due = {name: fleet.sync(name).next_due_at for name in fleet.names}

    assert fleet.sweep() == ["sweep"]

    assert fleet.run() == []
    assert len(fleet.world.store.runs.list_runs()) == runs
    for name in fleet.names:
        before, after = due[name], fleet.sync(name).next_due_at
        assert before is not None
        assert after is not None
        assert timedelta(0) < after - before <= SOON
    (told,) = fleet.swept
    assert (told.objects, told.suspects, told.syncs, told.calls, told.region) == (4, 0, 4, 1, REGION)


OUTSIDE: dict[str, Callable[[Fleet], object]] = {
    "put": lambda fleet: fleet.remote.outside_put("shop/s1", "theirs"),
    "delete": lambda fleet: fleet.remote.outside_delete("shop/s1"),
    "delete for good": lambda fleet: fleet.remote.outside_delete("shop/s1", recovery_days=None),
    "tag": lambda fleet: fleet.remote.outside_tag("shop/s1", {"team": "other"}),
    "untag": lambda fleet: fleet.remote.outside_tag("shop/s1", {}, untag=["team"]),
    "describe": lambda fleet: fleet.remote.outside_describe("shop/s1", description="theirs"),
    "rekey": lambda fleet: fleet.remote.outside_describe("shop/s1", kms_key=AWS_MANAGED_KEY),
}


@pytest.mark.parametrize("happening", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_what_somebody_changed_is_repaired_after_one_sweep(world: World, happening: Callable[[Fleet], object]) -> None:
    fleet = Fleet(world, sorting="refused", description="ours", tags={"team": "web"}, kms_key=KEY_ARN)
    happening(fleet)

    assert fleet.sweep() == ["sweep"]
    (run,) = fleet.run()

    assert (run.sync, run.trigger, run.outcome) == ("s1", Trigger.DRIFT, Outcome.APPLIED)
    found = fleet.object("s1")
    assert found.text() == '{"URL":"postgres://s1"}'
    assert (found.description, found.kms_key, found.deleted_at) == ("ours", KEY_ARN, None)
    assert found.tags == {"team": "web", TAG_INSTANCE: world.store.instance_id, TAG_SYNC: fleet.sync("s1").id}
    assert fleet.swept[-1].suspects == 1
    fleet.let_writes_grow_old()
    fleet.sweep()
    assert fleet.swept[-1].suspects == 0
    assert fleet.run() == []


def test_an_object_that_lost_our_tags_is_found_missing_and_turns_out_not_to_be_ours(fleet: Fleet) -> None:
    """The list does not show it; asked for by itself it is there, and no one writes over it."""
    fleet.remote.outside_tag("shop/s1", {}, untag=[TAG_INSTANCE, TAG_SYNC])
    before = dict(fleet.object("s1").versions)

    assert fleet.sweep() == ["sweep"]
    (run,) = fleet.run()

    assert (run.sync, run.outcome) == ("s1", Outcome.REFUSED)
    assert fleet.object("s1").versions == before
    assert fleet.sync("s1").settled_status is SyncStatus.HALTED
    fleet.sweep()
    assert fleet.swept[-1].suspects == 0, "a halted sync waits for a person, not for sweeps"


def test_an_object_that_a_list_leaves_out_is_neither_created_nor_deleted(fleet: Fleet) -> None:
    """Filters and lag hide what exists: only describing it by itself shows it."""
    fleet.remote.listed = lambda **place: []  # type: ignore[method-assign]
    before = {name: list(fleet.object(name).versions) for name in fleet.names}
    writes = len(fleet.world.writes())

    fleet.sweep()
    runs = fleet.run()

    assert {run.outcome for run in runs} == {Outcome.UNCHANGED}
    assert len(runs) == len(fleet.names) + 1
    assert set(fleet.world.writes()[writes:]) <= {"sweep"}
    assert {name: list(fleet.object(name).versions) for name in fleet.names} == before


def test_what_we_wrote_just_now_is_not_suspected_although_the_list_is_late(world: World) -> None:
    fleet = Fleet(world, sorting="refused", lag=LAG)
    fleet.edit("s1", "postgres://new")
    fleet.run()
    versions = list(fleet.object("s1").versions)

    for minutes in (0, 2, 4, 6):
        world.clock.pass_(minutes=minutes)
        assert fleet.sweep() == ["sweep"]
        assert fleet.run() == []

    assert [told.suspects for told in fleet.swept] == [0, 0, 0, 0]
    assert list(fleet.object("s1").versions) == versions


def test_a_new_object_that_the_list_does_not_show_yet_is_not_made_twice(world: World) -> None:
    fleet = Fleet(world, sorting="refused", lag=LAG)
    fleet.add("late", SyncConfig(remote_name="shop/late", interval=SOON))
    fleet.run()
    world.clock.pass_(minutes=1)

    fleet.sweep()

    assert fleet.run() == []
    assert fleet.swept[-1].objects == 5
    assert world.destinations.log.count("create") == 5


def test_a_change_outside_is_found_when_the_list_has_caught_up(world: World) -> None:
    fleet = Fleet(world, sorting="refused", lag=LAG)
    fleet.remote.outside_put("shop/s1", "theirs")

    fleet.sweep()
    assert fleet.run() == [], "the list does not show it yet"
    world.clock.pass_(minutes=5, seconds=1)
    fleet.sweep()
    (run,) = fleet.run()

    assert (run.sync, run.trigger) == ("s1", Trigger.DRIFT)
    assert fleet.object("s1").text() == '{"URL":"postgres://s1"}'


def test_drift_under_hold_is_held_and_swept_no_more(world: World) -> None:
    fleet = Fleet(world, sorting="refused", on_drift=OnDrift.HOLD)
    fleet.remote.outside_put("shop/s1", "theirs")

    fleet.sweep()
    (run,) = fleet.run()
    fleet.sweep()

    assert (run.sync, run.outcome) == ("s1", Outcome.HELD)
    assert fleet.object("s1").text() == "theirs"
    assert [told.suspects for told in fleet.swept] == [1, 0]


@pytest.mark.parametrize(
    "config",
    [{"replicas": {"us-east-1": AWS_MANAGED_KEY}}, {"resource_policy": '{"Statement":[],"Version":"2012-10-17"}'}],
    ids=["replicas", "resource policy"],
)
def test_what_lists_do_not_show_stays_due_one_by_one(world: World, config: dict[str, object]) -> None:
    fleet = Fleet(world, sorting="refused")
    for name in ("s0", "s1"):
        before = fleet.sync(name)
        world.store.syncs.update_sync(
            name,
            config=type(before.config)(**{**vars(before.config), **config}),
            path="/",
            credential="aws",
            region=REGION,
            adopt=None,
        )
    fleet.run()
    world.remote.settle_replication()
    fleet.run()
    due = fleet.sync("s0").next_due_at

    fleet.sweep()

    assert fleet.sync("s0").next_due_at == due
    assert fleet.swept[-1].syncs == 2


def test_one_check_that_is_due_needs_no_list(world: World) -> None:
    fleet = Fleet(world, sorting="refused", size=1, interval=timedelta(hours=1))

    assert fleet.sweep() == []


def test_a_few_checks_among_many_objects_are_made_one_by_one(world: World) -> None:
    """Two lists for two objects would save nothing."""
    fleet = Fleet(world, sorting="refused", size=1)
    many = world.store.database
    with many.write() as connection:
        connection.exec_driver_sql("UPDATE syncs SET objects = 101 WHERE name = 's0'")
        connection.exec_driver_sql(f"UPDATE syncs SET next_due_at = {2**60} WHERE name = 's0'")
        connection.exec_driver_sql("UPDATE syncs SET objects = 2 WHERE name = 'web'")

    assert fleet.sweep() == []


# --- layout per-key


def per_key(world: World, **config: object) -> Fleet:
    """The world's sync writes an object for each of its two keys."""
    fleet = Fleet(world, sorting="refused", size=1)
    world.configure(**{"layout": Layout.PER_KEY, "remote_name": None, "name_template": "{app}/{env}/{key}", **config})
    fleet.run()
    approve(fleet)
    fleet.let_writes_grow_old()
    return fleet


def approve(fleet: Fleet) -> None:
    """Let the guard pass what it holds because the former object stays behind."""
    held = fleet.world.run()
    if held.error is not None:
        digest = fleet.world.reconciler.prepare(fleet.world.store.sync_states.state_of("web")).guarded.digest
        assert digest is not None
        fleet.world.store.sync_requests.approve("web", digest, actor="ada")
        fleet.run()
    assert fleet.sync("web").settled_status is SyncStatus.IN_SYNC


def test_each_object_of_a_sync_is_compared(world: World) -> None:
    fleet = per_key(world)
    fleet.remote.outside_put("shop/production/URL", "theirs")

    assert fleet.sweep() == ["sweep"]
    (run,) = fleet.run()

    assert (run.sync, run.counts) == ("web", {"noop": 2, "put": 1})
    assert fleet.remote.object("shop/production/URL").text() == "postgres://db"
    assert fleet.swept[-1].objects == 3


def test_what_was_retained_may_be_deleted_by_hand_without_any_run(world: World) -> None:
    """Every sweep would raise a suspicion again, and every run would find nothing to do."""
    fleet = per_key(world)
    world.edit(USER=None)
    fleet.run()
    fleet.let_writes_grow_old()
    fleet.remote.outside_delete("shop/production/USER", recovery_days=None)

    fleet.sweep()

    assert fleet.run() == []
    assert fleet.swept[-1].suspects == 0


def test_a_sync_with_an_object_in_its_grace_is_left_to_runs(world: World) -> None:
    fleet = per_key(world, on_remove=OnRemove.DELETE, grace=timedelta(days=2))
    world.edit(USER=None)
    fleet.run()
    fleet.let_writes_grow_old()
    due = fleet.sync("web").next_due_at

    fleet.sweep()

    assert fleet.sync("web").next_due_at == due


# --- where lists are not to be had


def test_a_refused_list_is_told_once_and_everything_is_checked_one_by_one(fleet: Fleet) -> None:
    fleet.world.destinations.fail("sweep", error=denied(), times=100)
    due = {name: fleet.sync(name).next_due_at for name in fleet.names}

    assert fleet.sweep() == ["sweep"]
    assert fleet.sweep() == [], "it is not asked again"

    (told,) = (event for event in fleet.world.events if isinstance(event, SweepDenied))
    assert told.credential == "aws"
    assert "secretsmanager:ListSecrets" in told.hint
    assert "phasesync aws policy" in told.hint
    assert {name: fleet.sync(name).next_due_at for name in fleet.names} == due


def test_a_refused_list_is_tried_again_after_an_hour_or_with_a_changed_credential(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = [0.0]
    monkeypatch.setattr(fleet.world.clock, "monotonic", lambda: hours[0] * 3600)
    fleet.world.destinations.fail("sweep", error=denied(), times=2)
    fleet.sweep()
    hours[0] = 0.9
    assert fleet.sweep() == []
    hours[0] = 1.1
    assert fleet.sweep() == ["sweep"]
    assert sum(isinstance(event, SweepDenied) for event in fleet.world.events) == 1
    fleet.world.store.credentials.update("aws", access_key(region=REGION), account=fleet.sync("s0").account)
    fleet.run()

    assert fleet.sweep() == ["sweep"]
    assert fleet.swept[-1].suspects == 0


def test_another_credential_of_the_account_may_list(fleet: Fleet) -> None:
    store = fleet.world.store
    store.credentials.add("zeta", access_key(region=REGION))
    before = fleet.sync("s0")
    store.syncs.update_sync("s0", config=before.config, path="/", credential="zeta", region=REGION, adopt=None)
    fleet.run()
    fleet.world.destinations.fail("sweep", error=denied())

    assert fleet.sweep() == ["sweep", "sweep"]

    assert fleet.swept[-1].syncs == 4


def test_a_credential_that_leads_elsewhere_now_is_not_used(fleet: Fleet) -> None:
    """Everything would be missing in the other account."""
    fleet.world.destinations.accounts[fleet.world.store.credentials.get("aws").id] = "999988887777"

    assert fleet.sweep() == []

    assert fleet.swept == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DestinationUnavailableError("no connection"), "DestinationUnavailableError"),
        (ThrottledError("too many"), "ThrottledError"),
        (CredentialRejectedError("no"), None),
        (InterruptedRunError("phasesync was asked to stop"), None),
    ],
)
def test_a_list_that_fails_leaves_the_checks_as_due_as_they_were(
    fleet: Fleet, error: DestinationUnavailableError, told: str | None
) -> None:
    fleet.world.destinations.fail("sweep", error=error)
    due = {name: fleet.sync(name).next_due_at for name in fleet.names}

    assert fleet.sweep() == ["sweep"]

    assert {name: fleet.sync(name).next_due_at for name in fleet.names} == due
    failures = [event.error for event in fleet.world.events if isinstance(event, ChoreFailed)]
    assert failures == ([] if told is None else [told])
    assert fleet.swept == []


def test_a_list_that_breaks_off_decides_nothing(world: World) -> None:
    """What stood on the pages that did not come is not missing."""
    fleet = Fleet(world, sorting="refused")
    for number in range(150):
        tags = {TAG_INSTANCE: world.store.instance_id}
        fleet.remote.outside_create(f"a/{number:03}", tags=tags)
    pages = iter([None, DestinationUnavailableError("no connection")])

    def second_page_fails(when: str, call: str) -> None:
        if (when, call) == ("before", "sweep") and (error := next(pages)) is not None:
            raise error

    world.destinations.on_call = second_page_fails

    assert fleet.sweep() == ["sweep", "sweep"]

    assert fleet.run() == []
    assert fleet.swept == []


# --- several daemons, edits, and the end


@on_each_database
def test_of_several_daemons_one_sweeps(fleet: Fleet) -> None:
    first = fleet.another_sweeper(fleet.world.store.daemons, "first")
    second = fleet.another_sweeper(fleet.world.store.daemons, "second")

    first.sweep(lambda: False)
    second.sweep(lambda: False)

    assert len(fleet.swept) == 1


@on_each_database
def test_a_run_that_began_meanwhile_wins(fleet: Fleet) -> None:
    """The list is of before its write, so it shows another version than the journal will have."""
    fleet.remote.outside_put("shop/s1", "theirs")
    ran: list[str] = []

    def run_meanwhile(when: str, call: str) -> None:
        if (when, call) == ("after", "sweep"):
            fleet.world.destinations.on_call = None
            fleet.edit("s1", "postgres://new")
            ran.extend(run.sync for run in fleet.run())

    fleet.world.destinations.on_call = run_meanwhile
    fleet.sweep()

    assert ran == ["s1"]
    assert fleet.run() == []
    assert fleet.object("s1").text() == '{"URL":"postgres://new"}'


def test_a_stop_ends_it_before_the_next_page_and_stores_nothing(world: World) -> None:
    fleet = Fleet(world, sorting="refused")
    for number in range(250):
        fleet.remote.outside_create(f"a/{number:03}", tags={TAG_INSTANCE: world.store.instance_id})
    due = {name: fleet.sync(name).next_due_at for name in fleet.names}

    calls = fleet.sweep(lambda: "sweep" in world.destinations.log)

    assert calls == ["sweep"]
    assert {name: fleet.sync(name).next_due_at for name in fleet.names} == due
    assert fleet.swept == []


def test_a_sync_that_does_not_authenticate_is_left_to_its_run(fleet: Fleet) -> None:
    with fleet.world.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE syncs SET path = '/other' WHERE name = 's1'")
    fleet.remote.outside_put("shop/s2", "theirs")

    fleet.sweep()

    assert fleet.swept[-1].syncs == 3
    assert [run.sync for run in fleet.run()] == ["s2"]


@on_each_database
def test_nothing_due_means_no_call_and_no_claim(world: World) -> None:
    fleet = Fleet(world, sorting="refused", interval=timedelta(hours=1))
    world.configure(interval=timedelta(hours=1))
    fleet.run()

    assert fleet.sweep() == []
    assert world.store.daemons.claim_chore("sweep", "x", every=SWEEP_EVERY)


def scheduler_of(fleet: Fleet, owner: str) -> Scheduler:
    """A daemon's rounds, with the fleet's sweeper."""
    world = fleet.world
    context = context_of(world.store, clock=world.clock, events=world, owner=owner)
    return Scheduler(
        context,
        host="localhost",
        pid=1,
        keeper=ClaimKeeper(context),
        dispatcher=cast(SyncDispatcher, None),
        reconciler=Reconciler(context),
        runs_kept=lambda: LAG,
        share_among=lambda daemons: None,
        sweeper=fleet.sweeper,
    )


def test_a_daemon_sweeps_while_it_works(fleet: Fleet) -> None:
    daemon = scheduler_of(fleet, "first")
    daemon.sweep()
    assert fleet.swept == [], "it does not know its role yet"
    daemon.beat()

    daemon.sweep()
    daemon.stop()
    daemon.sweep()

    assert len(fleet.swept) == 1


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_a_standby_does_not_sweep(fleet: Fleet) -> None:
    scheduler_of(fleet, "first").beat()
    second = scheduler_of(fleet, "second")
    second.beat()

    second.sweep()

    assert fleet.swept == []


def test_where_everything_was_written_just_now_nothing_is_suspected(world: World) -> None:
    fleet = Fleet(world, sorting="refused")
    world.clock.pass_(minutes=-10)
    fleet.remote.listed = lambda **place: []  # type: ignore[method-assign]

    fleet.sweep()

    assert (fleet.swept[-1].objects, fleet.swept[-1].suspects) == (4, 0)


def test_a_current_version_under_another_label_is_no_change(fleet: Fleet) -> None:
    """Labels of others on our version are none of our business."""
    there = fleet.object("s1")
    assert there.current is not None
    there.current.labels.add("live")
    fleet.remote.changed(there)

    fleet.sweep()

    assert {CURRENT, "live"} == there.current.labels
    assert [event.suspects for event in fleet.world.events if isinstance(event, SweepFinished)] == [0]
