"""Time, and where events go."""

from datetime import datetime
from typing import Protocol

from phasesync.core.events import Event


class Clock(Protocol):
    """Time."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        ...


class EventSink(Protocol):
    """Takes what happened; turns it into logs and metrics."""

    def emit(self, event: Event) -> None:
        """Take an event. Never raises, never blocks for long."""
        ...
