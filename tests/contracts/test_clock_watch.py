"""
A clock that was set back: what it leaves behind is corrected, and nothing waits for it, on each database.

The clock of a database cannot be set here. Every instant in it is moved ahead instead, which is the same.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from phasesync.core.backup_schedule import Folder
from phasesync.core.chores import ClockSetBack, DaemonRole
from phasesync.core.lease import Lease, LeaseStatus, begin_issue, issued, shifted_back
from phasesync.store import Store, tables
from phasesync.store.db_time import Instant
from phasesync.store.lease_rows import select_leases, to_columns, to_lease
from tests.support.stores import (
    LONG,
    TTL,
    add_dynamic,
    add_sync,
    alter,
    at_once,
    claim_due,
    claim_one,
    fail_lease,
    issue_lease,
    put,
    request_lease,
    settle,
    write,
)
from tests.support.values import ACCOUNT

SECOND = timedelta(seconds=1)
backs = pytest.mark.parametrize("back", [timedelta(minutes=30), timedelta(days=30)], ids=["30min", "30d"])


def beat(store: Store, owner: str = "daemon-1", *, ttl: timedelta = TTL) -> DaemonRole:
    return store.daemons.beat(owner, host="localhost", pid=7, ttl=ttl)


def set_clock_back(store: Store, by: timedelta) -> None:
    """Have every instant of the database lie further ahead by so much."""
    microseconds = by // timedelta(microseconds=1)
    with store.database.write() as connection:
        for row in connection.execute(select_leases()).all():
            columns = to_columns(shifted_back(to_lease(row, store.keys), -by), store.keys, row.data_key_id)
            connection.execute(tables.leases.update().where(tables.leases.c.id == row.id).values(**columns))
        for table in tables.metadata.sorted_tables:
            names = [column.name for column in table.c if isinstance(column.type, Instant)]
            if table is tables.leases:
                names = ["claim_until"]
            elif table is tables.syncs:
                names = [name for name in names if not name.startswith("paused_") and name not in tables.GENERATED]
            elif table is tables.instance:
                names = []
            elif table is tables.backup_schedules:
                names = ["next_at", "succeeded_at", "failed_at"]  # The other one is bound to its ciphertext.
            if names:
                moved = {name: sa.type_coerce(table.c[name], sa.BigInteger()) + microseconds for name in names}
                connection.execute(table.update().values(**moved))


def check(store: Store, owner: str = "daemon-1") -> ClockSetBack | None:
    return store.clock_watch.check(owner)


def from_now(at: datetime | None) -> timedelta:
    assert at is not None
    return at - datetime.now(UTC)


def lease_of(store: Store, lease: Lease) -> Lease:
    return store.leases(ttl=TTL).get(lease.id)


# --- noticing


def test_a_clock_that_goes_on_moves_nothing(store) -> None:
    add_sync(store)
    settle(store, claim_one(store), retry_in=LONG, due_in=LONG)
    lease = issue_lease(store, add_dynamic(store))
    beat(store)
    sync = store.syncs.get_sync("web")

    assert [check(store) for _ in range(3)] == [None] * 3

    assert store.syncs.get_sync("web") == sync
    assert lease_of(store, lease) == lease


@pytest.mark.parametrize("back", [10 * SECOND, LONG, timedelta(days=3650)], ids=["10s", "1h", "10y"])
def test_by_how_much_it_was_set_back_is_told_once(store, back) -> None:
    beat(store)
    set_clock_back(store, back)

    jump = check(store)

    assert jump is not None and back - 5 * SECOND < jump.by <= back
    assert check(store) is None


def test_what_two_machines_may_differ_by_proves_nothing(store) -> None:
    beat(store)
    set_clock_back(store, SECOND)
    assert check(store) is None


def test_heartbeats_do_not_hide_the_evidence(store) -> None:
    beat(store)
    set_clock_back(store, LONG)
    beat(store)
    beat(store, "daemon-2")

    assert check(store) is not None


def test_several_daemons_move_it_once(store) -> None:
    add_sync(store)
    settle(store, claim_one(store), due_in=3 * LONG)
    beat(store)
    set_clock_back(store, LONG)

    jump = at_once(*(lambda owner=owner: check(store, owner) for owner in ("a", "b", "c")))

    assert [result for result in jump if result is not None] == [
        result for result in jump if isinstance(result, ClockSetBack)
    ][:1]
    assert 3 * LONG - 30 * SECOND < from_now(store.syncs.get_sync("web").next_due_at) <= 3 * LONG


# --- syncs


@backs
def test_an_edit_goes_out_at_once_and_checks_come_when_they_would_have(store, back) -> None:
    add_sync(store)
    settle(store, claim_one(store), retry_in=timedelta(minutes=10), due_in=timedelta(minutes=5))
    beat(store)
    set_clock_back(store, back)
    put(store, write(value="new"))

    check(store)

    assert from_now(store.syncs.get_sync("web").next_due_at) <= timedelta(minutes=5)
    assert len(claim_due(store)) == 1


@backs
def test_a_claim_of_the_dead_stands_no_longer_than_before(store, back) -> None:
    add_sync(store)
    claim_one(store, "dead", ttl=timedelta(seconds=20))
    beat(store, "dead")
    set_clock_back(store, back)

    check(store)

    with store.database.read() as connection:
        until = connection.scalar(sa.select(tables.syncs.c.claim_until))
    assert timedelta(0) < from_now(until) <= 20 * SECOND
    assert store.claims.release_expired() == []


@backs
def test_a_claim_of_the_living_is_renewed_and_stays(store, back) -> None:
    add_sync(store)
    claim = claim_one(store)
    beat(store)
    set_clock_back(store, back)
    assert store.claims.renew([claim], ttl=TTL)

    check(store)

    assert store.claims.release_expired() == []
    assert claim_due(store, "other") == []
    assert store.claims.renew([claim], ttl=TTL) == {claim.sync_id}


@backs
def test_without_a_note_a_sync_shows_by_itself_that_the_clock_was_set_back(store, back) -> None:
    """A database of an earlier release, or rows that came by another way."""
    add_sync(store)
    settle(store, claim_one(store), retry_in=timedelta(minutes=10), due_in=timedelta(minutes=5))
    set_clock_back(store, back)
    put(store, write(value="new"))

    assert store.claims.release_expired() == []

    assert len(claim_due(store)) == 1


def test_the_end_of_a_pause_is_a_date_that_a_person_set(store) -> None:
    add_sync(store)
    settle(store, claim_one(store))
    beat(store)
    until = datetime.now(UTC) + 5 * LONG
    alter(store, tables.syncs, paused_at=datetime.now(UTC), paused_until=until, paused_by="ada")
    alter(store, tables.chores, claimed_at=datetime.now(UTC) + LONG)

    assert check(store) is not None

    with store.database.read() as connection:
        assert connection.scalar(sa.select(tables.syncs.c.paused_until)) == until


# --- leases


@backs
@pytest.mark.parametrize("noted", [True, False], ids=["noted", "not-noted"])
def test_a_lease_lives_no_longer_than_it_was_meant_to(store, back, noted) -> None:
    lease = issue_lease(store, add_dynamic(store), ttl=timedelta(minutes=15))
    if noted:
        beat(store)
    set_clock_back(store, back)

    jump = check(store)

    assert jump is not None and jump.leases == 1
    moved = lease_of(store, lease)
    assert moved.status is LeaseStatus.ACTIVE
    assert timedelta(minutes=14) < from_now(moved.expires_at) <= timedelta(minutes=15)
    assert moved.max_expires_at - moved.expires_at == lease.max_expires_at - lease.expires_at
    assert from_now(moved.requested_at) <= SECOND
    assert not store.leases(ttl=TTL).claim_due("daemon-1", limit=9, again=9, restored=False), "nor any shorter"


def test_an_old_lease_is_moved_as_well_though_nothing_of_it_was_noted_ahead(store) -> None:
    lease = issue_lease(store, add_dynamic(store), ttl=LONG)
    beat(store)
    set_clock_back(store, -timedelta(minutes=50))  # 50 minutes pass, 10 are left
    beat(store)
    set_clock_back(store, timedelta(minutes=30))

    check(store)

    assert timedelta(minutes=9) < from_now(lease_of(store, lease).expires_at) <= timedelta(minutes=10)


def test_a_lease_that_could_not_be_revoked_is_tried_again_when_it_would_have_been(store) -> None:
    lease = fail_lease(store, issue_lease(store, add_dynamic(store)), pause=timedelta(minutes=10))
    beat(store)
    set_clock_back(store, timedelta(days=30))

    check(store)

    assert from_now(lease_of(store, lease).retry_at) <= timedelta(minutes=10)


def test_the_end_of_a_session_is_what_aws_set(store) -> None:
    dynamic = add_dynamic(store, role_arn=f"arn:aws:iam::{ACCOUNT}:role/ci")
    claim, lease = request_lease(store, dynamic)
    leases, ends_at = store.leases(ttl=TTL), datetime.now(UTC) + LONG
    leases.save(claim, lambda lease, now: begin_issue(lease, ACCOUNT, now))
    leases.save(
        claim,
        lambda lease, now: issued(lease, now, principal="arn", access_key_id="ASIA", ends_at=ends_at),
        done=True,
    )
    beat(store)
    alter(store, tables.chores, claimed_at=datetime.now(UTC) + timedelta(minutes=30))

    check(store)

    assert lease_of(store, lease).expires_at == ends_at


def test_a_lease_whose_row_was_altered_hides_no_other(store) -> None:
    dynamic = add_dynamic(store)
    altered, lease = issue_lease(store, dynamic), issue_lease(store, dynamic)
    beat(store)
    set_clock_back(store, LONG)
    alter(store, tables.leases, altered.id, details=b"altered")

    jump = check(store)

    assert jump is not None and jump.leases == 1
    assert from_now(lease_of(store, lease).expires_at) <= LONG


# --- daemons and chores


@backs
@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_a_standby_follows_a_dead_daemon_no_later_than_before(store, back) -> None:
    beat(store, "dead", ttl=timedelta(seconds=15))
    set_clock_back(store, back)

    check(store, "standby")

    assert beat(store, "standby") is DaemonRole.STANDBY
    with store.database.read() as connection:
        until = connection.scalar(sa.select(tables.daemons.c.until).where(tables.daemons.c.owner == "dead"))
    assert from_now(until) <= 15 * SECOND


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_a_living_daemon_keeps_its_place_when_the_clock_is_set_back(store) -> None:
    beat(store, "first")
    beat(store, "standby")
    set_clock_back(store, LONG)

    check(store, "standby")

    assert [beat(store, "standby"), beat(store, "first")] == [DaemonRole.STANDBY, DaemonRole.ACTIVE]
    assert [one["owner"] for one in store.daemons.alive()] == ["first", "standby"]


@backs
def test_backups_go_on_when_they_would_have(store, back) -> None:
    every = timedelta(hours=1)
    place = Folder(path="/backups")
    store.backup_schedules.set(place, every=every, keep=3, credential_id=None, region=None, actor="ada")
    store.backup_schedules.succeeded(store.backup_schedules.claim_due())
    beat(store)
    set_clock_back(store, back)

    check(store)

    (schedule,) = store.backup_schedules.list_all().usable
    assert abs(from_now(schedule.next_at) - every) < 30 * SECOND
    assert abs(from_now(schedule.succeeded_at)) < 30 * SECOND


@backs
def test_chores_are_done_when_they_would_have_been(store, back) -> None:
    assert store.daemons.claim_chore("sweep", "a", every=LONG)
    set_clock_back(store, back)

    check(store)

    assert not store.daemons.claim_chore("sweep", "a", every=LONG)
    assert store.daemons.claim_chore("sweep", "a", every=timedelta(0))
