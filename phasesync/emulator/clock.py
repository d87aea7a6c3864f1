"""
The emulator's clock: all durations follow it, so that a test can let a month pass at once.

Real sleeping (latency, late answers) is in `faults.py`; this module never sleeps.
"""

import threading
import time
from datetime import UTC, datetime, timedelta


class EmulatorClock:
    """
    A clock that can be moved forward.

    It has the form of the port `Clock`, so that code under test may share it with the emulator.
    """

    def __init__(self, start: datetime | None = None, *, frozen: bool = False) -> None:
        """
        Args:
            start: what it shows now, aware; None means the machine's time.
            frozen: it stands still between calls of `advance`. Rate limits then recover only by `advance`.
        """
        self._lock = threading.Lock()
        self._frozen = frozen
        self._base = start or datetime.now(UTC)
        self._origin = time.monotonic()
        self._added = timedelta()

    def now(self) -> datetime:
        """Return the time, aware, UTC."""
        return self._base + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Return seconds since the clock was made, those of `advance` included."""
        with self._lock:
            real = 0.0 if self._frozen else time.monotonic() - self._origin
            return real + self._added.total_seconds()

    def advance(self, delta: timedelta | None = None, **parts: float) -> None:
        """
        Let time pass.

        Args:
            delta: how much; not negative.
            parts: in place of it, what `timedelta` takes: `advance(days=31)`.
        """
        step = timedelta(**parts) if delta is None else delta
        if step < timedelta():
            raise ValueError("a clock does not run backwards")
        with self._lock:
            self._added += step

    def rewind(self) -> None:
        """Undo every `advance`."""
        with self._lock:
            self._added = timedelta()
