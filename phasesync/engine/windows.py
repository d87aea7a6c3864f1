"""Heeds maintenance windows in a run, and checks those that an operator sets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from phasesync.core.sync import Sync
from phasesync.core.sync_windows import levels_for
from phasesync.engine.context import Context

if TYPE_CHECKING:
    from phasesync.core.windows import Closure


class WindowGate:
    """
    Asked before each write of a run.

    Once it was closed it stays so for this run: of several changes of one object none is left out in the middle.
    """

    def __init__(self, context: Context, sync: Sync) -> None:
        """InvalidInputError if this host cannot read a stored window: nothing may be written then."""
        self._clock = context.clock
        self._levels = levels_for(sync, context.windows())
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
