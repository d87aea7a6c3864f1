"""When the call that a thread makes now has to be over, whatever still comes in. Knows no call and no socket."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Deadline(threading.local):
    at: float | None = None
    """In seconds of the monotonic clock; None = no limit."""


_deadline = _Deadline()


def deadline() -> float | None:
    """Return when this thread's call ends, in seconds of the monotonic clock; None = nothing ends it."""
    return _deadline.at


def end_call_at(at: float) -> None:
    """Let this thread's call end at `at`, or sooner where a sooner end is set. Inside of `own_deadline`."""
    _deadline.at = at if _deadline.at is None else min(at, _deadline.at)


@contextmanager
def own_deadline(at: float | None = None) -> Iterator[None]:
    """Let what is set within the block end with it; `at` = an end that is known already."""
    former = _deadline.at
    if at is not None:
        end_call_at(at)
    try:
        yield
    finally:
        _deadline.at = former
