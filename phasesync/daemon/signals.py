"""
Turns signals into commands on a queue that the main thread reads, and gives a stop a latest time.

Handlers run between any two steps of the main thread, so they may only touch what is reentrant: SimpleQueue.put is, a
lock or an Event is not. A second request to stop ends the process at once.
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
    """What the service shall do."""

    STOP = "stop"
    RELOAD = "reload"


class CommandQueue:
    """Commands for the service, from signal handlers and threads."""

    def __init__(self) -> None:
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()

    def put(self, command: Command) -> None:
        """Add a command. A signal handler may call this."""
        self._commands.put(command)

    def wait(self, seconds: float) -> Command | None:
        """Return the next command; None if none comes in time."""
        try:
            return self._commands.get(timeout=seconds)
        except queue.Empty:
            return None


class ForcedExit:
    """
    Ends the process with exit code 0 some time after `arm`, whatever hangs: a thread in a call that does not return
    would keep the interpreter alive. What is left is the same as after a crash, and the next start settles it.
    """

    def __init__(self, exit_now: Callable[[int], object] = os._exit) -> None:
        self._exit_now = exit_now
        self._armed: queue.SimpleQueue[float] = queue.SimpleQueue()
        # Started beforehand: a signal handler must not start threads.
        threading.Thread(target=self._wait, name="forced-exit", daemon=True).start()

    def arm(self, seconds: float) -> None:
        """Start the countdown. A signal handler may call this."""
        self._armed.put(time.monotonic() + seconds)

    def _wait(self) -> None:
        deadline = self._armed.get()
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(left)
        self._exit_now(0)


class Signals:
    """Turns SIGTERM, SIGINT and SIGHUP into commands, inside its block. For the main thread."""

    def __init__(
        self, commands: CommandQueue, *, stop_within: Callable[[], float], exit_now: Callable[[int], object] = os._exit
    ) -> None:
        """
        Args:
            commands: gets the commands.
            stop_within: returns the seconds that a stop may take; called when it begins.
            exit_now: ends the process at once.
        """
        self._commands = commands
        self._stop_within = stop_within
        self._exit_now = exit_now
        self._forced_exit = ForcedExit(exit_now)
        self._stopping = False
        self._former_handlers: dict[int, object] = {}

    def __enter__(self) -> None:
        for number, handler in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._stop),
            (signal.SIGHUP, self._reload),
        ):
            self._former_handlers[number] = signal.signal(number, handler)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stopping:
            return  # The end of the process follows: a second signal still ends it at once.
        for number, handler in self._former_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._stopping:
            self._exit_now(EXIT_INTERRUPTED)
        self._stopping = True
        self._forced_exit.arm(self._stop_within())
        self._commands.put(Command.STOP)

    def _reload(self, number: int, frame: FrameType | None) -> None:
        self._commands.put(Command.RELOAD)
