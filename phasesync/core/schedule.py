"""When a sync runs next, as durations from now; the store adds the database's time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from phasesync.core.run import Outcome
from phasesync.errors import (
    CiphertextError,
    CredentialRejectedError,
    DestinationError,
    Disposition,
    InterruptedRunError,
    KeyUnavailableError,
    OwnershipConflictError,
    PayloadTooLargeError,
    PermissionDeniedError,
    PhasesyncError,
    PlanHeldError,
    QuotaExceededError,
    SchemaMismatchError,
    SettingsError,
    StaleDatabaseError,
    ThrottledError,
    UnresolvedReferenceError,
)

FIRST_PAUSE = timedelta(seconds=2)
LONGEST_PAUSE = timedelta(minutes=10)
SLOW_PAUSE = timedelta(minutes=15)
"""People fix credentials and policies; asking more often than this only fills CloudTrail."""

LONGEST_RETRY_AFTER = timedelta(hours=1)
"""
A longer pause that AWS asks for is cut to this: a key that should be gone is worth another try, and an instant further
in the future counts as recorded by a clock that was ahead.
"""

LARGE_ABOVE = 20
"""A sync with more remote objects than this is large: its runs take long, so threads are reserved for the others."""


_TRANSIENT = (
    *(None, "ExpiredToken", "ExpiredTokenException"),
    *("RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"),
)
"""
Codes of a rejected credential that may work again without an operator. None: no keys were found (a host that has just
started, a file that is just being written). The others: keys that a person or a program renews, and a clock that is
being set (a host that has just started or was asleep).
"""

_OUTSIDE = (DestinationError, OwnershipConflictError, SchemaMismatchError, SettingsError)
"""The cause is AWS's state, the database, or this host's configuration: it may end without an edit."""


@dataclass(frozen=True, kw_only=True)
class NextRun:
    """
    When a sync may and will run again.

    Attributes:
        retry_in: no edit or check starts a run earlier; None means at once.
        due_in: a run starts then even if nothing changes; None if there is no such run.
    """

    retry_in: timedelta | None
    due_in: timedelta | None


UNREADABLE = NextRun(retry_in=SLOW_PAUSE, due_in=SLOW_PAUSE)
"""Nothing could be read, so it is not known which edit would fix it: try again slowly."""


def after_success(outcome: Outcome, *, interval: timedelta, coalesce: timedelta, spread: float) -> NextRun:
    """
    Return what follows a run without an error.

    Args:
        outcome: after an applied run, edits of the next moment are coalesced into one more write.
        interval: between drift checks.
        coalesce: how long edits are coalesced.
        spread: a random number in [0, 1): checks of many syncs are spread over a tenth of the interval.
    """
    return NextRun(
        retry_in=coalesce if outcome is Outcome.APPLIED else None,
        due_in=interval * (0.95 + 0.1 * spread),
    )


def after_error(error: PhasesyncError, *, failures: int, interval: timedelta, spread: float) -> NextRun:
    """
    Return what follows a run that ended with an error.

    Args:
        error: what ended it.
        failures: failed runs in a row, this one included, from 1.
        interval: between drift checks; held syncs are still checked.
        spread: a random number in [0, 1) for full jitter.
    """
    if isinstance(error, CredentialRejectedError) and error.code in _TRANSIENT:
        pause = backoff(failures, spread, longest=SLOW_PAUSE)
        return NextRun(retry_in=pause, due_in=pause)
    if isinstance(error, (CredentialRejectedError, PermissionDeniedError)):
        return NextRun(retry_in=SLOW_PAUSE, due_in=SLOW_PAUSE)
    if isinstance(error, (CiphertextError, KeyUnavailableError)):
        return UNREADABLE
    if isinstance(error, UnresolvedReferenceError):
        # An edit or a new name wakes it. Another try costs no call and covers a name that was added in the same moment.
        return NextRun(retry_in=None, due_in=SLOW_PAUSE)
    if isinstance(error, QuotaExceededError) and error.retry_after is not None:
        return NextRun(retry_in=error.retry_after, due_in=error.retry_after)
    if isinstance(error, PlanHeldError):
        return NextRun(retry_in=None, due_in=interval)
    outside = isinstance(error, _OUTSIDE) and not isinstance(error, (PayloadTooLargeError, StaleDatabaseError))
    if outside and error.disposition is Disposition.HALT:
        # An edit wakes it at once; a cause outside may end without one.
        return NextRun(retry_in=None, due_in=SLOW_PAUSE)
    if isinstance(error, InterruptedRunError) or error.disposition is Disposition.HALT:
        return NextRun(retry_in=None, due_in=None)
    pause = backoff(failures, spread)
    if isinstance(error, ThrottledError) and error.retry_after is not None:
        pause = max(pause, error.retry_after)
    return NextRun(retry_in=pause, due_in=pause)


def soonest(nexts: Sequence[NextRun]) -> NextRun:
    """Return what follows several errors at once: the soonest that any of them allows. There must be at least one."""
    waits = [item.retry_in for item in nexts]
    dues = [item.due_in for item in nexts if item.due_in is not None]
    return NextRun(
        retry_in=None if None in waits else min(wait for wait in waits if wait is not None),
        due_in=min(dues, default=None),
    )


def backoff(failures: int, spread: float, *, longest: timedelta = LONGEST_PAUSE) -> timedelta:
    """Return the pause after the n-th failure in a row: exponential with full jitter, from 2 s to `longest`."""
    ceiling = min(longest, FIRST_PAUSE * (1 << min(failures, 16)))
    return max(FIRST_PAUSE, ceiling * spread)


def pause_of_lease(error: PhasesyncError, *, failures: int, spread: float) -> timedelta:
    """
    Return the pause before the next try to revoke a lease; it is always tried again, whatever went wrong.

    Args:
        error: what went wrong.
        failures: failed attempts in a row, this one included, from 1.
        spread: a random number in [0, 1) for full jitter.
    """
    pause = backoff(failures, spread)
    if isinstance(error, ThrottledError) and error.retry_after is not None:
        pause = max(pause, min(error.retry_after, LONGEST_RETRY_AFTER))
    return pause


def threads_for_large(threads: int) -> int:
    """Return how many threads large syncs may use together: three quarters, at least one."""
    return max(1, threads * 3 // 4)
