"""Leases that a daemon has to act on: which ones, and that no two daemons get the same one."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest

from phasesync.core.credential import CredentialStatus
from phasesync.core.dynamic import DynamicSecret
from phasesync.core.lease import Cause, Lease, LeaseStatus, begin_issue, begin_revoke, is_due, missing, renew
from phasesync.core.lease_claim import ClaimedLease
from phasesync.core.schedule import pause_of_lease
from phasesync.errors import ThrottledError
from phasesync.store import Store
from tests.support.sql import counted
from tests.support.stores import (
    EXPIRED,
    LONG,
    TTL,
    access_key,
    add_dynamic,
    at_once,
    end_lease,
    fail_lease,
    issue_lease,
    move_lease,
    open_test_store,
    request_lease,
    revoke_lease,
)
from tests.support.values import ACCOUNT, HOUR

MINUTE = timedelta(minutes=1)
YEAR = timedelta(days=365)


def due(
    store: Store, *, limit: int = 10, again: int = 10, restored: bool = False, owner: str = "daemon"
) -> list[ClaimedLease]:
    return store.leases(ttl=TTL).claim_due(owner, limit=limit, again=again, restored=restored)


def ids(claimed: list[ClaimedLease]) -> list[str]:
    return [claimed_lease.claim.lease_id for claimed_lease in claimed]


def requested(store: Store) -> Lease:
    return request_lease(store, add_dynamic(store), claim_ttl=EXPIRED)[1]


def issuing(store: Store) -> Lease:
    claim, _ = request_lease(store, add_dynamic(store))
    return store.leases(ttl=EXPIRED).save(claim, lambda lease, now: begin_issue(lease, ACCOUNT, now))


def not_arrived(store: Store) -> Lease:
    """A lease that is being revoked, and of which nothing was found yet."""
    lease = issuing(store)
    leases = store.leases(ttl=TTL)
    claim = leases.claim(lease.id, "a").claim
    leases.save(claim, lambda lease, now: begin_revoke(lease, Cause.FAILURE, "why", now))
    return leases.save(claim, missing, done=True)


def expired(store: Store, *, ttl: timedelta = EXPIRED, max_ttl: timedelta = 4 * HOUR) -> Lease:
    return issue_lease(store, add_dynamic(store, max_ttl=max_ttl), ttl=ttl)


def revoking(store: Store) -> Lease:
    lease = issue_lease(store, add_dynamic(store))
    store.leases(ttl=TTL).release(revoke_lease(store, lease))
    return store.leases(ttl=TTL).get(lease.id)


DUE: dict[str, tuple[Callable[[Store], Lease], bool, bool]] = {
    "requested by somebody who went away": (requested, True, True),
    "being issued by somebody who went away": (issuing, True, True),
    "active": (lambda store: issue_lease(store, add_dynamic(store)), False, False),
    "active, past its end": (expired, True, False),
    "active, past its maximum": (lambda store: expired(store, max_ttl=EXPIRED), True, True),
    "being taken back by somebody who went away": (revoking, True, True),
    "not found yet": (not_arrived, False, False),
    "failed, in its pause": (lambda store: fail_lease(store, issue_lease(store, add_dynamic(store))), False, False),
    "failed, after its pause": (
        lambda store: fail_lease(store, issue_lease(store, add_dynamic(store)), pause=EXPIRED),
        True,
        True,
    ),
    "revoked": (lambda store: end_lease(store, expired(store)), False, False),
    "expired": (lambda store: end_lease(store, expired(store), cause=Cause.EXPIRY), False, False),
}
"""What there is -> whether it is due, and whether in a database that may be older than AWS."""


@pytest.mark.parametrize(("make", "now", "in_older"), DUE.values(), ids=DUE)
def test_what_a_daemon_has_to_act_on(store: Store, make: Callable[[Store], Lease], now: bool, in_older: bool) -> None:
    lease = make(store)
    clock = request_lease(store, add_dynamic(store, "clock"))[1].requested_at

    for restored, expected in ((True, in_older), (False, now)):
        claimed = due(store, restored=restored)
        assert [claimed_lease.lease for claimed_lease in claimed] == ([lease] if expected else [])
        assert is_due(lease, clock, restored=restored) is expected, "the core says the same"
        assert due(store, restored=restored) == [], "a lease is claimed once"
        for one in claimed:
            store.leases(ttl=TTL).release(one.claim)


def test_what_is_due_is_claimed(store: Store) -> None:
    lease = expired(store)
    (claimed,) = due(store, owner="daemon-1")
    assert (claimed.claim.owner, claimed.claim.lease_id, claimed.error) == ("daemon-1", lease.id, None)
    assert due(store, owner="daemon-2") == []
    store.leases(ttl=TTL).extend(claimed.claim)


def test_a_lease_that_somebody_works_on_is_not_due(store: Store) -> None:
    lease = expired(store)
    claim = store.leases(ttl=TTL).claim(lease.id, "cli-1").claim
    assert due(store) == []
    store.leases(ttl=TTL).release(claim)
    assert ids(due(store)) == [lease.id]


def test_those_that_are_overdue_longest_come_first_and_no_more_than_asked_for(store: Store) -> None:
    dynamic = add_dynamic(store)
    late = {late: issue_lease(store, dynamic, ttl=-late * MINUTE).id for late in (30, 1, 500, 7, 100)}
    issue_lease(store, dynamic)

    assert ids(due(store, limit=2)) == [late[500], late[100]]
    assert ids(due(store, limit=2)) == [late[30], late[7]]
    assert ids(due(store, limit=2)) == [late[1]]
    assert due(store, limit=2) == []


def test_what_failed_before_keeps_nothing_else_waiting(store: Store) -> None:
    """However long it has been overdue: a credential that is refused leaves many behind."""
    dynamic = add_dynamic(store)
    failed = [issue_lease(store, dynamic, ttl=-late * MINUTE) for late in (500, 400, 300)]
    for lease in failed:
        fail_lease(store, lease, pause=EXPIRED)
    late = issue_lease(store, dynamic, ttl=-MINUTE)

    assert ids(due(store, limit=2, again=1)) == [late.id, failed[0].id]
    assert due(store, limit=2, again=0) == []
    assert ids(due(store, limit=2, again=1)) == [failed[1].id]
    assert ids(due(store, limit=2)) == [failed[2].id]


def test_none_is_claimed_where_none_is_asked_for(store: Store) -> None:
    expired(store)
    assert due(store, limit=0) == []
    assert len(due(store)) == 1


def test_what_failed_is_due_once_its_pause_is_over(store: Store) -> None:
    lease = fail_lease(store, issue_lease(store, add_dynamic(store)), pause=LONG)
    move_lease(store, lease, -LONG + MINUTE, "retry_at")
    assert due(store) == []
    move_lease(store, lease, -MINUTE, "retry_at")
    assert ids(due(store)) == [lease.id]


def test_a_renewed_lease_is_due_at_its_new_end(store: Store) -> None:
    lease = issue_lease(store, add_dynamic(store), ttl=HOUR)
    store.leases(ttl=TTL).change(lease.id, lambda lease, now: renew(lease, 3 * HOUR, now))
    move_lease(store, lease, -2 * HOUR, "expires_at")
    assert due(store) == []
    move_lease(store, lease, -HOUR, "expires_at")
    assert ids(due(store)) == [lease.id]


def test_in_an_older_database_a_lease_is_left_until_no_renewal_can_have_moved_its_end_further(store: Store) -> None:
    lease = expired(store, max_ttl=2 * HOUR)
    assert due(store, restored=True) == []
    assert ids(due(store)) == [lease.id]


def test_a_pause_that_was_noted_when_the_clock_was_a_year_ahead_is_over(store: Store) -> None:
    lease = fail_lease(store, issue_lease(store, add_dynamic(store)), pause=LONG / 2)
    assert due(store) == []
    move_lease(store, lease, YEAR, "retry_at")
    assert ids(due(store)) == [lease.id]


def test_a_pause_that_aws_asked_for_is_heeded_however_long(store: Store) -> None:
    """As long as a header Retry-After may say; it is no sign of a clock that was ahead."""
    error = ThrottledError(retry_after=timedelta(seconds=99_999))
    pause = pause_of_lease(error, failures=1, spread=0)
    fail_lease(store, issue_lease(store, add_dynamic(store)), pause=pause)
    assert due(store) == []


def give_anew(store: Store) -> None:
    store.credentials.update("base", access_key(), account=ACCOUNT)


def verify(store: Store) -> None:
    store.credentials.mark(store.credentials.get("base").id, CredentialStatus.VERIFIED)


@pytest.mark.parametrize("mend", [give_anew, verify])
def test_a_new_or_verified_credential_has_what_could_not_be_taken_back_tried_again_at_once(
    store: Store, mend: Callable[[Store], None]
) -> None:
    """Of the credentials that it is the source of as well, and of no other."""
    store.credentials.add("base", access_key())
    store.credentials.add("role", access_key(source_name="base"))
    failed = {
        name: fail_lease(store, issue_lease(store, add_dynamic(store, f"by-{name}", credential=name)))
        for name in ("base", "role", "other")
    }
    assert due(store) == []

    store.credentials.mark(store.credentials.get("base").id, CredentialStatus.REJECTED)
    assert due(store) == []
    mend(store)

    leases = store.leases(ttl=TTL)
    assert {name: leases.get(lease.id).retry_at for name, lease in failed.items()} == {
        "base": None,
        "role": None,
        "other": failed["other"].retry_at,
    }
    assert set(ids(due(store))) == {failed["base"].id, failed["role"].id}


def test_a_new_credential_does_not_shorten_a_wait_for_what_may_still_arrive(store: Store) -> None:
    lease = not_arrived(store)
    store.credentials.update("aws", access_key(), account=ACCOUNT)
    assert store.leases(ttl=TTL).get(lease.id) == lease
    assert lease.retry_at is not None


def test_two_daemons_never_get_the_same_lease(store: Store, migrated_database_url: str) -> None:
    dynamic = add_dynamic(store)
    all_due = {issue_lease(store, dynamic, ttl=EXPIRED).id for _ in range(24)}
    other = open_test_store(migrated_database_url)

    def take(one: Store, owner: str) -> list[str]:
        taken: list[str] = []
        while some := ids(due(one, limit=3, owner=owner)):
            taken += some
        return taken

    rounds = at_once(*(lambda number=number: take((store, other)[number % 2], f"d{number}") for number in range(4)))

    other.close()
    counts = Counter(lease_id for taken in rounds if isinstance(taken, list) for lease_id in taken)
    assert counts == Counter(all_due), rounds


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_a_daemon_does_not_wait_for_a_lease_that_another_is_just_claiming(store: Store) -> None:
    dynamic = add_dynamic(store)
    first, second = (issue_lease(store, dynamic, ttl=-late * MINUTE) for late in (9, 1))
    with store.database.write() as connection:
        connection.exec_driver_sql(f"SELECT id FROM leases WHERE id = '{first.id}' FOR UPDATE")
        assert ids(due(store)) == [second.id]
    assert ids(due(store)) == [first.id]


def test_a_look_at_what_is_due_is_one_statement_and_locks_nothing(store: Store) -> None:
    issue_lease(store, add_dynamic(store))
    with counted(store.database.engine) as statements:
        assert due(store) == []
    assert len(statements) == 1
    with store.database.write():
        assert due(store) == [], "on SQLite a write would have to wait for the other"


IN_EACH_STATUS: tuple[Callable[[Store, DynamicSecret], Lease], ...] = (
    lambda store, dynamic: request_lease(store, dynamic)[1],
    lambda store, dynamic: store.leases(ttl=TTL).save(
        request_lease(store, dynamic)[0], lambda lease, now: begin_issue(lease, ACCOUNT, now)
    ),
    issue_lease,
    lambda store, dynamic: store.leases(ttl=TTL).get(revoke_lease(store, issue_lease(store, dynamic)).lease_id),
    lambda store, dynamic: fail_lease(store, issue_lease(store, dynamic)),
    lambda store, dynamic: end_lease(store, issue_lease(store, dynamic)),
    lambda store, dynamic: end_lease(store, issue_lease(store, dynamic), cause=Cause.EXPIRY),
)


def test_every_lease_is_due_some_time_unless_it_has_ended(store: Store) -> None:
    """After its end, its pause, and the claim of whoever died at work on it."""
    dynamic = add_dynamic(store)
    everything = [make(store, dynamic) for make in IN_EACH_STATUS]
    assert {lease.status for lease in everything} == set(LeaseStatus)
    for lease in everything:
        move_lease(store, lease, -5 * HOUR, "expires_at", "retry_at", "claim_until")
    assert set(ids(due(store, limit=99))) == {lease.id for lease in everything if lease.live}


@pytest.mark.parametrize(("ahead", "over"), [(timedelta(minutes=50), False), (timedelta(hours=2), True), (YEAR, True)])
def test_a_lease_that_was_asked_for_with_a_clock_far_ahead_is_over(store: Store, ahead: timedelta, over: bool) -> None:
    """By the clock as it is now it might live for years; a clock that was a little off makes no difference."""
    lease = issue_lease(store, add_dynamic(store))
    move_lease(store, lease, ahead, "requested_at", "expires_at")
    moved = store.leases(ttl=TTL).list_leases()[0]

    assert ids(due(store)) == ([lease.id] if over else [])
    assert is_due(moved, lease.requested_at) is over
