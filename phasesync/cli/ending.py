"""The end of a command's process: signals that would be ignored, and streams that nobody reads any more."""

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_ENDING = (signal.SIGTERM, signal.SIGHUP)


def obey_signals_as_init() -> None:
    """
    Have SIGTERM and SIGHUP end the first process of a container, as they end any other.

    The kernel drops a signal to process 1 that has no handler (pid_namespaces(7)): `docker stop` would wait for its
    time-out and kill. Commands that handle these signals themselves set their own handlers.
    """
    if os.getpid() != 1:
        return
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def let_go_of_streams() -> None:
    """
    Flush what was printed; where nobody reads it any more, drop it.

    The interpreter flushes at its end, and would turn the exit code into 120 where that fails.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End as a shell says of a process that a signal ended; what is under way is undone on the way out."""
    sys.exit(128 + number)
