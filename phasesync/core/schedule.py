"""When a sync runs next. Durations from now; the store adds the database's time."""

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
"""People mend credentials and policies; asking more often than this only fills CloudTrail."""

LONGEST_OBEYED = timedelta(hours=1)
"""
A pause that AWS asks for beyond this is not heeded to its end: a key that should be gone is worth another question, and
what lies further ahead counts as noted by a clock that was ahead.
"""

LARGE_ABOVE = 20
"""A sync with more remote objects than this is large: its runs take long, and leave threads to the others."""


_COMES_BACK = (
    *(None, "ExpiredToken", "ExpiredTokenException"),
    *("RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"),
)
"""
Codes of a rejected credential that nobody may have to do anything about: none where keys could not be found at all (a
host that has just started, a file that is just being written), those of keys that somebody renews, and those of a clock
that is being set (a host that has just started or was asleep).
"""

_OUTSIDE = (DestinationError, OwnershipConflictError, SchemaMismatchError, SettingsError)
"""What stands in the way is AWS's state, the database, or this host's configuration: no edit need announce its end."""


@dataclass(frozen=True, kw_only=True)
class Next:
    """
    When a sync may and will run again.

    Attributes:
        retry_in: no edit or check starts a run earlier; None = at once.
        due_in: a run starts then even if nothing changes; None = none.
    """

    retry_in: timedelta | None
    due_in: timedelta | None


UNREADABLE = Next(retry_in=SLOW_PAUSE, due_in=SLOW_PAUSE)
"""Nothing could be read, so nothing says which edit would mend it: look again now and then."""


def after_success(outcome: Outcome, *, interval: timedelta, coalesce: timedelta, spread: float) -> Next:
    """
    Return what follows a run without an error.

    Args:
        outcome: an applied run lets the edits of the next moment gather into one more write.
        interval: between drift checks.
        coalesce: how long edits gather.
        spread: a random number in [0, 1): checks of many syncs are spread over a tenth of the interval.
    """
    return Next(
        retry_in=coalesce if outcome is Outcome.APPLIED else None,
        due_in=interval * (0.95 + 0.1 * spread),
    )


def after_error(error: PhasesyncError, *, failures: int, interval: timedelta, spread: float) -> Next:
    """
    Return what follows a run that ended with an error.

    Args:
        error: what ended it.
        failures: failed runs in a row, this one included, from 1.
        interval: between drift checks; held syncs are still checked.
        spread: a random number in [0, 1) for full jitter.
    """
    if isinstance(error, CredentialRejectedError) and error.code in _COMES_BACK:
        pause = backoff(failures, spread, longest=SLOW_PAUSE)
        return Next(retry_in=pause, due_in=pause)
    if isinstance(error, (CredentialRejectedError, PermissionDeniedError)):
        return Next(retry_in=SLOW_PAUSE, due_in=SLOW_PAUSE)
    if isinstance(error, (CiphertextError, KeyUnavailableError)):
        return UNREADABLE
    if isinstance(error, UnresolvedReferenceError):
        # An edit or a new name wakes it; looking again costs no call and covers a name that came in the same moment.
        return Next(retry_in=None, due_in=SLOW_PAUSE)
    if isinstance(error, QuotaExceededError) and error.retry_after is not None:
        return Next(retry_in=error.retry_after, due_in=error.retry_after)
    if isinstance(error, PlanHeldError):
        return Next(retry_in=None, due_in=interval)
    outside = isinstance(error, _OUTSIDE) and not isinstance(error, (PayloadTooLargeError, StaleDatabaseError))
    if outside and error.disposition is Disposition.HALT:
        # An edit wakes it at once; what stands in the way outside may go without one.
        return Next(retry_in=None, due_in=SLOW_PAUSE)
    if isinstance(error, InterruptedRunError) or error.disposition is Disposition.HALT:
        return Next(retry_in=None, due_in=None)
    pause = backoff(failures, spread)
    if isinstance(error, ThrottledError) and error.retry_after is not None:
        pause = max(pause, error.retry_after)
    return Next(retry_in=pause, due_in=pause)


def soonest(nexts: Sequence[Next]) -> Next:
    """Return what follows several errors at once: whatever any of them lets happen. Not empty."""
    waits = [one.retry_in for one in nexts]
    dues = [one.due_in for one in nexts if one.due_in is not None]
    return Next(
        retry_in=None if None in waits else min(wait for wait in waits if wait is not None),
        due_in=min(dues, default=None),
    )


def backoff(failures: int, spread: float, *, longest: timedelta = LONGEST_PAUSE) -> timedelta:
    """Return the pause after the n-th failure in a row: exponential with full jitter, from 2 s to `longest`."""
    ceiling = min(longest, FIRST_PAUSE * (1 << min(failures, 16)))
    return max(FIRST_PAUSE, ceiling * spread)


def pause_of_lease(error: PhasesyncError, *, failures: int, spread: float) -> timedelta:
    """
    Return the pause until a lease that could not be taken back is tried again: it always is, whatever went wrong.

    Args:
        error: what went wrong.
        failures: failed attempts in a row, this one included, from 1.
        spread: a random number in [0, 1) for full jitter.
    """
    pause = backoff(failures, spread)
    if isinstance(error, ThrottledError) and error.retry_after is not None:
        pause = max(pause, min(error.retry_after, LONGEST_OBEYED))
    return pause


def threads_for_large(threads: int) -> int:
    """Return how many threads large syncs may use together: three quarters, at least one."""
    return max(1, threads * 3 // 4)
