"""
The maintenance windows that apply to a sync: its own, its app's, and those of all syncs.

`core.windows` decides what they mean. Where there are none, nothing is imported, parsed or computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from phasesync.core.sync import Sync
from phasesync.engine.context import Context
from phasesync.errors import InvalidInputError

if TYPE_CHECKING:
    from phasesync.core.windows import Closure, WindowLevel


def levels_for(context: Context, sync: Sync) -> "tuple[WindowLevel, ...]":
    """Return the levels that have windows for a sync. InvalidInputError if this host cannot read a stored window."""
    everywhere = context.windows()
    if not (sync.config.windows or sync.app_windows or everywhere):
        return ()
    from phasesync.core.windows import levels_of

    return levels_of(
        [
            (f"the sync {sync.name}", sync.config.windows),
            (f"the app {sync.app}", sync.app_windows),
            ("all syncs", everywhere),
        ]
    )


def closure_of(context: Context, sync: Sync) -> "Closure | None":
    """Return why unattended writes of a sync are closed now; None if they are open. Raises as `levels_for`."""
    if not (levels := levels_for(context, sync)):
        return None
    from phasesync.core.windows import closure_at

    return closure_at(levels, context.clock.now())


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


def window_state(context: Context, sync: Sync) -> WindowState | None:
    """Return how the maintenance windows of a sync stand; None if it has none."""
    try:
        if not levels_for(context, sync):
            return None
        closure = closure_of(context, sync)
    except InvalidInputError as error:  # Such as a zone that this host does not know. Nothing is written then.
        return WindowState(closed=True, text=error.message)
    if closure is None:
        return WindowState(closed=False)
    return WindowState(closed=True, opens_at=closure.opens_at, text=closure.text)


class WindowGate:
    """
    Asked before each write of a run.

    Once it was closed it stays so for this run: of several changes of one object none is left out in the middle.
    """

    def __init__(self, context: Context, sync: Sync) -> None:
        """InvalidInputError if this host cannot read a stored window: nothing may be written then."""
        self._clock = context.clock
        self._levels = levels_for(context, sync)
        self._closure: Closure | None = None

    def closure(self) -> "Closure | None":
        """Return why unattended writes are closed; None if they are open."""
        if self._levels and self._closure is None:
            from phasesync.core.windows import closure_at

            self._closure = closure_at(self._levels, self._clock.now())
        return self._closure


def checked_windows(
    context: Context, texts: Sequence[str], *, owner: str, others: Sequence[tuple[str, Sequence[str]]] = ()
) -> tuple[str, ...]:
    """
    Return windows that an operator sets, as canonical texts.

    Args:
        context: has the windows of all syncs, and the time.
        texts: what was entered.
        owner: whose they are, such as `the app shop`.
        others: owners and windows that apply beside them and those of all syncs.

    Raises:
        InvalidInputError: a window cannot be read, or together they never open.
    """
    if not texts:
        return ()
    from phasesync.core.windows import canonical_windows, check_opens, levels_of

    windows = canonical_windows(texts)
    check_opens(levels_of([(owner, windows), *others, ("all syncs", context.windows())]), context.clock.now())
    return windows
