"""
The version budget of one remote object.

AWS keeps 100 versions of a secret and prunes none that is younger than 24 hours (User Guide, secret versions); what is
written beyond that is refused. A bucket of 30 writes, refilled by one every 24 minutes, lets at most 90 versions come
into being in any 24 hours; the 10 that are left are for runs that a person asks for.

The whole state is one instant: when the bucket will be full again. A clock that was ahead and is set back must not
block an object until then: an instant further away than that of an empty bucket is taken for that of an empty one.
"""

from datetime import datetime, timedelta
from typing import Final

DAY: Final = timedelta(hours=24)
BURST: Final = 30
REFILL: Final = timedelta(minutes=24)
MANUAL_EXTRA: Final = 10
EMPTY_FOR: Final = (BURST + MANUAL_EXTRA) * REFILL
"""How long an empty bucket takes to be full again."""


def bounded(budget_until: datetime | None, now: datetime) -> datetime | None:
    """Return when the bucket is full again, as far as that can be so: an empty one is full after `EMPTY_FOR`."""
    return None if budget_until is None else min(budget_until, now + EMPTY_FOR)


def writable_at(budget_until: datetime | None, now: datetime, *, manual: bool = False) -> datetime:
    """
    Return when the next version may be written; `now` or earlier = at once.

    Args:
        budget_until: when the bucket is full again, None = it is full; to be noted anew as `bounded` returns it.
        now: the time.
        manual: a person asked for this run.
    """
    budget_until = bounded(budget_until, now)
    if budget_until is None:
        return now
    allowed = BURST + (MANUAL_EXTRA if manual else 0)
    # The bucket has room for one more write as soon as it is at most `allowed - 1` writes away from being full.
    return budget_until - (allowed - 1) * REFILL


def spend(budget_until: datetime | None, now: datetime) -> datetime:
    """Return when the bucket is full again after one more write at `now`."""
    return max(bounded(budget_until, now) or now, now) + REFILL


def left(budget_until: datetime | None, now: datetime) -> int:
    """Return how many versions may be written at once by runs that nobody asked for; never below 0."""
    if budget_until is None or budget_until <= now:
        return BURST
    used = -((now - budget_until) // REFILL)  # rounded up
    return max(0, BURST - used)


def within_a_day(instants: tuple[datetime, ...], now: datetime) -> tuple[datetime, ...]:
    """
    Return the instants of the last 24 hours, in the order they came in.

    One that lies more than a day ahead comes of a clock that has been set back since, and says nothing.
    """
    return tuple(at for at in instants if abs(now - at) < DAY)
