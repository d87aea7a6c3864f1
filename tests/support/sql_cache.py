"""
SQLAlchemy in tests: a statement is compiled once for each process and kind of database.

An engine compiles for itself, and nearly every test has an engine of its own.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.util import langhelpers


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
    """
    Have every engine use one cache from now on, and look once at what a class of SQLAlchemy can be made with.

    No event sets the cache: an engine with a listener calls four of its events for each statement.
    """
    shared: Any = _Shared()
    find_names = langhelpers.get_cls_kwargs
    names_of = cache(find_names)

    def known_names(of: type, **recursion: Any) -> Any:
        return find_names(of, **recursion) if recursion else names_of(of)

    # Each engine would set a cache of its own.
    sa.Engine._compiled_cache = property(lambda _: shared, lambda _, __: None)  # type: ignore[assignment]
    langhelpers.get_cls_kwargs = sa.util.get_cls_kwargs = known_names  # type: ignore[assignment]
