"""The database is asked at a scrape, by one scrape for all, and no scrape waits for it for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from phasesync.adapters.telemetry.database_metrics import FreshFigures
from phasesync.errors import StoreUnavailableError
from phasesync.store.figures import Figures
from tests.daemon.fakes import a_figure
from tests.support.waiting import HANG_GUARD_S, wait_until


class Database:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.reads = 0
        self.answers: Callable[[], Figures] = a_figure

    def read(self) -> Figures:
        self.reads += 1
        return replace(self.answers(), behind=self.reads)


def down() -> Figures:
    raise StoreUnavailableError


def test_figures_are_shown_again_for_a_while() -> None:
    database = Database()
    figures = FreshFigures(database.read, fresh_for_s=HANG_GUARD_S)

    assert [one.behind for _ in range(5) if (one := figures.get())] == [1] * 5


def test_figures_are_read_anew_after_that() -> None:
    database = Database()
    figures = FreshFigures(database.read, fresh_for_s=0.0)

    first, second = figures.get(), figures.get()

    assert first is not None and second is not None and (first.behind, second.behind) == (1, 2)


def test_scrapes_at_one_time_cost_one_read() -> None:
    database, gate = Database(), threading.Event()
    database.answers = lambda: a_figure() if gate.wait(HANG_GUARD_S) else down()
    figures = FreshFigures(database.read, within_s=HANG_GUARD_S)
    results: list[Figures | None] = []
    threads = [threading.Thread(target=lambda: results.append(figures.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: database.reads == 1, what="the read")
    gate.set()
    for thread in threads:
        thread.join()

    assert len(results) == 8 and all(results) and database.reads == 1


def test_without_a_database_there_are_no_figures_and_no_former_ones() -> None:
    database = Database()
    figures = FreshFigures(database.read, fresh_for_s=0.0)
    assert figures.get() is not None

    database.answers = down
    assert figures.get() is None

    database.answers = a_figure
    assert figures.get() is not None


def test_a_database_that_is_late_is_shown_as_it_was_at_the_scrape_before() -> None:
    database, gate = Database(), threading.Event()
    figures = FreshFigures(database.read, fresh_for_s=0.0, within_s=0.05, kept_for_s=HANG_GUARD_S)
    wait_until(lambda: figures.get() is not None, what="the first figures")
    former = database.reads
    database.answers = lambda: a_figure() if gate.wait(HANG_GUARD_S) else down()

    late = figures.get()
    assert late is not None and late.behind == former

    gate.set()
    wait_until(lambda: (one := figures.get()) is not None and one.behind > former, what="newer figures")


def test_figures_are_not_kept_for_ever_while_a_database_hangs() -> None:
    database, gate = Database(), threading.Event()
    figures = FreshFigures(database.read, fresh_for_s=0.0, within_s=0.05, kept_for_s=0.2)
    wait_until(lambda: figures.get() is not None, what="the first figures")
    database.answers = lambda: a_figure() if gate.wait(HANG_GUARD_S) else down()

    wait_until(lambda: figures.get() is None, what="the end of the former figures")
    gate.set()


def test_a_database_that_hangs_keeps_one_scrape_waiting_and_not_the_next() -> None:
    database, gate = Database(), threading.Event()
    database.answers = lambda: a_figure() if gate.wait(HANG_GUARD_S) else down()
    figures = FreshFigures(database.read, fresh_for_s=0.0, within_s=0.2)

    began = time.monotonic()
    assert figures.get() is None
    waited_s = time.monotonic() - began
    assert 0.2 <= waited_s < 2

    began = time.monotonic()
    assert [figures.get() for _ in range(20)] == [None] * 20
    assert time.monotonic() - began < 0.2, "each of them would wait 0.2 s"
    assert database.reads == 1, "no second thread hangs"

    gate.set()
    wait_until(lambda: figures.get() is not None, what="the figures, once the database answers")
