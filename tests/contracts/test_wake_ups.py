"""What wakes a sync: the mark of an edit, what the database computes from it, and what ends a daemon's wait."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phasesync.core.sync import SyncStatus, Trigger
from phasesync.store import Store
from phasesync.store.change_watch import ChangeWatch
from phasesync.store.db_time import now
from phasesync.store.tables import environments, sync_reads, syncs
from tests.support.stores import TTL, add_sync, after, claim_due, claim_one, put, run_of, settle, write
from tests.support.waiting import HANG_GUARD_S

SECOND = 1_000_000
LONG_S = 3600 * SECOND


def is_woken(store: Store, name: str = "web") -> bool:
    with store.database.read() as connection:
        return connection.scalar(sa.select(syncs.c.woken_at).where(syncs.c.name == name)) is not None


def test_an_edit_marks_the_syncs_that_read_it_and_no_others(store):
    add_sync(store)
    put(store, environment="staging")
    add_sync(store, "other", environment="staging")
    for claim in claim_due(store):
        settle(store, claim)
    assert not is_woken(store)

    put(store, write("URL", "new"))

    assert is_woken(store)
    assert not is_woken(store, "other")
    assert [claim.trigger for claim in claim_due(store)] == [Trigger.CHANGE]


def test_an_edit_that_changes_nothing_marks_nothing(store):
    put(store, write("URL", "same"))
    add_sync(store)
    settle(store, claim_one(store))

    put(store, write("URL", "same"))

    assert not is_woken(store)


def test_a_mark_stays_until_a_run_has_a_result(store):
    """A run that was released, that died or that failed leaves the edit to be applied."""
    add_sync(store)
    settle(store, claim_one(store))
    put(store, write("URL", "new"))
    store.claims.release(claim_one(store))
    assert is_woken(store)

    claim_one(store, "dead", ttl=timedelta(seconds=-1))
    store.claims.release_expired()
    assert is_woken(store)

    claim = claim_one(store)
    store.runs.finish(claim, run_of(claim), after(status=SyncStatus.FAILING, failures=1, due_in=TTL, retry_in=TTL))
    assert is_woken(store)
    assert claim_due(store) == []

    store.sync_requests.request("web", Trigger.MANUAL, actor="ada")
    settle(store, claim_one(store))
    assert not is_woken(store)


def test_the_rename_of_an_app_marks_its_syncs(store):
    add_sync(store)
    settle(store, claim_one(store))
    store.apps.update_app("shop", new_name="store")
    assert is_woken(store)


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_an_edit_beside_the_end_of_a_run_that_reads_it_for_the_first_time_is_not_lost(store):
    """Neither of the two transactions sees the other. The end of the run waits for the edit."""
    put(store, environment="shared")
    shared = store.apps.get_environment("shop", "shared")
    add_sync(store)
    claim = claim_one(store)
    state = store.sync_states.load(claim).sync
    reads = {state.environment_id: state.source_revision, shared.id: shared.revision}
    settled = after(reads=reads, former_reads=state.reads)
    ended = threading.Thread(target=store.runs.finish, args=(claim, run_of(claim), settled))

    with store.database.write() as connection:  # An edit of `shared` that has found no reader, and is not committed.
        row = environments.c.id == shared.id
        connection.execute(sa.select(environments.c.id).where(row).with_for_update(key_share=True)).all()
        assert connection.execute(sa.select(sync_reads).where(sync_reads.c.environment_id == shared.id)).all() == []
        connection.execute(environments.update().where(row).values(revision=shared.revision + 1))
        ended.start()
        ended.join(timeout=0.5)
        assert ended.is_alive()
    ended.join(HANG_GUARD_S)

    assert is_woken(store)
    assert claim_one(store).trigger is Trigger.CHANGE


def test_an_edit_of_a_writer_that_sets_no_mark_is_found(store):
    """A process of a former release that still ran when the database was migrated."""
    add_sync(store)
    settle(store, claim_one(store))
    with store.database.write() as connection:
        connection.execute(environments.update().values(revision=environments.c.revision + 1))
    assert not is_woken(store)

    store.sync_requests.wake_where_behind()

    assert is_woken(store)
    assert claim_one(store).trigger is Trigger.CHANGE


# --- what the database computes

_instants = st.none() | st.sampled_from([-LONG_S, -SECOND, SECOND, LONG_S])
"""From now, in microseconds."""
_rows: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "requested": st.none() | st.just("manual"),
        "woken_at": _instants,
        "next_due_at": _instants,
        "retry_at": _instants,
        "claim_owner": st.none() | st.just("other"),
        "claim_until": _instants,
        "paused_at": st.none() | st.just(-LONG_S),
        "paused_until": _instants,
    }
)


def is_due(row: dict[str, int | str | None], at: int) -> bool:
    """Return whether a daemon may claim a sync at a time, as the documents say it."""

    def over(name: str, otherwise: bool) -> bool:
        instant = row[name]
        return otherwise if instant is None else int(instant) <= at

    free = row["claim_owner"] is None or over("claim_until", True)
    active = row["paused_at"] is None or over("paused_until", False)
    edited = row["woken_at"] is not None and over("woken_at", True) and over("retry_at", True)
    asked_for = row["requested"] is not None and over("woken_at", True)
    # A request does not wait for a due time, and a due time does not count beside it: it is answered first.
    by_time = row["requested"] is None and over("next_due_at", False)
    return free and active and (asked_for or (edited and row["requested"] is None) or by_time)


@given(row=_rows)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_database_computes_when_a_sync_is_due(store, row):
    with store.database.read() as connection:
        empty = connection.scalar(sa.select(syncs.c.id)) is None
    if empty:
        add_sync(store)
    names = [name for name, value in row.items() if isinstance(value, int)]
    moved = {name: now() + row[name] if name in names else row[name] for name in row}
    with store.database.write() as connection:
        connection.execute(syncs.update().values(**moved))
        due_in = connection.scalar(sa.select(sa.type_coerce(syncs.c.due_at, sa.BigInteger) - now()))

    assert (due_in is not None and due_in <= 0) == is_due(row, 0)
    due = store.claims.next_due()
    assert (due.due_in is None) == (due_in is None)
    assert bool(due.urgencies) == is_due(row, 0)
    if due.due_in:
        # The very moment at which it says so.
        assert is_due(row, due.due_in // timedelta(microseconds=1) + SECOND // 2)
        assert not is_due(row, due.due_in // timedelta(microseconds=1) - SECOND // 2)


def test_the_most_urgent_come_first_and_of_those_the_longest_due(store):
    """Requests before edits before checks."""
    for number in range(6):
        add_sync(store, f"s{number}")
    for claim in claim_due(store):
        settle(store, claim, due_in=timedelta(0))
    states: tuple[dict[str, Any], ...] = (
        {"next_due_at": now() - SECOND},
        {"next_due_at": now() - 2 * SECOND},
        {"woken_at": now() - SECOND},
        {"woken_at": now() - 2 * SECOND},
        {"requested": "manual", "woken_at": now() - SECOND},
        {"requested": "manual", "woken_at": now() - 2 * SECOND},
    )
    with store.database.write() as connection:
        for number, state in enumerate(states):
            connection.execute(syncs.update().where(syncs.c.name == f"s{number}").values(**state))
    claimed = []
    while claims := claim_due(store, limit=1):
        claimed += [store.sync_states.load(claim).sync.name for claim in claims]
    assert claimed == ["s5", "s4", "s3", "s2", "s1", "s0"]


# --- waiting


@pytest.fixture
def watch(store: Store) -> Iterator[ChangeWatch]:
    watch = ChangeWatch(store.database)
    watch.wait(timedelta(0))  # connects
    yield watch
    watch.close()


@contextmanager
def ends_early(watch: ChangeWatch) -> Iterator[None]:
    """What is in the block ends a wait."""
    waiting = threading.Thread(target=watch.wait, args=(timedelta(seconds=HANG_GUARD_S),))
    waiting.start()
    time.sleep(0.05)
    yield
    waiting.join(HANG_GUARD_S / 2)
    assert not waiting.is_alive()


def test_a_commit_of_another_connection_ends_a_wait(store, watch):
    add_sync(store)
    watch.wait(timedelta(0))
    with ends_early(watch):
        put(store, write("URL", "new"))


@pytest.mark.parametrize("request_run", [True, False])
def test_so_do_requests_and_releases(store, watch, request_run):
    add_sync(store)
    claim = claim_one(store)
    watch.wait(timedelta(0))
    with ends_early(watch):
        if request_run:
            store.sync_requests.request("web", Trigger.MANUAL, actor="ada")
        else:
            store.claims.release(claim)


def test_this_process_ends_a_wait_and_the_next_one_if_there_is_none(watch):
    with ends_early(watch):
        watch.wake()
    watch.wake()
    began = time.monotonic()
    watch.wait(timedelta(seconds=HANG_GUARD_S))
    assert time.monotonic() - began < HANG_GUARD_S / 2


def test_nothing_ends_a_wait_before_its_time(watch):
    began = time.monotonic()
    watch.wait(timedelta(seconds=0.2))
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_a_connection_that_was_cut_is_made_again(store, watch, caplog):
    add_sync(store)
    with store.database.write() as connection:
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        ).all()
    for _ in range(3):  # The first wait finds that it was cut, the next ones wait until it may be made again.
        watch.wait(timedelta(seconds=0.6))
    with ends_early(watch):
        put(store, write("URL", "new"))
    assert caplog.records == []  # SQLAlchemy's pool has nothing to report.


def test_without_a_database_it_is_a_wait(store, watch, database_backend):
    """The poll beside it says what is wrong."""
    if database_backend == "sqlite":
        path = store.database.url.database
        from pathlib import Path

        Path(path).rename(f"{path}.away")
    else:
        store.database.engine.dispose()
        with store.database.write() as connection:
            connection.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
            ).all()
    for _ in range(3):  # What PostgreSQL says of the cut ends a wait, and so does the end of the connection.
        watch.wait(timedelta(seconds=0.05))
    began = time.monotonic()
    watch.wait(timedelta(seconds=0.2))
    assert time.monotonic() - began >= 0.19


def test_descriptors_above_a_thousand_are_watched_too(store):
    """A daemon with many connections has them; select(2) does not take them."""
    import os
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip("this machine allows no more than a thousand descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        watch = ChangeWatch(store.database)
        watch.wait(timedelta(0))
        with ends_early(watch):
            watch.wake()
        watch.close()
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
