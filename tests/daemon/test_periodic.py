"""Rounds keep their rhythm, whatever the wall clock does and whatever goes wrong in one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from phasesync.daemon.periodic import PeriodicChores, _Every
from tests.support.waiting import HANG_GUARD_S, wait_until

MS = timedelta(milliseconds=1)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def chores() -> Iterator[PeriodicChores]:
    chores = PeriodicChores()
    yield chores
    chores.stop()


class Chore:
    def __init__(self) -> None:
        self.done = 0
        self.under_way = 0
        self.most_at_once = 0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self) -> None:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        self.gate.wait(HANG_GUARD_S)
        self.under_way -= 1
        if self.error:
            raise self.error
        self.done += 1


def test_a_round_comes_again_and_again(chores) -> None:
    chore = Chore()
    chores.add("chore", chore, every=10 * MS)
    chores.start()

    wait_until(lambda: chore.done > 5)
    wait_until(lambda: chores.age("chore") < 5)


def test_the_first_round_may_wait(chores) -> None:
    early, late = Chore(), Chore()
    chores.add("late", late, every=10 * MS, first_in=timedelta(hours=1))
    chores.add("early", early, every=10 * MS)
    chores.start()

    wait_until(lambda: early.done > 5)
    assert late.done == 0


def test_a_round_that_takes_long_is_not_overtaken(chores) -> None:
    slow, other = Chore(), Chore()
    slow.gate.clear()
    chores.add("slow", slow, every=10 * MS)
    chores.add("other", other, every=10 * MS)
    chores.start()
    wait_until(lambda: other.done > 5)

    assert (slow.under_way, slow.done) == (1, 0)
    assert chores.age("slow") > chores.age("other")
    slow.gate.set()
    wait_until(lambda: slow.done > 2)
    assert slow.most_at_once == 1


def test_a_failure_does_not_end_the_rounds_and_does_not_count_as_a_sign_of_life(chores) -> None:
    chore = Chore()
    chore.error = ValueError("hush")
    chores.add("chore", chore, every=10 * MS)
    began = time.monotonic()
    chores.start()
    wait_until(lambda: time.monotonic() - began > 0.1)

    assert chores.age("chore") >= 0.1
    chore.error = None
    wait_until(lambda: chores.age("chore") < 0.1)
    assert chore.done > 0


def test_a_round_that_returns_false_has_ended_without_success(chores) -> None:
    outcome = [False]
    done = []

    def chore() -> bool:
        done.append(outcome[0])
        return outcome[0]

    chores.add("chore", chore, every=10 * MS)
    chores.start()
    wait_until(lambda: len(done) > 20)

    assert chores.age("chore") < chores.success_age("chore")
    assert chores.success_age("chore") >= 0.1
    outcome[0] = True
    wait_until(lambda: chores.success_age("chore") < 0.1)


def test_the_rhythm_changes_at_once(chores) -> None:
    chore = Chore()
    chores.add("chore", chore, every=timedelta(hours=1))
    chores.start()
    wait_until(lambda: chore.done == 1)

    chores.set_every("chore", 10 * MS)

    wait_until(lambda: chore.done > 5)


def test_after_the_end_there_is_no_round(chores) -> None:
    other = PeriodicChores()
    chore = Chore()
    other.add("chore", chore, every=10 * MS)
    other.start()
    wait_until(lambda: chore.done > 0)
    other.stop()
    wait_until(lambda: chore.under_way == 0)
    done = chore.done
    sign = Chore()
    chores.add("sign", sign, every=10 * MS)
    chores.start()

    wait_until(lambda: sign.done > 5)
    assert chore.done == done


@pytest.mark.parametrize(
    ("late_by", "following"),
    [(timedelta(0), 50 * MS), (20 * MS, 30 * MS), (timedelta(days=400), 50 * MS)],
)
def test_rounds_that_were_missed_are_made_up_once(late_by, following) -> None:
    """A laptop slept, or a clock was set: APScheduler's own trigger would list every missed round."""
    assert _Every(50 * MS).get_next_fire_time(NOW, NOW + late_by) == NOW + late_by + following


def test_a_clock_that_jumps_forwards_costs_nothing(chores) -> None:
    chore = Chore()
    with time_machine.travel(NOW, tick=True) as clock:
        chores.add("chore", chore, every=10 * MS)
        chores.start()
        wait_until(lambda: chore.done > 2)
        clock.move_to(NOW + timedelta(days=400))
        done = chore.done
        wait_until(lambda: chore.done > done + 5)


def test_a_clock_that_jumps_back_stops_nothing(chores) -> None:
    chore = Chore()
    with time_machine.travel(NOW, tick=True) as clock:
        chores.add("chore", chore, every=10 * MS)
        chores.start()
        wait_until(lambda: chore.done > 2)
        clock.move_to(NOW - timedelta(hours=3))
        done = chore.done

        def goes_on() -> bool:
            chores.correct_clock_jumps()
            return chore.done > done + 5

        wait_until(goes_on)
