"""Hands each event to several sinks: log lines and metrics."""

from phasesync.core.events import Event
from phasesync.ports.runtime import EventSink


class SeveralSinks:
    """An EventSink that hands events on, in the order of its sinks."""

    def __init__(self, *sinks: EventSink) -> None:
        self._sinks = sinks

    def emit(self, event: Event) -> None:
        """Hand an event to each sink."""
        for sink in self._sinks:
            sink.emit(event)
