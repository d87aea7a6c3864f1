"""Daemons and chores: which daemon is active, which ones are alive, and who does a chore."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from phasesync.core.chores import DaemonRole
from tests.support.stores import EXPIRED, LONG, TTL


def beat(store, owner: str, ttl: timedelta = TTL) -> DaemonRole:
    return store.daemons.beat(owner, host="localhost", pid=7, ttl=ttl)


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_on_sqlite_one_works_and_a_second_stands_by(store):
    assert [beat(store, "a"), beat(store, "b"), beat(store, "a")] == [
        DaemonRole.ACTIVE,
        DaemonRole.STANDBY,
        DaemonRole.ACTIVE,
    ]
    store.daemons.deregister("a")
    assert beat(store, "b") is DaemonRole.ACTIVE
    assert beat(store, "a") is DaemonRole.STANDBY


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_on_sqlite_a_daemon_that_went_silent_is_replaced_and_stands_by_when_it_returns(store):
    beat(store, "frozen", EXPIRED)
    assert beat(store, "b") is DaemonRole.ACTIVE
    assert beat(store, "frozen") is DaemonRole.STANDBY


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_on_postgresql_every_daemon_works(store):
    assert {beat(store, owner) for owner in ("a", "b", "c")} == {DaemonRole.ACTIVE}


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_on_sqlite_a_daemon_that_died_when_the_clock_was_ahead_is_replaced(store):
    beat(store, "dead", timedelta(days=365))
    assert beat(store, "b") is DaemonRole.ACTIVE
    assert [one["owner"] for one in store.daemons.alive()] == ["b"]


def test_a_chore_that_was_done_when_the_clock_was_ahead_is_done_again(store):
    assert store.daemons.claim_chore("sweep", "a", every=LONG)
    with store.database.write() as connection:
        connection.execute(sa.text("UPDATE chores SET claimed_at = claimed_at + 31536000000000"))

    assert store.daemons.claim_chore("sweep", "b", every=LONG)
    assert not store.daemons.claim_chore("sweep", "c", every=LONG)


def test_those_alive_are_listed(store):
    beat(store, "a")
    beat(store, "b")
    beat(store, "gone", EXPIRED)
    alive = store.daemons.alive()
    assert [one["owner"] for one in alive] == ["a", "b"]
    assert set(alive[0]) == {"owner", "host", "pid", "role", "started_at", "beat_at"}
    beat(store, "a")
    again = store.daemons.alive()[0]
    assert again["started_at"] == alive[0]["started_at"]
    assert (again["host"], again["pid"]) == ("localhost", 7)
    store.daemons.deregister("a")
    assert [one["owner"] for one in store.daemons.alive()] == ["b"]


def test_a_chore_is_done_once_in_a_while(store):
    hour = timedelta(hours=1)
    assert store.daemons.claim_chore("prune", "a", every=hour)
    assert not store.daemons.claim_chore("prune", "a", every=hour)
    assert not store.daemons.claim_chore("prune", "b", every=hour)
    assert store.daemons.claim_chore("sweep", "b", every=hour)
    assert store.daemons.claim_chore("prune", "b", every=timedelta(0))
