"""
Polls when something may be due: after a commit of another process, at the end of a run, and at the next due time.

The periodic poll (`daemon.poll_interval_ms`) goes on beside it, and finds what this thread missed.
"""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from phasesync.adapters.telemetry.logging import get_logger
from phasesync.host_files import shortage
from phasesync.store.change_watch import ChangeWatch

_LONGEST: Final = timedelta(seconds=10)
"""Between two polls of this thread; the periodic poll comes in between."""
_AFTER_DEFECT_S: Final = 1.0
_GATHER_S: Final = 0.05
"""Between two polls while most threads are at work, so that several runs begin together: they read what they need with
one set of statements."""


class Poller:
    """A thread that polls."""

    def __init__(
        self,
        poll: Callable[[], object],
        *,
        due_in: Callable[[], timedelta | None],
        busy: Callable[[], bool],
        watch: ChangeWatch,
    ) -> None:
        """
        Args:
            poll: claims what is due and starts its runs.
            due_in: returns the time from the newest poll until something is due; None if there is none.
            busy: returns whether most threads are at work.
            watch: ends a wait.
        """
        self._poll = poll
        self._due_in = due_in
        self._busy = busy
        self._watch = watch
        self._stopping = False
        self._log = get_logger("phasesync.daemon")
        self._reported: str | None = None
        """The defect of the newest poll, or what the host lacked: logged once until it changes."""
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no further poll. A poll under way ends by itself."""
        self._stopping = True
        self._watch.wake()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._poll_and_wait()
            except Exception as error:  # noqa: BLE001 -- the next poll must come, and the log says what it was
                lacking = shortage(error)
                problem = lacking or type(error).__name__
                if problem != self._reported and lacking is not None:
                    self._log.warning("a poll could not be done", reason=lacking)
                elif problem != self._reported:
                    self._log.error("a poll failed", exc_info=error)
                self._reported = problem
                time.sleep(_AFTER_DEFECT_S)
            else:
                self._reported = None
        self._watch.close()

    def _poll_and_wait(self) -> None:
        """Poll, and return when the next poll may find something."""
        began = time.monotonic()
        self._poll()
        due_in = self._due_in()
        self._watch.wait(_LONGEST if due_in is None else min(due_in, _LONGEST))
        while self._busy() and (left := began + _GATHER_S - time.monotonic()) > 0:
            self._watch.wait(timedelta(seconds=left))  # The end of each run ends it.
