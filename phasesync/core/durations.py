"""Durations as the command line writes them: 90s, 15m, 1h, 7d."""

from datetime import timedelta

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


def duration_text(duration: timedelta) -> str:
    """Return a duration in the largest unit that divides it, in seconds where none does."""
    seconds = duration.total_seconds()
    for size, unit in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"
