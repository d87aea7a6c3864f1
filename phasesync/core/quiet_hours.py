"""Quiet hours of a notification: written like maintenance windows without their first word. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from phasesync.core.windows import Window, WindowLevel, opens_at, parse_window
from phasesync.errors import InvalidInputError

EXAMPLE: Final = "'22:00-07:00 Mon-Fri Europe/Berlin'"
_MOST: Final = 20
_QUIET_FOR_LONG: Final = timedelta(days=1)
"""Quiet hours that cover everything end at no time that is known; they are looked at again after this."""


def canonical_quiet_hours(texts: Iterable[str]) -> tuple[str, ...]:
    """Return canonical texts, each once. InvalidInputError."""
    windows = tuple(dict.fromkeys(_parse(text) for text in texts))
    if len(windows) > _MOST:
        raise InvalidInputError(f"{len(windows)} quiet hours are more than the limit of {_MOST}")
    return tuple(window.text.partition(": ")[2] for window in windows)


def quiet_until(texts: Sequence[str], at: datetime) -> datetime | None:
    """Return when the quiet hours end in which an instant lies; None if it lies in none."""
    if not texts:
        return None
    level = WindowLevel(owner="the notification", windows=tuple(_parse(text) for text in texts))
    if level.windows and all(window.until(at) is None for window in level.windows):
        return None
    return opens_at([level], at) or at + _QUIET_FOR_LONG


def _parse(text: str) -> Window:
    kind = text.strip().partition(":")[0].strip().lower()
    if kind in ("deny", "allow"):
        raise InvalidInputError(
            f"the quiet hours {text!r} begin with {kind}:", hint=f"leave that word out, such as {EXAMPLE}"
        )
    try:
        return parse_window(f"deny: {text.strip()}")
    except InvalidInputError as error:
        message = error.message.replace("the maintenance window 'deny: ", "the quiet hours '")
        raise InvalidInputError(message, hint=f"quiet hours look like {EXAMPLE}") from None
