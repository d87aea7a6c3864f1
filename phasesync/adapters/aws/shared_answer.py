"""
One answer that many threads need and one asks for: with a limit on how long any of them waits.

Must not know what is asked for, and must keep no failure for longer than it took to find out.
"""

import copy
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar, cast

from phasesync.errors import CredentialRejectedError, PhasesyncError

T = TypeVar("T")

FOLLOW_S: Final = 5.0
"""
How long a thread waits for an answer that another one asks for. Most chains answer within this time; where one does
not, the threads go back to syncs that do not need it, and only the one that asks waits to the end.
"""
WORTH_KEEPING_S: Final = 2.0
"""A failure that took less is not kept at all: asking again costs as little."""
MAX_ASKING: Final = 3
"""
Questions of one kind that may hang at once. Each ends by itself, except where a file is on a network that is gone;
then no more threads are spent on it.
"""


class _Question(Generic[T]):
    """One attempt, in a thread of its own, so that nobody depends on its end."""

    def __init__(self, ask: Callable[[], T], basis: object, store: "Callable[[_Question[T], T], None]") -> None:
        self.basis = basis
        self.began = time.monotonic()
        self.answer: T | None = None
        self.error: PhasesyncError | None = None
        self.done = threading.Event()
        self._ask = ask
        self._store = store
        threading.Thread(target=self._run, name="aws-identity", daemon=True).start()

    @property
    def age_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def _run(self) -> None:
        try:
            self._store(self, self._ask())
        except PhasesyncError as error:
            self.error = error
        except Exception as exc:  # noqa: BLE001 -- who waits is told, whatever it was
            self.error = CredentialRejectedError(f"the identity could not be found: {type(exc).__name__}")
        finally:
            self.done.set()


class SharedAnswer(Generic[T]):
    """An answer that is asked for by one thread at a time. Safe to share between threads."""

    def __init__(self, *, within_s: float, overdue: Callable[[float], PhasesyncError]) -> None:
        """
        Args:
            within_s: how long the thread that asks waits, and after which another one may ask again.
            overdue: returns the error for an answer that has not come within so many seconds.
        """
        self._within_s = within_s
        self._overdue = overdue
        self._lock = threading.Lock()  # guards what is below; never held while anything is asked or waited for
        self._answer: T | None = None
        self._question: _Question[T] | None = None
        self._hanging: list[_Question[T]] = []
        self._failure: tuple[object, PhasesyncError] | None = None
        """What failed, on which basis."""
        self._failure_until = 0.0

    def last(self) -> T | None:
        """Return the newest answer, None = there is none, or it was dropped."""
        with self._lock:
            return self._answer

    def drop(self, answer: T | None = None) -> None:
        """Forget the answer where it is still this one; None = whatever it is, what failed and what is asked now."""
        with self._lock:
            if answer is None or self._answer is answer:
                self._answer = self._failure = None
            if answer is None:
                self._abandon()

    def get(
        self,
        ask: Callable[[], T],
        *,
        usable: Callable[[T], bool],
        basis: object = None,
        patience_s: float | None = None,
    ) -> T:
        """
        Return the answer that is there, or that another thread asks for now, or ask.

        Args:
            ask: asks; run in a thread of its own.
            usable: whether the answer that is there still is one. Called under a lock: it must not wait.
            basis: what the answer depends on: a question that was asked, or failed, on another one counts no more.
            patience_s: how long to wait for it; None = to the end for the thread that asks, `FOLLOW_S` for the others.

        Raises:
            PhasesyncError: what `ask` raised, or that the answer does not come.
        """
        with self._lock:
            if self._answer is not None and usable(self._answer):
                return self._answer
            question, leads = self._current(basis), False
            if question is None:
                failed_at, failure = self._failure or (None, None)
                if failure is not None and failed_at == basis and time.monotonic() < self._failure_until:
                    raise copy.copy(failure)
                if len(self._hanging) >= MAX_ASKING:
                    raise self._overdue(self._hanging[0].age_s)
                question, leads = _Question(ask, basis, self._take), True
                self._question = question
        if patience_s is None:
            patience_s = self._within_s if leads else FOLLOW_S
        if not question.done.wait(max(0.0, patience_s - question.age_s)):
            raise self._give_up(question)
        if question.error is not None:
            self._fail(question, question.error)
            raise copy.copy(question.error)  # A copy for each: who catches it adds to its message.
        return cast("T", question.answer)

    def _current(self, basis: object) -> _Question[T] | None:
        """Return the question that is under way, None = there is none that is worth waiting for."""
        self._hanging = [one for one in self._hanging if not one.done.is_set()]
        question = self._question
        if question is None or question.done.is_set():
            return None
        if question.age_s >= self._within_s or question.basis != basis:
            self._abandon()
            return None
        return question

    def _abandon(self) -> None:
        """Expect nothing more of the question that is under way: it ends by itself."""
        if self._question is not None and not self._question.done.is_set():
            self._hanging.append(self._question)
        self._question = None

    def _take(self, question: _Question[T], answer: T) -> None:
        """Keep an answer, unless its question was given up or another was asked since."""
        with self._lock:
            question.answer = answer
            if self._question is question:
                self._answer, self._failure = answer, None

    def _fail(self, question: _Question[T], error: PhasesyncError) -> None:
        """Let a slow failure stand for as long as it took, so that it takes half of one thread at most."""
        with self._lock:
            slow = question.age_s >= WORTH_KEEPING_S
            known = self._failure is not None and self._failure[1] is error
            if slow and self._question is question and not known:
                self._failure, self._failure_until = (question.basis, error), time.monotonic() + question.age_s

    def _give_up(self, question: _Question[T]) -> PhasesyncError:
        error = self._overdue(question.age_s)
        if question.age_s >= self._within_s:
            self._fail(question, error)
        return error
