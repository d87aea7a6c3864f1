"""The thread that polls: when something wakes it, when something is due, and not too often while threads are busy."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from phasesync.daemon.poller import Poller
from tests.support.waiting import HANG_GUARD_S, wait_until

Make = Callable[..., Poller]


class Watch:
    """Ends a wait when a test says so, and notes how long the poller wanted to wait."""

    def __init__(self) -> None:
        self.waits: list[timedelta] = []
        self.closed = threading.Event()
        self._woken = threading.Event()

    def wake(self) -> None:
        self._woken.set()

    def wait(self, timeout: timedelta) -> None:
        self.waits.append(timeout)
        if self._woken.wait(timeout.total_seconds()):
            self._woken.clear()

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def make(watch: Watch) -> Iterator[Make]:
    """Start a poller; it is stopped at the end."""
    pollers = []

    def start(
        poll: Callable[[], object],
        *,
        due_in: timedelta | None = None,
        busy: Callable[[], bool] = lambda: False,
    ) -> Poller:
        poller = Poller(poll, due_in=lambda: due_in, busy=busy, watch=watch)  # type: ignore[arg-type]  # as one
        pollers.append(poller)
        poller.start()
        return poller

    yield start
    for poller in pollers:
        poller.stop()
    assert not pollers or watch.closed.wait(HANG_GUARD_S)


def test_it_polls_at_once_and_whenever_something_wakes_it(make: Make, watch: Watch) -> None:
    polls: list[int] = []
    make(lambda: polls.append(1))
    for number in range(1, 4):
        wait_until(lambda wanted=number: len(polls) == wanted, what="a poll")  # type: ignore[misc]
        watch.wake()
    wait_until(lambda: len(polls) == 4, what="the last poll")


def test_it_waits_until_something_is_due_and_no_longer_than_it_has_to(make: Make, watch: Watch) -> None:
    make(lambda: None, due_in=timedelta(milliseconds=30))
    wait_until(lambda: len(watch.waits) >= 3, what="polls")
    assert set(watch.waits) == {timedelta(milliseconds=30)}


def test_what_is_due_tomorrow_is_asked_for_again_before(make: Make, watch: Watch) -> None:
    make(lambda: None, due_in=timedelta(days=1))
    wait_until(lambda: watch.waits != [], what="a wait")
    assert watch.waits[0] <= timedelta(seconds=10)


def test_while_threads_are_busy_several_runs_begin_together(make: Make, watch: Watch) -> None:
    """Wakes in between do not lead to a poll each. Once threads are free, the next poll comes at once."""
    polls: list[float] = []
    busy = threading.Event()
    busy.set()
    make(lambda: polls.append(time.monotonic()), busy=busy.is_set)
    wait_until(lambda: len(polls) == 1, what="the first poll")
    for _ in range(20):
        watch.wake()
        time.sleep(0.005)
    during = len(polls)
    busy.clear()
    watch.wake()
    wait_until(lambda: len(polls) > during, what="a poll once threads are free")
    assert during <= 5


def test_a_defect_ends_no_poller(make: Make, watch: Watch) -> None:
    polls: list[int] = []

    def poll() -> None:
        polls.append(1)
        if len(polls) == 1:
            raise RuntimeError("a defect")

    make(poll)
    wait_until(lambda: len(polls) == 1, what="the first poll")
    watch.wake()
    wait_until(lambda: len(polls) >= 2, what="the next poll")
