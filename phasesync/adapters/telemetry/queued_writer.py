"""
Writes log lines to a stream that may block: a full pipe, a stopped terminal, a disk that hangs.

The threads that log never wait. One thread writes. If the queue is full, lines are dropped and counted. Lines are
finished text; their content does not matter here.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

MAX_BYTES: Final = 4 << 20
"""Most bytes in the queue: about ten thousand lines."""
_PAUSE_S: Final = 0.05


class QueuedWriter:
    """Writes lines to a file descriptor, in a thread that never keeps the process alive."""

    def __init__(self, descriptor: int, *, on_lost: Callable[[int], None], max_bytes: int = MAX_BYTES) -> None:
        """
        Args:
            descriptor: of the stream. Python's own stream object is not used: a thread that hangs in a write holds its
                lock, and the interpreter would wait for that lock at its exit.
            on_lost: called with the number of lost lines, as soon as the stream accepts lines again.
            max_bytes: most bytes in the queue.
        """
        self.lost = 0
        """How many lines were lost since the start."""
        self._descriptor = descriptor
        self._on_lost = on_lost
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._unreported = 0
        self._writing = False
        self._cut = False
        """The newest line was written in part, so that the next one begins on a line of its own."""
        self._changed = threading.Condition()
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def put(self, line: str) -> None:
        """Queue a line; it is lost if the queue is full."""
        data = line.encode(errors="backslashreplace")
        with self._changed:
            if self._bytes + len(data) > self._max_bytes:
                self._lose(1)
                return
            self._lines.append(data)
            self._bytes += len(data)
            self._changed.notify_all()

    def flush(self, within_s: float) -> bool:
        """Wait until all lines are written, but not longer than `within_s`; return whether they are."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while self._lines or self._writing:
                if (left := deadline - time.monotonic()) <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _lose(self, count: int) -> None:
        self.lost += count
        self._unreported += count

    def _write_all(self) -> None:
        while True:
            try:
                self._write_next()
            except MemoryError:
                time.sleep(_PAUSE_S)  # The line is lost; the next one may fit.

    def _write_next(self) -> None:
        with self._changed:
            while not self._lines:
                self._changed.wait()
            line = self._lines.popleft()
            self._writing = True
        written = False
        try:
            count = _write(self._descriptor, b"\n" + line if self._cut else line)
            written = count == len(line) + self._cut
            self._cut = not written and (self._cut or count > 0)
        finally:
            with self._changed:
                self._bytes -= len(line)
                self._writing = False
                if not written:
                    self._lose(1)
                unreported, self._unreported = (self._unreported, 0) if written else (0, self._unreported)
                self._changed.notify_all()
        if unreported:
            self._on_lost(unreported)


def _write(descriptor: int, data: bytes) -> int:
    """Write all of it, or what is possible if the other end is gone or the disk is full; return the bytes written."""
    count = 0
    while count < len(data):
        try:
            count += os.write(descriptor, memoryview(data)[count:])
        except BlockingIOError:  # Another process that shares the descriptor made it non-blocking.
            time.sleep(_PAUSE_S)
        except OSError:
            break
    return count
