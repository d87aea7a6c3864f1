"""Counts the SQL statements that a piece of code sends."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

_FRAMES = ("BEGIN", "COMMIT", "ROLLBACK")


@contextmanager
def counted(engine: sa.Engine) -> Iterator[list[str]]:
    """
    Yield a list that fills with the statements sent while the block runs, without BEGIN and COMMIT.

    An executemany counts once: it is one round trip (psycopg sends it as a pipeline).
    """
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith(_FRAMES):
            statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)
