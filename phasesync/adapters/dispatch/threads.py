"""A dispatcher of threads in this process, for SQLite and PostgreSQL alike."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta

from phasesync.core.events import ChoreFailed
from phasesync.core.schedule import LARGE_ABOVE, threads_for_large
from phasesync.errors import PhasesyncError
from phasesync.ports import Claim, EventSink


class ThreadDispatcher:
    """Runs each claim in a thread of a fixed pool. AWS calls wait on the network, so threads are enough."""

    def __init__(self, work: Callable[[Claim], None], *, threads: int, events: EventSink) -> None:
        """
        Args:
            work: reconciles one claimed sync.
            threads: how many at once.
            events: takes failures that could not be recorded as a run.
        """
        self._work = work
        self._events = events
        self._threads = threads
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="reconcile")
        self._lock = threading.Lock()
        self._running: dict[Future[None], Claim] = {}

    @property
    def free(self) -> int:
        """How many more claims can be started at once."""
        with self._lock:
            return self._threads - len(self._running)

    @property
    def free_for_large(self) -> int:
        """How many of these may be claims of large syncs: together they leave some threads to the small ones."""
        with self._lock:
            large = sum(claim.objects > LARGE_ABOVE for claim in self._running.values())
        return threads_for_large(self._threads) - large

    def submit(self, claim: Claim) -> None:
        """Reconcile a claimed sync as soon as a thread is free."""
        with self._lock:
            future = self._pool.submit(self._work, claim)
            self._running[future] = claim
        future.add_done_callback(self._done)

    def running(self) -> Sequence[Claim]:
        """Return the claims that are being worked on."""
        with self._lock:
            return list(self._running.values())

    def drain(self, timeout: timedelta) -> bool:
        """Take no more work and wait; return whether all was done in time."""
        with self._lock:
            futures = list(self._running)
        self._pool.shutdown(wait=False)
        return not wait(futures, timeout=timeout.total_seconds()).not_done

    def _done(self, future: Future[None]) -> None:
        with self._lock:
            self._running.pop(future, None)
        error = future.exception()
        if error is None:
            return
        # The text of an unexpected exception may carry values; its class is enough to find it.
        message = error.message if isinstance(error, PhasesyncError) else "a defect; the claim ends by itself"
        self._events.emit(ChoreFailed(chore="reconcile", error=type(error).__name__, message=message))
