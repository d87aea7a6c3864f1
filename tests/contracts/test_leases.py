"""Single leases: requesting one, its steps, and its log."""

from dataclasses import replace
from datetime import timedelta

import pytest

from phasesync.core.lease import Cause, Lease, LeaseStatus, abandoned, begin_issue, begin_revoke, issued, renew, revoked
from phasesync.core.lease_claim import Entry, LeaseEvent
from phasesync.core.lease_users import TAG_LEASE, max_expires_at_of
from phasesync.errors import IllegalTransitionError, NotFoundError, StalePlanError
from phasesync.store import Store
from tests.support.stores import (
    LONG,
    TTL,
    activate_lease,
    add_dynamic,
    at_once,
    end_lease,
    fail_lease,
    issue_lease,
    open_test_store,
    request_lease,
    revoke_lease,
)
from tests.support.values import ACCOUNT, HOUR

UNKNOWN = "0" * 16
MOMENT = timedelta(seconds=30)


def get(store: Store, lease: Lease) -> Lease:
    return store.leases(ttl=TTL).get(lease.id)


def log_of(store: Store, lease: Lease) -> list[tuple[LeaseEvent, str, str | None]]:
    """The log of a lease, without its times."""
    return [(entry.event, entry.actor, entry.detail) for entry in store.leases(ttl=TTL).records(lease.id)]


# --- asking for one


def test_a_lease_that_is_asked_for_is_noted_and_claimed(store: Store) -> None:
    dynamic = add_dynamic(store)
    claim, lease = request_lease(store, dynamic, "cli-7", ttl=HOUR)

    assert get(store, lease) == lease
    assert (claim.lease_id, claim.owner, claim.fence) == (lease.id, "cli-7", 1)
    assert (lease.status, lease.live, lease.was_issued, lease.kept) == (LeaseStatus.REQUESTED, True, False, False)
    assert (lease.dynamic_id, lease.dynamic, lease.issuer) == (dynamic.id, "ci", "aws-iam-user")
    assert lease.credential_id == dynamic.credential_id
    assert lease.expires_at == lease.requested_at + HOUR
    assert lease.max_expires_at == lease.requested_at + dynamic.config.max_ttl
    assert store.dynamics.get("ci").live == 1
    assert log_of(store, lease) == []


def test_what_it_is_made_of_is_made_for_its_id_and_its_last_end(store: Store) -> None:
    _, lease = request_lease(store, add_dynamic(store))
    assert lease.spec.name == f"ci-{lease.id}"
    assert lease.spec.tags[TAG_LEASE] == lease.id
    assert max_expires_at_of(lease.spec.tags) == lease.max_expires_at.replace(microsecond=0)


def test_no_lease_of_a_removed_dynamic_secret_is_given(store: Store) -> None:
    dynamic = add_dynamic(store)
    add_dynamic(store, "other")
    store.dynamics.remove("ci")
    with pytest.raises(NotFoundError, match="there is no dynamic secret ci; there is: other"):
        request_lease(store, dynamic)


def test_no_lease_of_a_changed_recipe_is_given(store: Store) -> None:
    before = add_dynamic(store)
    after = store.dynamics.update("ci", credential="aws", config=before.config)
    with pytest.raises(StalePlanError, match="the dynamic secret ci was changed meanwhile"):
        request_lease(store, before)
    assert store.leases(ttl=TTL).list_leases(ended=True) == []
    assert request_lease(store, after)[1].live


def test_no_lease_of_another_dynamic_secret_of_the_same_name_is_given(store: Store) -> None:
    before = add_dynamic(store)
    store.dynamics.remove("ci")
    add_dynamic(store)
    with pytest.raises(StalePlanError):
        request_lease(store, before)


def test_as_many_may_be_live_as_the_recipe_says_whatever_their_status(store: Store) -> None:
    dynamic = add_dynamic(store, max_leases=4)
    request_lease(store, dynamic)
    for make in (lambda one: one, lambda one: revoke_lease(store, one), lambda one: fail_lease(store, one)):
        make(issue_lease(store, dynamic))

    with pytest.raises(IllegalTransitionError, match="ci has 4 live leases, and may have 4") as caught:
        request_lease(store, dynamic)

    assert "phasesync dynamic update ci --max-leases N" in str(caught.value.hint)
    assert store.dynamics.get("ci").live == 4


@pytest.mark.parametrize("cause", [Cause.EXPIRY, Cause.REQUEST])
def test_a_lease_that_has_ended_makes_room(store: Store, cause: Cause) -> None:
    dynamic = add_dynamic(store, max_leases=1)
    other = add_dynamic(store, "other", max_leases=1)
    lease = issue_lease(store, dynamic)
    issue_lease(store, other)
    end_lease(store, lease, cause=cause)
    assert issue_lease(store, dynamic).live
    assert [store.dynamics.get(name).live for name in ("ci", "other")] == [1, 1]


def test_of_several_in_two_processes_that_ask_for_the_last_place_one_gets_it(
    store: Store, migrated_database_url: str
) -> None:
    dynamic = add_dynamic(store, max_leases=3)
    issue_lease(store, dynamic)
    issue_lease(store, dynamic)
    other = open_test_store(migrated_database_url)
    stores = (store, other) * 4
    at_once(
        *(opened.dynamics.list_all for opened in stores)
    )  # Connections are open, so that all ask in the same moment.

    results = at_once(*(lambda opened=opened: request_lease(opened, dynamic) for opened in stores))

    other.close()
    refused = [type(result) for result in results if not isinstance(result, tuple)]
    assert refused == [IllegalTransitionError] * (len(stores) - 1)
    assert store.dynamics.get("ci").live == 3


# --- steps


def test_steps_are_stored_with_the_databases_time(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    claim, asked = request_lease(store, add_dynamic(store))
    about = leases.save(claim, lambda lease, now: begin_issue(lease, ACCOUNT, now))
    assert get(store, asked) == about
    assert about == replace(asked, status=LeaseStatus.ISSUING, account=ACCOUNT, issuing_at=about.issuing_at)
    assert about.issuing_at is not None
    assert timedelta(0) <= about.issuing_at - asked.requested_at < MOMENT

    active = leases.save(claim, lambda lease, now: issued(lease, now, principal="arn", access_key_id="AKIA"), done=True)
    assert get(store, asked) == active
    assert (active.principal, active.access_key_id, active.was_issued) == ("arn", "AKIA", True)


def test_a_session_is_stored_with_the_end_that_aws_gave_it(store: Store) -> None:
    claim, lease = request_lease(store, add_dynamic(store))
    leases = store.leases(ttl=TTL)
    leases.save(claim, lambda lease, now: begin_issue(lease, ACCOUNT, now))
    end = lease.expires_at - timedelta(seconds=1)
    session = leases.save(claim, lambda lease, now: issued(lease, now, principal="a", access_key_id="b", ends_at=end))
    assert get(store, lease) == session
    assert (session.expires_at, session.max_expires_at) == (end, end)


def test_a_step_that_cannot_be_taken_stores_nothing_and_keeps_the_claim(store: Store) -> None:
    claim, lease = request_lease(store, add_dynamic(store))
    entry = Entry(event=LeaseEvent.REVOKED, actor="ada")
    with pytest.raises(IllegalTransitionError):
        store.leases(ttl=TTL).save(
            claim, lambda lease, now: issued(lease, now, principal="a", access_key_id="b"), entry=entry, done=True
        )
    assert get(store, lease) == lease
    assert log_of(store, lease) == []
    assert activate_lease(store, claim).status is LeaseStatus.ACTIVE


def test_entries_are_told_in_the_order_in_which_they_were_made(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    claim, lease = request_lease(store, add_dynamic(store))
    issue_failed = Entry(event=LeaseEvent.ISSUE_FAILED, actor="ada", detail="denied: ümlaut")
    leases.save(claim, lambda lease, now: begin_issue(lease, ACCOUNT, now), entry=issue_failed)
    leases.save(claim, lambda lease, now: begin_revoke(lease, Cause.FAILURE, "why", now))
    leases.save(claim, revoked, entry=Entry(event=LeaseEvent.REVOKED, actor="phasesync"), done=True)

    assert log_of(store, lease) == [
        (LeaseEvent.ISSUE_FAILED, "ada", "denied: ümlaut"),
        (LeaseEvent.REVOKED, "phasesync", None),
    ]
    first, second = leases.records(lease.id)
    assert {first.lease_id, second.lease_id} == {lease.id}
    assert lease.requested_at <= first.at <= second.at < lease.requested_at + MOMENT


def test_an_entry_may_depend_on_what_became_of_the_lease(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    lease = issue_lease(store, add_dynamic(store))

    def made(one: Lease) -> Entry | None:
        return None if one.live else Entry(event=LeaseEvent.REVOKED, actor="ada", detail=one.reason)

    claim = leases.claim(lease.id, "ada").claim
    leases.save(claim, lambda lease, now: begin_revoke(lease, Cause.REQUEST, "by ada", now), entry=made)
    assert log_of(store, lease) == []
    leases.save(claim, revoked, entry=made)
    assert log_of(store, lease) == [(LeaseEvent.REVOKED, "ada", "by ada")]


def test_a_step_without_calls_needs_no_claim_and_leaves_that_of_others(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    claim, asked = request_lease(store, add_dynamic(store))
    lease = activate_lease(store, claim, done=False)
    entry = Entry(event=LeaseEvent.RENEWED, actor="ada", detail="for 7200 s")

    renewed = leases.change(lease.id, lambda lease, now: renew(lease, 2 * HOUR, now), entry=entry)

    assert get(store, asked) == renewed == replace(lease, expires_at=renewed.expires_at)
    assert timedelta(0) <= renewed.expires_at - lease.expires_at - HOUR < MOMENT
    assert log_of(store, lease) == [(LeaseEvent.RENEWED, "ada", "for 7200 s")]
    leases.extend(claim)


def test_a_renewal_beyond_the_maximum_stores_nothing(store: Store) -> None:
    lease = issue_lease(store, add_dynamic(store))
    entry = Entry(event=LeaseEvent.RENEWED, actor="ada")
    with pytest.raises(IllegalTransitionError, match="at the latest"):
        store.leases(ttl=TTL).change(lease.id, lambda lease, now: renew(lease, 5 * HOUR, now), entry=entry)
    assert get(store, lease) == lease
    assert log_of(store, lease) == []


def test_a_lease_that_was_let_go_has_ended(store: Store) -> None:
    lease = issue_lease(store, add_dynamic(store))
    let_go = store.leases(ttl=TTL).change(lease.id, lambda lease, now: abandoned(lease, "let go", now))
    assert (get(store, lease), let_go.live, let_go.reason) == (let_go, False, "let go")
    assert store.leases(ttl=TTL).claim_due("daemon", limit=10, again=10, restored=False) == []


def test_all_that_a_lease_can_say_comes_back(store: Store) -> None:
    lease = fail_lease(store, issue_lease(store, add_dynamic(store)), pause=LONG)
    assert get(store, lease) == lease
    assert (lease.failures, lease.error, lease.cause, lease.reason) == (1, "denied", Cause.REQUEST, "by ada")
    assert lease.retry_at is not None
    assert (lease.account, lease.ended_at) == (ACCOUNT, None)


def test_what_is_unknown_is_told(store: Store) -> None:
    leases = store.leases(ttl=TTL)
    for attempt in (
        lambda: leases.get(UNKNOWN),
        lambda: leases.records(UNKNOWN),
        lambda: leases.claim(UNKNOWN, "me"),
        lambda: leases.change(UNKNOWN, lambda lease, now: renew(lease, HOUR, now)),
    ):
        with pytest.raises(NotFoundError, match=f"there is no lease {UNKNOWN}") as caught:
            attempt()
        assert caught.value.hint == "phasesync leases list --all"
