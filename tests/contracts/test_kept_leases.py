"""Values that are kept with a lease: they can be read again, and are deleted when the lease ends."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from phasesync.core.dynamic import DynamicSecret
from phasesync.core.lease import Cause, Lease, LeaseStatus, abandoned, expired, renew
from phasesync.core.lease_claim import KeptLease, LeaseEvent
from phasesync.core.model import SecretValue
from phasesync.store import Store, tables
from tests.support.stores import (
    LONG,
    TTL,
    activate_lease,
    add_dynamic,
    end_lease,
    fail_lease,
    issue_lease,
    move_lease,
    request_lease,
    revoke_lease,
)
from tests.support.values import HOUR

SECOND = timedelta(seconds=1)
OUTPUTS = {
    "username": SecretValue("ci-k3v9"),
    "access_key_id": SecretValue("AKIAIOSFODNN7EXAMPLE"),
    "secret_access_key": SecretValue('wJalr/XUtn"FEMI\\ü'),
}


def give(store: Store, dynamic: DynamicSecret) -> KeptLease | None:
    return store.leases(ttl=TTL).reuse(dynamic, actor="bob")


def kept_in_the_database(store: Store) -> int:
    """How many rows hold values."""
    with store.database.read() as connection:
        count = sa.select(sa.func.count()).select_from(tables.leases).where(tables.leases.c.kept.is_not(None))
        return connection.scalar(count) or 0


def test_values_that_were_kept_come_back_with_their_lease(store: Store) -> None:
    dynamic = add_dynamic(store)
    lease = issue_lease(store, dynamic, keep=OUTPUTS)

    kept = give(store, dynamic)

    assert kept is not None
    assert kept.lease == lease == store.leases(ttl=TTL).get(lease.id)
    assert lease.kept
    assert {name: value.reveal_text() for name, value in kept.outputs.items()} == {
        "username": "ci-k3v9",
        "access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "secret_access_key": 'wJalr/XUtn"FEMI\\ü',
    }
    assert "wJalr" not in repr(kept)


def test_it_is_noted_who_was_given_it_again_each_time(store: Store) -> None:
    dynamic = add_dynamic(store)
    lease = issue_lease(store, dynamic, keep=OUTPUTS)
    give(store, dynamic)
    store.leases(ttl=TTL).reuse(dynamic, actor="eve")
    records = store.leases(ttl=TTL).records(lease.id)
    assert [(one.event, one.actor) for one in records] == [
        (LeaseEvent.GIVEN_AGAIN, "bob"),
        (LeaseEvent.GIVEN_AGAIN, "eve"),
    ]


def test_nothing_is_given_where_nothing_was_kept(store: Store) -> None:
    dynamic = add_dynamic(store)
    other = add_dynamic(store, "other")
    lease = issue_lease(store, dynamic)
    issue_lease(store, other, keep=OUTPUTS)
    assert give(store, dynamic) is None
    assert not lease.kept
    assert store.leases(ttl=TTL).records(lease.id) == []


def test_a_lease_is_given_again_while_half_of_its_life_is_left(store: Store) -> None:
    dynamic = add_dynamic(store)
    lease = issue_lease(store, dynamic, ttl=LONG, keep=OUTPUTS)
    move_lease(store, lease, -LONG / 2 + 60 * SECOND, "expires_at")
    assert give(store, dynamic) is not None
    move_lease(store, lease, -60 * SECOND, "expires_at")
    assert give(store, dynamic) is None
    assert len(store.leases(ttl=TTL).records(lease.id)) == 1


def test_a_renewed_lease_is_given_again(store: Store) -> None:
    dynamic = add_dynamic(store)
    lease = issue_lease(store, dynamic, keep=OUTPUTS)
    move_lease(store, lease, -LONG + 60 * SECOND, "expires_at")
    assert give(store, dynamic) is None
    renewed = store.leases(ttl=TTL).change(lease.id, lambda lease, now: renew(lease, HOUR, now))
    kept = give(store, dynamic)
    assert kept is not None
    assert kept.lease == renewed


def test_of_several_the_one_that_lives_longest_is_given(store: Store) -> None:
    dynamic = add_dynamic(store)
    leases = [issue_lease(store, dynamic, ttl=hours * HOUR, keep=OUTPUTS) for hours in (1, 3, 2)]
    kept = give(store, dynamic)
    assert kept is not None
    assert kept.lease.id == leases[1].id


def test_one_with_too_little_left_does_not_hide_another(store: Store) -> None:
    """A long life that is nearly over may end later than a short one that has just begun."""
    dynamic = add_dynamic(store)
    long = issue_lease(store, dynamic, ttl=4 * HOUR, keep=OUTPUTS)
    short = issue_lease(store, dynamic, ttl=HOUR, keep=OUTPUTS)
    move_lease(store, long, -2.5 * HOUR, "expires_at")
    kept = give(store, dynamic)
    assert kept is not None
    assert kept.lease.id == short.id


def test_what_is_being_issued_or_taken_back_is_not_given(store: Store) -> None:
    dynamic = add_dynamic(store)
    request_lease(store, dynamic)
    revoke_lease(store, issue_lease(store, dynamic, keep=OUTPUTS))
    fail_lease(store, issue_lease(store, dynamic, keep=OUTPUTS))
    assert give(store, dynamic) is None


@pytest.mark.parametrize("end", ["revoked", "expired", "lapsed", "let go"])
def test_the_values_go_with_the_end_of_the_lease(store: Store, end: str) -> None:
    dynamic = add_dynamic(store)
    lease = issue_lease(store, dynamic, keep=OUTPUTS)
    leases = store.leases(ttl=TTL)
    assert kept_in_the_database(store) == 1

    match end:
        case "lapsed":
            ended = leases.change(lease.id, expired)
        case "let go":
            ended = leases.change(lease.id, lambda lease, now: abandoned(lease, "let go", now))
        case _:
            ended = end_lease(store, lease, cause=Cause.EXPIRY if end == "expired" else Cause.REQUEST)

    assert (ended.live, ended.kept, leases.get(lease.id)) == (False, False, ended)
    assert kept_in_the_database(store) == 0
    assert give(store, dynamic) is None


def test_the_values_stay_while_the_lease_could_not_be_taken_back(store: Store) -> None:
    """A process that revokes it may have to know its key."""
    lease = fail_lease(store, issue_lease(store, add_dynamic(store), keep=OUTPUTS))
    assert lease.kept
    assert kept_in_the_database(store) == 1


def test_other_steps_leave_the_values(store: Store) -> None:
    dynamic = add_dynamic(store)
    lease = issue_lease(store, dynamic, keep=OUTPUTS)
    leases = store.leases(ttl=TTL)
    claim = leases.claim(lease.id, "me").claim
    leases.save(claim, lambda lease, now: renew(lease, 2 * HOUR, now), done=True)
    kept = give(store, dynamic)
    assert kept is not None
    assert kept.outputs == OUTPUTS


def test_a_lease_is_given_again_through_a_change_of_its_recipe(store: Store) -> None:
    """Leases that were issued stay as they are."""
    dynamic = add_dynamic(store)
    lease = issue_lease(store, dynamic, keep=OUTPUTS)
    updated = store.dynamics.update("ci", credential="aws", config=replace(dynamic.config, max_leases=2))
    kept = give(store, updated)
    assert kept is not None
    assert kept.lease == lease


def test_keeping_and_handing_out_are_one_step(store: Store) -> None:
    """No lease is active if its values were to be kept and are not."""
    claim, _ = request_lease(store, add_dynamic(store))
    lease: Lease = activate_lease(store, claim, keep=OUTPUTS)
    assert (lease.status, lease.kept, kept_in_the_database(store)) == (LeaseStatus.ACTIVE, True, 1)
