"""No traces: the tracer of every process that was not asked for them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Final

from phasesync.ports.tracing import Fact, Span, Tracer


class _NoSpan:
    def note(self, **facts: Fact) -> None:
        """Note nothing."""


class _NoTracer:
    _nothing: AbstractContextManager[Span] = nullcontext(_NoSpan())

    def span(self, name: str, **facts: Fact) -> AbstractContextManager[Span]:
        """Return what notes nothing."""
        return self._nothing


NO_TRACES: Final[Tracer] = _NoTracer()
