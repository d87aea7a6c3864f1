"""
SQLAlchemy in tests: a statement is compiled once for each process and kind of database.

An engine compiles for itself, and nearly every test has an engine of its own.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event


class _Shared:
    """A cache of compiled statements with keys that begin with a dialect: all dialects of one kind share it."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[Any, ...], Any] = {}

    def get(self, key: tuple[Any, ...]) -> Any:
        return self._compiled.get(self._common(key))

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        self._compiled[self._common(key)] = compiled

    @staticmethod
    def _common(key: tuple[Any, ...]) -> tuple[Any, ...]:
        dialect, *rest = key
        return (type(dialect), *rest)


def share_compiled_statements() -> None:
    """Have every connection use one cache from now on (SQLAlchemy's execution option `compiled_cache`)."""
    shared = _Shared()

    @event.listens_for(sa.Engine, "engine_connect")
    def use(connection: sa.Connection) -> None:
        connection.execution_options(compiled_cache=shared)
