"""The life of a lease: every step, what it changes, and from where it can be taken."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from phasesync.core.lease import (
    ARRIVES_WITHIN,
    ENDED,
    GONE_AFTER,
    RECHECK_AFTER,
    TRANSITIONS,
    Cause,
    Lease,
    LeaseStatus,
    abandoned,
    apply_renewals,
    begin_issue,
    begin_revoke,
    deletion_sent,
    expired,
    is_due,
    is_reusable,
    issued,
    missing,
    prolong,
    renew,
    renewed,
    replace_dead,
    revoke_failed,
    revoked,
)
from phasesync.errors import IllegalTransitionError
from tests.support.values import ACCOUNT, HOUR, LEASE, NOW, lease

ARN = f"arn:aws:iam::{ACCOUNT}:user/phasesync/shop/production/ci-k3v9"
KEY_ID = "AKIAIOSFODNN7EXAMPLE"
SECOND = timedelta(seconds=1)
LATER = NOW + timedelta(minutes=1)


def issuing() -> Lease:
    """A lease for which the first call is about to be made."""
    return begin_issue(lease(), ACCOUNT, NOW)


def active(**changes: object) -> Lease:
    """A lease that was issued."""
    return replace(issued(issuing(), NOW, principal=ARN, access_key_id=KEY_ID), **changes)  # type: ignore[arg-type]


def revoking(cause: Cause = Cause.REQUEST) -> Lease:
    """A lease that is being revoked."""
    return begin_revoke(active(), cause, "why", NOW)


EACH: dict[LeaseStatus, Lease] = {
    LeaseStatus.REQUESTED: lease(),
    LeaseStatus.ISSUING: issuing(),
    LeaseStatus.ACTIVE: active(),
    LeaseStatus.REVOKING: revoking(),
    LeaseStatus.REVOKE_FAILED: revoke_failed(revoking(), "denied", HOUR, NOW),
    LeaseStatus.REVOKED: revoked(revoking(), NOW),
    LeaseStatus.EXPIRED: revoked(revoking(Cause.EXPIRY), NOW),
}
STEPS: dict[str, Callable[[Lease], Lease]] = {
    "begin": lambda one: begin_issue(one, ACCOUNT, LATER),
    "issued": lambda one: issued(one, LATER, principal=ARN, access_key_id=KEY_ID),
    "renew": lambda one: renew(one, HOUR, LATER),
    "take_back": lambda one: begin_revoke(one, Cause.REQUEST, "why", LATER),
    "gone": lambda one: revoked(one, LATER),
    "missing": lambda one: missing(one, LATER),
    "renewals_heeded": lambda one: apply_renewals(one, 1, LATER + HOUR, LATER),
    "not_gone": lambda one: revoke_failed(one, "denied", HOUR, LATER),
    "lapsed": lambda one: expired(one, LATER),
}
LEADS_TO: dict[LeaseStatus, dict[str, LeaseStatus]] = {
    LeaseStatus.REQUESTED: {
        "begin": LeaseStatus.ISSUING,
        "take_back": LeaseStatus.REVOKED,
        "gone": LeaseStatus.REVOKED,
        "missing": LeaseStatus.REVOKED,
    },
    LeaseStatus.ISSUING: {
        "issued": LeaseStatus.ACTIVE,
        "take_back": LeaseStatus.REVOKING,
        "missing": LeaseStatus.REVOKING,
    },
    LeaseStatus.ACTIVE: {
        "renew": LeaseStatus.ACTIVE,
        "take_back": LeaseStatus.REVOKING,
        "lapsed": LeaseStatus.EXPIRED,
    },
    LeaseStatus.REVOKING: {
        "take_back": LeaseStatus.REVOKING,
        "gone": LeaseStatus.REVOKED,
        "missing": LeaseStatus.REVOKING,
        "renewals_heeded": LeaseStatus.REVOKING,
        "not_gone": LeaseStatus.REVOKE_FAILED,
    },
    LeaseStatus.REVOKE_FAILED: {"take_back": LeaseStatus.REVOKING},
    LeaseStatus.REVOKED: {},
    LeaseStatus.EXPIRED: {},
}
"""Status -> step -> where it leads; every other step is refused."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("status", LeaseStatus)
def test_every_step_leads_where_it_should_or_is_refused(status: LeaseStatus, step: str) -> None:
    wanted = LEADS_TO[status].get(step)
    if wanted is None:
        with pytest.raises(IllegalTransitionError, match=f"the lease {LEASE}"):
            STEPS[step](EACH[status])
    else:
        assert STEPS[step](EACH[status]).status is wanted


def test_the_table_has_every_status_and_only_ended_ones_lead_nowhere() -> None:
    assert set(TRANSITIONS) == set(LeaseStatus)
    assert {status for status, following in TRANSITIONS.items() if not following} == set(ENDED)
    assert {status for status, one in EACH.items() if one.live} == set(LeaseStatus) - set(ENDED)


def test_from_every_live_status_there_is_a_way_to_an_end_and_from_the_first_to_all() -> None:
    def reached(start: LeaseStatus) -> set[LeaseStatus]:
        found, more = {start}, [start]
        while more:
            more = [following for one in more for following in TRANSITIONS[one] if following not in found]
            found |= set(more)
        return found

    assert reached(LeaseStatus.REQUESTED) == set(LeaseStatus)
    assert all(reached(status) & set(ENDED) for status in LeaseStatus)


def test_nothing_is_handed_out_once_it_is_being_taken_back() -> None:
    """If the issuer of a lease was too slow, no one ever knows its key."""
    for status in (LeaseStatus.REVOKING, LeaseStatus.REVOKE_FAILED, *ENDED):
        with pytest.raises(IllegalTransitionError):
            issued(EACH[status], LATER, principal=ARN, access_key_id=KEY_ID)
    assert [one for one in TRANSITIONS if LeaseStatus.ACTIVE in TRANSITIONS[one]] == [
        LeaseStatus.ISSUING,
        LeaseStatus.ACTIVE,
        LeaseStatus.REVOKING,  # What was renewed since the copy that its row is of.
    ]


# --- issuing


def test_what_is_about_to_be_made_says_where_and_since_when() -> None:
    assert issuing() == lease(status=LeaseStatus.ISSUING, account=ACCOUNT, issuing_at=NOW)
    assert not issuing().was_issued


def test_what_was_made_says_what_and_when_and_keeps_its_end() -> None:
    made = issued(issuing(), LATER, principal=ARN, access_key_id=KEY_ID, kept=True)
    assert made == replace(
        issuing(),
        status=LeaseStatus.ACTIVE,
        principal=ARN,
        access_key_id=KEY_ID,
        issued_at=LATER,
        kept=True,
    )
    assert made.was_issued


def test_a_session_ends_when_aws_says_and_never_later() -> None:
    ends_at = NOW + timedelta(minutes=59)
    session = issued(issuing(), LATER, principal=ARN, access_key_id=KEY_ID, ends_at=ends_at)
    assert (session.expires_at, session.max_expires_at) == (ends_at, ends_at)
    with pytest.raises(IllegalTransitionError):
        renew(session, HOUR, LATER)


def test_the_access_key_id_is_not_in_the_repr() -> None:
    assert active().access_key_id == KEY_ID
    assert KEY_ID not in repr(active())


# --- renewing


def test_a_renewal_counts_from_now_and_changes_nothing_else() -> None:
    assert renew(active(), 2 * HOUR, LATER) == active(expires_at=LATER + 2 * HOUR)
    assert renew(active(), SECOND, LATER) == active(expires_at=LATER + SECOND)


def test_a_lease_is_renewed_up_to_its_maximum_and_not_a_moment_further() -> None:
    at = NOW + HOUR / 2
    left = active().max_expires_at - at
    assert renew(active(), left, at).expires_at == active().max_expires_at
    with pytest.raises(
        IllegalTransitionError, match=r"2026-01-02 07:04:05 UTC at the latest, 12600 s from now"
    ) as caught:
        renew(active(), left + timedelta(microseconds=1), at)
    assert "at most 12600s" in str(caught.value.hint)


def test_a_lease_is_renewed_up_to_its_end_and_not_at_it() -> None:
    end = active().expires_at
    assert renew(active(), HOUR, end - timedelta(microseconds=1)).expires_at == end + HOUR - timedelta(microseconds=1)
    with pytest.raises(IllegalTransitionError, match="has expired: only an active one is renewed") as caught:
        renew(active(), HOUR, end)
    assert caught.value.hint == "phasesync leases issue ci"


def test_prolonging_goes_as_far_as_the_maximum_and_never_back() -> None:
    most = active().max_expires_at
    assert prolong(active(), 2 * HOUR, LATER) == active(expires_at=LATER + 2 * HOUR)
    assert prolong(active(), 9 * HOUR, LATER) == active(expires_at=most)
    assert prolong(active(expires_at=most), SECOND, LATER) == active(expires_at=most)
    with pytest.raises(IllegalTransitionError, match="has expired"):
        prolong(active(), HOUR, active().expires_at)


# --- revoking


def test_what_nothing_was_called_for_is_over_at_once() -> None:
    assert begin_revoke(lease(), Cause.REQUEST, "by ada", LATER) == lease(
        status=LeaseStatus.REVOKED, cause=Cause.REQUEST, reason="by ada", ended_at=LATER
    )


@pytest.mark.parametrize("status", [LeaseStatus.ISSUING, LeaseStatus.ACTIVE])
def test_what_may_be_at_aws_is_taken_back_first(status: LeaseStatus) -> None:
    before = EACH[status]
    after = begin_revoke(before, Cause.FAILURE, "it broke", LATER)
    assert after == replace(before, status=LeaseStatus.REVOKING, cause=Cause.FAILURE, reason="it broke", final=True)
    assert after.live


def test_what_expired_stays_expired_though_somebody_revokes_it_meanwhile() -> None:
    """And one that was revoked does not become one that expired."""
    for first, other in ((Cause.EXPIRY, Cause.REQUEST), (Cause.REQUEST, Cause.EXPIRY)):
        begun = begin_revoke(active(), first, "first", NOW)
        again = begin_revoke(revoke_failed(begun, "denied", HOUR, NOW), other, "other", LATER)
        assert (again.cause, again.reason) == (first, "first")


def test_taking_back_heeds_no_pause() -> None:
    failed = revoke_failed(revoking(), "denied", HOUR, NOW)
    assert failed.retry_at == NOW + HOUR
    assert begin_revoke(failed, Cause.REQUEST, "now", LATER).retry_at is None


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        (Cause.EXPIRY, LeaseStatus.EXPIRED),
        (Cause.REQUEST, LeaseStatus.REVOKED),
        (Cause.FAILURE, LeaseStatus.REVOKED),
    ],
)
def test_what_is_gone_expired_if_its_time_was_over_and_was_revoked_otherwise(cause: Cause, status: LeaseStatus) -> None:
    kept = replace(revoking(cause), kept=True, error="denied", retry_at=NOW, failures=2)
    assert revoked(kept, LATER) == replace(revoking(cause), status=status, ended_at=LATER, failures=2)


def test_what_could_not_be_taken_back_is_tried_again_and_the_attempts_are_counted() -> None:
    first = revoke_failed(revoking(), "denied", SECOND, NOW)
    second = revoke_failed(begin_revoke(first, Cause.REQUEST, "again", LATER), "throttled", HOUR, LATER)
    assert (first.status, first.failures, first.retry_at) == (LeaseStatus.REVOKE_FAILED, 1, NOW + SECOND)
    assert (second.failures, second.retry_at, second.error) == (2, LATER + HOUR, "throttled")


def test_what_was_issued_and_is_missing_is_looked_at_twice_more() -> None:
    """IAM may not find for a moment what is there."""
    first = missing(revoking(), LATER)
    assert first == replace(revoking(), missing_since=LATER, retry_at=LATER + RECHECK_AFTER)
    second = missing(begin_revoke(first, Cause.REQUEST, "", LATER + RECHECK_AFTER), LATER + RECHECK_AFTER)
    assert second == replace(first, retry_at=LATER + GONE_AFTER)
    assert missing(second, LATER + GONE_AFTER - SECOND).live
    end = LATER + GONE_AFTER
    assert missing(second, end) == revoked(second, end)


def test_what_is_asked_for_in_between_counts_as_little() -> None:
    one = missing(revoking(), LATER)
    for seconds in range(1, 290, 17):
        one = missing(one, LATER + seconds * SECOND)
        assert (one.status, one.missing_since) == (LeaseStatus.REVOKING, LATER)


def test_what_could_not_be_looked_at_is_missing_from_the_next_look_on() -> None:
    failed = revoke_failed(missing(revoking(), LATER), "throttled", SECOND, LATER + HOUR)
    assert failed.missing_since is None
    assert missing(begin_revoke(failed, Cause.REQUEST, "", LATER + HOUR), LATER + HOUR).missing_since == LATER + HOUR


def test_a_miss_that_was_noted_by_a_clock_that_was_ahead_counts_from_now() -> None:
    one = replace(revoking(), missing_since=LATER + HOUR)
    assert missing(one, LATER).missing_since == LATER


# --- renewals that the row does not know


def over_by_its_row() -> Lease:
    """A lease that is revoked because its time is over by its row."""
    return begin_revoke(active(), Cause.EXPIRY, "its time was over", NOW + 2 * HOUR)


def test_what_its_user_knows_of_a_later_renewal_is_believed() -> None:
    later = NOW + 3 * HOUR
    heeded = apply_renewals(over_by_its_row(), 1, later, NOW + 2 * HOUR)
    assert heeded == active(expires_at=later, renewals=1)
    beyond = apply_renewals(over_by_its_row(), 2, NOW + 99 * HOUR, NOW + 2 * HOUR)
    assert beyond.expires_at == beyond.max_expires_at


@pytest.mark.parametrize(
    ("one", "number", "end"),
    [
        (over_by_its_row(), 0, NOW + 3 * HOUR),
        (replace(over_by_its_row(), renewals=1), 1, NOW + 3 * HOUR),
        (over_by_its_row(), 1, NOW + 2 * HOUR),
        (replace(over_by_its_row(), final=True), 1, NOW + 3 * HOUR),
        (revoking(), 1, NOW + 3 * HOUR),
    ],
    ids=["none", "a known one", "one that is over as well", "something was removed already", "somebody revoked it"],
)
def test_what_decides_the_end_is_not_undone(one: Lease, number: int, end: datetime) -> None:
    assert apply_renewals(one, number, end, NOW + 2 * HOUR) == replace(one, final=True)


def test_what_a_person_revokes_stays_so_although_its_time_was_over_before() -> None:
    again = begin_revoke(revoke_failed(over_by_its_row(), "denied", HOUR, NOW), Cause.REQUEST, "revoked", NOW)
    assert (again.cause, again.final) == (Cause.EXPIRY, True)


def test_a_renewal_is_counted() -> None:
    assert renewed(active(), 3, NOW + 2 * HOUR) == active(renewals=3, expires_at=NOW + 2 * HOUR)


def test_a_lease_with_a_dead_key_is_taken_back_and_does_not_count() -> None:
    dead = replace_dead(active(kept=True), "unknown", NOW)
    assert (dead.status, dead.replaced, dead.final) == (LeaseStatus.REVOKING, True, True)
    with pytest.raises(IllegalTransitionError):
        replace_dead(dead, "unknown", NOW)


def test_what_may_not_have_arrived_yet_is_looked_at_again() -> None:
    """A request that was sent for it may still reach AWS, and make the user after we looked."""
    begun = begin_revoke(issuing(), Cause.FAILURE, "it broke", NOW)
    again = missing(begun, LATER)
    assert again == replace(begun, retry_at=NOW + ARRIVES_WITHIN, missing_since=LATER)
    assert missing(again, NOW + ARRIVES_WITHIN - SECOND).status is LeaseStatus.REVOKING
    assert missing(again, NOW + ARRIVES_WITHIN) == revoked(begun, NOW + ARRIVES_WITHIN)


# --- ends without us


def test_a_session_that_ended_by_itself_expired() -> None:
    ended = expired(active(kept=True), LATER)
    assert ended == active(status=LeaseStatus.EXPIRED, cause=Cause.EXPIRY, ended_at=LATER)


def test_a_lease_that_is_let_go_was_revoked_and_is_not_live() -> None:
    let_go = abandoned(active(kept=True), "let go by ada", LATER)
    assert let_go == active(status=LeaseStatus.REVOKED, cause=Cause.REQUEST, reason="let go by ada", ended_at=LATER)


@pytest.mark.parametrize("status", ENDED)
def test_a_lease_that_has_ended_is_not_let_go_once_more(status: LeaseStatus) -> None:
    """When it ended, and why, stays as it was."""
    after = EACH[status]
    with suppress(IllegalTransitionError):
        after = abandoned(EACH[status], "let go by ada", LATER)
    assert after == EACH[status]


# --- what is due, what is given again


@pytest.mark.parametrize("restored", [False, True])
def test_an_active_lease_is_due_at_its_end_and_in_an_older_database_at_its_last(restored: bool) -> None:
    end = active().max_expires_at if restored else active().expires_at
    assert not is_due(active(), end - timedelta(microseconds=1), restored=restored)
    assert is_due(active(), end, restored=restored)


@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize("status", [LeaseStatus.REQUESTED, LeaseStatus.ISSUING, LeaseStatus.REVOKING])
def test_what_nobody_is_at_work_on_any_more_is_due_at_once(status: LeaseStatus, restored: bool) -> None:
    assert is_due(EACH[status], NOW, restored=restored)


def test_what_is_paused_is_due_after_its_pause() -> None:
    failed = EACH[LeaseStatus.REVOKE_FAILED]
    assert not is_due(failed, NOW + HOUR - SECOND)
    assert is_due(failed, NOW + HOUR)


@pytest.mark.parametrize("status", ENDED)
def test_what_has_ended_is_never_due(status: LeaseStatus) -> None:
    assert not is_due(EACH[status], NOW + 1000 * HOUR)


def test_a_kept_lease_is_given_again_while_half_of_its_life_is_left() -> None:
    half = NOW + HOUR / 2
    assert is_reusable(active(kept=True), half)
    assert not is_reusable(active(kept=True), half + timedelta(microseconds=1))
    assert not is_reusable(active(), NOW)
    assert not is_reusable(replace(revoking(), kept=True), NOW)


# --- users after their deletion was sent


def test_a_user_that_is_missing_after_its_deletion_was_sent_is_gone() -> None:
    """The process died there, or the answer was lost."""
    sent = deletion_sent(revoking())
    again = begin_revoke(sent, Cause.REQUEST, "", LATER)
    assert again.deletion_sent
    assert missing(again, LATER, deleted=True) == revoked(again, LATER)
    assert not revoked(again, LATER).deletion_sent


def test_a_deletion_that_iam_refused_or_found_nothing_for_was_not_sent() -> None:
    sent = deletion_sent(revoking())
    assert not revoke_failed(sent, "denied", HOUR, LATER).deletion_sent
    assert revoke_failed(sent, "lost", HOUR, LATER, unknown=True).deletion_sent
    assert missing(sent, LATER) == replace(
        revoking(), missing_since=LATER, retry_at=LATER + RECHECK_AFTER, deletion_sent=False
    )
