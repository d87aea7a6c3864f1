"""What a daemon may expect of whatever brings due syncs to its threads: its own claims, or a queue of all daemons."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from phasesync.core.events import ChoreFailed
from phasesync.core.schedule import LARGE_ABOVE
from phasesync.core.sync import Trigger
from phasesync.core.sync_claim import Claim
from phasesync.errors import StoreUnavailableError
from phasesync.store import Store
from phasesync.store.queue_schema import LARGE, SMALL, upgrade_queue
from tests.support.dispatch import WITH_EACH_DISPATCH, Member
from tests.support.stores import EXPIRED, LONG, TTL, add_sync, claim_due, claim_one, open_test_store, put, settle, write
from tests.support.waiting import HANG_GUARD_S, wait_until

PAST = timedelta(seconds=-1)
Work = Callable[[Claim], None]


class Runs:
    """Runs that are noted, and that wait for `go` if they are told to."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.names: list[str] = []
        self.triggers: list[Trigger] = []
        self.waits: set[str] = set()
        self.go = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, claim: Claim) -> None:
        sync = self.store.sync_states.load(claim).sync
        with self._lock:
            self.names.append(sync.name)
            self.triggers.append(claim.trigger)
        if sync.name in self.waits:
            self.go.wait(HANG_GUARD_S)
        reads = {sync.environment_id: sync.source_revision}
        settle(self.store, claim, objects=claim.objects, reads=reads, due_in=LONG)

    @property
    def ended(self) -> int:
        return len(self.store.runs.list_runs())


@pytest.fixture
def runs(store: Store) -> Runs:
    return Runs(store)


@pytest.fixture
def member(store: Store, dispatch: str) -> Iterator[Callable[..., Member]]:
    """Start a daemon; it leaves at the end."""
    members: list[Member] = []

    def start(work: Work, **options: object) -> Member:
        members.append(Member(store, dispatch, work, **options))  # type: ignore[arg-type]
        return members[-1]

    yield start
    for one in members:
        one.leave()


@WITH_EACH_DISPATCH
def test_every_due_sync_runs_once(store: Store, runs: Runs, member: Callable[..., Member]) -> None:
    names = [f"s{number}" for number in range(12)]
    for name in names:
        add_sync(store, name)
    daemon = member(runs)

    daemon.poll_until(lambda: runs.ended >= len(names))

    daemon.poll_until(lambda: not daemon.dispatcher.running())
    assert sorted(runs.names) == sorted(names)
    assert claim_due(store) == []


@WITH_EACH_DISPATCH
def test_an_edit_during_a_run_leads_to_one_more_run(store: Store, runs: Runs, member: Callable[..., Member]) -> None:
    add_sync(store)
    runs.waits.add("web")
    daemon = member(runs)
    daemon.poll_until(lambda: runs.names == ["web"])
    for number in range(3):
        put(store, write(value=f"edit {number}"))
        assert daemon.scheduler.poll()
    assert runs.names == ["web"]

    runs.go.set()

    daemon.poll_until(lambda: runs.ended == 2 and not daemon.dispatcher.running())
    daemon.poll_until(lambda: claim_due(store) == [])
    assert runs.names == ["web", "web"]
    assert runs.triggers[-1] is Trigger.CHANGE


@WITH_EACH_DISPATCH
def test_what_was_requested_comes_first_then_edits_then_checks(
    store: Store, runs: Runs, member: Callable[..., Member]
) -> None:
    for name in ("check", "edit", "ask", "first"):
        add_sync(store, name)
    for claim in claim_due(store):
        settle(store, claim, due_in=PAST)
    put(store, write())
    check = store.syncs.get_sync("check")
    settle(store, store.claims.claim(check.id, "me", trigger=Trigger.MANUAL, actor="bob", ttl=TTL), due_in=PAST)
    store.sync_requests.request("ask", Trigger.MANUAL, actor="bob")
    first = store.syncs.get_sync("first")
    held = store.claims.claim(first.id, "someone", trigger=Trigger.MANUAL, actor="bob", ttl=TTL)

    daemon = member(runs, threads=1)
    daemon.poll_until(lambda: len(runs.names) == 3)

    settle(store, held)
    assert runs.names == ["ask", "edit", "check"]
    assert runs.triggers == [Trigger.MANUAL, Trigger.CHANGE, Trigger.SCHEDULE]


@WITH_EACH_DISPATCH
def test_two_daemons_share_the_work_and_know_of_each_other(
    store: Store, runs: Runs, member: Callable[..., Member], database_backend: str
) -> None:
    """On SQLite the second stands by, so that the first has every quota for itself."""
    daemons = [member(runs, owner=f"daemon-{number}", threads=2) for number in range(2)]
    for daemon in daemons:
        daemon.scheduler.beat()
    names = [f"s{number}" for number in range(16)]
    for name in names:
        add_sync(store, name)

    def all_ended() -> bool:
        assert all(daemon.scheduler.poll() for daemon in daemons)
        return runs.ended >= len(names)

    wait_until(all_ended, what="all runs")
    assert Counter(runs.names) == Counter(names)
    active = 1 if database_backend == "sqlite" else 2
    assert daemons[0].shares[-1] == active
    assert daemons[1].shares[-1:] in ([], [active])


@WITH_EACH_DISPATCH
def test_work_that_fails_is_told_and_keeps_nobody_from_working(
    store: Store, runs: Runs, member: Callable[..., Member]
) -> None:
    add_sync(store, "bad")
    add_sync(store, "good")

    def work(claim: Claim) -> None:
        if store.sync_states.load(claim).sync.name == "bad":
            raise StoreUnavailableError("the disk is full")
        runs(claim)

    daemon = member(work)
    daemon.poll_until(lambda: runs.names == ["good"] and not daemon.dispatcher.running())

    (failed,) = [event for event in daemon.events if isinstance(event, ChoreFailed)]
    assert failed.message == "the disk is full"
    assert store.syncs.get_sync("bad").running, "its claim ends by itself"


@WITH_EACH_DISPATCH
def test_a_clean_end_waits_for_runs_and_begins_no_other(
    store: Store, runs: Runs, member: Callable[..., Member]
) -> None:
    for name in ("one", "two"):
        add_sync(store, name)
    runs.waits |= {"one", "two"}
    daemon = member(runs, threads=1)
    daemon.poll_until(lambda: len(runs.names) == 1)
    threading.Timer(0.05, runs.go.set).start()

    assert daemon.leave()

    assert runs.ended == len(runs.names) == 1
    assert not daemon.scheduler.may_claim
    (left,) = claim_due(store, "the next daemon")
    assert store.sync_states.load(left).sync.name not in runs.names


@WITH_EACH_DISPATCH
def test_a_run_that_hangs_does_not_hold_up_the_end_and_its_sync_is_free_at_once(
    store: Store, runs: Runs, member: Callable[..., Member]
) -> None:
    add_sync(store)
    runs.waits.add("web")
    daemon = member(runs)
    daemon.poll_until(lambda: runs.names == ["web"])

    assert not daemon.leave(timedelta(seconds=0.1))

    (claim,) = daemon.dispatcher.running()
    assert claim_one(store, "the next daemon").fence == claim.fence + 1
    runs.waits.clear()
    runs.go.set()


@WITH_EACH_DISPATCH
def test_threads_say_how_busy_they_are(store: Store, runs: Runs, member: Callable[..., Member]) -> None:
    add_sync(store)
    runs.waits.add("web")
    daemon = member(runs, threads=1)
    assert daemon.dispatcher.load().quiet == ()

    daemon.poll_until(lambda: daemon.dispatcher.load().full_for > timedelta(0))

    assert len(daemon.dispatcher.load().quiet) == daemon.dispatcher.load().threads == 1
    assert [claim.sync_id for claim in daemon.dispatcher.running()] == [store.syncs.get_sync("web").id]
    runs.go.set()
    wait_until(lambda: daemon.dispatcher.load().quiet == ())


@WITH_EACH_DISPATCH
def test_a_daemon_that_may_not_claim_begins_nothing(store: Store, runs: Runs, member: Callable[..., Member]) -> None:
    """Nothing that another daemon has put into the queue either."""
    daemon = member(runs)
    daemon.scheduler.stop()
    add_sync(store)
    if daemon.scheduler._queue is not None:
        daemon.scheduler._queue.put(store.claims.due_for_queue(most=5))
        time.sleep(0.2)

    assert daemon.scheduler.poll()

    assert runs.names == []
    assert claim_one(store, "another").fence == 1


# --- the queue alone

queued = pytest.mark.parametrize(
    ("database_backend", "dispatch"), [("postgresql", "procrastinate")], indirect=["database_backend"]
)


def in_the_queue(store: Store) -> list[tuple[str, str]]:
    with store.database.read() as connection:
        rows = connection.execute(sa.text("SELECT queue_name, status::text FROM procrastinate_jobs ORDER BY id"))
        return [(row.queue_name, row.status) for row in rows]


def enqueue(store: Store, *, status: str = "todo", worker: str = "NULL", age: str = "0") -> None:
    """Have an entry for every sync, as a daemon that is gone left it."""
    with store.database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, args) SELECT "
            "'phasesync', 'phasesync.reconcile', id, jsonb_build_object('sync_id', id) FROM syncs"
        )
        if status == "doing":
            connection.exec_driver_sql(f"UPDATE procrastinate_jobs SET status = 'doing', worker_id = {worker}")
            connection.exec_driver_sql(f"UPDATE procrastinate_events SET at = now() - interval '{age} s'")


def register(store: Store, *, silent: str) -> str:
    """Have a worker without a sign of life for so many seconds."""
    with store.database.write() as connection:
        statement = (
            f"INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '{silent} s') RETURNING id"
        )
        return str(connection.scalar(sa.text(statement)))


@queued
@pytest.mark.parametrize("silent", ["0", "1000"], ids=["frozen just now", "dead"])
def test_an_entry_that_a_daemon_died_with_keeps_no_other_from_the_sync(
    store: Store, runs: Runs, member: Callable[..., Member], silent: str
) -> None:
    upgrade_queue(store.database)
    add_sync(store)
    enqueue(store, status="doing", worker=register(store, silent=silent), age="6")

    daemon = member(runs)

    daemon.poll_until(lambda: runs.ended == 1)


@queued
def test_an_entry_of_a_sync_that_has_become_more_urgent_goes_before_the_others(
    store: Store, runs: Runs, member: Callable[..., Member]
) -> None:
    """They waited for a check; then two were edited, a person asked for a run of one, and some daemon polled."""
    upgrade_queue(store.database)
    put(store, environment="staging")
    for name in ("check", "edit", "ask"):
        add_sync(store, name, environment="production" if name == "check" else "staging")
    for claim in claim_due(store):
        settle(store, claim, due_in=PAST)
    enqueue(store)
    put(store, write(), environment="staging")
    store.sync_requests.request("ask", Trigger.MANUAL, actor="bob")
    # A daemon may take an entry out before its own first poll, so that its poll would come too late for this order.
    assert store.claims.due_for_queue(most=5) == []

    daemon = member(runs, threads=1)
    daemon.poll_until(lambda: len(runs.names) == 3)

    assert runs.names == ["ask", "edit", "check"]


@queued
def test_an_entry_that_was_just_taken_is_not_put_in_again(store: Store, dispatch: str) -> None:
    """From there to the claim it takes milliseconds, and other daemons poll meanwhile."""
    upgrade_queue(store.database)
    add_sync(store)
    enqueue(store, status="doing", worker=register(store, silent="0"))
    assert store.claims.due_for_queue(most=5) == []

    # Five seconds later, or with a clock that was set back, it says nothing.
    for moved in ("- interval '6 s'", "+ interval '1 year'"):
        with store.database.write() as connection:
            connection.exec_driver_sql(f"UPDATE procrastinate_events SET at = now() {moved}")
        assert len(store.claims.due_for_queue(most=5)) == 1


@queued
def test_entries_of_dead_daemons_are_removed_and_those_of_the_living_stay(
    store: Store, runs: Runs, member: Callable[..., Member]
) -> None:
    upgrade_queue(store.database)
    add_sync(store, "left")
    settle(store, claim_one(store))
    enqueue(store, status="doing", worker=register(store, silent="1000"))
    add_sync(store, "web")
    runs.waits.add("web")
    daemon = member(runs)
    daemon.poll_until(lambda: runs.names == ["web"])

    assert daemon.scheduler.clear_queue()

    assert in_the_queue(store) == [(SMALL, "doing")]
    assert [event for event in daemon.events if isinstance(event, ChoreFailed)] == []
    runs.go.set()
    wait_until(lambda: in_the_queue(store) == [], what="an empty queue")


@queued
def test_an_entry_that_is_not_due_any_more_is_dropped(store: Store, runs: Runs, member: Callable[..., Member]) -> None:
    upgrade_queue(store.database)
    add_sync(store)
    enqueue(store)
    settle(store, claim_one(store))

    daemon = member(runs)

    daemon.poll_until(lambda: in_the_queue(store) == [])
    assert runs.names == []


@queued
def test_a_long_backlog_does_not_fill_the_queue_and_large_syncs_leave_room_for_small_ones(
    store: Store, dispatch: str
) -> None:
    upgrade_queue(store.database)
    for number in range(30):
        add_sync(store, f"s{number}")
    for number, claim in enumerate(claim_due(store, limit=30)):
        settle(store, claim, objects=LARGE_ABOVE + 1 if number < 20 else 1, due_in=PAST)

    due = store.claims.due_for_queue(most=8)

    assert Counter(sync.large for sync in due) == {True: 8, False: 8}
    with store.database.write() as connection:
        for sync in due:
            connection.exec_driver_sql(
                f"INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock) VALUES "
                f"('{LARGE if sync.large else SMALL}', 'x', '{sync.sync_id}')"
            )
    assert store.claims.due_for_queue(most=8) == []
    assert Counter(sync.large for sync in store.claims.due_for_queue(most=9)) == {True: 1, False: 1}


@queued
def test_what_a_daemon_leaves_to_another_is_put_in_by_it_after_a_moment(
    store: Store, runs: Runs, member: Callable[..., Member]
) -> None:
    """The other has died, or claims what is due by itself."""
    store.daemons.beat("another", host="elsewhere", pid=2, ttl=TTL)
    daemon = member(runs)
    daemon.scheduler.beat()
    assert daemon.shares[-1] == 2
    for number in range(8):
        add_sync(store, f"s{number}")

    daemon.poll_until(lambda: runs.ended == 8)


@queued
def test_daemons_that_claim_what_is_due_share_with_daemons_that_take_it_from_the_queue(
    store: Store, runs: Runs, member: Callable[..., Member]
) -> None:
    others = Member(store, "threads", runs, owner="daemon-2")
    daemon = member(runs)
    names = [f"s{number}" for number in range(16)]
    for name in names:
        add_sync(store, name)

    def all_ended() -> bool:
        assert others.scheduler.poll() and daemon.scheduler.poll()
        return runs.ended >= len(names)

    wait_until(all_ended, what="all runs")
    assert others.leave()
    assert Counter(runs.names) == Counter(names)


@queued
def test_a_connection_that_is_cut_is_replaced(store: Store, runs: Runs, member: Callable[..., Member]) -> None:
    """All of them: those of the queue, the one that listens, and those of the store."""
    daemon = member(runs)
    add_sync(store, "before")
    daemon.poll_until(lambda: runs.ended == 1)
    other = open_test_store(store.database.url.render_as_string(hide_password=False))
    with other.database.write() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
    add_sync(other, "after")

    def ended() -> bool:
        daemon.scheduler.poll()  # It may fail meanwhile.
        return len(other.runs.list_runs()) >= 2 and not other.syncs.get_sync("after").running

    wait_until(ended, what="the run after the cut")
    other.close()


@queued
def test_a_queue_that_cannot_be_used_is_told_and_used_again_by_itself(
    store: Store, runs: Runs, member: Callable[..., Member]
) -> None:
    daemon = member(runs)
    add_sync(store, "before")
    daemon.poll_until(lambda: runs.ended == 1)
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER FUNCTION procrastinate_fetch_job_v2 RENAME TO away")
    wait_until(lambda: not daemon.scheduler.poll(), what="a poll that fails")
    (failed,) = [event for event in daemon.events if isinstance(event, ChoreFailed)]
    assert (failed.chore, failed.error) == ("poll", "SchemaMismatchError")

    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER FUNCTION away RENAME TO procrastinate_fetch_job_v2")
    add_sync(store, "after")

    def ended() -> bool:
        daemon.scheduler.poll()  # It fails until a worker has come back.
        return runs.ended == 2

    wait_until(ended, what="the run afterwards")
    assert len(daemon.events) == 2, "the role, and one failure"


@queued
def test_a_claim_that_expires_meanwhile_is_taken_over(store: Store, dispatch: str) -> None:
    add_sync(store)
    former = claim_one(store, "dead", ttl=EXPIRED)

    (claim,) = store.claims.claim_if_due([former.sync_id, "0" * 32], "alive", ttl=TTL)

    assert claim.fence == former.fence + 1
    assert [run.outcome for run in store.runs.list_runs()] == ["interrupted"]
    assert store.claims.claim_if_due([former.sync_id], "third", ttl=TTL) == []
