"""Conflicts between writes on PostgreSQL: rows are locked in one order, and a conflict leads to a repetition."""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from phasesync.core.credential import CredentialStatus
from phasesync.errors import StoreUnavailableError
from phasesync.store import Store
from phasesync.store.apps import AppStore
from phasesync.store.base import BaseStore
from phasesync.store.claims import ClaimStore
from phasesync.store.credentials import CredentialStore
from phasesync.store.daemons import DaemonRegistry
from phasesync.store.database import ATTEMPTS, retry_on_conflict
from phasesync.store.dynamic import DynamicStore
from phasesync.store.journal import JournalStore
from phasesync.store.leases import LeaseStore
from phasesync.store.restore_mark import RestoreMark
from phasesync.store.runs import RunStore
from phasesync.store.secrets import SecretStore
from phasesync.store.sweep_checks import SweepStore
from phasesync.store.syncs import SyncStore
from phasesync.store.tables import daemons, environments, syncs
from tests.support.stores import EXPIRED, TTL, access_key, add_sync, open_test_store, put
from tests.support.waiting import HANG_GUARD_S, wait_until

on_postgresql = pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
COUNT = 4
Preparation = Callable[[Store], Callable[[], object]]


@pytest.fixture
def store(migrated_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Syncs and environments with ids that go down as they are added: a scan of the table finds the highest first."""
    numbers = iter(range(10**6, 0, -1))
    for module in ("syncs", "apps"):
        monkeypatch.setattr(f"phasesync.store.{module}.new_id", lambda: f"{next(numbers):032x}")
    opened = open_test_store(migrated_database_url)
    for number in range(COUNT):
        put(opened, environment=f"e{number}")
        add_sync(opened, f"s{number}")
    yield opened
    opened.close()


@contextmanager
def at_work(work: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Do work in a thread; at the end it has come to its end. Yields what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        thread.join(HANG_GUARD_S)
        assert not thread.is_alive()


def waits_for_a_lock(store: Store) -> bool:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with store.database.read() as connection:  # a transaction sees the activity of one moment
        return bool(connection.exec_driver_sql(asked).scalar())


def lock(connection: sa.Connection, table: sa.Table, row_id: str) -> None:
    connection.execute(sa.select(table.c.id).where(table.c.id == row_id).with_for_update()).all()


def ids_of(store: Store, table: sa.Table) -> list[str]:
    with store.database.read() as connection:
        return list(connection.scalars(sa.select(table.c.id).order_by(table.c.id)))


def claim_all(store: Store) -> list[object]:
    return list(store.claims.claim_due("d", limit=COUNT, ttl=TTL))


def claims_that_expired(store: Store) -> Callable[[], object]:
    assert len(store.claims.claim_due("d", limit=COUNT, ttl=EXPIRED)) == COUNT
    return store.claims.release_expired


def claims_to_renew(store: Store) -> Callable[[], object]:
    claims = store.claims.claim_due("d", limit=COUNT, ttl=TTL)
    return lambda: store.claims.renew(claims[::-1], ttl=TTL)


def a_name_that_came_into_being(store: Store) -> Callable[[], object]:
    claim_all(store)
    return lambda: store.apps.add_environment("shop", "new")


def a_credential_that_changed(store: Store) -> Callable[[], object]:
    return lambda: store.credentials.update("aws", access_key(), account="210987654321")


def an_account_that_became_known(store: Store) -> Callable[[], object]:
    (one,) = store.credentials.list_all()
    return lambda: store.credentials.mark(one.id, CredentialStatus.VERIFIED, account="210987654321")


def a_restore_that_is_accepted(store: Store) -> Callable[[], object]:
    return lambda: store.restore_mark.accept(ahead=1000)


@on_postgresql
@pytest.mark.parametrize(
    "prepare",
    [
        claims_that_expired,
        claims_to_renew,
        a_name_that_came_into_being,
        a_credential_that_changed,
        a_restore_that_is_accepted,
    ],
)
def test_rows_of_syncs_are_locked_in_the_order_of_their_ids(store: Store, prepare: Preparation):
    """What waits for the first row has none of the others yet, which another write may have to wait for."""
    work = prepare(store)
    first, *others = ids_of(store, syncs)
    with store.database.write() as holder:
        lock(holder, syncs, first)
        with at_work(work) as raised:
            wait_until(lambda: waits_for_a_lock(store), what="waiting for the first row")
            free = sa.select(syncs.c.id).with_for_update(skip_locked=True).order_by(syncs.c.id)
            with store.database.write() as other:
                assert list(other.scalars(free)) == others
            holder.rollback()
    assert raised == []


@on_postgresql
def test_rows_of_environments_are_locked_in_the_order_of_their_ids(store: Store):
    first, *others = ids_of(store, environments)
    with store.database.write() as holder:
        lock(holder, environments, first)
        with at_work(lambda: store.apps.update_app("shop", new_name="store")) as raised:
            wait_until(lambda: waits_for_a_lock(store), what="waiting for the first row")
            free = sa.select(environments.c.id).with_for_update(skip_locked=True).order_by(environments.c.id)
            with store.database.write() as other:
                assert list(other.scalars(free)) == others
            holder.rollback()
    assert raised == []


@on_postgresql
def test_old_daemons_that_another_beat_removes_are_left_to_it(store: Store):
    store.daemons.beat("old", host="h", pid=1, ttl=TTL)
    with store.database.write() as connection:
        connection.execute(daemons.update().values(until=datetime(1970, 1, 1, tzinfo=UTC)))
    with store.database.write() as other:
        other.execute(sa.select(daemons).with_for_update()).all()
        store.daemons.beat("new", host="h", pid=2, ttl=TTL)
    store.daemons.beat("new", host="h", pid=2, ttl=TTL)
    with store.database.read() as connection:
        assert list(connection.scalars(sa.select(daemons.c.owner))) == ["new"]


@on_postgresql
def test_a_write_that_was_ended_for_a_deadlock_is_repeated(store: Store):
    """The other takes its rows in the wrong order, as nothing of ours does."""
    claims = store.claims.claim_due("d", limit=COUNT, ttl=TTL)
    first, *_, last = ids_of(store, syncs)
    with store.database.write() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {store.database.url.database} SET deadlock_timeout = '500ms'")
    store.database.close()  # the setting is that of new connections
    with store.database.write() as other:
        other.exec_driver_sql("SET LOCAL deadlock_timeout = '60s'")  # so that the other one is ended
        lock(other, syncs, last)
        renewed: list[str] = []
        with at_work(lambda: renewed.extend(store.claims.renew(claims, ttl=TTL))) as raised:
            wait_until(lambda: waits_for_a_lock(store), what="waiting for the last row")
            with store.database.write() as another:
                free = sa.select(syncs.c.id).with_for_update(skip_locked=True)
                assert list(another.scalars(free)) == [], "it has the others: this is a deadlock"
            lock(other, syncs, first)
            other.rollback()
    assert raised == []
    assert sorted(renewed) == ids_of(store, syncs)


@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_what_the_database_gave_up_is_repeated_some_times(code: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("phasesync.store.database._FIRST_PAUSE_S", 0)
    done: list[int] = []

    @retry_on_conflict
    def work(until: int) -> int:
        done.append(1)
        if len(done) < until:
            raise StoreUnavailableError(code=code)
        return len(done)

    assert work(ATTEMPTS) == ATTEMPTS
    done.clear()
    with pytest.raises(StoreUnavailableError):
        work(ATTEMPTS + 1)
    assert len(done) == ATTEMPTS


@pytest.mark.parametrize("error", [StoreUnavailableError(code="53300"), StoreUnavailableError(), KeyError()])
def test_nothing_else_is_repeated(error: Exception):
    done: list[int] = []

    @retry_on_conflict
    def work() -> None:
        done.append(1)
        raise error

    with pytest.raises(type(error)):
        work()
    assert done == [1]


def test_every_public_method_of_the_store_is_repeated():
    """A new one too: no one has to think of it."""
    stores: tuple[type, ...] = (
        AppStore,
        ClaimStore,
        CredentialStore,
        DaemonRegistry,
        DynamicStore,
        JournalStore,
        LeaseStore,
        RestoreMark,
        RunStore,
        SecretStore,
        SweepStore,
        SyncStore,
    )
    assert set(stores) - {DaemonRegistry} <= set(BaseStore.__subclasses__())
    missing = [
        f"{store.__name__}.{name}"
        for store in stores
        for name, member in vars(store).items()
        if inspect.isfunction(member) and not name.startswith("_") and not hasattr(member, "__wrapped__")
    ]
    assert missing == []
