"""A daemon's role ends with its own membership, and a failure is reported once for each chore."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import cast

import pytest

from phasesync.core.chores import DaemonRole
from phasesync.core.events import ChoreFailed, Event
from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.reconcile import Reconciler
from phasesync.engine.scheduler import Scheduler
from phasesync.errors import PhasesyncError, StoreUnavailableError
from phasesync.ports.runtime import SyncDispatcher
from phasesync.store import Store
from phasesync.store.claims import Due
from tests.support.aws_builders import HandClock
from tests.support.context import context_of
from tests.support.stores import TTL, claim_due
from tests.support.values import NOW

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)


class Daemon:
    """A scheduler with a database that can be made to fail."""

    def __init__(self, store) -> None:
        self.clock = HandClock(NOW)
        self.events: list[Event] = []
        self.errors: dict[str, PhasesyncError] = {}
        self._store = store
        copy = Store(store.database, store.keys, instance_id=store.instance_id)
        for noun in ("sync_requests", "claims", "runs", "daemons"):
            setattr(copy, noun, self)
        context = context_of(copy, clock=self.clock, events=self, owner="daemon-1")
        self.scheduler = Scheduler(
            context,
            host="localhost",
            pid=1,
            keeper=ClaimKeeper(context_of(store, clock=self.clock)),
            dispatcher=cast(SyncDispatcher, self),
            reconciler=Reconciler(context),
            runs_kept=lambda: timedelta(days=1),
            share_among=lambda _: None,
        )
        self.claimed = 0
        self.woken = 0

    free = free_for_large = 1

    def role(self) -> DaemonRole | None:
        return self.scheduler.role

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def _or_fail(self, what: str, work: Callable[[], object]) -> object:
        if what in self.errors:
            raise self.errors[what]
        return work()

    def beat(self, owner: str, **arguments: object) -> object:
        return self._or_fail("beat", lambda: self._store.daemons.beat(owner, **arguments))

    def alive(self) -> object:
        return self._store.daemons.alive()

    def next_due(self, **_: object) -> Due:
        return Due(due_in=timedelta(0), urgencies=(2,))

    def claim_due(self, owner: str, **_: object) -> object:
        self.claimed += 1
        return self._or_fail("claim", lambda: claim_due(self._store, owner))

    def since_chore(self, chore: str) -> object:
        return self._store.daemons.since_chore(chore)

    def claim_chore(self, chore: str, owner: str, **arguments: object) -> object:
        return self._store.daemons.claim_chore(chore, owner, **arguments)

    def prune_runs(self, **arguments: object) -> object:
        return self._store.runs.prune_runs(**arguments)

    def retry_refused(self) -> None:
        self._or_fail("wake", self._store.sync_requests.retry_refused)

    def retry_waiting_for_window(self, *, running: bool) -> None:
        self._store.sync_requests.retry_waiting_for_window(running=running)
        self.woken += 1

    def wake_where_behind(self) -> None:
        self._store.sync_requests.wake_where_behind()

    def release_expired(self) -> object:
        return self._or_fail("reap", self._store.claims.release_expired)


@pytest.fixture
def daemon(store) -> Daemon:
    return Daemon(store)


def test_a_role_lasts_as_long_as_the_heartbeat_that_brought_it(daemon) -> None:
    assert daemon.role() is None
    assert daemon.scheduler.beat()
    assert daemon.role() is DaemonRole.ACTIVE
    daemon.errors["beat"] = StoreUnavailableError("the disk is full", code="SQLITE_FULL")

    daemon.clock.turn(TTL - timedelta(seconds=1))
    assert not daemon.scheduler.beat()
    assert daemon.role() is DaemonRole.ACTIVE
    assert daemon.scheduler.heartbeat_failure is daemon.errors["beat"]
    daemon.clock.turn(timedelta(seconds=2))

    assert daemon.role() is None
    claimed = daemon.claimed
    assert daemon.scheduler.poll() and daemon.claimed == claimed, "another may be at work by now"
    del daemon.errors["beat"]
    assert daemon.scheduler.beat()
    assert daemon.role() is DaemonRole.ACTIVE
    assert daemon.scheduler.heartbeat_failure is None


def test_a_heartbeat_waits_once_for_a_database_that_is_not_there(daemon, monkeypatch) -> None:
    """Three steps that each wait for a lock would look like a heartbeat that has stalled."""
    waited: list[str] = []

    def not_there(name: str) -> Callable[[], None]:
        def step() -> None:
            waited.append(name)
            raise StoreUnavailableError("locked")

        return step

    monkeypatch.setattr(daemon.scheduler._keeper, "renew", not_there("renewal"))
    daemon.errors["beat"] = StoreUnavailableError("locked")

    assert not daemon.scheduler.beat()

    assert waited == ["renewal"]
    assert isinstance(daemon.scheduler.heartbeat_failure, StoreUnavailableError)
    assert daemon.role() is None


def test_a_round_says_whether_it_succeeded_and_its_failure_is_told_once(daemon) -> None:
    daemon.scheduler.beat()
    assert daemon.scheduler.poll() and daemon.scheduler.free_expired_claims()
    daemon.errors["claim"] = daemon.errors["reap"] = StoreUnavailableError("gone")

    assert [daemon.scheduler.poll() or daemon.scheduler.free_expired_claims() for _ in range(5)] == [False] * 5

    failed = [event.chore for event in daemon.events if isinstance(event, ChoreFailed)]
    assert failed == ["poll", "reap"], "each chore has its own last failure"


def test_a_round_that_keeps_failing_keeps_its_last_error_alone(daemon) -> None:
    """An error keeps the frames it passed. If one of these kept the error before it, a database that is away for a
    day would fill the memory."""
    daemon.scheduler.beat()
    errors = []
    for _ in range(5):
        daemon.errors["claim"] = StoreUnavailableError("gone")
        errors.append(weakref.ref(daemon.errors["claim"]))
        assert not daemon.scheduler.poll()
    daemon.errors.clear()
    gc.collect()

    assert [error() is None for error in errors] == [True] * 4 + [False]


def test_housekeeping_shortens_the_log_of_the_database(store, daemon) -> None:
    daemon.scheduler.beat()
    assert store.database.log_bytes() > 0
    assert daemon.scheduler.prune()
    assert store.database.log_bytes() == 0


def test_what_aws_refused_a_former_process_is_woken_once(daemon) -> None:
    """Its keys, proxy and endpoint may be others; and where the database failed then, by the next heartbeat."""
    daemon.errors["wake"] = StoreUnavailableError("the disk is full", code="SQLITE_FULL")
    assert not daemon.scheduler.beat()
    daemon.errors.clear()

    assert daemon.scheduler.beat()
    assert daemon.scheduler.beat()

    assert daemon.woken == 1
