"""Threads say how busy they are, and which of them make no progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from phasesync.adapters.dispatch import ThreadDispatcher
from phasesync.core.chores import Chore
from phasesync.core.events import ChoreFailed, Event
from phasesync.errors import StoreUnavailableError
from tests.support.waiting import HANG_GUARD_S, wait_until

ZERO = timedelta(0)
LATER = timedelta(seconds=0.05)


class Pool:
    """Two threads with work that goes on, or ends, when the test asks for it."""

    def __init__(self) -> None:
        self.gates: dict[str, threading.Event] = {}
        self.steps: dict[str, threading.Semaphore] = {}
        self.threads = ThreadDispatcher(self._work, threads=2, events=self, chore=Chore.RECONCILE)

        self.failures = 0
        self.failed_at = 0.0

    def emit(self, event: Event) -> None:
        if isinstance(event, ChoreFailed):
            self.failed_at = time.monotonic()
            self.failures += 1

    def begin(self, name: str) -> None:
        self.gates[name], self.steps[name] = threading.Event(), threading.Semaphore(0)
        self.threads.submit(name)

    def _work(self, name: str) -> None:
        if name.startswith("bad"):
            raise StoreUnavailableError
        while not self.gates[name].is_set():
            if self.steps[name].acquire(timeout=0.005):
                self.threads.progressed()

    @property
    def quiet(self) -> list[timedelta]:
        return sorted(self.threads.load().quiet)


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    for gate in pool.gates.values():
        gate.set()
    pool.threads.drain(timedelta(seconds=HANG_GUARD_S))


def test_idle_threads_are_neither_quiet_nor_full(pool) -> None:
    load = pool.threads.load()
    assert (load.threads, load.quiet, load.full_for) == (2, (), ZERO)


def test_work_that_makes_no_progress_grows_quiet_and_other_work_does_not(pool) -> None:
    pool.begin("stuck")
    pool.begin("busy")
    wait_until(lambda: len(pool.quiet) == 2 and pool.quiet[0] > LATER)

    pool.steps["busy"].release()

    wait_until(lambda: pool.quiet[0] < LATER)
    assert pool.quiet[1] > LATER


def test_threads_that_are_all_busy_are_full_until_one_ends(pool) -> None:
    pool.begin("one")
    wait_until(lambda: pool.quiet)
    assert pool.threads.load().full_for == ZERO
    pool.begin("other")
    wait_until(lambda: pool.threads.load().full_for > LATER)

    pool.gates["one"].set()

    wait_until(lambda: len(pool.quiet) == 1)
    assert pool.threads.load().full_for == ZERO


def test_work_that_fails_again_and_again_is_told_until_some_succeeds(pool, monkeypatch) -> None:
    assert pool.threads.load().failing_for == ZERO
    pool.begin("bad")
    wait_until(lambda: pool.failures == 1)
    assert pool.threads.load().failing_for == ZERO, "once says nothing"
    wait_until(lambda: time.monotonic() - pool.failed_at > LATER.total_seconds())
    pool.begin("bad again")
    wait_until(lambda: pool.failures == 2)
    assert pool.threads.load().failing_for > LATER

    pool.begin("good")
    pool.gates["good"].set()

    wait_until(lambda: pool.threads.load().failing_for == ZERO)


def test_progress_outside_of_the_threads_changes_nothing(pool) -> None:
    pool.threads.progressed()
    assert pool.threads.load().quiet == ()
