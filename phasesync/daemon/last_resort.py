"""
Ends a process whose main thread hangs, so that whoever started it starts it anew.

Nothing in the main thread waits for long, and no fault is known that has it hang. But it takes locks that threads of
libraries take as well, and a daemon that hangs there would neither work nor answer signals. systemd's watchdog would
end it; elsewhere nobody would. Must not decide whether the daemon is healthy: see `health.py`.
"""

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from phasesync.adapters.telemetry.logging import flush_log, get_logger

HANGS_AFTER: Final = timedelta(seconds=60)
"""As long as the watchdog of the unit for systemd."""
EXIT_HANGS: Final = 1
"""An exit code after which systemd and Kubernetes start the daemon anew."""
_CHECK_S: Final = 1.0


class LastResort:
    """Watches the signs of life of one thread."""

    def __init__(
        self,
        *,
        exit_now: Callable[[int], object] = os._exit,
        after: timedelta = HANGS_AFTER,
        check_s: float = _CHECK_S,
    ) -> None:
        """
        Args:
            exit_now: ends the process at once.
            after: how long the thread may give no sign of life.
            check_s: seconds between two checks.
        """
        self._exit_now = exit_now
        # Checks are counted, and not seconds: they stand still as well while the whole process is frozen.
        self._most = max(1, round(after.total_seconds() / check_s))
        self._check_s = check_s
        self._missed = 0
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="last-resort", daemon=True).start()

    def pulse(self) -> None:
        """Give a sign of life."""
        self._missed = 0

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._check_s):
            self._missed += 1
            if self._missed > self._most:
                get_logger("phasesync.daemon").error("the main thread hangs; the process ends, to be started anew")
                flush_log()
                self._exit_now(EXIT_HANGS)
                return
