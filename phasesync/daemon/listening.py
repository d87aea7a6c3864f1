"""
Brings the health server up, and goes on trying where its address is not to be had yet.

Keeping AWS in step does not wait for it. At boot an address may not be there yet, or the port belongs to a process that
is about to end: a daemon that gave up then would never be started again. A standby on the host of the daemon that works
has the same settings and so the same address; it waits for it as long as it stands by, and has it when it takes over.
"""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from phasesync.adapters.telemetry.logging import get_logger
from phasesync.daemon.http import HealthServer
from phasesync.errors import HostUnavailableError, PhasesyncError

PATIENCE: Final = timedelta(seconds=60)
"""How long it is tried by a daemon that does not stand by. systemd starts the daemon anew after it."""
AGAIN_S: Final = 1.0


class Listening:
    """Has a server listen from `start` to `stop`, as far as that can be had."""

    def __init__(self, server: HealthServer, *, stands_by: Callable[[], bool], patience: timedelta = PATIENCE) -> None:
        """
        Args:
            server: is started once, and stopped at the end.
            stands_by: whether this daemon waits for another one to end.
            patience: how long it is tried while it does not stand by.
        """
        self._server = server
        self._stands_by = stands_by
        self._patience = patience
        self._log = get_logger("phasesync.daemon")
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.problem: str | None = None
        """Why nobody can ask for health now; None = the server listens."""
        self.fatal: PhasesyncError | None = None
        """What ends the daemon: the address was not to be had for too long."""

    def start(self) -> None:
        """Listen, or begin to try. SettingsError: waiting is no use."""
        try:
            self._server.start()
        except HostUnavailableError as error:
            self.problem = error.message
            self._log.warning(
                "no health and readiness yet; it is tried again",
                reason=error.message,
                within_s=round(self._patience.total_seconds()),
            )
            threading.Thread(target=self._try_again, name="listening", daemon=True).start()

    def stop(self) -> None:
        """Listen no more, and try no more."""
        self._closed.set()
        with self._lock:
            self._server.stop()

    def _try_again(self) -> None:
        began = time.monotonic()
        told_standby = False
        while not self._closed.wait(AGAIN_S):
            if self._stands_by():
                began = time.monotonic()
                if not told_standby:
                    told_standby = True
                    self._log.info("standing by without an address; it is taken with the work", reason=self.problem)
            try:
                with self._lock:
                    if self._closed.is_set():
                        return
                    self._server.start()
            except PhasesyncError as error:
                self.problem = error.message
                if not isinstance(error, HostUnavailableError):
                    self.fatal = error
                    return
                if (tried_s := time.monotonic() - began) >= self._patience.total_seconds():
                    self.fatal = HostUnavailableError(
                        f"{error.message}; it was tried for {round(tried_s)} s", hint=error.hint
                    )
                    return
            else:
                self.problem = None
                self._log.info("listening", address=self._server.address)
                return
