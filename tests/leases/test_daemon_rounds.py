"""A daemon's rounds as far as leases go: who does them, how often, and what happens to old ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import cast

import pytest

from phasesync.adapters.dispatch import ThreadDispatcher
from phasesync.core.chores import Chore, DaemonRole
from phasesync.core.events import RunsPruned
from phasesync.core.lease import LeaseStatus
from phasesync.core.lease_claim import ClaimedLease
from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.reconcile import Reconciler
from phasesync.engine.scheduler import LeaseWork, Scheduler
from phasesync.ports.runtime import SyncDispatcher
from tests.support.context import context_of
from tests.support.databases import on_each_database
from tests.support.lease_world import AtOnce, LeaseProcess, LeaseWorld
from tests.support.stores import have_done_housekeeping

TTL = timedelta(seconds=15)


def scheduler(process: LeaseProcess, owner: str = "daemon-0", *, kept: timedelta = timedelta(days=90)) -> Scheduler:
    """A daemon's rounds on a process of the world; its syncs are no one's here."""
    context = context_of(
        process.store, issuers=process.issuers, clock=process.clock, events=process, owner=owner, ttl=TTL
    )
    return Scheduler(
        context,
        host="host",
        pid=1,
        keeper=ClaimKeeper(context),
        dispatcher=cast(SyncDispatcher, None),
        reconciler=Reconciler(context),
        runs_kept=lambda: kept,
        share_among=lambda _: None,
        lease_work=LeaseWork(expiry=process.expiry, dispatcher=AtOnce(process.expiry.work)),
    )


@on_each_database
def test_nothing_is_taken_back_before_it_is_known_who_works(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.let_time_pass(hours=2)
    rounds = scheduler(world)

    rounds.expire_leases()
    assert world.users() == {lease.spec.name}

    rounds.beat()
    rounds.expire_leases()
    assert (world.users(), world.lease(lease.id).status) == (set(), LeaseStatus.EXPIRED)


class Held:
    """A dispatcher of some threads with work that never ends: AWS does not answer."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.work: list[ClaimedLease] = []

    @property
    def free(self) -> int:
        return self.threads - len(self.work)

    def submit(self, work: ClaimedLease) -> bool:
        self.work.append(work)
        return True

    def running(self) -> Sequence[ClaimedLease]:
        return self.work

    def drain(self, timeout: timedelta) -> bool:
        return False


@on_each_database
def test_what_failed_before_leaves_threads_to_what_is_due(world: LeaseWorld) -> None:
    """However many there are of it, and however often it is asked."""
    failed = [world.issue().lease.id for _ in range(6)]
    denial = world.deny("iam:DeleteAccessKey")
    world.let_time_pass(hours=2)
    world.sweep()
    world.allow(denial)
    world.let_time_pass(hours=2)
    threads = Held(4)

    world.expiry.dispatch_due(threads)
    assert [one.claim.lease_id in failed for one in threads.work] == [True, True]
    good = world.issue().lease.id
    world.let_time_pass(hours=2)
    world.expiry.dispatch_due(threads)

    assert [one.claim.lease_id for one in threads.work[2:]] == [good]


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_who_stands_by_takes_nothing_back_and_reaps_nobody(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.let_time_pass(hours=2)
    first, second = scheduler(world), scheduler(world.another_process(), "daemon-1")
    for daemon in (first, second):
        daemon.beat()
    before = len(world.calls())

    second.expire_leases()
    second.remove_orphan_users()

    assert (first.role, second.role) == (DaemonRole.ACTIVE, DaemonRole.STANDBY)
    assert (world.users(), world.calls()[before:]) == ({lease.spec.name}, [])


@on_each_database
def test_users_are_reaped_once_a_day_whichever_daemon_asks(world: LeaseWorld) -> None:
    first, second = scheduler(world), scheduler(world.another_process(), "daemon-1")
    for daemon in (first, second):
        daemon.beat()
    before = len(world.calls())

    for rounds in (first, second, first):
        rounds.remove_orphan_users()

    assert world.calls()[before:] == ["ListUsers"]


@on_each_database
def test_a_daemon_that_stops_hands_nothing_out_any_more(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.let_time_pass(hours=2)
    rounds = scheduler(world)
    rounds.beat()

    rounds.stop()
    rounds.expire_leases()

    assert world.users() == {lease.spec.name}


@on_each_database
def test_what_is_claimed_when_the_end_has_begun_is_given_back_at_once(world: LeaseWorld) -> None:
    """A round that waited for a locked database comes to its claims after the threads take no more work."""
    lease = world.issue().lease
    world.let_time_pass(hours=2)
    threads: ThreadDispatcher[ClaimedLease] = ThreadDispatcher(
        world.expiry.work, threads=1, events=world, chore=Chore.LEASE
    )
    assert threads.drain(timedelta(0))

    world.expiry.dispatch_due(threads)

    assert world.leases.claim(lease.id, "the next daemon").lease is not None
    assert world.users() == {lease.spec.name}


@on_each_database
def test_leases_that_ended_long_ago_are_deleted_with_their_log(world: LeaseWorld) -> None:
    over, live = world.issue().lease, world.issue().lease
    world.revoke(over.id)
    rounds = scheduler(world, kept=timedelta(microseconds=-1))
    rounds.beat()
    have_done_housekeeping(world.store)

    rounds.prune()

    assert [one.id for one in world.leases.list_leases(ended=True)] == [live.id]
    assert [one for one in world.events if isinstance(one, RunsPruned)] == [RunsPruned(count=0, leases=1)]
