"""Counts the SQL statements and transactions that a piece of code sends."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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


@dataclass(kw_only=True)
class Traffic:
    """
    What was sent to a database.

    Attributes:
        statements: as `counted` has them.
        transactions: how many were committed, reads included.
        writes: how many of them could write: on SQLite they began with BEGIN IMMEDIATE, on PostgreSQL they were not
            READ ONLY.
    """

    statements: list[str] = field(default_factory=list)
    transactions: int = 0
    writes: int = 0


@contextmanager
def traffic(engine: sa.Engine) -> Iterator[Traffic]:
    """Count what is sent while the block runs."""
    sent = Traffic()
    immediate: set[int] = set()

    def note(connection: sa.Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement == "BEGIN IMMEDIATE":
            immediate.add(id(connection))

    def committed(connection: sa.Connection) -> None:
        sent.transactions += 1
        if engine.dialect.name == "sqlite":
            sent.writes += id(connection) in immediate
            immediate.discard(id(connection))
        else:
            sent.writes += not connection.get_execution_options().get("postgresql_readonly", False)

    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine, "commit", committed)
    try:
        with counted(engine) as statements:
            sent.statements = statements
            yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)
        event.remove(engine, "commit", committed)
