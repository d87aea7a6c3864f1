"""
A cached result that many threads need and one thread at a time fetches, with a limit on how long each of them waits.

Must not know what is fetched, and must not keep a failure for longer than the fetch took.
"""

import copy
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar, cast

from phasesync.errors import CredentialRejectedError, PhasesyncError

T = TypeVar("T")

FOLLOWER_WAIT_S: Final = 5.0
"""
How long a thread waits for a result that another thread fetches. Most chains answer within this time. If one does not,
the threads go on to syncs that do not need it, and only the thread that fetches waits to the end.
"""
WORTH_KEEPING_S: Final = 2.0
"""A failure that took less time is not kept at all: another attempt costs as little."""
MAX_HANGING: Final = 3
"""
Fetches of one kind that may hang at once. Each ends by itself, unless it reads a file on a network that is gone; then
no more threads are spent on it.
"""


class _Fetch(Generic[T]):
    """One attempt, in a thread of its own, so that no other thread depends on its end."""

    def __init__(self, fetch: Callable[[], T], basis: object, store: "Callable[[_Fetch[T], T], None]") -> None:
        self.basis = basis
        self.began = time.monotonic()
        self.result: T | None = None
        self.error: PhasesyncError | None = None
        self.done = threading.Event()
        self._fetch = fetch
        self._store = store
        threading.Thread(target=self._run, name="aws-identity", daemon=True).start()

    @property
    def age_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def _run(self) -> None:
        try:
            self._store(self, self._fetch())
        except PhasesyncError as error:
            self.error = error
        except Exception as exc:  # noqa: BLE001 -- the threads that wait get an error, whatever it was
            self.error = CredentialRejectedError(f"the identity could not be found: {type(exc).__name__}")
        finally:
            self.done.set()


class SingleFlight(Generic[T]):
    """A cached result that one thread at a time fetches. Safe to share between threads."""

    def __init__(self, *, within_s: float, overdue: Callable[[float], PhasesyncError]) -> None:
        """
        Args:
            within_s: how long the thread that fetches waits, and after which another one may fetch again.
            overdue: returns the error for a result that has not arrived after so many seconds.
        """
        self._within_s = within_s
        self._overdue = overdue
        self._lock = threading.Lock()  # guards what is below; never held during a fetch or a wait
        self._result: T | None = None
        self._fetch: _Fetch[T] | None = None
        self._hanging: list[_Fetch[T]] = []
        self._failure: tuple[object, PhasesyncError] | None = None
        """The basis of the fetch that failed, and its error."""
        self._failure_until = 0.0

    def last(self) -> T | None:
        """Return the newest result, or None if there is none or it was dropped."""
        with self._lock:
            return self._result

    def drop(self, result: T | None = None) -> None:
        """Forget this result, unless it was replaced; None means any result, any failure and the fetch under way."""
        with self._lock:
            if result is None or self._result is result:
                self._result = self._failure = None
            if result is None:
                self._abandon()

    def get(
        self,
        fetch: Callable[[], T],
        *,
        usable: Callable[[T], bool],
        basis: object = None,
        wait_s: float | None = None,
    ) -> T:
        """
        Return the cached result, or wait for the fetch under way, or fetch.

        Args:
            fetch: runs in a thread of its own.
            usable: whether the cached result may still be used. Called under a lock: it must not wait.
            basis: what the result depends on: a fetch under way and a failure count for the same basis only.
            wait_s: how long to wait; None: the thread that fetches waits to the end, the others `FOLLOWER_WAIT_S`.

        Raises:
            PhasesyncError: what `fetch` raised, or that there is no result in time.
        """
        with self._lock:
            if self._result is not None and usable(self._result):
                return self._result
            current, leads = self._current(basis), False
            if current is None:
                failed_basis, failure = self._failure or (None, None)
                if failure is not None and failed_basis == basis and time.monotonic() < self._failure_until:
                    raise copy.copy(failure)
                if len(self._hanging) >= MAX_HANGING:
                    raise self._overdue(self._hanging[0].age_s)
                current, leads = _Fetch(fetch, basis, self._store), True
                self._fetch = current
        if wait_s is None:
            wait_s = self._within_s if leads else FOLLOWER_WAIT_S
        if not current.done.wait(max(0.0, wait_s - current.age_s)):
            raise self._give_up(current)
        if current.error is not None:
            self._fail(current, current.error)
            raise copy.copy(current.error)  # A copy for each thread: whoever catches it may add to its message.
        return cast("T", current.result)

    def _current(self, basis: object) -> _Fetch[T] | None:
        """Return the fetch under way, or None if no fetch is worth waiting for."""
        self._hanging = [fetch for fetch in self._hanging if not fetch.done.is_set()]
        current = self._fetch
        if current is None or current.done.is_set():
            return None
        if current.age_s >= self._within_s or current.basis != basis:
            self._abandon()
            return None
        return current

    def _abandon(self) -> None:
        """Wait no more for the fetch under way: it ends by itself."""
        if self._fetch is not None and not self._fetch.done.is_set():
            self._hanging.append(self._fetch)
        self._fetch = None

    def _store(self, fetch: _Fetch[T], result: T) -> None:
        """Keep a result, unless its fetch was abandoned."""
        with self._lock:
            fetch.result = result
            if self._fetch is fetch:
                self._result, self._failure = result, None

    def _fail(self, fetch: _Fetch[T], error: PhasesyncError) -> None:
        """Keep a slow failure for as long as it took, so that fetching takes half of one thread at most."""
        with self._lock:
            slow = fetch.age_s >= WORTH_KEEPING_S
            known = self._failure is not None and self._failure[1] is error
            if slow and self._fetch is fetch and not known:
                self._failure, self._failure_until = (fetch.basis, error), time.monotonic() + fetch.age_s

    def _give_up(self, fetch: _Fetch[T]) -> PhasesyncError:
        error = self._overdue(fetch.age_s)
        if fetch.age_s >= self._within_s:
            self._fail(fetch, error)
        return error
