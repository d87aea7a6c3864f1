"""Traces: how long the parts of a run take."""

from contextlib import AbstractContextManager
from typing import Protocol

Fact = str | int | bool | None
"""None is left out. Never a value, the name of a key or a remote name."""


class Span(Protocol):
    """One part of a run."""

    def note(self, **facts: Fact) -> None:
        """Note what is known of it by now; `error` is the class of an error, with which the part has failed."""
        ...


class Tracer(Protocol):
    """Begins spans. Never raises, never blocks for long."""

    def span(self, name: str, **facts: Fact) -> AbstractContextManager[Span]:
        """Return a part that begins and ends with the block; its parent is the part of this thread under way."""
        ...
