"""
Signals and a time limit end the tour in order, but never between the start of a process and the note that it runs.

For the main thread. Must not know what ends.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, Self

from phasesync.demo.failures import OutOfTimeError

_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruptions:
    """Within its block SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, and a timer raises OutOfTimeError."""

    def __init__(self, time_limit_s: float) -> None:
        """
        Args:
            time_limit_s: from the beginning of the block.
        """
        self._time_limit_s = time_limit_s
        self._before: dict[int, Any] = {}
        self._held_back = False
        self._waiting: type[BaseException] | None = None

    def __enter__(self) -> Self:
        for number in (*_INTERRUPTS, signal.SIGALRM):
            # What is ignored stays so where that was meant (nohup); Ctrl-C is always meant.
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._interrupt)
        signal.setitimer(signal.ITIMER_REAL, self._time_limit_s)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Have interruptions wait until the end of this block."""
        self._held_back = True
        try:
            yield
        finally:
            self._held_back = False
        if self._waiting is not None:
            raise self._waiting

    def ignore(self) -> None:
        """Let nothing disturb the end, not even a second Ctrl-C: it takes a few seconds at most."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        error = OutOfTimeError if number == signal.SIGALRM else KeyboardInterrupt
        if not self._held_back:
            raise error
        self._waiting = error
