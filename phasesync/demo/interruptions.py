"""
Signals and a time limit end the tour in order: they are remembered, and it ends at the next place that looks.

An exception raised straight out of a signal handler may come up in a finalizer or in a weak reference's callback, where
Python prints and drops it, so that the tour would go on; or in the middle of an import, whose lock then stays taken.
Only what does not look for a while (a stuck call, output that nobody reads) is broken into like that.

For the main thread. Must not know what ends.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, Self

from phasesync.demo.failures import OutOfTimeError

GRACE_S: Final = 5.0
"""From the signal to breaking into the tour, and from one attempt to the next. It looks about every second."""

_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruptions:
    """Within its block SIGINT, SIGTERM and SIGHUP mean KeyboardInterrupt, and the time limit means OutOfTimeError."""

    def __init__(self, time_limit_s: float, *, grace_s: float = GRACE_S) -> None:
        """
        Args:
            time_limit_s: from the beginning of the block.
            grace_s: seconds for which a signal waits for `check`, before it raises wherever the main thread is.
        """
        self._time_limit_s = time_limit_s
        self._grace_s = grace_s
        self._before: dict[int, Any] = {}
        self._waiting: type[BaseException] | None = None
        self._held_back = False
        self._ignored = False

    def __enter__(self) -> Self:
        for number in (*_INTERRUPTS, signal.SIGALRM):
            # What is ignored stays so where that was meant (nohup); Ctrl-C is always meant.
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        signal.setitimer(signal.ITIMER_REAL, self._time_limit_s, self._grace_s)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ignore()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """
        Look for what has come.

        Raises:
            KeyboardInterrupt: a signal; also every later look raises.
            OutOfTimeError: the time limit, unless a signal came before.
        """
        if self._waiting is not None:
            raise self._waiting

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Have interruptions wait until the end of this block, and look there."""
        self._held_back = True
        try:
            yield
        finally:
            self._held_back = False
        self.check()

    def ignore(self) -> None:
        """Let nothing disturb the end, not even a second Ctrl-C: it takes a few seconds at most."""
        self._ignored = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._ignored:
            return
        if self._waiting is None:
            self._waiting = OutOfTimeError if number == signal.SIGALRM else KeyboardInterrupt
            signal.setitimer(signal.ITIMER_REAL, self._grace_s, self._grace_s)
        elif number == signal.SIGALRM and not self._held_back:
            raise self._waiting
