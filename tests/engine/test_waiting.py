"""Waiting for a status: how long, and when it is in vain."""

import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest

from phasesync.core.sync import Paused, Sync, SyncStatus, Trigger
from phasesync.engine.sync_operations import SyncOperations
from phasesync.errors import (
    CredentialRejectedError,
    DestinationUnavailableError,
    IllegalTransitionError,
    PhasesyncError,
    StaleDatabaseError,
    UnhealthyError,
)
from phasesync.store import Store
from phasesync.store.syncs import SyncStore
from tests.support.context import context_of
from tests.support.databases import on_each_database
from tests.support.stores import ACTOR, TTL, access_key, incomplete_role, sync_draft
from tests.support.waiting import HANG_GUARD_S
from tests.support.world import NAME, World

LONG = timedelta(seconds=HANG_GUARD_S)
"""Longer than a test may take: who waits it out has not ended early."""


def with_second_look(world: World, happens: Callable[[], object]) -> Store:
    """The store; something happens just before the second look at a sync."""
    looks = 0

    class WatchedSyncs(SyncStore):
        def get_sync(self, name: str) -> Sync:
            nonlocal looks
            looks += 1
            if looks == 2:
                happens()
            return world.store.syncs.get_sync(name)

    copy = Store(world.store.database, world.store.keys, instance_id=world.store.instance_id)
    copy.syncs = WatchedSyncs(world.store.database, world.store.keys)
    return copy


def nothing() -> None:
    """No one does anything."""


def wait(
    world: World,
    *,
    name: str = "web",
    wanted: SyncStatus = SyncStatus.IN_SYNC,
    timeout: timedelta = LONG,
    since_run: str | None = None,
    meanwhile: Callable[[], object] = nothing,
    served: bool = True,
) -> SyncStatus:
    """Wait, beside a daemon that is alive; return the status that the newest run left behind."""
    if served:
        world.store.daemons.beat("daemon", host="here", pid=1, ttl=TTL)
    context = context_of(with_second_look(world, meanwhile), destinations=world.destinations, clock=world.clock)
    operations = SyncOperations(context)
    return operations.wait(name, wanted=wanted, timeout=timeout, since_run=since_run).settled_status


def pause(world: World, *, until: timedelta | None = None) -> None:
    """Pause the sync."""
    now = world.clock.now()
    paused = Paused(by="ann", at=now, reason="a migration", until=None if until is None else now + until)
    world.store.sync_requests.pause("web", paused)


def hold(world: World) -> None:
    """Leave the sync held: its source was emptied."""
    world.run()
    world.edit(URL=None, USER=None)
    world.run()
    assert world.sync.settled_status is SyncStatus.HELD


def halt(world: World) -> None:
    """Leave the sync halted: someone else's object has its name."""
    world.remote.outside_create(NAME, "{}")
    world.run()
    assert world.sync.settled_status is SyncStatus.HALTED


STUCK = {"held": hold, "halted": halt, "paused": pause}
"""Status -> how a sync gets it."""
SAID = {
    "held": ("would empty the payload", "syncs plan web"),
    "halted": ("not made by phasesync", "syncs why web"),
    "paused": ("by ann, a migration", "syncs resume web"),
}
"""Status -> what is said of the reason, and of the correction."""


@pytest.mark.parametrize("status", STUCK)
def test_a_sync_that_waits_for_a_person_ends_the_waiting(world: World, status: str) -> None:
    """Exit 4, with why and what to do."""
    STUCK[status](world)

    with pytest.raises(IllegalTransitionError, match=f"is {status} and will not be in-sync by itself") as ended:
        wait(world)

    reason, mend = SAID[status]
    assert ended.value.exit_code == 4
    assert reason in str(ended.value)
    assert mend in str(ended.value.hint)


def test_a_sync_without_a_role_ends_the_waiting(world: World) -> None:
    world.store.credentials.add("later", incomplete_role())
    world.store.syncs.add_sync(sync_draft("new", credential="later"))

    with pytest.raises(IllegalTransitionError, match="its credential later has no role yet") as ended:
        wait(world, name="new")

    assert "credentials update later --role-arn" in str(ended.value.hint)


@pytest.mark.parametrize("status", STUCK)
def test_that_status_itself_can_be_waited_for(world: World, status: str) -> None:
    STUCK[status](world)

    wait(world, wanted=SyncStatus(status))


def test_an_edit_of_a_held_sync_is_waited_for(world: World) -> None:
    """What it was before the edit counts no more."""
    hold(world)
    world.edit(URL="postgres://new", USER="shop")

    assert wait(world, meanwhile=world.run) is SyncStatus.IN_SYNC


def test_an_edit_of_a_halted_sync_is_waited_for_until_it_is_halted_again(world: World) -> None:
    halt(world)
    world.edit(URL="postgres://new")
    before = world.sync.last_run_id

    with pytest.raises(IllegalTransitionError, match="is halted and will not"):
        wait(world, meanwhile=world.run)

    assert world.sync.last_run_id != before


@on_each_database
def test_a_request_is_waited_for_until_a_run_has_answered_it(world: World) -> None:
    hold(world)
    before = world.sync.last_run_id
    world.store.sync_requests.request("web", Trigger.MANUAL, actor=ACTOR)

    with pytest.raises(IllegalTransitionError, match="is held and will not"):
        wait(world, since_run=before, meanwhile=world.run)

    assert world.sync.last_run_id != before


def test_a_changed_credential_is_waited_for(world: World) -> None:
    """Its syncs are reconciled at once."""
    halt(world)
    before = world.sync.last_run_id
    world.store.credentials.update("aws", access_key(region=world.sync.region), account=world.sync.account)

    with pytest.raises(IllegalTransitionError, match="is halted and will not"):
        wait(world, meanwhile=world.run)

    assert world.sync.last_run_id != before


def test_a_run_that_is_under_way_is_waited_for(world: World) -> None:
    """A held sync that is checked again may come out otherwise."""
    hold(world)
    claim = world.store.claims.claim(world.sync_id, "daemon", trigger=Trigger.SCHEDULE, actor=ACTOR, ttl=TTL)

    with pytest.raises(IllegalTransitionError, match="is held and will not"):
        wait(world, meanwhile=lambda: world.store.claims.release(claim))


def test_a_pause_during_the_waiting_ends_it(world: World) -> None:
    with pytest.raises(IllegalTransitionError, match="is paused and will not be in-sync"):
        wait(world, meanwhile=lambda: pause(world))


@on_each_database
def test_a_pause_that_ends_in_time_is_waited_out(world: World) -> None:
    def end() -> None:
        world.store.sync_requests.resume("web", actor=ACTOR)
        world.run()

    pause(world, until=timedelta(seconds=1))

    assert wait(world, meanwhile=end) is SyncStatus.IN_SYNC


def test_a_pause_that_ends_too_late_ends_the_waiting(world: World) -> None:
    pause(world, until=2 * LONG)

    with pytest.raises(IllegalTransitionError, match=r"is paused and will not.*by ann until \d{4}.* UTC, a migration"):
        wait(world)


def test_a_failing_sync_is_waited_for_since_it_is_tried_again(world: World) -> None:
    failing(world)

    assert wait(world, meanwhile=world.run) is SyncStatus.IN_SYNC


def test_a_sync_that_is_not_tried_again_in_time_is_not_waited_for(world: World) -> None:
    """A refused credential is tried again after 15 minutes; what a person asked for is tried at once."""
    failing(world, CredentialRejectedError("the key is not known", code="InvalidClientTokenId"))

    with pytest.raises(
        IllegalTransitionError, match=r"is failing, and its next run is at \d{4}-.* UTC: the key is not known"
    ) as ended:
        wait(world)

    assert ended.value.exit_code == 4
    assert ended.value.hint == (
        "phasesync syncs why web; once the cause is fixed, to try at once: phasesync syncs trigger web"
    )


def test_a_sync_whose_next_run_is_near_is_waited_for(world: World) -> None:
    failing(world)

    with pytest.raises(IllegalTransitionError, match=r"is (still )?failing"):
        wait(world, timeout=timedelta(seconds=0))


def test_a_request_overrides_a_next_run_that_is_far_away(world: World) -> None:
    failing(world, CredentialRejectedError("the key is not known", code="InvalidClientTokenId"))
    world.store.sync_requests.request("web", Trigger.MANUAL, actor=ACTOR)

    assert wait(world, meanwhile=world.run) is SyncStatus.IN_SYNC


def test_a_version_budget_that_is_used_up_for_longer_ends_the_waiting(world: World) -> None:
    """A run that a person asks for is not held up by it."""
    number = itertools.count()
    while world.edit(URL=str(next(number))) and world.run(Trigger.CHANGE).versions_written:
        """Until it is used up."""
    assert world.sync.settled_status is SyncStatus.PENDING

    with pytest.raises(IllegalTransitionError, match=r"is pending, and its next run is at .*version budget") as ended:
        wait(world)

    assert "phasesync syncs trigger web" in str(ended.value.hint)


@on_each_database
def test_without_a_daemon_nobody_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 7, as where a daemon is not healthy, with both ways on."""
    monkeypatch.setattr("phasesync.engine.sync_operations.STARTING_S", 0.0)

    with pytest.raises(UnhealthyError, match="is pending, and no daemon is running that would make it in-sync") as told:
        wait(world, served=False)

    assert told.value.exit_code == 7
    assert "phasesync daemon" in str(told.value.hint)
    assert "phasesync syncs run web" in str(told.value.hint)


def test_a_daemon_that_is_about_to_start_is_waited_for(world: World) -> None:
    def start() -> None:
        world.store.daemons.beat("daemon", host="here", pid=1, ttl=TTL)
        world.run()

    assert wait(world, served=False, meanwhile=start) is SyncStatus.IN_SYNC


def test_a_run_of_a_command_is_waited_for_without_a_daemon(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`syncs run` in another shell may bring the status."""
    monkeypatch.setattr("phasesync.engine.sync_operations.STARTING_S", 0.0)
    claim = world.store.claims.claim(world.sync_id, "cli", trigger=Trigger.MANUAL, actor=ACTOR, ttl=TTL)

    def end() -> None:
        world.store.claims.release(claim)
        world.run()

    assert wait(world, served=False, meanwhile=end) is SyncStatus.IN_SYNC


def test_a_pause_can_be_waited_for_without_a_daemon(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phasesync.engine.sync_operations.STARTING_S", 0.0)

    wait(world, served=False, wanted=SyncStatus.PAUSED, meanwhile=lambda: pause(world))


@on_each_database
def test_a_run_that_is_due_now_is_not_in_the_way(world: World) -> None:
    """A wait shorter than a daemon's start reports that there is no daemon; beside a daemon, that time is over."""
    with pytest.raises(UnhealthyError, match="is pending, and no daemon is running that would make it in-sync"):
        wait(world, served=False, timeout=timedelta())
    with pytest.raises(IllegalTransitionError, match="is still pending, not in-sync"):
        wait(world, timeout=timedelta(milliseconds=1))


def test_what_others_make_does_not_wait_for_a_run(world: World) -> None:
    failing(world, CredentialRejectedError("the token is expired"))

    wait(world, wanted=SyncStatus.PAUSED, timeout=timedelta(seconds=5), meanwhile=lambda: pause(world))


def test_what_a_restored_database_waits_for_is_named(world: World) -> None:
    def restored(when: str, what: str) -> None:
        if what == "observe":
            raise StaleDatabaseError

    with world.steps(restored):
        world.run()

    with pytest.raises(IllegalTransitionError, match="is halted and will not") as ended:
        wait(world)

    assert "phasesync db accept-restore" in str(ended.value.hint)


def failing(world: World, error: PhasesyncError | None = None) -> None:
    """Have one run fail in a way that is tried again."""

    def unreachable(when: str, what: str) -> None:
        if what == "observe":
            raise error or DestinationUnavailableError("no way to eu-west-1")

    with world.steps(unreachable):
        world.run()
    assert world.sync.settled_status is SyncStatus.FAILING
