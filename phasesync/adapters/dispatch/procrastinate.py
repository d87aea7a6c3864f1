"""
Distributes due syncs among the daemons by Procrastinate, on the same PostgreSQL; runs in threads what this one gets.

Procrastinate only distributes: its locks and its retries are not used. A daemon that takes an entry out of the queue
claims the sync, which excludes all others, and runs it only if it is still due. So an entry may be lost or be there
twice, and a daemon that dies or freezes with it keeps nobody from the sync. What is due is in the database's own rows,
and the next poll puts it into the queue again.

Procrastinate's worker is asyncio: it has a thread of its own with its event loop. Claims and runs are in threads.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, TypeVar

import psycopg
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException, ProcrastinateException
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from phasesync.adapters.dispatch.threads import SyncThreadDispatcher
from phasesync.core.chores import Chore
from phasesync.core.events import ChoreFailed
from phasesync.core.sync_claim import Claim, DueSync
from phasesync.errors import PhasesyncError, SchemaMismatchError, StoreUnavailableError
from phasesync.ports.runtime import EventSink
from phasesync.store.queue_schema import HIGHEST_PRIORITY, LARGE, SMALL

T = TypeVar("T")

RECONCILE: Final = "phasesync.reconcile"
"""What Procrastinate calls our work; in every entry of the queue."""

_WAITING_PER_THREAD: Final = 4
"""Entries in the queue for each thread of all daemons: enough until the next poll, and little to wait behind."""
_OTHERS_AFTER_S: Final = 0.3
"""A sync that another daemon should have put into the queue is put there by this one after so long."""
_FETCH_EVERY_S: Final = 0.5
"""How often to look into the queue where no notification arrives, such as behind PgBouncer in transaction mode."""
_RETRY_S: Final = 1.0
_PATIENCE_S: Final = 10.0
"""For a connection, and for an answer of the queue."""
_CONNECTIONS: Final = 4
"""Beside the one that listens: entries are fetched one at a time, and each statement takes about a millisecond."""
_LEAVE_WITHIN_S: Final = 1.0
"""How long a worker waits for its entries to be removed from the queue before it ends."""
_NOT_FOUND: Final = "P0001"
"""SQLSTATE of RAISE, with which Procrastinate says that there is no such entry."""
_UNDEFINED: Final = ("42P01", "42704", "42883")
"""SQLSTATEs: undefined table, type, function."""

_EXPECTED: Final = (ProcrastinateException, psycopg.Error, PoolTimeout, PhasesyncError)
"""What happens where a database cannot be reached, or where other daemons were quicker."""

Run = Future[None]
SetUp = Callable[[Any], Coroutine[Any, Any, None]]


class ProcrastinateDispatcher(SyncThreadDispatcher):
    """Puts due syncs into the queue that all daemons share, and reconciles in threads what it takes out of it."""

    def __init__(
        self,
        work: Callable[[Claim], None],
        *,
        threads: int,
        events: EventSink,
        claim: Callable[[Sequence[str]], Sequence[Claim]],
        release: Callable[[Claim], None],
        parameters: Mapping[str, Any],
        set_up: SetUp,
        ttl: timedelta,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            work, threads, events, ended: as of `SyncThreadDispatcher`.
            claim: claims those of some syncs, by their ids, that are due and free.
            release: gives back a claim that is not run; never raises.
            parameters: of a connection of psycopg.
            set_up: called with each new asyncio connection; has each statement commit by itself.
            ttl: entries of a daemon without a sign of life for so long are removed.
        """
        super().__init__(work, threads=threads, events=events, ended=ended)
        self._claim = claim
        self._release = release
        self._parameters = dict(parameters)
        self._set_up = set_up
        self._ttl = ttl
        self._position, self._daemons = 0, 1
        self._seen: dict[str, float] = {}
        """Sync that is due and not in the queue -> when a poll first saw it so."""
        self._claimer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="claim")
        self._may_fetch: Callable[[], bool] = lambda: False
        self._app = App(connector=PsycopgConnector())
        self._entries = _Entries(self._app.connector, wanted=self._wanted, fetched=self._fetched)
        self._app.job_manager = self._entries
        self._app.task(name=RECONCILE, pass_context=True)(self._reconcile)
        self._failure: PhasesyncError | None = None
        """Why the queue cannot be used now."""
        # The rest is used in the thread of the event loop only.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_is_set = threading.Event()
        self._thread: threading.Thread | None = None
        self._worker: asyncio.Task[None] | None = None
        self._closing = False
        self._unclaimed: dict[str, asyncio.Future[Run | None]] = {}
        """Sync that was taken out of the queue -> its run, once it is claimed; None if it is not due any more."""
        self._claiming: asyncio.Task[None] | None = None
        self._fetched_small = self._fetched_large = 0
        """Entries that were taken out of the queue and have no thread yet."""

    # --- the queue

    @property
    def most(self) -> int:
        """How many entries of small syncs may wait in the queue, and how many of large ones."""
        return self._daemons * self._threads * _WAITING_PER_THREAD

    def share(self, position: int, daemons: int) -> None:
        """See `SyncQueue`."""
        self._position, self._daemons = position, daemons

    def put(self, due: Sequence[DueSync]) -> None:
        """See `SyncQueue`."""
        if self._closing:
            return
        if (failure := self._failure) is not None:
            raise failure
        if ours := self._ours(due):
            self._wait_for(self._defer(ours))

    def clear(self) -> int:
        """See `SyncQueue`."""
        return self._wait_for(self._remove_stalled())

    # --- its life

    def start(self, may_fetch: Callable[[], bool]) -> None:
        """Begin to take syncs out of the queue, whenever `may_fetch` returns True."""
        self._may_fetch = may_fetch
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="queue", daemon=True)
        self._thread.start()

    def drain(self, timeout: timedelta) -> bool:
        """Take no more out of the queue, and wait for the runs; return whether all of them ended in time."""
        latest = time.monotonic() + timeout.total_seconds()
        self._closing = True
        ended = super().drain(timeout)
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            with suppress(RuntimeError):  # It has ended already.
                loop.call_soon_threadsafe(self._stop_worker)
            # What it does not do in time, such as without a database, other daemons do after a while.
            thread.join(min(2 * _LEAVE_WITHIN_S, max(0.0, latest - time.monotonic())))
        self._claimer.shutdown(wait=False)
        return ended

    async def _live(self) -> None:
        """Run workers, one after the other, until the end: a worker ends whenever the database cannot be reached."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._lost)
        pool = AsyncConnectionPool(
            kwargs=self._parameters,
            configure=self._set_up,
            min_size=1,
            max_size=_CONNECTIONS,
            timeout=_PATIENCE_S,
            open=False,
        )
        await pool.open()
        try:
            await self._app.open_async(pool)
            self._loop = loop
            self._loop_is_set.set()
            while not self._closing:
                await self._work_once()
                if not self._closing:
                    # Not before each statement, which would cost a round trip: connections are seldom lost.
                    with suppress(*_EXPECTED):
                        await pool.check()
                    await asyncio.sleep(_RETRY_S)
        finally:
            await pool.close(timeout=_LEAVE_WITHIN_S)

    async def _work_once(self) -> None:
        self._fetched_small = self._fetched_large = 0
        interval = self._ttl.total_seconds() / 3
        worker = self._app.run_worker_async(
            queues=(SMALL, LARGE),
            name="phasesync",
            concurrency=self._threads,
            fetch_job_polling_interval=_FETCH_EVERY_S,
            shutdown_graceful_timeout=_LEAVE_WITHIN_S,
            delete_jobs="always",
            install_signal_handlers=False,
            update_heartbeat_interval=interval,
            stalled_worker_timeout=self._ttl.total_seconds(),
        )
        self._worker = asyncio.create_task(worker)
        await asyncio.wait({self._worker})
        if not self._closing:
            self._fail(None if self._worker.cancelled() else self._worker.exception())

    def _stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.cancel()

    def _fail(self, error: BaseException | None) -> None:
        """Note why there is no worker just now: polls fail with it until a worker fetches again."""
        self._failure = _translate(error)
        if error is not None and not isinstance(error, _EXPECTED):
            self._report(error)

    def _report(self, error: BaseException) -> None:
        # The text of an unexpected exception may carry values; its class is enough to find it.
        message = error.message if isinstance(error, PhasesyncError) else "a defect; what is due stays due"
        self._events.emit(ChoreFailed(chore=Chore.QUEUE, error=type(error).__name__, message=message))

    def _lost(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take an exception that nothing awaits, such as of an entry that other daemons have removed meanwhile."""
        error = context.get("exception")
        if error is not None and not isinstance(error, _EXPECTED):
            self._report(error)

    # --- putting into the queue

    def _ours(self, due: Sequence[DueSync]) -> list[DueSync]:
        """Return what this daemon puts into the queue: its share, and what others have left for some time."""
        now = time.monotonic()
        self._seen = {sync.sync_id: self._seen.get(sync.sync_id, now) for sync in due}
        return [
            sync
            for sync in due
            if int(sync.sync_id[-8:], 16) % self._daemons == self._position
            or now - self._seen[sync.sync_id] >= _OTHERS_AFTER_S
        ]

    async def _defer(self, due: Sequence[DueSync]) -> None:
        entries = [
            Job(
                queue=LARGE if sync.large else SMALL,
                priority=HIGHEST_PRIORITY - sync.urgency,
                lock=None,
                queueing_lock=sync.sync_id,
                task_name=RECONCILE,
                task_kwargs={"sync_id": sync.sync_id},
            )
            for sync in due
        ]
        try:
            await self._entries.batch_defer_jobs_async(entries)
        except AlreadyEnqueued:
            # Another daemon was quicker with one of them, and none was stored.
            for entry in entries:
                with suppress(AlreadyEnqueued):
                    await self._entries.defer_job_async(entry)

    async def _remove_stalled(self) -> int:
        await self._entries.finish_rest()
        count, ttl_s = 0, self._ttl.total_seconds()
        for queue in (SMALL, LARGE):
            for entry in await self._entries.get_stalled_jobs(queue=queue, seconds_since_heartbeat=ttl_s):
                if entry.id is None:
                    continue
                with suppress(ConnectorException):  # Another daemon has removed it.
                    await self._entries.finish_job_by_id_async(entry.id, Status.FAILED, delete_job=True)
                    count += 1
        await self._entries.prune_stalled_workers(ttl_s)
        return count

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work in the event loop, for another thread. StoreUnavailableError, SchemaMismatchError."""
        self._loop_is_set.wait(_PATIENCE_S)
        try:
            if self._loop is None:
                raise StoreUnavailableError("the queue of due syncs has not started yet")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except (RuntimeError, StoreUnavailableError) as error:
            work.close()
            raise _translate(error) from None
        try:
            return future.result(_PATIENCE_S)
        except (TimeoutError, CancelledError):
            future.cancel()
            raise StoreUnavailableError("the queue of due syncs did not answer in time") from None
        except _EXPECTED as error:
            raise _translate(error) from None

    # --- taking out of the queue

    def _wanted(self) -> Sequence[str]:
        """Return the queues from which an entry can begin at once."""
        if self._closing or not self._may_fetch():
            return ()
        if self.free <= self._fetched_small + self._fetched_large:
            return ()
        return (SMALL, LARGE) if self.free_for_large > self._fetched_large else (SMALL,)

    def _fetched(self, entry: Job | None) -> None:
        self._failure = None  # The worker is registered, and asks.
        if entry is not None and entry.task_name == RECONCILE:
            self._count(entry, 1)

    def _count(self, entry: Job, change: int) -> None:
        if entry.queue == LARGE:
            self._fetched_large += change
        else:
            self._fetched_small += change

    async def _reconcile(self, context: JobContext, *, sync_id: str) -> None:
        """Claim a sync and run it in a thread; return when the run has ended. Raises nothing."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end(_run: object) -> None:
            with suppress(RuntimeError):  # The loop has ended; a run goes on without it.
                loop.call_soon_threadsafe(ended.set)

        try:
            begun = self._unclaimed.setdefault(sync_id, loop.create_future())
            if self._claiming is None:
                self._claiming = loop.create_task(self._claim_all())
            run = await asyncio.shield(begun)
        finally:
            self._count(context.job, -1)
        if run is not None:
            run.add_done_callback(end)
            await ended.wait()

    async def _claim_all(self) -> None:
        """Claim what was taken out of the queue, together what came meanwhile: a claim waits for the database."""
        try:
            while self._unclaimed:
                begun, self._unclaimed = self._unclaimed, {}
                loop = asyncio.get_running_loop()
                try:
                    runs = await loop.run_in_executor(self._claimer, self._claim_and_begin, list(begun))
                except RuntimeError:  # It takes no more: this daemon ends.
                    runs = {}
                for sync_id, future in begun.items():
                    future.set_result(runs.get(sync_id))
        finally:
            self._claiming = None

    def _claim_and_begin(self, sync_ids: Sequence[str]) -> dict[str, Run]:
        """Claim syncs and have threads run them; return the runs of those that were due."""
        runs: dict[str, Run] = {}
        try:
            for claim in self._claim(sync_ids):
                if (run := self.begin(claim)) is None:
                    self._release(claim)
                else:
                    runs[claim.sync_id] = run
        except StoreUnavailableError:
            pass  # Polls report it.
        except Exception as error:  # noqa: BLE001 -- nothing else would report it
            self._report(error)
        return runs


class _Entries(JobManager):
    """The entries of the queue, of which only those are fetched that can begin at once."""

    def __init__(
        self, connector: Any, *, wanted: Callable[[], Sequence[str]], fetched: Callable[[Job | None], None]
    ) -> None:
        super().__init__(connector)
        self._wanted = wanted
        self._fetched = fetched
        self._unfinished: set[int] = set()
        """Entries with an end that could not be stored; their daemon is alive, so that nobody else removes them."""

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """Remove an entry from the queue; if that fails, `finish_rest` does it."""
        try:
            await super().finish_job(job, status, delete_job)
        except ConnectorException:
            if job.id is not None:
                self._unfinished.add(job.id)

    async def finish_rest(self) -> None:
        """Remove the entries that could not be removed when they ended."""
        for entry_id in list(self._unfinished):
            try:
                await self.finish_job_by_id_async(entry_id, Status.FAILED, delete_job=True)
            except ConnectorException as error:
                if getattr(error.__cause__, "sqlstate", None) != _NOT_FOUND:
                    raise
            self._unfinished.discard(entry_id)

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Take the most urgent entry out of the queues; None if there is none, or if none is wanted."""
        wanted = self._wanted()
        entry = await super().fetch_job(list(wanted), worker_id) if wanted else None
        self._fetched(entry)
        return entry


def _translate(error: BaseException | None) -> PhasesyncError:
    """Return our error; messages of drivers are not repeated."""
    if isinstance(error, PhasesyncError):
        return error
    cause = error.__cause__ if isinstance(error, ConnectorException) else error
    code = getattr(cause, "sqlstate", None)
    if code in _UNDEFINED:
        return SchemaMismatchError("the tables of the queue are not those of the installed procrastinate", code=code)
    return StoreUnavailableError("the queue of due syncs cannot be used now", code=code)
