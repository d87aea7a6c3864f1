"""
The maintenance windows that apply to a sync: its own, its app's, and those of all syncs. Pure.

`windows.py` decides what they mean. It is imported only where there are any, so that others do not pay for it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from phasesync.core.sync import Sync
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.core.windows import Closure, WindowLevel


@dataclass(frozen=True, kw_only=True)
class WindowState:
    """
    How the maintenance windows of a sync stand.

    Attributes:
        closed: unattended runs write nothing now.
        opens_at: when they may; None while they are open, and if that is not within a year.
        text: one line on when it opens and which window closes it; None while it is open.
    """

    closed: bool
    opens_at: datetime | None = None
    text: str | None = None


def levels_for(sync: Sync, of_all: tuple[str, ...]) -> "tuple[WindowLevel, ...]":
    """
    Return the levels that have windows for a sync.

    Args:
        sync: the sync, with the windows of its app.
        of_all: the windows of all syncs, as texts.

    Raises:
        InvalidInputError: this host cannot read a stored window, such as one with a zone that it does not know.
    """
    if not (sync.config.windows or sync.app_windows or of_all):
        return ()
    from phasesync.core.windows import levels_of

    return levels_of(
        [
            (f"the sync {sync.name}", sync.config.windows),
            (f"the app {sync.app}", sync.app_windows),
            ("all syncs", of_all),
        ]
    )


def closure_of(sync: Sync, of_all: tuple[str, ...], now: datetime) -> "Closure | None":
    """Return why unattended writes of a sync are closed now; None if they are open. Raises as `levels_for`."""
    if not (levels := levels_for(sync, of_all)):
        return None
    from phasesync.core.windows import closure_at

    return closure_at(levels, now)


def window_state(sync: Sync, of_all: tuple[str, ...], now: datetime) -> WindowState | None:
    """Return how the maintenance windows of a sync stand; None if it has none."""
    try:
        if not levels_for(sync, of_all):
            return None
        closure = closure_of(sync, of_all, now)
    except InvalidInputError as error:  # Nothing is written then.
        return WindowState(closed=True, text=error.message)
    if closure is None:
        return WindowState(closed=False)
    return WindowState(closed=True, opens_at=closure.opens_at, text=closure.text)
