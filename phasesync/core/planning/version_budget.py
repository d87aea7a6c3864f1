"""
The version budget of one remote object.

AWS keeps 100 versions of a secret and prunes no version that is younger than 24 hours (User Guide, secret versions). It
refuses writes beyond that. A bucket of 30 writes, refilled by one every 24 minutes, allows at most 90 versions in any
24 hours. The remaining 10 are for runs that a person asks for.

The state is the list of writes within the last 24 hours; the level of the bucket follows from it. So a clock that is
set back changes no count (`times.py` moves instants of the future).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from phasesync.core.times import clamp_all

DAY: Final = timedelta(hours=24)
BURST: Final = 30
REFILL: Final = timedelta(minutes=24)
MANUAL_EXTRA: Final = 10


def full_at(versions_at: Iterable[datetime], now: datetime) -> datetime:
    """
    Return when the bucket is full again; `now` or earlier = it is full.

    Args:
        versions_at: when versions were written within the last 24 h; older instants do no harm.
        now: the time.
    """
    until = now - DAY
    for at in clamp_all(versions_at, now):
        if now - at <= DAY:
            until = max(until, at) + REFILL
    return until


def writable_at(versions_at: Iterable[datetime], now: datetime, *, manual: bool = False) -> datetime:
    """
    Return when the next version may be written; `now` or earlier = at once.

    Args:
        versions_at: when versions were written within the last 24 h.
        now: the time.
        manual: a person asked for this run.
    """
    allowed = BURST + (MANUAL_EXTRA if manual else 0)
    # The bucket has room for one more write as soon as it is at most `allowed - 1` writes away from being full.
    return full_at(versions_at, now) - (allowed - 1) * REFILL


def writes_left(versions_at: Iterable[datetime], now: datetime) -> int:
    """Return how many versions scheduled runs may write at once; never below 0."""
    return writes_left_of(full_at(versions_at, now), now)


def writes_left_of(full: datetime, now: datetime) -> int:
    """Return how many versions scheduled runs may write at once of an object whose bucket is full again at `full`."""
    used = -((now - full) // REFILL)  # rounded up
    return min(BURST, max(0, BURST - used))


def within_a_day(instants: Iterable[datetime], now: datetime) -> tuple[datetime, ...]:
    """Return the instants of the last 24 hours, oldest first; instants of the future are moved to the present."""
    return tuple(at for at in clamp_all(instants, now) if now - at < DAY)
