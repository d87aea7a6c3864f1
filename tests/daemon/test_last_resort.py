"""A main thread that hangs ends the process; one that works, or a process that was frozen, does not."""

from __future__ import annotations

import threading
from datetime import timedelta

from phasesync.daemon.last_resort import EXIT_HANGS, LastResort
from tests.support.waiting import HANG_GUARD_S, wait_until


def test_without_a_sign_of_life_the_process_ends(logs) -> None:
    ended, codes = threading.Event(), []

    def exit_now(code: int) -> None:
        codes.append(code)
        ended.set()

    LastResort(exit_now=exit_now, after=timedelta(seconds=0.05), check_s=0.01).start()

    assert ended.wait(HANG_GUARD_S)
    assert codes == [EXIT_HANGS] == [1]


def test_signs_of_life_keep_it_and_a_stop_ends_the_watch(logs) -> None:
    codes: list[int] = []
    watch = LastResort(exit_now=codes.append, after=timedelta(seconds=1), check_s=0.01)
    watch.start()
    pulses = iter(range(200))

    def pulsed_often() -> bool:
        watch.pulse()
        return next(pulses) >= 30

    wait_until(pulsed_often, what="many signs of life")
    watch.stop()
    assert codes == []
