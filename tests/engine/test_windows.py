"""Maintenance windows: what waits while one is closed, until when, and what a person's run does."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
import sqlalchemy as sa

from phasesync.core.events import RunFinished
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import Adopt, Layout, OnDrift, OnRemove, SyncStatus, Trigger
from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.explanation import explain
from phasesync.engine.reconcile import Reconciler
from phasesync.engine.scheduler import Scheduler
from phasesync.engine.sync_operations import SyncOperations
from phasesync.errors import IllegalTransitionError, InvalidInputError
from phasesync.ports.runtime import SyncDispatcher
from phasesync.store import Store
from phasesync.store.tables import apps
from tests.support.operator import operations
from tests.support.stores import ACTOR, TTL, open_test_store
from tests.support.waiting import HANG_GUARD_S
from tests.support.world import NAME, Killed, World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"])

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def around(now: datetime, *, begins: timedelta = -HOUR, ends: timedelta = 3 * HOUR, kind: str = "deny") -> str:
    """A window that is in force from so long ago to then, in UTC."""
    return f"{kind}: {now + begins:%H:%M}-{now + ends:%H:%M} UTC"


def opening(now: datetime, ends: timedelta = 3 * HOUR) -> datetime:
    return (now + ends).replace(second=0, microsecond=0)


@pytest.fixture
def store(migrated_database_url: str) -> Iterator[Store]:
    opened = open_test_store(migrated_database_url)
    yield opened
    opened.close()


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def closed(world: World, now: datetime) -> World:
    """In sync; its window has closed for three hours."""
    world.run()
    world.configure(windows=(around(now),))
    world.run(Trigger.CHANGE)
    world.destinations.log.clear()
    world.events.clear()
    return world


def status_of(world: World) -> str:
    """The status that the newest run left."""
    return str(world.sync.settled_status)


def finished(world: World) -> RunFinished:
    (event,) = [event for event in world.events if isinstance(event, RunFinished)]
    return event


def run_with(world: World, *windows: str) -> Run:
    """A run by a daemon with windows of all syncs; AssertionError if nothing was recorded."""
    context = replace(world.context, windows=lambda: windows)
    done = Reconciler(context).reconcile(world.claim(Trigger.CHANGE), lambda: None)
    assert done is not None
    return done


def test_an_edit_waits_and_goes_out_once_when_the_window_opens(closed: World, now: datetime) -> None:
    closed.edit(URL="first")
    run = closed.run(Trigger.CHANGE)

    assert closed.writes() == []
    assert (run.outcome, run.error, run.versions_written) == (Outcome.UNCHANGED, None, 0)
    (change,) = run.changes
    assert (change.action, change.outcome, change.keys.changed) == ("put", Outcome.UNCHANGED, ("URL",))
    said = f"waits for the maintenance window: opens {opening(now):%Y-%m-%d %H:%M} UTC ({around(now)}; of the sync web)"
    assert change.reason.endswith(said)
    sync = closed.sync
    assert (sync.settled_status, sync.status_reason) == (SyncStatus.PENDING, said)
    assert (sync.applied_revision, sync.source_revision) == (1, 2)
    assert finished(closed).window == said

    closed.edit(URL="second")
    closed.clock.passed = opening(now) - now + MINUTE
    applied = closed.run(Trigger.CHANGE)

    assert (applied.outcome, applied.versions_written) == (Outcome.APPLIED, 1)
    assert "second" in closed.text
    assert (closed.sync.settled_status, closed.sync.status_reason) == (SyncStatus.IN_SYNC, None)


def test_edits_in_a_closed_window_make_one_run_and_no_loop(closed: World, now: datetime) -> None:
    closed.configure(interval=24 * HOUR)
    closed.run(Trigger.CHANGE)

    closed.edit(URL="first")
    assert closed.due()
    closed.run(Trigger.CHANGE)
    assert not closed.due()
    closed.edit(URL="second")
    closed.edit(URL="third")

    assert not closed.due()
    for due_at in (closed.sync.retry_at, closed.sync.next_due_at):
        assert due_at is not None
        assert timedelta(0) <= due_at - opening(now) < MINUTE


def test_drift_is_seen_in_a_closed_window_and_repaired_afterwards(closed: World, now: datetime) -> None:
    closed.remote.outside_put(NAME, "theirs")

    run = closed.run(Trigger.SCHEDULE)

    assert (run.trigger, run.outcome, closed.writes()) == (Trigger.DRIFT, Outcome.UNCHANGED, [])
    assert "waits for the maintenance window" in run.changes[0].reason
    assert run.waits_for == "maintenance-window"
    assert closed.sync.settled_status is SyncStatus.PENDING
    assert finished(closed).trigger is Trigger.DRIFT
    # It is checked again at its interval, before the window opens.
    assert closed.sync.next_due_at is not None
    assert closed.sync.next_due_at - datetime.now(UTC) < 2 * closed.sync.config.interval
    assert closed.run(Trigger.SCHEDULE).changes == run.changes
    assert closed.entry.enforced_at == ()

    closed.clock.passed = opening(now) - now + MINUTE
    assert closed.run(Trigger.SCHEDULE).versions_written == 1


def test_a_sync_in_step_is_not_held_up_by_a_closed_window(closed: World) -> None:
    run = closed.run(Trigger.SCHEDULE)

    assert (run.outcome, closed.sync.settled_status, closed.sync.status_reason) == (
        Outcome.UNCHANGED,
        SyncStatus.IN_SYNC,
        None,
    )
    assert finished(closed).window is None


def test_a_person_s_run_crosses_the_window_and_says_so(closed: World, now: datetime) -> None:
    closed.edit(URL="urgent")

    run = closed.run(Trigger.MANUAL)

    crossed = f"crossed the closed maintenance window of the sync web ({around(now)})"
    assert run.versions_written == 1
    assert run.changes[0].reason.endswith(crossed)
    assert finished(closed).window == crossed
    assert closed.sync.settled_status is SyncStatus.IN_SYNC


def test_what_a_person_asked_the_daemon_for_crosses_it_too(closed: World) -> None:
    closed.edit(URL="urgent")
    closed.run(Trigger.CHANGE)
    operations(closed).trigger("web", actor=ACTOR)
    assert closed.due()
    (claim,) = closed.store.claims.claim_due("daemon", limit=1, ttl=TTL)

    run = closed.another_reconciler().reconcile(claim, lambda: None)

    assert run is not None
    assert (run.trigger, run.versions_written) == (Trigger.MANUAL, 1)


def test_no_write_begins_after_the_window_has_closed(store: Store, now: datetime) -> None:
    """The write in progress ends, and the rest follows when it opens."""
    world = World(store, layout=Layout.PER_KEY, remote_name=None, name_template="shop/{key}")
    world.configure(windows=(around(now, begins=HOUR, ends=2 * HOUR),))

    def close(when: str, what: str) -> None:
        if (when, what) == ("before", "create"):
            world.clock.passed = 90 * MINUTE

    with world.steps(close):
        run = world.run(Trigger.CHANGE)

    assert (run.outcome, run.versions_written) == (Outcome.APPLIED, 1)
    assert [change.outcome for change in run.changes] == [Outcome.APPLIED, Outcome.UNCHANGED]
    assert world.writes() == ["create"]
    assert status_of(world) == "pending"
    assert all(entry.intent is None for entry in world.store.sync_states.state_of("web").journal)

    world.clock.passed = 121 * MINUTE
    assert world.run(Trigger.CHANGE).versions_written == 1
    assert status_of(world) == "in-sync"


def test_a_write_of_unknown_outcome_is_settled_by_observing(closed: World) -> None:
    closed.configure(windows=())
    closed.run(Trigger.CHANGE)
    closed.edit(URL="new")

    def die(when: str, what: str) -> None:
        if (when, what) == ("after", "put_value"):
            raise Killed

    with closed.steps(die), pytest.raises(Killed):
        closed.run(Trigger.CHANGE)
    closed.configure(windows=(around(datetime.now(UTC)),))
    closed.destinations.log.clear()

    run = closed.run(Trigger.CHANGE)

    assert closed.writes() == []
    assert ("put", "an earlier write had landed") in [(change.action, change.reason) for change in run.changes]
    assert closed.sync.settled_status is SyncStatus.IN_SYNC


def test_deletions_wait(store: Store, now: datetime) -> None:
    world = World(store, layout=Layout.PER_KEY, remote_name=None, name_template="shop/{key}", on_remove=OnRemove.DELETE)
    world.edit(A="a", B="b", C="c", D="d")
    world.run()
    world.configure(windows=(around(now),), grace=timedelta(0))
    world.edit(A=None)
    world.destinations.log.clear()

    run = world.run(Trigger.CHANGE)

    assert world.writes() == []
    assert "delete" in [change.action for change in run.changes]


def test_what_was_approved_waits_and_stays_approved(closed: World, now: datetime) -> None:
    closed.configure(on_drift=OnDrift.HOLD)
    closed.remote.outside_put(NAME, "theirs")
    closed.run(Trigger.SCHEDULE)
    assert closed.sync.settled_status is SyncStatus.HELD
    digest = operations(closed).plan("web").guarded.digest or ""
    operations(closed).approve("web", digest, actor=ACTOR)
    (claim,) = closed.store.claims.claim_due("daemon", limit=1, ttl=TTL)

    run = closed.another_reconciler().reconcile(claim, lambda: None)

    assert run is not None
    assert (run.trigger, run.actor, closed.writes()) == (Trigger.CHANGE, ACTOR, [])
    assert (closed.sync.settled_status, closed.sync.approved_digest) == (SyncStatus.PENDING, digest)

    closed.clock.passed = opening(now) - now + MINUTE
    assert closed.run(Trigger.CHANGE).versions_written == 1
    assert closed.sync.approved_digest is None


def test_what_was_approved_in_bulk_waits_too(closed: World) -> None:
    closed.configure(on_drift=OnDrift.HOLD)
    closed.remote.outside_put(NAME, "theirs")
    closed.run(Trigger.SCHEDULE)
    digest = operations(closed).plan("web").guarded.digest or ""

    closed.store.sync_requests.approve_all({"web": digest}, actor=ACTOR, unattended=["Web"])

    (claim,) = closed.store.claims.claim_due("daemon", limit=1, ttl=TTL)
    assert (claim.trigger, claim.actor, closed.sync.approved_digest) == (Trigger.CHANGE, ACTOR, digest)


def test_a_consent_to_adopt_waits(world: World, now: datetime) -> None:
    world.remote.outside_create(NAME, "theirs")
    world.configure(windows=(around(now),))
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR, unattended=True)

    world.run(Trigger.CHANGE)
    assert (world.sync.adopt, world.text) == (Adopt.OVERWRITE, "theirs")

    world.clock.passed = opening(now) - now + MINUTE
    world.run(Trigger.CHANGE)
    assert (world.sync.adopt, "theirs" in world.text) == (None, False)


def test_windows_of_sync_app_and_all_apply_together(world: World, now: datetime) -> None:
    """Deny wins, and the allow windows of each level have to admit the write."""
    world.configure(windows=(around(now, kind="allow"),))
    world.store.apps.update_app("shop", windows=[around(now, kind="allow", ends=5 * HOUR)])
    later = around(now, begins=HOUR, ends=2 * HOUR, kind="allow")

    assert run_with(world, later).versions_written == 0
    reason = world.sync.status_reason or ""
    assert f"opens {opening(now, HOUR):%Y-%m-%d %H:%M} UTC ({later}; of all syncs)" in reason
    world.store.apps.update_app("shop", windows=[around(now)])
    assert world.run(Trigger.CHANGE).versions_written == 0
    assert "of the app shop" in (world.sync.status_reason or "")
    world.store.apps.update_app("shop", windows=[])

    assert world.run(Trigger.CHANGE).versions_written == 1


def test_other_windows_of_the_app_are_heeded_at_once(closed: World, now: datetime) -> None:
    closed.configure(windows=())
    closed.store.apps.update_app("shop", windows=[around(now)])
    closed.run(Trigger.CHANGE)
    assert not closed.due()
    closed.store.apps.update_app("shop", windows=[around(now, ends=4 * HOUR)])
    assert not closed.due()  # It is in step.
    closed.edit(URL="new")
    closed.run(Trigger.CHANGE)
    assert not closed.due()

    closed.store.apps.update_app("shop", windows=[])

    assert closed.due()


def test_a_daemon_with_other_windows_looks_at_what_waits_at_once(closed: World) -> None:
    closed.edit(URL="new")
    closed.run(Trigger.CHANGE)
    waiting = closed.store.sync_requests.waiting_for_window()
    assert closed.sync.retry_at is not None
    assert (waiting.count, waiting.next_opens_at) == (1, closed.sync.retry_at.replace(microsecond=0))
    windows: tuple[str, ...] = ()
    daemon = Scheduler(
        context := replace(closed.context, windows=lambda: windows, owner="daemon"),
        host="localhost",
        pid=1,
        keeper=ClaimKeeper(context),
        dispatcher=cast(SyncDispatcher, None),
        reconciler=closed.reconciler,
        runs_kept=lambda: HOUR,
        share_among=lambda daemons: None,
    )

    assert daemon.beat()
    assert closed.due()  # It may have waited for windows of the former daemon.
    closed.run(Trigger.CHANGE)
    assert daemon.beat()
    assert not closed.due()
    windows = ("deny: 2020-01-01 UTC",)
    assert daemon.beat()

    assert closed.due()


def test_waiting_for_a_sync_ends_at_once_and_says_when_the_window_opens(closed: World, now: datetime) -> None:
    closed.store.daemons.beat("daemon", host="here", pid=1, ttl=TTL)
    closed.edit(URL="new")

    with pytest.raises(IllegalTransitionError, match="its maintenance window is closed: opens") as ended:
        operations(closed).wait("web", wanted=SyncStatus.IN_SYNC, timeout=timedelta(seconds=HANG_GUARD_S))

    assert ended.value.exit_code == 4
    assert f"{opening(now):%Y-%m-%d %H:%M} UTC" in str(ended.value)
    assert "phasesync syncs trigger web" in str(ended.value.hint)


def test_plan_and_explanation_say_when_the_window_opens(closed: World, now: datetime) -> None:
    closed.edit(URL="new")

    report, explanation = operations(closed).plan("web"), explain(closed.context, "web")

    assert report.window is not None
    assert (report.window.closed, report.window.opens_at) == (True, opening(now))
    assert [change.action for change in report.guarded.go] == ["put"]
    assert explanation.window == report.window
    assert any(f"nothing is written unattended: {report.window.text}" in line for line in explanation.reasons)


def test_windows_are_checked_together_when_they_are_set(world: World) -> None:
    world.store.apps.update_app("shop", windows=["allow: 08:00-10:00 UTC"])

    with pytest.raises(InvalidInputError, match="nothing could be written within a year"):
        world.configuration().update("web", change=lambda config: replace(config, windows=("deny: 07:00-11:00",)))
    world.configuration().update("web", change=lambda config: replace(config, windows=("deny: 9:00-11:00",)))

    assert world.sync.config.windows == ("deny: 09:00-11:00 UTC",)
    assert world.sync.app_windows == ("allow: 08:00-10:00 UTC",)


def test_windows_that_this_host_cannot_read_close_everything(world: World) -> None:
    """Such as a zone that another host knows."""
    world.configure(windows=("deny: 08:00-09:00 Mars/Olympus",))

    run = world.run(Trigger.CHANGE)

    assert world.writes() == []
    assert run.error is not None
    assert "no time zone" in run.error.message


def test_forged_windows_of_an_app_close_everything(closed: World) -> None:
    closed.configure(windows=())
    closed.store.apps.update_app("shop", windows=["deny: 01:00-02:00 UTC"])
    closed.store.apps.add_app("other", windows=["deny: 02:00-03:00 UTC"])
    with closed.store.database.write() as connection:
        others = connection.scalar(sa.select(apps.c.windows).where(apps.c.name == "other"))
        connection.execute(apps.update().where(apps.c.name == "shop").values(windows=others))
    closed.edit(URL="new")

    assert closed.another_reconciler().reconcile(closed.claim(Trigger.CHANGE), lambda: None) is None
    assert closed.writes() == []


def test_without_windows_none_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phasesync.core.windows.closure_at", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr("phasesync.core.windows.levels_of", lambda *_: pytest.fail("parsed"))

    assert world.run(Trigger.CHANGE).versions_written == 1
    assert SyncOperations(world.context).plan("web").window is None
