"""The version budget: whatever is asked for and whenever, AWS never has to keep more than 100 versions of a day."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.planning.version_budget import (
    BURST,
    DAY,
    MANUAL_EXTRA,
    REFILL,
    within_a_day,
    writable_at,
    writes_left,
)
from phasesync.core.times import clamp_all
from tests.support.values import NOW

KEPT = 100
"""Versions of a secret that AWS keeps, if none is older than a day (User Guide, secret versions)."""

seconds = st.integers(min_value=0, max_value=3 * 24 * 3600).map(lambda count: timedelta(seconds=count))
# Long silences, and the little ones in which a bucket runs dry.
pauses = st.one_of(seconds, st.sampled_from([timedelta(0), timedelta(seconds=1), REFILL, REFILL / 2, DAY]))
attempts = st.lists(st.tuples(pauses, st.booleans()), max_size=60)
bursts = st.integers(min_value=1, max_value=60)


class Bucket:
    """The budget of one object, as the engine keeps it: no instant ahead at a look, one more at every write."""

    def __init__(self) -> None:
        self.at = NOW
        """What time it is."""
        self.behind = timedelta(0)
        """How much the clock was set back up to now."""
        self.noted: tuple[datetime, ...] = ()
        self.writes: list[datetime] = []

    @property
    def clock(self) -> datetime:
        """What the clock shows."""
        return self.at - self.behind

    def attempt(self, *, manual: bool = False) -> bool:
        """Write if that is allowed; return whether it was."""
        self.noted = clamp_all(self.noted, self.clock)
        if writable_at(self.noted, self.clock, manual=manual) > self.clock:
            return False
        self.noted = (*within_a_day(self.noted, self.clock), self.clock)
        self.writes.append(self.at)
        return True

    def most_in_a_day(self) -> int:
        """Return the largest number of writes in any 24 h, both ends included."""
        return max((sum(at <= one <= at + DAY for one in self.writes) for at in self.writes), default=0)


@given(attempts, bursts)
def test_no_day_has_more_than_ninety_writes(attempts: list[tuple[timedelta, bool]], burst: int) -> None:
    bucket = Bucket()
    for pause, _ in attempts:
        bucket.at += pause
        for _ in range(burst):
            bucket.attempt()
    assert bucket.most_in_a_day() <= 90


@given(attempts, bursts)
def test_no_day_has_more_than_a_hundred_with_what_people_ask_for(
    attempts: list[tuple[timedelta, bool]], burst: int
) -> None:
    bucket = Bucket()
    for pause, manual in attempts:
        bucket.at += pause
        for _ in range(burst):
            bucket.attempt(manual=manual)
    assert bucket.most_in_a_day() <= KEPT


@pytest.mark.parametrize(("manual", "most"), [(False, 90), (True, KEPT)])
def test_the_budget_of_a_day_can_be_used_up(manual: bool, most: int) -> None:
    """Else the bound would say nothing."""
    bucket = Bucket()
    for _ in range(3 * 24 * 60):
        bucket.attempt(manual=manual)
        bucket.at += timedelta(minutes=1)
    assert bucket.most_in_a_day() in (most - 1, most)


@pytest.mark.parametrize(("manual", "most"), [(False, BURST), (True, BURST + MANUAL_EXTRA)])
def test_a_full_bucket_lets_a_burst_through(manual: bool, most: int) -> None:
    bucket = Bucket()
    allowed = [bucket.attempt(manual=manual) for _ in range(most + 5)]
    assert allowed == [True] * most + [False] * 5
    assert writes_left(bucket.noted, bucket.clock) == 0


@given(attempts, bursts)
def test_what_is_left_is_what_is_let_through(attempts: list[tuple[timedelta, bool]], burst: int) -> None:
    bucket = Bucket()
    for pause, manual in attempts:
        bucket.at += pause
        for _ in range(burst % 7):
            bucket.attempt(manual=manual)
    promised = writes_left(bucket.noted, bucket.clock)
    assert sum(bucket.attempt() for _ in range(BURST + 1)) == promised


@given(attempts, bursts)
def test_after_a_day_of_silence_the_bucket_is_full_again(attempts: list[tuple[timedelta, bool]], burst: int) -> None:
    bucket = Bucket()
    for pause, manual in attempts:
        bucket.at += pause
        for _ in range(burst):
            bucket.attempt(manual=manual)
    bucket.at += DAY
    assert writes_left(bucket.noted, bucket.clock) == BURST
    assert all(bucket.attempt(manual=True) for _ in range(BURST + MANUAL_EXTRA))


@given(attempts)
def test_who_waits_as_long_as_is_said_may_write_and_nobody_sooner(attempts: list[tuple[timedelta, bool]]) -> None:
    bucket = Bucket()
    for pause, _ in attempts:
        bucket.at += pause
        while bucket.attempt():
            pass
        at = writable_at(bucket.noted, bucket.clock)
        assert bucket.clock < at <= bucket.clock + REFILL
        bucket.at = at - timedelta(microseconds=1)
        assert not bucket.attempt()
        bucket.at = at
        assert bucket.attempt()


jumps = st.one_of(
    st.just(timedelta(0)), seconds, st.integers(1, 50).map(lambda years: timedelta(days=365) * years)
)  # Up to a clock that was wrong by decades.


@given(st.lists(st.tuples(pauses, jumps, st.booleans()), max_size=40), bursts)
def test_a_clock_that_is_set_back_lets_no_more_through(
    attempts: list[tuple[timedelta, timedelta, bool]], burst: int
) -> None:
    bucket = Bucket()
    for pause, jump, manual in attempts:
        bucket.at += pause
        bucket.behind += jump
        for _ in range(burst):
            bucket.attempt(manual=manual)
    manual_too = any(manual for _, _, manual in attempts)
    assert bucket.most_in_a_day() <= (KEPT if manual_too else 90)


@given(st.lists(st.tuples(pauses, jumps, st.booleans()), max_size=20), bursts)
def test_a_clock_that_is_set_back_does_not_block_for_a_day(
    attempts: list[tuple[timedelta, timedelta, bool]], burst: int
) -> None:
    bucket = Bucket()
    for pause, jump, manual in attempts:
        bucket.at += pause
        bucket.behind += jump
        for _ in range(burst):
            bucket.attempt(manual=manual)
    assert writable_at(bucket.noted, bucket.clock) <= bucket.clock + DAY
    bucket.at += DAY
    assert writes_left(bucket.noted, bucket.clock) == BURST
    assert bucket.attempt()


@pytest.mark.parametrize("back", [timedelta(minutes=30), timedelta(hours=12), timedelta(days=30), timedelta(days=3650)])
@pytest.mark.parametrize("written", [1, 12, BURST - 1])
def test_a_clock_that_is_set_back_costs_no_write(written: int, back: timedelta) -> None:
    """What was written is counted, however far ahead its instants lie."""
    bucket = Bucket()
    for _ in range(written):
        assert bucket.attempt()
        bucket.at += timedelta(seconds=1)

    bucket.behind += back

    assert writes_left(bucket.noted, bucket.clock) == BURST - written
    assert all(bucket.attempt() for _ in range(BURST - written))
    assert not bucket.attempt()
    assert writable_at(bucket.noted, bucket.clock) <= bucket.clock + REFILL


def test_a_day_is_the_last_twenty_four_hours() -> None:
    instants = (NOW - 2 * DAY, NOW - DAY, NOW - DAY + timedelta(microseconds=1), NOW)
    assert within_a_day(instants, NOW) == instants[2:]


def test_what_was_noted_by_a_clock_that_was_ahead_counts_as_of_now() -> None:
    instants = (NOW - timedelta(hours=1), NOW + timedelta(days=364), NOW + timedelta(days=365))
    assert within_a_day(instants, NOW) == (NOW - timedelta(hours=1), NOW)
    both = (NOW + timedelta(hours=1), NOW + timedelta(hours=2))
    assert within_a_day(both, NOW) == (NOW - timedelta(hours=1), NOW)
