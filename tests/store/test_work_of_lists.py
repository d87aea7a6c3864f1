"""
What a page of a list costs does not grow with the tables.

No time is measured: SQLite counts the steps of its virtual machine, PostgreSQL tells its plans.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from phasesync.core.run import Outcome
from phasesync.core.sync import SyncFilter, SyncStatus
from phasesync.store import Store
from phasesync.store.db_time import now
from phasesync.store.run_requests import retry_unresolved
from phasesync.store.tables import syncs
from tests.support.stores import TTL, open_test_store
from tests.support.values import HOUR
from tests.support.whole_account import Size, fill, name_of

SMALL, LARGE = 500, 2_000
LIMIT = 4
_STEPS_AT_ONCE = 20

HOT: dict[str, Callable[[Store], object]] = {
    "syncs": lambda store: store.syncs.page_syncs(limit=LIMIT),
    "syncs after one": lambda store: store.syncs.page_syncs(after=name_of(300), limit=LIMIT),
    "syncs that fail": lambda store: by_status(store, SyncStatus.FAILING),
    "syncs in sync": lambda store: by_status(store, SyncStatus.IN_SYNC),
    "syncs of a credential": lambda store: store.syncs.page_syncs(SyncFilter(credential="credential-001"), limit=LIMIT),
    "a sync": lambda store: store.syncs.has_sync(name_of(9)),
    "runs": lambda store: store.runs.page_runs(limit=LIMIT),
    "runs of a sync": lambda store: store.runs.page_runs(sync=name_of(3), limit=LIMIT),
    "runs of outcomes": lambda store: store.runs.page_runs(outcomes=(Outcome.FAILED, Outcome.HELD), limit=LIMIT),
    "runs of an outcome that no run had": lambda store: store.runs.page_runs(outcomes=(Outcome.REFUSED,), limit=LIMIT),
    "runs since": lambda store: store.runs.page_runs(since=datetime.now(UTC) - HOUR / 2, limit=LIMIT),
    "runs after one": lambda store: store.runs.page_runs(after=store.runs.page_runs(limit=1).next, limit=LIMIT),
    "a run by the beginning of its id": lambda store: store.runs.full_run_id(store.runs.list_runs(limit=1)[0].id[:12]),
    "environments": lambda store: store.apps.page_environments(limit=LIMIT),
    "live leases": lambda store: store.leases(ttl=TTL).page_leases(limit=LIMIT),
    "all leases": lambda store: store.leases(ttl=TTL).page_leases(ended=True, limit=LIMIT),
    "a step of the retention": lambda store: store.runs.prune_runs(older_than=timedelta(days=20), limit=LIMIT),
    "the retention of leases": lambda store: store.leases(ttl=TTL).prune(older_than=timedelta(days=20), limit=LIMIT),
    "a new name": lambda store: with_write(store, retry_unresolved),
    "what edits of a former release left": lambda store: store.sync_requests.wake_where_behind(),
    "the check of the clock": lambda store: store.clock_watch.check("me"),
    "when something is due": lambda store: store.claims.next_due(),
    "claims that expired": lambda store: store.claims.release_expired(),
    "a claim of what is due": lambda store: store.claims.claim_due("me", limit=1, ttl=TTL),
    "what forbids a write": lambda store: store.claims.write_conditions("none"),
}


def with_write(store: Store, work: Callable[[sa.Connection], None]) -> None:
    with store.database.write() as connection:
        work(connection)


def by_status(store: Store, status: SyncStatus) -> object:
    return store.syncs.page_syncs(SyncFilter(statuses=frozenset({status})), limit=LIMIT)


def size_of(count: int) -> Size:
    return Size(syncs=count, environments=10, credentials=4, entries_per_sync=0, runs=5 * count, real_runs=100)


# --- SQLite


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite_template: Path) -> Iterator[tuple[Store, Store]]:
    """A small store and a large one."""
    opened = []
    for size in (SMALL, LARGE):
        file = tmp_path_factory.mktemp("account") / "phasesync.db"
        copyfile(migrated_sqlite_template, file)
        file.chmod(0o600)
        opened.append(open_test_store(f"sqlite:///{file}"))
        fill(opened[-1], size_of(size))
    yield opened[0], opened[1]
    for store in opened:
        store.close()


@contextmanager
def steps(store: Store) -> Iterator[list[int]]:
    """Yield a list whose one item counts the steps of SQLite's virtual machine."""
    count = [0]

    def step() -> None:
        count[0] += _STEPS_AT_ONCE

    def watch(_connection: Any, cursor: sqlite3.Cursor, *_rest: Any) -> None:
        cursor.connection.set_progress_handler(step, _STEPS_AT_ONCE)

    event.listen(store.database.engine, "before_cursor_execute", watch)
    try:
        yield count
    finally:
        event.remove(store.database.engine, "before_cursor_execute", watch)


def steps_of(store: Store, work: Callable[[Store], object]) -> int:
    work(store)
    with steps(store) as count:
        work(store)
    return count[0]


@pytest.mark.parametrize("what", HOT)
def test_a_page_costs_the_same_in_a_table_four_times_as_large(stores: tuple[Store, Store], what: str) -> None:
    small, large = (steps_of(store, HOT[what]) for store in stores)

    assert large <= 1.3 * small + 200, f"{small} steps of {SMALL} syncs, {large} of {LARGE}"


def test_statistics_of_a_healthy_installation_do_not_talk_sqlite_out_of_an_index(
    migrated_sqlite_template: Path, tmp_path: Path
) -> None:
    """Where a column is NULL in all rows, ANALYZE says that its index excludes nothing."""
    file = tmp_path / "phasesync.db"
    copyfile(migrated_sqlite_template, file)
    file.chmod(0o600)
    store = open_test_store(f"sqlite:///{file}")
    fill(store, size_of(LARGE))
    with store.database.write() as connection:
        free = {"claim_owner": None, "claim_until": None, "error_class": None, "requested": None, "woken_at": None}
        connection.execute(syncs.update().values(**free, next_due_at=now() + HOUR // timedelta(microseconds=1)))
    with store.database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("ANALYZE")
        connection.exec_driver_sql("BEGIN")
    store.database.close()  # Statistics are read by a new connection.

    asked_often = ("when something is due", "claims that expired", "a claim of what is due", "what forbids a write")
    taken = {what: steps_of(store, HOT[what]) for what in asked_often}
    store.close()

    assert {what: count for what, count in taken.items() if count > LARGE} == {}


def test_counting_by_status_reads_an_index_and_no_rows(stores: tuple[Store, Store]) -> None:
    """Less than twenty steps for each sync: three for its entry of the index, and more for the few in work."""
    _, large = stores

    assert steps_of(large, lambda store: store.syncs.count_by_status()) < 20 * LARGE


# --- PostgreSQL


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_no_statement_of_a_page_scans_a_table(migrated_database_url: str) -> None:
    store = open_test_store(migrated_database_url)
    fill(store, size_of(SMALL))
    with store.database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("ANALYZE"))

    scanned = {what: found for what, work in HOT.items() if (found := scans(store, work))}

    store.close()
    assert scanned == {}


LARGE_TABLES = re.compile(r"Seq Scan on (syncs|runs|sync_reads|journal|leases|lease_events)\b.*")


def scans(store: Store, work: Callable[[Store], object]) -> list[str]:
    """Return the scans of whole tables in the plans of what is sent. The planner avoids them wherever it can."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if statement.startswith(("SELECT", "WITH", "DELETE", "UPDATE")):
            sent.append((statement, parameters))

    event.listen(store.database.engine, "before_cursor_execute", note)
    try:
        work(store)
    finally:
        event.remove(store.database.engine, "before_cursor_execute", note)
    found = []
    with store.database.engine.connect() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")
        for statement, parameters in sent:
            plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars().all()
            found += [line.strip() for line in plan if LARGE_TABLES.search(line)]
        connection.rollback()
    return found
