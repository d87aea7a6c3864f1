"""Large syncs leave threads to the small ones: what a store claims, and what a daemon asks for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.adapters.clock import SystemClock
from phasesync.core.schedule import LARGE_ABOVE, threads_for_large
from phasesync.core.sync import Layout, SyncConfig, Trigger
from phasesync.core.sync_claim import Claim
from phasesync.store import Store
from tests.support.dispatch import WITH_EACH_DISPATCH, Member
from tests.support.sql import counted
from tests.support.stores import TTL, add_sync, claim_due, claim_one, put, settle, write
from tests.support.waiting import wait_until


def settle_with(store: Store, objects: dict[str, int]) -> None:
    """Add syncs, run each once with so many objects, and leave them due again."""
    for name in objects:
        add_sync(store, name)
    names = {sync.id: sync.name for sync in store.syncs.list_syncs()}
    for claim in claim_due(store, limit=100):
        settle(store, claim, objects=objects[names[claim.sync_id]], due_in=timedelta(seconds=-1))


def names_of(store: Store, claims: list[Claim]) -> list[str]:
    names = {sync.id: sync.name for sync in store.syncs.list_syncs()}
    return sorted(names[claim.sync_id] for claim in claims)


FOUR = {"large-1": 300, "large-2": LARGE_ABOVE + 1, "small-1": LARGE_ABOVE, "small-2": 1}


@pytest.mark.parametrize(
    ("limit", "large", "expected"),
    [
        (10, None, ["large", "large", "small", "small"]),
        (10, 2, ["large", "large", "small", "small"]),
        (10, 1, ["large", "small", "small"]),
        (10, 0, ["small", "small"]),
        (10, -3, ["small", "small"]),
        (1, 0, ["small"]),
    ],
)
def test_no_more_large_ones_are_claimed_than_asked_for(
    store: Store, limit: int, large: int | None, expected: list[str]
) -> None:
    settle_with(store, FOUR)

    claims = claim_due(store, limit=limit, large=large)

    assert [name.partition("-")[0] for name in names_of(store, claims)] == expected
    assert {claim.objects for claim in claims} <= set(FOUR.values())
    rest = claim_due(store, "second", limit=10)
    assert names_of(store, [*claims, *rest]) == sorted(FOUR), "what was not taken is free"


def test_the_limit_holds_for_both_together(store: Store) -> None:
    settle_with(store, {f"large-{number}": 300 for number in range(4)} | {f"small-{number}": 1 for number in range(4)})

    claims = claim_due(store, limit=3, large=2)

    assert len(claims) == 3
    assert sum(claim.objects > LARGE_ABOVE for claim in claims) <= 2


def test_the_most_urgent_large_one_comes_first(store: Store) -> None:
    settle_with(store, FOUR)
    store.sync_requests.request("large-2", Trigger.MANUAL, actor="bob")

    assert names_of(store, claim_due(store, large=1)) == ["large-2", "small-1", "small-2"]


def test_a_claim_is_a_look_and_one_statement_however_many_large_ones_there_may_be(store: Store) -> None:
    """Where large ones wait for a thread, polls go on twenty times a second, and must not lock anything."""
    settle_with(store, {"large-1": 300, "large-2": 300, "small": 1})
    with counted(store.database.engine) as statements:
        assert len(claim_due(store, limit=2, large=1)) == 2
        assert len(statements) == 2
        statements.clear()
        assert claim_due(store, limit=2, large=0) == []
        assert len(statements) == 1


def test_a_run_that_found_nothing_out_leaves_the_size(store: Store) -> None:
    """Such as one that AWS refused before it looked at anything."""
    settle_with(store, {"web": 300})

    settle(store, claim_one(store), objects=0, due_in=timedelta(seconds=-1))

    assert claim_due(store, large=0) == []
    assert claim_one(store).objects == 300


def test_a_claim_by_hand_knows_the_size_too(store: Store) -> None:
    settle_with(store, {"web": 300})

    sync = store.syncs.get_sync("web")
    assert store.claims.claim(sync.id, "me", trigger=Trigger.MANUAL, actor="bob", ttl=TTL).objects == 300


@pytest.mark.parametrize(("layout", "objects"), [(Layout.JSON, 1), (Layout.PER_KEY, 30)])
def test_a_first_run_is_as_large_as_the_environment_has_keys(store: Store, layout: Layout, objects: int) -> None:
    """Where each key becomes an object; eight new syncs of 300 objects must not take every thread either."""
    put(store, *(write(f"KEY_{number}") for number in range(30)))
    put(store, *(write(f"KEY_{number}") for number in range(30)), environment="other")
    add_sync(store, config=SyncConfig(remote_name="web", layout=layout))

    assert claim_one(store).objects == objects


# --- a daemon's threads


@given(threads=st.integers(1, 64))
def test_large_ones_get_three_quarters_of_the_threads(threads: int) -> None:
    """And one thread where there is but one: otherwise they would never run."""
    allowed = threads_for_large(threads)

    assert 1 <= allowed <= max(1, threads * 3 / 4)
    assert allowed < threads or threads == 1


class Fleet(Member):
    """A daemon with runs that wait until they are released."""

    def __init__(self, store: Store, dispatch: str) -> None:
        self.gate = threading.Event()
        self._store = store
        super().__init__(store, dispatch, self._work)

    def _work(self, claim: Claim) -> None:
        if claim.objects > LARGE_ABOVE:
            self.gate.wait(30)
        settle(self._store, claim, objects=claim.objects, due_in=timedelta(hours=1))

    def end(self) -> None:
        self.gate.set()
        self.leave()


@pytest.fixture
def fleet(store: Store, dispatch: str) -> Iterator[Fleet]:
    fleet = Fleet(store, dispatch)
    yield fleet
    fleet.end()


@WITH_EACH_DISPATCH
def test_small_ones_are_done_while_large_ones_go_on(store: Store, fleet: Fleet) -> None:
    """Eight large ones want the four threads; ten small ones need not wait for any of them."""
    large, small = [f"large-{number}" for number in range(8)], [f"small-{number}" for number in range(10)]
    settle_with(store, dict.fromkeys(large, 300) | dict.fromkeys(small, 1))

    def small_are_done() -> bool:
        fleet.scheduler.poll()
        assert sum(claim.objects > LARGE_ABOVE for claim in fleet.dispatcher.running()) <= 3
        return not any_owed(store, small)

    wait_until(small_are_done, what="the end of all small ones")
    # The thread of the last small one may still be on its way out.
    wait_until(lambda: len(fleet.dispatcher.running()) == 3, what="only large ones under way")
    assert all(claim.objects > LARGE_ABOVE for claim in fleet.dispatcher.running())
    assert not fleet.gate.is_set()


def any_owed(store: Store, names: list[str]) -> bool:
    """Whether any of these is due or under way."""
    now = SystemClock().now()
    return any(
        sync.running or (sync.next_due_at is not None and sync.next_due_at <= now)
        for sync in store.syncs.list_syncs()
        if sync.name in names
    )


@pytest.mark.parametrize("dispatch", ["threads"])
def test_what_is_claimed_when_the_end_has_begun_is_given_back_at_once(store: Store, fleet: Fleet) -> None:
    """A poll that waited for a locked database comes to its claims after the threads take no more work."""
    settle_with(store, {"small": 1})
    assert fleet.dispatcher.drain(timedelta(0))

    assert fleet.scheduler.poll()

    assert names_of(store, claim_due(store, "the next daemon")) == ["small"]


@WITH_EACH_DISPATCH
def test_a_heartbeat_tells_how_many_daemons_share_the_quotas(store: Store, fleet: Fleet) -> None:
    """Those that stand by call no one: on SQLite there is always one that works."""
    role = store.daemons.beat("daemon-2", host="localhost", pid=2, ttl=TTL)
    fleet.scheduler.beat()
    store.daemons.deregister("daemon-2")
    fleet.scheduler.beat()

    assert fleet.shares == [1, 2 if role == "active" else 1, 1]
