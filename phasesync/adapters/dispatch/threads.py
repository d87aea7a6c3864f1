"""Dispatchers that run claimed work in threads of this process, for SQLite and PostgreSQL alike."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Final, Generic, TypeVar

from phasesync.core.chores import Chore, Load
from phasesync.core.events import ChoreFailed
from phasesync.core.schedule import LARGE_ABOVE, threads_for_large
from phasesync.core.sync_claim import Claim
from phasesync.errors import PhasesyncError
from phasesync.ports.runtime import EventSink

Work = TypeVar("Work")

_FAILED_LATELY: Final = timedelta(minutes=2)
"""Work without a stored result comes again when its claim has ended: long before that."""


def start_threads(pool: ThreadPoolExecutor, count: int) -> None:
    """
    Start all threads of a new pool now.

    Where memory or the number of threads is limited, Python may wait for ever for a thread that began and died, with
    locks that every pool of the process needs (`concurrent.futures.thread`). So none is started later, under load.
    """
    together = threading.Barrier(count + 1)
    for _ in range(count):
        pool.submit(together.wait)
    together.wait()


class ThreadDispatcher(Generic[Work]):
    """Does each piece of work in a thread of a fixed pool. Threads are enough: AWS calls wait for the network."""

    def __init__(
        self,
        work: Callable[[Work], None],
        *,
        threads: int,
        events: EventSink,
        chore: Chore,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            work: does one piece of work.
            threads: how many at once.
            events: takes failures that the work itself could not store.
            chore: names the work in those events, and the threads.
            ended: called at the end of each piece of work, when a thread is free again.
        """
        self._ended = ended
        self._work = work
        self._events = events
        self._chore = chore
        self._threads = threads
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=chore)
        start_threads(self._pool, threads)
        self._lock = threading.Lock()
        self._running: dict[Future[None], Work] = {}
        self._progress: dict[int, float] = {}
        """Busy thread -> when its work began or last made progress."""
        self._changed = time.monotonic()
        """When a piece of work last began or ended."""
        self._draining = False
        self._failures: tuple[float, float] | None = None
        """When work first and last ended with an error; None if the last work ended without one."""

    @property
    def free(self) -> int:
        """How much more work can be started at once."""
        with self._lock:
            return self._threads - len(self._running)

    def submit(self, work: Work) -> bool:
        """Do work as soon as a thread is free; return False, and do nothing, once the dispatcher drains."""
        return self.begin(work) is not None

    def begin(self, work: Work) -> Future[None] | None:
        """Do as `submit` does; return the end of the work instead of True, and None instead of False."""
        with self._lock:
            if self._draining:
                return None
            future = self._pool.submit(self._do, work)
            self._running[future] = work
        future.add_done_callback(self._done)
        return future

    def running(self) -> Sequence[Work]:
        """Return the work under way."""
        with self._lock:
            return list(self._running.values())

    def progressed(self) -> None:
        """Note that the work of the calling thread makes progress. Does nothing in a thread of another pool."""
        thread = threading.get_ident()
        with self._lock:
            if thread in self._progress:
                self._progress[thread] = time.monotonic()

    def load(self) -> Load:
        """Return how busy the threads are."""
        now = time.monotonic()
        with self._lock:
            marks, changed, failures = list(self._progress.values()), self._changed, self._failures
        first, last = failures or (now, now)
        # Another daemon may have done meanwhile what failed here: only repeated failures count.
        failing_for = last - first if now - last < _FAILED_LATELY.total_seconds() else 0
        full_for = now - changed if len(marks) >= self._threads else 0
        return Load(
            threads=self._threads,
            quiet=tuple(timedelta(seconds=now - mark) for mark in marks),
            full_for=timedelta(seconds=full_for),
            failing_for=timedelta(seconds=failing_for),
        )

    def drain(self, timeout: timedelta) -> bool:
        """Take no more work, and wait; return whether all work ended in time."""
        with self._lock:
            self._draining = True
            futures = list(self._running)
        self._pool.shutdown(wait=False)
        return not wait(futures, timeout=timeout.total_seconds()).not_done

    def _do(self, work: Work) -> None:
        thread = threading.get_ident()
        with self._lock:
            self._progress[thread] = self._changed = time.monotonic()
        succeeded = False
        try:
            self._work(work)
            succeeded = True
        finally:
            with self._lock:
                del self._progress[thread]
                self._changed = now = time.monotonic()
                self._failures = None if succeeded else (self._failures[0] if self._failures else now, now)

    def _done(self, future: Future[None]) -> None:
        with self._lock:
            self._running.pop(future, None)
        self._ended()
        error = future.exception()
        if error is None:
            return
        # The text of an unexpected exception may carry values; its class is enough to find it.
        message = error.message if isinstance(error, PhasesyncError) else "a defect; the claim ends by itself"
        self._events.emit(ChoreFailed(chore=self._chore, error=type(error).__name__, message=message))


class SyncThreadDispatcher(ThreadDispatcher[Claim]):
    """Reconciles claimed syncs."""

    def __init__(
        self,
        work: Callable[[Claim], None],
        *,
        threads: int,
        events: EventSink,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            work: reconciles one claimed sync.
            threads: how many at once.
            events: takes failures that could not be stored as a run.
            ended: called at the end of each run.
        """
        super().__init__(work, threads=threads, events=events, chore=Chore.RECONCILE, ended=ended)

    @property
    def free_for_large(self) -> int:
        """How many free threads large syncs may take: together they leave some threads to the small ones."""
        with self._lock:
            large = sum(claim.objects > LARGE_ABOVE for claim in self._running.values())
        return threads_for_large(self._threads) - large
