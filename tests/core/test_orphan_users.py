"""Users that carry our marks: how they are marked, and which of them are removed."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.lease import ENDED, LeaseStatus
from phasesync.core.lease_users import (
    REMOVED,
    TAG_LEASE,
    TAG_MAX_EXPIRES_AT,
    MarkedUser,
    OrphanVerdict,
    is_made_for,
    max_expires_at_of,
    orphan_verdict_of,
    user_owner_tags,
)
from phasesync.core.remote import TAG_INSTANCE
from tests.support.values import DYNAMIC, INSTANCE, LEASE, NOW

SECOND = timedelta(seconds=1)
OTHER = "ee" * 16
LIVE = tuple(status for status in LeaseStatus if status not in ENDED)


def ours(max_expires_at: datetime = NOW) -> dict[str, str]:
    """The tags of a user of ours."""
    return user_owner_tags(INSTANCE, dynamic_id=DYNAMIC, lease_id=LEASE, max_expires_at=max_expires_at)


def fate(tags: dict[str, str], status: LeaseStatus | None, now: datetime = NOW) -> OrphanVerdict:
    """The verdict on a user with these tags."""
    user = MarkedUser(name="ci-k3v9", arn="arn:aws:iam::111122223333:user/phasesync/ci-k3v9", tags=tags)
    return orphan_verdict_of(user, status, instance_id=INSTANCE, now=now)


@pytest.mark.parametrize(
    ("status", "past", "expected"),
    [
        *((status, past, OrphanVerdict.LIVE) for status in LIVE for past in (False, True)),
        *((status, past, OrphanVerdict.LEFT_OVER) for status in ENDED for past in (False, True)),
        (None, False, OrphanVerdict.UNKNOWN),
        (None, True, OrphanVerdict.OVERDUE),
    ],
)
def test_our_users_fate_follows_from_its_lease_and_without_one_from_its_end(
    status: LeaseStatus | None, past: bool, expected: OrphanVerdict
) -> None:
    end = NOW - SECOND if past else NOW + SECOND
    assert fate(ours(end), status) is expected


def test_only_what_nobody_can_want_any_more_is_removed() -> None:
    assert set(REMOVED) == {OrphanVerdict.LEFT_OVER, OrphanVerdict.OVERDUE}


def test_a_user_without_a_lease_is_overdue_after_its_end_and_not_at_it() -> None:
    assert fate(ours(), None, now=NOW) is OrphanVerdict.UNKNOWN
    assert fate(ours(), None, now=NOW + timedelta(microseconds=1)) is OrphanVerdict.OVERDUE


@pytest.mark.parametrize("end", [None, "", "soon", "2020-01-01", "2020-01-01T00:00:00", "0", "2020-13-01T00:00:00Z"])
def test_a_user_whose_end_cannot_be_read_is_left(end: str | None) -> None:
    """An end without a time zone is none: it might be hours away."""
    tags = ours()
    if end is None:
        del tags[TAG_MAX_EXPIRES_AT]
    else:
        tags[TAG_MAX_EXPIRES_AT] = end
    assert max_expires_at_of(tags) is None
    assert fate(tags, None) is OrphanVerdict.UNKNOWN


PAST, FUTURE = "2020-01-01T00:00:00Z", "2199-01-01T00:00:00Z"
near_ours = st.fixed_dictionaries(
    {},
    optional={
        TAG_INSTANCE: st.sampled_from([INSTANCE, INSTANCE.upper(), f"{INSTANCE} ", OTHER, ""]),
        TAG_LEASE: st.sampled_from([LEASE, OTHER]),
        TAG_MAX_EXPIRES_AT: st.sampled_from([PAST, FUTURE, "2020-01-01T00:00:00", "soon"]),
        TAG_INSTANCE.upper(): st.just(INSTANCE),
    },
)
tag_sets = near_ours | st.dictionaries(st.text(max_size=20), st.text(max_size=20))
statuses = st.sampled_from([None, *LeaseStatus])
instants = st.integers(min_value=-(10**15), max_value=5 * 10**15).map(lambda count: NOW + timedelta(microseconds=count))


@given(tag_sets, statuses, instants)
def test_a_user_without_our_instances_tag_is_theirs_whatever_else_it_carries(
    tags: dict[str, str], status: LeaseStatus | None, now: datetime
) -> None:
    assert (fate(tags, status, now) is OrphanVerdict.THEIRS) is (tags.get(TAG_INSTANCE) != INSTANCE)


@given(tag_sets, statuses, instants, st.booleans())
def test_nothing_is_removed_without_a_lease_that_ended_or_an_end_that_has_passed(
    tags: dict[str, str], status: LeaseStatus | None, now: datetime, mine: bool
) -> None:
    if mine:
        tags[TAG_INSTANCE] = INSTANCE
    if fate(tags, status, now) in REMOVED:
        end = max_expires_at_of(tags)
        assert tags[TAG_INSTANCE] == INSTANCE
        assert status in ENDED or (status is None and end is not None and end < now)


@given(instants, st.integers(min_value=-14, max_value=14))
def test_the_end_that_a_mark_names_is_read_back_to_the_second(end: datetime, hours: int) -> None:
    """Whatever time zone it was given in; what is cut off makes it earlier by less than a second."""
    elsewhere = end.astimezone(timezone(timedelta(hours=hours)))
    assert max_expires_at_of(ours(elsewhere)) == end.replace(microsecond=0)
    assert fate(ours(elsewhere), None, now=end.replace(microsecond=0)) is OrphanVerdict.UNKNOWN


def test_the_marks_say_whose_and_what_for_and_until_when() -> None:
    assert ours() == {
        "phasesync:instance": INSTANCE,
        "phasesync:dynamic": DYNAMIC,
        "phasesync:lease": LEASE,
        "phasesync:max-expires-at": "2026-01-02T03:04:05Z",
    }


# --- whether a user was made for a lease


def test_a_user_was_made_for_the_lease_whose_instance_and_id_it_carries() -> None:
    """Tags that others put on it as well, and an end that was written anew, change nothing."""
    assert is_made_for(ours(), ours())
    assert is_made_for(ours(NOW + SECOND) | {"team": "web"}, ours())


@pytest.mark.parametrize("mark", [TAG_INSTANCE, TAG_LEASE])
def test_a_user_of_another_lease_or_another_instance_was_not_made_for_it(mark: str) -> None:
    other = ours() | {mark: OTHER}
    without = {name: value for name, value in ours().items() if name != mark}
    assert not is_made_for(other, ours())
    assert not is_made_for(without, ours())
    assert not is_made_for(ours(), without)
    assert not is_made_for(without, without), "two that do not say whose they are have nothing in common"


@given(tag_sets, tag_sets)
def test_nothing_but_both_marks_makes_a_user_ours(tags: dict[str, str], wanted: dict[str, str]) -> None:
    both = all(mark in tags and tags[mark] == wanted.get(mark) for mark in (TAG_INSTANCE, TAG_LEASE))
    assert is_made_for(tags, wanted) is both
