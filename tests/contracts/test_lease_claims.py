"""Claims of leases: who works on a lease, for how long, and what a stale holder may not do."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from phasesync.core.lease import Cause, Lease, LeaseStatus, begin_issue, begin_revoke, revoked
from phasesync.core.lease_claim import Entry, LeaseClaim, LeaseEvent
from phasesync.errors import ClaimHeldError, ClaimLostError, NotFoundError
from phasesync.store import Store, tables
from tests.support.stores import (
    EXPIRED,
    TTL,
    activate_lease,
    add_dynamic,
    alter,
    at_once,
    end_lease,
    issue_lease,
    move_lease,
    open_test_store,
    request_lease,
)
from tests.support.values import ACCOUNT

YEAR = timedelta(days=365)
REVOKED = Entry(event=LeaseEvent.REVOKED, actor="ada")


def revoke(store: Store, claim: LeaseClaim, *, done: bool = False) -> Lease:
    return store.leases(ttl=TTL).save(
        claim, lambda lease, now: begin_revoke(lease, Cause.REQUEST, "why", now), entry=REVOKED, done=done
    )


def stale_and_successor(store: Store, *, owner: str = "successor") -> tuple[LeaseClaim, LeaseClaim]:
    """A claim that expired, of an issued lease, and the one that took over from it."""
    lease = issue_lease(store, add_dynamic(store))
    stale = store.leases(ttl=EXPIRED).claim(lease.id, "frozen").claim
    return stale, store.leases(ttl=TTL).claim(lease.id, owner).claim


def is_free(store: Store, claim: LeaseClaim) -> bool:
    """Whether another process could claim it now. It does."""
    try:
        store.leases(ttl=TTL).claim(claim.lease_id, "curious")
    except ClaimHeldError:
        return False
    return True


def test_a_lease_is_claimed_once(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    lease = issue_lease(store, add_dynamic(store))

    claimed = leases.claim(lease.id, "first")

    assert (claimed.lease, claimed.error) == (lease, None)
    assert (claimed.claim.lease_id, claimed.claim.owner) == (lease.id, "first")
    for owner in ("second", "first"):
        with pytest.raises(ClaimHeldError, match=f"the lease {lease.id} is being worked on by first"):
            leases.claim(lease.id, owner)


def test_who_asks_for_a_lease_has_its_claim(store: Store) -> None:
    _, lease = request_lease(store, add_dynamic(store), "cli-7")
    with pytest.raises(ClaimHeldError, match="cli-7"):
        store.leases(ttl=TTL).claim(lease.id, "other")


def test_a_lease_that_has_ended_may_be_claimed(store: Store) -> None:
    """Whoever waited for the claim of one sees how it ended."""
    ended = end_lease(store, issue_lease(store, add_dynamic(store)))
    assert store.leases(ttl=TTL).claim(ended.id, "late").lease == ended


def test_the_fence_grows_with_every_claim(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    first, _ = request_lease(store, add_dynamic(store))
    leases.release(first)
    second = leases.claim(first.lease_id, "b").claim
    leases.release(second)
    (third,) = leases.claim_due("c", limit=1, again=1, restored=False)
    assert first.fence < second.fence < third.claim.fence


def test_an_expired_claim_is_free(store: Store) -> None:
    leases = store.leases(ttl=EXPIRED)
    former, lease = request_lease(store, add_dynamic(store), "dead", claim_ttl=EXPIRED)
    successor = leases.claim(lease.id, "alive").claim
    (third,) = leases.claim_due("daemon", limit=1, again=1, restored=False)
    assert former.fence < successor.fence < third.claim.fence


@pytest.mark.parametrize("owner", ["successor", "frozen"], ids=["another process", "another thread of its own"])
def test_a_stale_holder_stores_nothing(store: Store, owner: str) -> None:
    stale, successor = stale_and_successor(store, owner=owner)
    leases = store.leases(ttl=TTL)
    before = leases.get(stale.lease_id)

    with pytest.raises(ClaimLostError):
        revoke(store, stale)
    with pytest.raises(ClaimLostError, match=f"the lease {stale.lease_id} passed to another process"):
        leases.extend(stale)
    leases.release(stale)
    leases.defer(stale, TTL)

    assert leases.get(stale.lease_id) == before
    assert leases.records(stale.lease_id) == []
    assert not is_free(store, successor)
    assert revoke(store, successor).status is LeaseStatus.REVOKING


def test_a_late_holder_whom_nobody_replaced_may_go_on(store: Store) -> None:
    """The fence counts, not the time: no one else has begun anything."""
    claim, _ = request_lease(store, add_dynamic(store), claim_ttl=EXPIRED)
    leases = store.leases(ttl=TTL)
    leases.extend(claim)
    assert not is_free(store, claim)
    assert activate_lease(store, claim).status is LeaseStatus.ACTIVE


def test_a_claim_that_was_given_back_is_good_for_nothing(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    claim = leases.claim(issue_lease(store, add_dynamic(store)).id, "a").claim
    leases.release(claim)
    with pytest.raises(ClaimLostError):
        revoke(store, claim)
    with pytest.raises(ClaimLostError):
        leases.extend(claim)
    assert leases.get(claim.lease_id).status is LeaseStatus.ACTIVE


def test_a_claim_of_a_lease_that_was_removed_is_lost(store: Store) -> None:
    lease = issue_lease(store, add_dynamic(store))
    claim = store.leases(ttl=TTL).claim(end_lease(store, lease).id, "late").claim
    store.dynamics.remove("ci")
    with pytest.raises(ClaimLostError):
        store.leases(ttl=TTL).extend(claim)
    with pytest.raises(ClaimLostError):
        revoke(store, claim)
    with pytest.raises(NotFoundError):
        store.leases(ttl=TTL).get(lease.id)


PROLONGED: dict[str, Callable[[Store, LeaseClaim], object]] = {
    "before a call": lambda store, claim: store.leases(ttl=TTL).extend(claim),
    "by a step": lambda store, claim: store.leases(ttl=TTL).save(
        claim, lambda lease, now: begin_issue(lease, ACCOUNT, now)
    ),
}


@pytest.mark.parametrize("prolong", [*PROLONGED.values(), None], ids=[*PROLONGED, "not at all"])
def test_a_claim_is_prolonged(store: Store, prolong: Callable[[Store, LeaseClaim], None] | None) -> None:
    claim, _ = request_lease(store, add_dynamic(store), claim_ttl=EXPIRED)
    if prolong is not None:
        prolong(store, claim)
    assert is_free(store, claim) is (prolong is None)


@pytest.mark.parametrize("done", [True, False])
def test_a_step_gives_the_claim_back_where_the_lease_is_done(store: Store, done: bool) -> None:
    claim = store.leases(ttl=TTL).claim(issue_lease(store, add_dynamic(store)).id, "a").claim
    revoke(store, claim)
    store.leases(ttl=TTL).save(claim, revoked, done=done)
    assert is_free(store, claim) is done


def test_a_lease_whose_claim_is_given_back_is_as_due_as_it_was(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    lease = issue_lease(store, add_dynamic(store), ttl=EXPIRED)
    (claimed,) = leases.claim_due("a", limit=1, again=1, restored=False)
    leases.release(claimed.claim)
    (again,) = leases.claim_due("b", limit=1, again=1, restored=False)
    assert claimed.lease == again.lease == lease


def test_a_lease_that_is_put_off_is_looked_at_again_after_a_pause(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    issue_lease(store, add_dynamic(store), ttl=EXPIRED)
    (claimed,) = leases.claim_due("a", limit=1, again=1, restored=False)

    leases.defer(claimed.claim, TTL)

    put_off = leases.get(claimed.claim.lease_id)
    assert put_off.live
    assert leases.claim_due("b", limit=1, again=1, restored=False) == []
    move_lease(store, put_off, -TTL, "retry_at")
    (again,) = leases.claim_due("b", limit=1, again=1, restored=False)
    assert again.claim.lease_id == put_off.id


def test_a_holder_that_died_when_the_clock_was_a_year_ahead_is_replaced(store: Store) -> None:
    _, lease = request_lease(store, add_dynamic(store), "dead")
    move_lease(store, lease, YEAR, "claim_until")
    (claimed,) = store.leases(ttl=TTL).claim_due("successor", limit=1, again=1, restored=False)
    assert claimed.lease == lease


def test_of_two_that_claim_one_lease_at_once_one_gets_it(store: Store, migrated_database_url: str) -> None:
    lease = issue_lease(store, add_dynamic(store))
    other = open_test_store(migrated_database_url)
    stores = (store, other, store, other)

    results = at_once(*(lambda opened=opened: opened.leases(ttl=TTL).claim(lease.id, "me") for opened in stores))

    other.close()
    assert sorted(type(result).__name__ for result in results) == ["ClaimHeldError"] * 3 + ["ClaimedLease"]


def test_what_a_holder_writes_is_what_its_successor_reads(store: Store) -> None:
    claim, _ = request_lease(store, add_dynamic(store), "dead")
    about = store.leases(ttl=TTL).save(claim, lambda lease, now: begin_issue(lease, ACCOUNT, now))
    alter(store, tables.leases, claim.lease_id, claim_until=about.requested_at)
    assert store.leases(ttl=TTL).claim(claim.lease_id, "alive").lease == about
