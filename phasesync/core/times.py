"""
Durations as text, and instants that a clock which was set back left in the future.

An instant that was recorded as the present cannot lie in the future. If it does, the clock has been set back since, and
a wait that starts from it would last too long by as much. Such instants are moved to the latest time that they can have
been. Their number and their distances stay, so that counts remain right.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from phasesync.errors import InvalidInputError

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_WORDS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LONGEST: Final = timedelta(days=36_500)
"""So that a duration before or after now is always an instant."""


def is_duration(text: str) -> bool:
    """Return whether a text has the form of a duration."""
    return _DURATION.fullmatch(text) is not None


def parse_duration(text: str) -> timedelta:
    """Read `90s`, `15m`, `1h`, `7d`. InvalidInputError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InvalidInputError(f"{text!r} is not a duration, such as 90s, 15m, 1h or 7d")
    duration = timedelta(**{_WORDS[match[2]]: int(match[1])})
    if duration > LONGEST:
        raise InvalidInputError(f"{text!r} is longer than a hundred years")
    return duration


def duration_text(duration: timedelta) -> str:
    """Return a duration as the command line writes it: 90s, 15m, 1h, 7d. The largest unit that divides it is taken."""
    seconds = duration.total_seconds()
    for size, unit in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds:g}s"


def instant_text(moment: datetime) -> str:
    """Return an instant for people, in UTC: the same in messages and in tables."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


JUMP: Final = timedelta(seconds=2)
"""
A recorded instant that lies further ahead than this proves that the clock was set back. Two readings of one clock, or
two machines that keep time by NTP, may differ by less.
"""


def clamp(at: datetime, now: datetime) -> datetime:
    """Return an instant of the past as it is, and an instant of the future as the present."""
    return now if at > now + JUMP else at


def clamp_all(instants: Iterable[datetime], now: datetime) -> tuple[datetime, ...]:
    """
    Return instants, oldest first, none of them in the future.

    Instants of the future are moved together, so that the newest of them is the present. They count as younger than
    they are, never as older.
    """
    ordered = sorted(instants)
    if not ordered or ordered[-1] <= now + JUMP:
        return tuple(ordered)
    by = ordered[-1] - now
    return tuple(sorted(at - by if at > now else at for at in ordered))
