"""What holds of a lease whatever is done to it, in whatever order, at whatever time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.lease import (
    ARRIVES_WITHIN,
    ENDED,
    TRANSITIONS,
    Cause,
    Lease,
    LeaseStatus,
    begin_issue,
    begin_revoke,
    expired,
    is_due,
    is_reusable,
    issued,
    missing,
    renew,
    revoke_failed,
    revoked,
)
from phasesync.errors import IllegalTransitionError
from tests.support.values import ACCOUNT, NOW, lease

Walker = Callable[[Lease, datetime, timedelta], Lease]

STEPS: Final[dict[str, Walker]] = {
    "begin": lambda one, now, _: begin_issue(one, ACCOUNT, now),
    "issued": lambda one, now, _: issued(one, now, principal="arn", access_key_id="AKIA"),
    "issued and kept": lambda one, now, _: issued(one, now, principal="arn", access_key_id="AKIA", kept=True),
    "session": lambda one, now, span: issued(one, now, principal="arn", access_key_id="ASIA", ends_at=now + span),
    "renew": lambda one, now, span: renew(one, span, now),
    "expire": lambda one, now, _: begin_revoke(one, Cause.EXPIRY, "its time was over", now),
    "revoke": lambda one, now, _: begin_revoke(one, Cause.REQUEST, "revoked", now),
    "fail": lambda one, now, _: begin_revoke(one, Cause.FAILURE, "it could not be issued", now),
    "gone": lambda one, now, _: revoked(one, now),
    "missing": lambda one, now, _: missing(one, now),
    "not gone": lambda one, now, span: revoke_failed(one, "denied", span, now),
    "lapsed": lambda one, now, _: expired(one, now),
}


@dataclass(frozen=True)
class Moment:
    """One step of a walk; one that was refused leaves the lease as it was."""

    step: str
    now: datetime
    before: Lease
    after: Lease


spans = st.integers(min_value=1, max_value=5 * 3600).map(lambda count: timedelta(seconds=count))


def taken(name: str, one: Lease, now: datetime, span: timedelta) -> Lease | None:
    """Return the lease after a step, None where the step is refused."""
    try:
        return STEPS[name](one, now, span)
    except IllegalTransitionError:
        return None


@st.composite
def walks(draw: st.DrawFn) -> list[Moment]:
    """
    A lease from its request on, through steps that are taken, and some that are refused, while time passes.

    One seed makes a walk: drawn one by one, nearly all of them would end within three steps.
    """
    random = draw(st.randoms(use_true_random=True))
    walk: list[Moment] = []
    one, now = lease(), NOW
    for _ in range(draw(st.integers(min_value=1, max_value=15))):
        now += timedelta(seconds=random.choice((0, 1, random.randrange(600), random.randrange(7200))))
        span = timedelta(seconds=random.randrange(1, 5 * 3600))
        outcomes = {name: taken(name, one, now, span) for name in STEPS}
        lasting = [name for name, after in outcomes.items() if after is not None and after.live]
        name = random.choice(lasting if lasting and random.random() < 0.7 else list(STEPS))
        after = outcomes[name] or one
        walk.append(Moment(name, now, one, after))
        one = after
    return walk


@given(walks())
def test_a_status_follows_only_where_the_table_says_so(walk: list[Moment]) -> None:
    for moment in walk:
        assert moment.after == moment.before or moment.after.status in TRANSITIONS[moment.before.status]


@given(walks())
def test_no_lease_is_renewed_past_its_maximum(walk: list[Moment]) -> None:
    for moment in walk:
        assert moment.after.expires_at <= moment.after.max_expires_at
        if moment.step != "session":
            assert moment.after.max_expires_at == moment.before.max_expires_at
        if moment.after.expires_at != moment.before.expires_at and moment.step != "session":
            assert moment.step == "renew"
            assert moment.before.status is LeaseStatus.ACTIVE and moment.now < moment.before.expires_at


@given(walks())
def test_what_has_ended_stays_exactly_as_it_ended(walk: list[Moment]) -> None:
    for moment in walk:
        assert moment.before.live or moment.after == moment.before


@given(walks())
def test_a_lease_is_live_until_its_end_is_noted_and_not_after(walk: list[Moment]) -> None:
    for moment in walk:
        ended = moment.after.status in ENDED
        assert moment.after.live is not ended
        assert (moment.after.ended_at is not None) is ended
        assert moment.before.live is moment.after.live or moment.after.ended_at == moment.now


@given(walks())
def test_a_cause_once_given_stays(walk: list[Moment]) -> None:
    for moment in walk:
        assert moment.before.cause is None or moment.after.cause is moment.before.cause


@given(walks())
def test_what_was_not_issued_and_is_missing_is_not_gone_before_its_requests_can_have_arrived(
    walk: list[Moment],
) -> None:
    for moment in walk:
        if moment.step == "missing" and moment.before.live and not moment.after.live and not moment.before.was_issued:
            sent_at = moment.before.issuing_at
            assert sent_at is None or moment.now >= sent_at + ARRIVES_WITHIN


@given(walks(), st.booleans())
def test_no_live_lease_is_forgotten_and_no_ended_one_is_due(walk: list[Moment], restored: bool) -> None:
    for one in (moment.after for moment in walk):
        some_time = max(one.max_expires_at, one.retry_at or NOW)
        assert is_due(one, some_time, restored=restored) is one.live


@given(walks(), spans)
def test_what_is_due_once_stays_due_until_something_is_done(walk: list[Moment], later: timedelta) -> None:
    for moment in walk:
        for restored in (False, True):
            if is_due(moment.after, moment.now, restored=restored):
                assert is_due(moment.after, moment.now + later, restored=restored)


@given(walks(), spans)
def test_an_older_database_only_postpones_active_ones_to_their_maximum(walk: list[Moment], later: timedelta) -> None:
    for moment in walk:
        one, now = moment.after, moment.now + later
        if one.status is LeaseStatus.ACTIVE:
            assert is_due(one, now, restored=True) is (one.max_expires_at <= now)
            assert is_due(one, now) or not is_due(one, now, restored=True)
        else:
            assert is_due(one, now, restored=True) is is_due(one, now)


@given(walks())
def test_what_it_was_asked_for_never_changes(walk: list[Moment]) -> None:
    wanted = lease()
    for one in (moment.after for moment in walk):
        assert (one.id, one.dynamic_id, one.credential_id) == (wanted.id, wanted.dynamic_id, wanted.credential_id)
        assert (one.spec, one.issuer, one.requested_at) == (wanted.spec, wanted.issuer, wanted.requested_at)


@given(walks())
def test_what_was_issued_once_is_known_to_have_been(walk: list[Moment]) -> None:
    """With its account and its key: without them no one could revoke it."""
    for moment in walk:
        if moment.before.was_issued:
            assert moment.after.issued_at == moment.before.issued_at
            assert moment.after.access_key_id == moment.before.access_key_id
        if moment.before.account is not None:
            assert (moment.after.account, moment.after.issuing_at) == (ACCOUNT, moment.before.issuing_at)


@given(walks())
def test_nothing_is_kept_and_nothing_is_tried_again_after_the_end(walk: list[Moment]) -> None:
    for one in (moment.after for moment in walk):
        assert one.live or (not one.kept and one.retry_at is None)


@given(walks())
def test_only_failures_are_counted_and_none_is_taken_off(walk: list[Moment]) -> None:
    for moment in walk:
        failed = moment.step == "not gone" and moment.after != moment.before
        assert moment.after.failures == moment.before.failures + failed


@given(walks())
def test_only_an_active_lease_that_has_not_ended_is_given_again(walk: list[Moment]) -> None:
    for moment in walk:
        if is_reusable(moment.after, moment.now):
            assert moment.after.kept and moment.after.status is LeaseStatus.ACTIVE
            assert moment.now < moment.after.expires_at
