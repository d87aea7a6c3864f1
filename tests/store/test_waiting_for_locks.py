"""A statement that waited for a lock uses the time at which it got the lock."""

import threading
from collections.abc import Callable
from datetime import datetime

import pytest
import sqlalchemy as sa

from phasesync.core.lease import Lease
from phasesync.store import Store, tables
from phasesync.store.db_time import from_microseconds, now
from tests.support.stores import TTL, add_dynamic, issue_lease, request_lease
from tests.support.waiting import wait_until

pytestmark = pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)


def clock(connection: sa.Connection) -> datetime:
    """The database's time."""
    return from_microseconds(connection.scalar(sa.select(now())) or 0)


def waits_for_a_lock(store: Store) -> bool:
    with store.database.read() as connection:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(connection.scalar(sa.text(waiting)))


def while_held(store: Store, work: Callable[[], object]) -> datetime:
    """Have a piece of work wait for leases that another process has written to; return when they were free."""
    thread = threading.Thread(target=work)
    with store.database.write() as connection:
        connection.execute(tables.leases.update().values(ended_at=None))
        thread.start()
        wait_until(lambda: waits_for_a_lock(store), what="the wait for the lock")
        free_at = clock(connection)
    thread.join()
    return free_at


def test_a_step_is_taken_with_the_time_at_which_its_lease_was_free(store: Store) -> None:
    """A renewal that waited past the end of its lease comes too late for it."""
    lease = issue_lease(store, add_dynamic(store))
    times: list[datetime] = []

    def step(one: Lease, at: datetime) -> Lease:
        times.append(at)
        return one

    free_at = while_held(store, lambda: store.leases(ttl=TTL).change(lease.id, step))

    assert times[0] >= free_at


def test_a_claim_is_prolonged_from_the_time_at_which_its_lease_was_free(store: Store) -> None:
    """Else it may be over before its holder's call is."""
    claim, _ = request_lease(store, add_dynamic(store))

    free_at = while_held(store, lambda: store.leases(ttl=TTL).extend(claim))

    with store.database.read() as connection:
        until: datetime | None = connection.scalar(sa.select(tables.leases.c.claim_until))
    assert until is not None
    assert until >= free_at + TTL
