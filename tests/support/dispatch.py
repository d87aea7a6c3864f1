"""
Daemons inside the test, each with threads of its own, whatever brings due syncs to them: `daemon.dispatch`.

    @WITH_EACH_DISPATCH
    def test_something(store, member): ...
        daemon = member(work)               the first heartbeat is over
        daemon.poll_until(lambda: …)
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from phasesync.adapters.dispatch import SyncThreadDispatcher
from phasesync.core.events import Event
from phasesync.core.sync_claim import Claim
from phasesync.engine.claims import ClaimKeeper, release_claim
from phasesync.engine.reconcile import Reconciler
from phasesync.engine.scheduler import Scheduler
from phasesync.store import Store
from phasesync.store.queue_schema import upgrade_queue
from tests.support.context import context_of
from tests.support.stores import TTL
from tests.support.waiting import HANG_GUARD_S, wait_until

WITH_EACH_DISPATCH = pytest.mark.parametrize(
    ("database_backend", "dispatch"),
    [("sqlite", "threads"), ("postgresql", "threads"), ("postgresql", "procrastinate")],
    indirect=["database_backend"],
)


class Member:
    """One daemon of several, without its process and without AWS."""

    def __init__(
        self,
        store: Store,
        dispatch: str,
        work: Callable[[Claim], None],
        *,
        threads: int = 4,
        owner: str = "daemon-1",
        ttl: timedelta = TTL,
    ) -> None:
        self.events: list[Event] = []
        self.shares: list[int] = []
        context = context_of(store, events=self, owner=owner, ttl=ttl)
        self.keeper = ClaimKeeper(context)

        def held(claim: Claim) -> None:
            self.keeper.hold(claim)
            try:
                work(claim)
            finally:
                self.keeper.drop(claim)

        self.dispatcher: SyncThreadDispatcher
        queue = None
        if dispatch == "procrastinate":
            from phasesync.adapters.dispatch.procrastinate import ProcrastinateDispatcher
            from phasesync.store.postgresql import configure_async, driver_parameters

            upgrade_queue(store.database)
            engine = store.database.engine
            self.dispatcher = queue = ProcrastinateDispatcher(
                held,
                threads=threads,
                events=self,
                claim=lambda sync_ids: store.claims.claim_if_due(sync_ids, owner, ttl=ttl),
                release=partial(release_claim, context),
                parameters=driver_parameters(engine),
                set_up=partial(configure_async, url=engine.url),
                ttl=ttl,
            )
        else:
            self.dispatcher = SyncThreadDispatcher(held, threads=threads, events=self)
        self.scheduler = Scheduler(
            context,
            host="localhost",
            pid=1,
            keeper=self.keeper,
            dispatcher=self.dispatcher,
            reconciler=Reconciler(context),
            runs_kept=lambda: timedelta(days=1),
            share_among=self.shares.append,
            queue=queue,
        )
        if queue is not None:
            queue.start(lambda: self.scheduler.may_claim)
        assert self.scheduler.beat()

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def poll_until(self, condition: Callable[[], object], what: str = "the work") -> None:
        """Poll until a condition holds."""

        def holds() -> bool:
            assert self.scheduler.poll()
            return bool(condition())

        wait_until(holds, what=what)

    def leave(self, drain: timedelta = timedelta(seconds=HANG_GUARD_S)) -> bool:
        """End as a daemon does at SIGTERM; return whether all work ended in time."""
        self.scheduler.stop()
        self.keeper.stop()
        ended = self.dispatcher.drain(drain)
        self.scheduler.sign_off([] if ended else list(self.dispatcher.running()))
        return ended
