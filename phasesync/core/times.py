"""
Durations as the command line writes them: 90s, 15m, 1h, 7d.

Instants that lie ahead of the clock they are read by.

What was noted of the present cannot lie in the future. Where it does, the clock has been set back since, and a wait
that was counted from it would last for as long as the clock was set back. Here such instants are moved to where they
can have been at the latest. Their number and their distances stay: what is counted is counted right.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


def duration_text(duration: timedelta) -> str:
    """Return a duration in the largest unit that divides it, in seconds where none does."""
    seconds = duration.total_seconds()
    for size, unit in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def instant_text(moment: datetime) -> str:
    """Return an instant for people, in UTC: the same in messages and in tables."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


JUMP: Final = timedelta(seconds=2)
"""
An instant that was noted of the present and lies further ahead proves that the clock was set back. Less than that is
what two readings of one clock may differ by, or two machines that keep time by NTP.
"""


def not_ahead(at: datetime, now: datetime) -> datetime:
    """Return an instant of the past as it is, and one that lies ahead as the present."""
    return now if at > now + JUMP else at


def none_ahead(instants: Iterable[datetime], now: datetime) -> tuple[datetime, ...]:
    """
    Return instants, oldest first, of which none lies ahead.

    Those that do are moved together, so that the newest of them is the present. They count as younger than they are,
    never as older.
    """
    ordered = sorted(instants)
    if not ordered or ordered[-1] <= now + JUMP:
        return tuple(ordered)
    by = ordered[-1] - now
    return tuple(sorted(at - by if at > now else at for at in ordered))
