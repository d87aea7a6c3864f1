"""
Signals and a time limit: they are noted, and end the program at its next `check`, so that it can clean up.

An exception that is raised by the signal handler itself may come up in a finalizer or in a weak reference's callback,
where Python prints and drops it, so that the program would go on; or in the middle of an import, which then keeps its
lock. So the handler raises only if there was no `check` for a while (a stuck call, output that is not read).

For the main thread. Must not know which program it ends.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, Self

GRACE_S: Final = 5.0
"""How long a signal waits for a `check` until the handler raises, and raises again. Programs check each second."""

_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class OutOfTimeError(BaseException):
    """
    The program took longer than it may.

    Like KeyboardInterrupt it may come up anywhere, and passes every `except Exception`.
    """


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
            # An ignored signal stays ignored (nohup), except Ctrl-C.
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
        Raise if a signal has come or the time is over.

        Raises:
            KeyboardInterrupt: a signal; every later check raises too.
            OutOfTimeError: the time limit, unless a signal came before.
        """
        if self._waiting is not None:
            raise self._waiting

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Let interruptions wait until the end of this block, and check there."""
        self._held_back = True
        try:
            yield
        finally:
            self._held_back = False
        self.check()

    def ignore(self) -> None:
        """Ignore all signals from now on, a second Ctrl-C too: cleaning up takes a few seconds at most."""
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
