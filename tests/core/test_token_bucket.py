"""A token bucket keeps to its quota whatever is asked of it, slows down when told, and recovers by itself."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasesync.core.token_bucket import (
    RECOVERY_S,
    SLOWEST,
    USED,
    Bucket,
    Rate,
    due_in,
    full_bucket,
    refill,
    slow,
    spend,
)

quotas = st.sampled_from([50, 100, 10_000, 40_000])
gaps = st.lists(st.floats(min_value=0, max_value=3), min_size=1, max_size=80)
ROUNDING = 1e-6


def granted(rate: Rate, gaps: list[float], slowed: frozenset[int] = frozenset()) -> list[float]:
    """Ask for a token after each gap, waiting as long as the bucket says; return the times at which there was one."""
    now, bucket, times = 0.0, full_bucket(rate, 0.0), []
    for number, gap in enumerate(gaps):
        now += gap
        bucket = refill(bucket, rate, now)
        while (wait := due_in(bucket, rate)) > 0:
            now += wait
            bucket = refill(bucket, rate, now)
        bucket = spend(bucket)
        times.append(now)
        if number in slowed:
            bucket = slow(bucket, now, called_at=now)
    return times


@given(
    quota=quotas,
    processes=st.integers(1, 10),
    used=st.sampled_from([0.1, 0.5, USED]),
    gaps=gaps,
    idle=st.floats(0, 100),
)
def test_in_no_second_do_all_processes_call_more_often_than_the_quota(
    quota: int, processes: int, used: float, gaps: list[float], idle: float
) -> None:
    """However calls are spread, however long no one called before, and in any other span in proportion."""
    rate = Rate(quota=quota, processes=processes, used=used)

    times = granted(rate, [idle, *(gap / rate.pace for gap in gaps)])

    assert (rate.burst + rate.pace) * processes == pytest.approx(quota)
    for first, begin in enumerate(times):
        for last, end in enumerate(times[first:]):
            assert last + 1 <= rate.burst + rate.pace * (end - begin) + ROUNDING * len(times)


@given(quota=quotas, processes=st.integers(1, 50), calls=st.integers(2, 300))
def test_who_never_pauses_gets_eighty_percent_of_the_share(quota: int, processes: int, calls: int) -> None:
    """No less: the burst once, and the pace from then on."""
    rate = Rate(quota=quota, processes=processes)

    times = granted(rate, [0.0] * calls)

    assert rate.pace == pytest.approx(quota * USED / processes)
    assert times[-1] == pytest.approx(max(0.0, (calls - rate.burst) / rate.pace), abs=1 / rate.pace)


@pytest.mark.parametrize("used", [0.97, 1.0, 10.0])
def test_the_whole_quota_and_more_may_be_used(used: float) -> None:
    """More is for endpoints that are not AWS's."""
    rate = Rate(quota=50, processes=1, used=used)
    times = granted(rate, [0.0] * 1000)
    assert 1000 / times[-1] == pytest.approx(50 * used, rel=0.02 if used <= 1 else 0.15)


@given(quota=quotas, gaps=gaps, slowed=st.frozensets(st.integers(0, 80)))
def test_throttling_never_makes_it_quicker_and_never_stops_it(
    quota: int, gaps: list[float], slowed: frozenset[int]
) -> None:
    rate = Rate(quota=quota)

    calm, throttled = granted(rate, gaps), granted(rate, gaps, slowed)

    assert all(late >= early - ROUNDING for late, early in zip(throttled, calm, strict=True))
    waits = (late - early - gap for (early, late), gap in zip(pairwise(throttled), gaps[1:], strict=True))
    assert max(waits, default=0.0) <= 1 / (rate.pace * SLOWEST) + ROUNDING


@given(times=st.lists(st.floats(0, 1000), min_size=1, max_size=30), quota=quotas)
def test_the_bucket_does_not_care_how_often_it_is_looked_at(times: list[float], quota: int) -> None:
    """Also while it recovers; and a look at an earlier time changes nothing."""
    rate = Rate(quota=quota)
    emptied = Bucket(tokens=-quota * 2000.0, speed=SLOWEST, at=0.0)

    often = emptied
    for time in times:
        often = refill(often, rate, time)

    once = refill(emptied, rate, max(times))
    assert often.at == once.at
    assert often.speed == pytest.approx(once.speed)
    assert often.tokens == pytest.approx(once.tokens, rel=1e-9, abs=1e-3)


def test_being_throttled_halves_the_pace_and_a_minute_brings_it_back() -> None:
    """Additive: half of what was lost is back after half of the time."""
    rate = Rate(quota=50)
    halved = slow(full_bucket(rate, 0.0), 0.0, called_at=0.0)

    assert halved.speed == 0.5
    assert due_in(halved, rate) == 1 / 20
    assert refill(halved, rate, RECOVERY_S / 4).speed == 0.75
    assert refill(halved, rate, RECOVERY_S / 2).speed == 1.0
    at_a_standstill = Bucket(tokens=0, speed=SLOWEST, at=0.0)
    assert refill(at_a_standstill, rate, RECOVERY_S).speed == 1.0


def test_it_slows_down_to_a_tenth_and_no_further() -> None:
    rate = Rate(quota=50)
    bucket = full_bucket(rate, 0.0)

    for number in range(20):
        bucket = slow(bucket, number / 1000, called_at=number / 1000)

    assert bucket.speed == SLOWEST


def test_calls_that_were_under_way_together_slow_it_once() -> None:
    """Eight threads hear of the same congestion; it is not eight times as bad."""
    bucket = full_bucket(Rate(quota=50), 0.0)

    for answered_at in (0.2, 0.21, 0.22, 0.23):
        bucket = slow(bucket, answered_at, called_at=0.1)

    assert bucket.speed == 0.5
    assert slow(bucket, 0.4, called_at=0.3).speed == 0.25


def test_a_smaller_share_takes_what_no_longer_fits() -> None:
    """When a second daemon starts, the first one's savings are halved with its pace."""
    saved = full_bucket(Rate(quota=50), 0.0)

    assert saved.tokens == pytest.approx(10)
    assert refill(saved, Rate(quota=50, processes=2), 0.0).tokens == pytest.approx(5)
