"""
Signals become words in an inbox that the main thread reads, and a stop has a latest time.

Handlers run between any two steps of the main thread, so they only touch what may be touched there: SimpleQueue.put is
reentrant, a lock or an Event is not. A second request to stop ends the process at once.
"""

import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from enum import Enum
from types import FrameType, TracebackType
from typing import Final

EXIT_INTERRUPTED: Final = 130


class Command(Enum):
    """What the service is asked to do."""

    STOP = "stop"
    RELOAD = "reload"


class CommandQueue:
    """Words for the service, from signal handlers and threads."""

    def __init__(self) -> None:
        self._words: queue.SimpleQueue[Command] = queue.SimpleQueue()

    def put(self, word: Command) -> None:
        """Leave a word; may be called from a signal handler."""
        self._words.put(word)

    def wait(self, seconds: float) -> Command | None:
        """Return the next word, None when none comes in time."""
        try:
            return self._words.get(timeout=seconds)
        except queue.Empty:
            return None


class LastResort:
    """
    Ends the process with exit code 0 some time after `arm`, whatever hangs: a thread in a call that does not return
    would keep the interpreter from ending. What it leaves is as after a crash, and the next start settles that.
    """

    def __init__(self, exit_now: Callable[[int], object] = os._exit) -> None:
        self._exit_now = exit_now
        self._armed: queue.SimpleQueue[float] = queue.SimpleQueue()
        # Started beforehand: a signal handler must not start threads.
        threading.Thread(target=self._wait, name="last-resort", daemon=True).start()

    def arm(self, seconds: float) -> None:
        """Begin to count; may be called from a signal handler."""
        self._armed.put(time.monotonic() + seconds)

    def _wait(self) -> None:
        deadline = self._armed.get()
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(left)
        self._exit_now(0)


class Signals:
    """Leads SIGTERM, SIGINT and SIGHUP into an inbox, inside its block. For the main thread."""

    def __init__(
        self, inbox: CommandQueue, *, stop_within: Callable[[], float], exit_now: Callable[[int], object] = os._exit
    ) -> None:
        """
        Args:
            inbox: gets the words.
            stop_within: seconds that a stop may take, asked when it begins.
            exit_now: ends the process at once.
        """
        self._inbox = inbox
        self._stop_within = stop_within
        self._exit_now = exit_now
        self._last_resort = LastResort(exit_now)
        self._stopping = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        for number, handler in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._stop),
            (signal.SIGHUP, self._reload),
        ):
            self._before[number] = signal.signal(number, handler)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stopping:
            return  # The end of the process follows: a second signal still ends it at once.
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._stopping:
            self._exit_now(EXIT_INTERRUPTED)
        self._stopping = True
        self._last_resort.arm(self._stop_within())
        self._inbox.put(Command.STOP)

    def _reload(self, number: int, frame: FrameType | None) -> None:
        self._inbox.put(Command.RELOAD)
