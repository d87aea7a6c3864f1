"""
Lines on their way to a stream that may not take them: a full pipe, a terminal that is stopped, a disk that hangs.

Whoever logs never waits. One thread writes; where the queue is full, lines are dropped and counted. Knows nothing of
what a line says: lines come as finished text.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

MAX_BYTES: Final = 4 << 20
"""What may wait, at most: about ten thousand lines."""


class QueuedWriter:
    """Writes lines to a file descriptor, in a thread that never keeps the process alive."""

    def __init__(self, descriptor: int, *, on_lost: Callable[[int], None], max_bytes: int = MAX_BYTES) -> None:
        """
        Args:
            descriptor: where to. Python's own stream is passed by: a thread that hangs in a write holds its lock, and
                the interpreter would wait for that at its end.
            on_lost: told how many lines were lost, as soon as lines are taken again.
            max_bytes: what may wait, at most.
        """
        self.lost = 0
        """How many lines were lost since the start."""
        self._descriptor = descriptor
        self._on_lost = on_lost
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._untold = 0
        self._writing = False
        self._changed = threading.Condition()
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def put(self, line: str) -> None:
        """Have a line written soon; it is lost where too much waits already."""
        data = line.encode(errors="backslashreplace")
        with self._changed:
            if self._bytes + len(data) > self._max_bytes:
                self._lose(1)
                return
            self._lines.append(data)
            self._bytes += len(data)
            self._changed.notify_all()

    def flush(self, within_s: float) -> bool:
        """Wait until everything is written, but no longer; return whether it is."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while self._lines or self._writing:
                if (left := deadline - time.monotonic()) <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _lose(self, count: int) -> None:
        self.lost += count
        self._untold += count

    def _write_all(self) -> None:
        while True:
            with self._changed:
                while not self._lines:
                    self._changed.wait()
                line = self._lines.popleft()
                self._writing = True
            written = _write(self._descriptor, line)
            with self._changed:
                self._bytes -= len(line)
                self._writing = False
                if not written:
                    self._lose(1)
                untold, self._untold = (self._untold, 0) if written else (0, self._untold)
                self._changed.notify_all()
            if untold:
                self._on_lost(untold)


def _write(descriptor: int, data: bytes) -> bool:
    """Write it all; return False where the other end is gone or the disk is full."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # The descriptor is shared with somebody who made it non-blocking.
            time.sleep(0.05)
        except OSError:
            return False
    return True
