"""New data keys: everything is encrypted anew and reads as before, and the former keys are gone, whoever works."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from phasesync.core.run import Outcome
from phasesync.core.sync import Trigger
from phasesync.engine.data_key_rotation import Rotated, rotate_data_keys
from phasesync.errors import CiphertextError, StoreUnavailableError
from phasesync.store import Store, tables
from phasesync.store.authenticity import authenticate_all
from phasesync.store.encrypted_columns import ENCRYPTED
from phasesync.store.key_ring import CREDENTIALS_KEY, DIGEST_KEY, ENVIRONMENT_KEY, key_id_of
from phasesync.store.keys_in_use import hold_used_keys
from phasesync.store.runs import insert_runs
from tests.durability.machine.stage import read_rows, write_rows
from tests.support.altered_world import fill_store
from tests.support.context import context_of
from tests.support.databases import copy_of_filled
from tests.support.stores import ACTOR, LONG, TTL, access_key, after, alter, open_test_store, put, run_of, write
from tests.support.values import entry

PostgresOnly = pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
SqliteOnly = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)

NOT_ENCRYPTED = {
    ("root_keys", "wrapped"),
    ("root_keys", "mac"),
    ("data_keys", "wrapped"),
    ("secrets", "lookup"),
    ("environments", "mac"),
    ("syncs", "mac"),
    ("leases", "mac"),
    ("dynamic_secrets", "leases_mac"),
    ("audit", "digest"),
    ("audit", "mac"),
    ("audit_head", "chained"),
    ("audit_head", "first_chained"),
    ("audit_head", "mac"),
}
"""Columns of bytes that are digests, MACs, or keys under the root key."""


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def url(request: pytest.FixtureRequest, database_backend: str, tmp_path: Path) -> Iterator[str]:
    """A database with something in every encrypted column."""
    yield from copy_of_filled(request, database_backend, tmp_path, "data_keys", _fill)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with opened(url) as opened_store:
        yield opened_store


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """What another process has: a store with a key ring of its own."""
    other = open_test_store(url)
    try:
        yield other
    finally:
        other.close()


def _fill(url: str) -> None:
    with opened(url) as made:
        fill_store(made)
        sync = made.syncs.get_sync("web")
        claim = made.claims.claim(sync.id, "daemon-1", trigger=Trigger.SCHEDULE, actor=ACTOR, ttl=TTL)
        made.journal.save_entry(claim, entry(id=None, sync_id=sync.id))
        made.runs.finish(claim, run_of(claim), after(reason="something to read"))
        made.sync_requests.request("web", Trigger.MANUAL, actor=ACTOR)


def rotate(store: Store, environment: tuple[str, str] | None = None, **options: Any) -> Rotated:
    """Replace keys, without pauses."""
    options = {"report": lambda _: None, "pause": lambda _: None, **options}
    return rotate_data_keys(context_of(store), environment=environment, **options)


def ciphertexts(store: Store) -> dict[tuple[str, str], list[bytes]]:
    """Return table and column -> what is in it, in the order of the rows."""
    found = {}
    with store.database.read() as connection:
        for part in ENCRYPTED:
            for name in part.columns:
                statement = sa.select(part.table.c[name]).order_by(*part.primary_key)
                found[part.table.name, name] = [
                    sealed for sealed in connection.scalars(statement) if sealed is not None
                ]
    return found


def key_ids(store: Store) -> dict[str, str]:
    """Return id of a data key -> purpose."""
    with store.database.read() as connection:
        rows = connection.execute(sa.select(tables.data_keys.c.id, tables.data_keys.c.purpose)).all()
    return {row.id: row.purpose for row in rows}


def content(store: Store) -> dict[str, Any]:
    """Return what people see: values, history, runs, leases, requests and so on."""
    shop = ("shop", "production")
    return {
        "secrets": {
            environment.label: store.secrets.list_secrets(environment.app, environment.name)
            for environment in store.apps.list_environments()
        },
        "history": store.secrets.history(*shop, "/", "URL"),
        "environments": store.apps.list_environments(),
        "apps": store.apps.list_apps(),
        "credentials": store.credentials.list_all(),
        "syncs": store.syncs.list_syncs(),
        "journal": store.sync_states.state_of("web").journal,
        "runs": store.runs.list_runs(),
        "dynamics": store.dynamics.list_all(),
        "leases": store.leases(ttl=TTL).list_leases(),
        "requests": store.change_requests.list_requests(closed=True),
        "notifications": store.notifications.list_all(),
    }


def assert_rotated(url: str, before: dict[str, Any], old_keys: dict[str, str]) -> None:
    """Make sure that a fresh process reads what there was, and that nothing is left of the old keys."""
    with opened(url) as fresh:
        assert content(fresh) == before
        now = key_ids(fresh)
        assert sorted(now.values()) == sorted(old_keys.values()), "one key for each environment and purpose"
        assert {key for key in now if key in old_keys} == {
            key for key, for_what in now.items() if for_what == DIGEST_KEY
        }
        named = {key_id_of(sealed) for column in ciphertexts(fresh).values() for sealed in column}
        assert named <= now.keys()
        authenticate_all(fresh.database, fresh.keys)
        assert fresh.audit.verify().findings == ()


def test_every_column_of_bytes_is_encrypted_anew_or_has_no_ciphertext() -> None:
    of_bytes = {
        (table.name, column.name)
        for table in tables.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, sa.LargeBinary)
    }
    encrypted = {(part.table.name, name) for part in ENCRYPTED for name in part.columns}
    assert encrypted | NOT_ENCRYPTED == of_bytes
    assert not encrypted & NOT_ENCRYPTED


@SqliteOnly
def test_these_tests_have_something_in_every_encrypted_column(store: Store) -> None:
    assert [column for column, found in ciphertexts(store).items() if not found] == []


def test_everything_reads_as_before_and_no_old_key_is_left(store: Store, url: str) -> None:
    before, old_keys, rows = content(store), key_ids(store), ciphertexts(store)
    found: list[Any] = []
    rotated = rotate(store, report=found.append)
    assert rotated.replaced[: -len(before["environments"])] == ("audit", CREDENTIALS_KEY)
    assert rotated.replaced[-4:] == ("other/production", "shop/guarded", "shop/production", "shop/shared")
    assert (rotated.removed, rotated.kept, rotated.went_on) == (6, 0, False)
    assert rotated.rows == found[-1].rows
    assert_rotated(url, before, old_keys)
    for column, sealed in ciphertexts(store).items():
        assert not set(sealed) & set(rows[column]), column


def test_one_environment_gets_a_new_key_and_nothing_else_changes(store: Store, url: str) -> None:
    before, old_keys = content(store), key_ids(store)
    rows = ciphertexts(store)
    rotated = rotate(store, ("shop", "shared"))
    assert (rotated.replaced, rotated.removed) == (("shop/shared",), 1)
    assert content(store) == before
    assert len(old_keys.keys() - key_ids(store).keys()) == 1
    kept = {column for column, sealed in ciphertexts(store).items() if sealed[: len(rows[column])] == rows[column]}
    assert rows.keys() - kept == {("secrets", "name"), ("secret_versions", "value")}


def test_a_second_rotation_begins_anew(store: Store, url: str) -> None:
    before, old_keys = content(store), key_ids(store)
    assert len(rotate(store).replaced) == 6
    again = rotate(store)
    assert (len(again.replaced), again.went_on) == (6, False)
    assert_rotated(url, before, old_keys)


def steps_of(work: Callable[[Store], object], url: str, kill_at: int | None) -> int:
    """Do work as a process that dies at a step, before or after a commit; return how many steps there were."""
    seen = 0

    def step() -> None:
        nonlocal seen
        seen += 1
        if seen == kill_at:
            raise Killed

    with opened(url) as process:
        inner = process.database.before_commit
        assert inner is not None

        def before_commit(connection: sa.Connection, notes: Any) -> None:
            inner(connection, notes)
            step()

        process.database.before_commit = before_commit
        observed = process.database.observe
        assert observed is None
        process.database.observe = lambda kind, _: step() if kind == "write" else None
        try:
            work(process)
        except Killed:
            process.database.observe = None
    return seen


def test_whoever_dies_at_any_step_is_followed_by_one_who_goes_on(url: str, database_backend: str) -> None:
    """Before and after a commit; at some of these steps. `bench.keys` tries all."""
    with opened(url) as store:
        before, old_keys, rows = content(store), key_ids(store), read_rows(store)
    every = 9 if database_backend == "sqlite" else 31
    number = 1
    while steps_of(lambda process: rotate(process, batch=10), url, number) >= number:
        with opened(url) as store:
            assert content(store) == before, f"readable after step {number}"
            rotate(store, batch=10)
            assert_rotated(url, before, old_keys)
            write_rows(store, rows)
        number += every
    assert number > 40


def test_what_was_replaced_before_the_death_is_not_replaced_again(url: str) -> None:
    steps_of(rotate, url, 8)  # After the commit of the fourth key.
    with opened(url) as store:
        again = rotate(store)
    assert (len(again.replaced), again.went_on, again.removed) == (2, True, 6)


def test_a_run_that_began_before_goes_on_after_its_key_is_gone(store: Store, url: str) -> None:
    with opened(url) as daemon:
        sync = daemon.syncs.get_sync("web")
        claim = daemon.claims.claim(sync.id, "daemon-1", trigger=Trigger.SCHEDULE, actor=ACTOR, ttl=TTL)
        known = daemon.sync_states.load(claim).journal[0]
        assert rotate(store).removed == 6
        assert claim.data_key_id not in key_ids(store)
        daemon.journal.save_entry(claim, known)
        daemon.runs.finish(claim, run_of(claim), after(reason="said afterwards"))
    with opened(url) as fresh:
        assert fresh.syncs.get_sync("web").status_reason == "said afterwards"
        assert fresh.sync_states.state_of("web").journal[0].id == known.id
        authenticate_all(fresh.database, fresh.keys)


def test_a_process_that_remembers_a_shared_key_that_is_gone_uses_its_successor(store: Store, url: str) -> None:
    with opened(url) as other:
        remembered = other.keys.data_key(CREDENTIALS_KEY)
        rotate(store)
        added = other.credentials.add("late", access_key())
        assert other.keys.data_key(CREDENTIALS_KEY) != remembered
    with opened(url) as fresh:
        assert fresh.credentials.get("late") == added


def test_a_process_with_a_retired_key_turns_to_the_new_one_with_its_next_write(store: Store, url: str) -> None:
    with opened(url) as other:
        other.keys.data_key(CREDENTIALS_KEY)
        (shared,) = (key for key in store.data_keys.in_use() if key.purpose == CREDENTIALS_KEY)
        assert store.data_keys.replace(shared)
        other.credentials.add("first", access_key())
        assert other.keys.data_key(CREDENTIALS_KEY) not in (shared.id, None)
    assert rotate(store).removed == 6
    assert store.credentials.get("first").name == "first"


def _log_a_run(store: Store, connection: sa.Connection, key_id: str) -> None:
    """Encrypt something under the key of an environment, as a run does that read its id a moment ago."""
    known = store.runs.list_runs(sync="web")[0]
    insert_runs(connection, store.keys, [(replace(known, id="late", outcome=Outcome.APPLIED), key_id)])


def _key_of_web(store: Store) -> str:
    with store.database.read() as connection:
        environment = tables.environments
        found = sa.select(environment.c.data_key_id).join_from(
            tables.syncs, environment, environment.c.id == tables.syncs.c.environment_id
        )
        return connection.scalars(found.where(tables.syncs.c.name == "web")).one()


@PostgresOnly
def test_a_write_under_a_key_that_was_removed_meanwhile_is_refused_as_a_conflict(store: Store, url: str) -> None:
    key_id = _key_of_web(store)

    def write_slowly() -> None:
        with opened(url) as slow, slow.database.write() as connection:
            _log_a_run(slow, connection, key_id)
            assert rotate(store).removed == 6, "nobody sees the row yet"

    with pytest.raises(StoreUnavailableError, match="replaced meanwhile") as refused:
        write_slowly()
    assert refused.value.code == "40001"
    assert "late" not in {run.id for run in store.runs.list_runs()}


@PostgresOnly
def test_a_key_is_not_removed_while_a_write_that_used_it_ends(store: Store, url: str) -> None:
    key_id = _key_of_web(store)
    written, may_end = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with opened(url) as slow, slow.database.write() as connection:
            _log_a_run(slow, connection, key_id)
            hold_used_keys(slow.keys, connection)
            written.set()
            assert may_end.wait(20)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_slowly)
        assert written.wait(20)
        rotated = rotate_data_keys(
            context_of(store), environment=None, report=lambda _: may_end.set(), pause=lambda _: None
        )
        writing.result()
    assert (rotated.removed, rotated.kept) == (6, 0)
    assert store.runs.get_run("late").outcome is Outcome.APPLIED


def test_two_rotations_at_once_leave_one_key_for_each(url: str) -> None:
    with opened(url) as store:
        before, old_keys = content(store), key_ids(store)

    def work() -> Rotated:
        with opened(url) as process:
            return rotate(process, batch=3)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: work(), range(2)))
    assert all(one.kept == 0 for one in both)
    assert_rotated(url, before, old_keys)


@SqliteOnly
def test_a_row_that_was_altered_stays_as_it_is_and_keeps_its_key(store: Store) -> None:
    key_id = _key_of_web(store)
    sealed = ciphertexts(store)["journal", "details"][0]
    altered = sealed[:-1] + bytes((sealed[-1] ^ 1,))
    alter(store, tables.journal, details=altered)
    rotated = rotate(store)
    assert (rotated.unread, rotated.kept, rotated.removed) == (("journal",), 1, 5)
    assert ciphertexts(store)["journal", "details"] == [altered], "an alteration is not vouched for"
    assert key_id in key_ids(store)
    with pytest.raises(CiphertextError):
        store.sync_states.state_of("web")
    again = rotate(store)
    assert len(again.replaced) == 6, "what nobody can read is no rotation that was interrupted"
    assert not again.went_on
    alter(store, tables.journal, details=sealed)
    assert rotate(store, ("shop", "shared")).kept == 0
    assert store.sync_states.state_of("web").journal


@SqliteOnly
@pytest.mark.parametrize(
    ("statement", "unread"),
    [
        ("UPDATE audit SET actor = CAST(x'ff41' AS TEXT) WHERE number = 2", ()),
        ("UPDATE journal SET remote_name = CAST(x'ff41' AS TEXT)", ("journal",)),
    ],
)
def test_a_text_that_is_none_does_not_stop_it(store: Store, statement: str, unread: tuple[str, ...]) -> None:
    with store.database.write() as connection:
        connection.exec_driver_sql(statement)
    rotated = rotate(store)
    assert (rotated.unread, rotated.kept) == (unread, len(unread))
    found = [] if unread else [("altered", 2)]
    assert [(one.tampering.value, one.first) for one in store.audit.verify().findings] == found


@SqliteOnly
def test_an_altered_lease_gets_no_new_mac(store: Store) -> None:
    lease = store.leases(ttl=TTL).list_leases(dynamic="cd")[0]
    alter(store, tables.leases, lease.id, expires_at=lease.expires_at + LONG)
    assert rotate(store).unread == ("leases",)
    with pytest.raises(CiphertextError):
        store.leases(ttl=TTL).get(lease.id)


@SqliteOnly
def test_an_environment_that_was_altered_keeps_its_key(store: Store) -> None:
    shared = store.apps.get_environment("shop", "shared")
    alter(store, tables.environments, shared.id, revision=shared.revision + 1)
    rotated = rotate(store)
    assert "shop/shared" not in rotated.replaced
    assert len(rotated.replaced) == 5
    assert "shop/shared" in rotated.errors[0]
    assert rotated.kept == 0


@SqliteOnly
def test_keys_stay_while_a_daemon_of_a_former_release_is_at_work(store: Store, url: str) -> None:
    before, old_keys = content(store), key_ids(store)
    store.daemons.beat("daemon-1", host="here", pid=7, ttl=LONG)
    alter(store, tables.daemons, release=None)
    rotated = rotate(store)
    assert (len(rotated.replaced), rotated.removed, rotated.kept, rotated.held_by) == (6, 0, 6, ("here",))
    store.daemons.deregister("daemon-1")
    store.daemons.beat("daemon-2", host="here", pid=8, ttl=LONG)
    again = rotate(store)
    assert (again.replaced, again.removed, again.went_on) == ((), 6, True)
    assert_rotated(url, before, old_keys)


@SqliteOnly
def test_the_new_key_is_the_newest_also_after_the_clock_was_set_back(store: Store) -> None:
    """Every key was made while the clock was a day ahead."""
    ahead = datetime.now(UTC) + timedelta(days=1)
    alter(store, tables.data_keys, created_at=ahead)
    store.keys.expect_newer()
    (shared,) = (key for key in store.data_keys.in_use() if key.purpose == CREDENTIALS_KEY)
    first, second = rotate(store), rotate(store)
    assert len(first.replaced) == len(second.replaced) == first.removed == second.removed == 6
    assert store.keys.data_key(CREDENTIALS_KEY) != shared.id


@SqliteOnly
def test_of_two_commands_at_once_the_second_replaces_no_key_of_the_first(store: Store) -> None:
    seen = store.data_keys.in_use()
    assert all(store.data_keys.replace(key) for key in seen)
    assert not any(store.data_keys.replace(key) for key in seen)


@SqliteOnly
def test_an_environment_can_be_removed_in_a_transaction_that_encrypts_under_its_key(store: Store) -> None:
    with store.database.transaction():
        put(store, write("LATE", "x"), environment="shared")
        store.apps.remove_environment("shop", "shared")
    assert [key.label for key in store.data_keys.in_use() if key.purpose == ENVIRONMENT_KEY] == [
        "other/production",
        "shop/guarded",
        "shop/production",
    ]


@SqliteOnly
def test_the_rows_that_a_dry_run_counts_are_those_that_are_encrypted_anew(store: Store) -> None:
    counted = store.data_keys.count_rows(store.data_keys.in_use())
    of_shared = store.data_keys.count_rows(store.data_keys.in_use(("shop", "shared")))
    assert rotate(store, ("shop", "shared")).rows == of_shared
    # The audit log has grown by what the first rotation and this one have done before the rows were counted.
    assert rotate(store).rows - counted in range(9)
