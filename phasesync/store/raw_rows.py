"""
Rows as a database stores them: read without conversion, checked against the types of their columns, and digested.

SQLite stores a value of any type in any column, and text that is no UTF-8. PostgreSQL stores neither. So every value is
checked before it goes from one to the other. A checked row is the same tuple on both, and so is its digest.
"""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from phasesync.errors import DatabaseCopyError
from phasesync.store.database import Database
from phasesync.store.db_errors import translate_errors
from phasesync.store.tables import GENERATED, syncs

BATCH: Final = 1_000
"""Rows that are held in memory at once."""

Row = tuple[Any, ...]

_LARGEST: Final = {True: 2**31 - 1, False: 2**63 - 1}
"""Largest integer of a column of PostgreSQL, by whether it is an INTEGER: the others are BIGINT."""


@dataclass(frozen=True, kw_only=True)
class TableDigest:
    """
    What a table holds.

    Attributes:
        table: its name.
        rows: how many.
        digest: SHA-256 in hex, over the rows in the order of their primary keys.
    """

    table: str
    rows: int
    digest: str


class _NotUtf8:
    """Text of SQLite that does not decode."""


def columns_of(table: sa.Table, *, without: Sequence[str] = ()) -> list[sa.Column[Any]]:
    """Return the columns of a table that somebody writes: not those that the database computes."""
    generated = GENERATED if table is syncs else ()
    return [column for column in table.columns if column.name not in (*generated, *without)]


def read_rows(
    database: Database, table: sa.Table, columns: Sequence[sa.Column[Any]], *, for_postgresql: bool
) -> Generator[Row]:
    """
    Yield the checked rows of a table, by primary key, in constant memory.

    Text is ordered by its bytes, whatever the collation of the database.

    Args:
        database: is not written meanwhile.
        table: the table.
        columns: those to read.
        for_postgresql: refuse what PostgreSQL cannot store.

    Raises:
        DatabaseCopyError: a value that does not belong into its column; names table, column and row.
    """
    check = _Check(table, columns, for_postgresql=for_postgresql)
    rows = _sqlite_rows if database.is_sqlite else _postgresql_rows
    # Closed here, also after an error: the traceback keeps a generator, and with it its connection.
    with closing(rows(database, _select(database, table, columns))) as batches:
        for batch in batches:
            for row in batch:
                yield check(row)


def digest_of(database: Database, table: sa.Table, *, without: Sequence[str] = ()) -> TableDigest:
    """
    Return rows and digest of a table, the same on every database.

    `without`: names of columns that are left out. DatabaseCopyError as `read_rows`.
    """
    digest = RowDigest()
    for row in read_rows(database, table, columns_of(table, without=without), for_postgresql=False):
        digest.add(row)
    return digest.of(table)


class RowDigest:
    """The digest of rows, one after the other."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._rows = 0

    def add(self, row: Row) -> None:
        """Add a checked row; rows come in the order of their primary keys."""
        # One unambiguous text for a row: ascii() writes integers, texts, bytes, True, False and None differently.
        self._digest.update(ascii(row).encode("ascii"))
        self._rows += 1

    def passing(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield rows, and add each of them."""
        for row in rows:
            self.add(row)
            yield row

    def of(self, table: sa.Table) -> TableDigest:
        """Return the digest of the rows of a table."""
        return TableDigest(table=table.name, rows=self._rows, digest=self._digest.hexdigest())


def _select(database: Database, table: sa.Table, columns: Sequence[sa.Column[Any]]) -> str:
    by_bytes = "" if database.is_sqlite else ' COLLATE "C"'
    names = ", ".join(quoted(column) for column in columns)
    order = ", ".join(
        quoted(key) + (by_bytes if isinstance(key.type, sa.String) else "") for key in table.primary_key.columns
    )
    return f"SELECT {names} FROM {table.name} ORDER BY {order}"  # noqa: S608 -- names of our own tables


def quoted(column: sa.Column[Any]) -> str:
    """Return the name of a column for SQL."""
    return f'"{column.name}"'


def _sqlite_rows(database: Database, statement: str) -> Generator[list[Row]]:
    with translate_errors(database.url), closing(database.connect_to_file()) as connection:
        connection.text_factory = _decode
        cursor = connection.execute(statement)
        while batch := cursor.fetchmany(BATCH):
            yield batch


def _decode(text: bytes) -> object:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return _NotUtf8()


def _postgresql_rows(database: Database, statement: str) -> Generator[list[Row]]:
    in_batches = sa.text(statement).execution_options(yield_per=BATCH)  # a cursor of the server
    with database.read() as connection, connection.execute(in_batches) as result:
        for batch in result.partitions(BATCH):
            yield [tuple(row) for row in batch]


class _Check:
    """Checks the rows of one table, and gives each value the type of its column."""

    def __init__(self, table: sa.Table, columns: Sequence[sa.Column[Any]], *, for_postgresql: bool) -> None:
        self._table = table
        self._columns = columns
        self._keys = [n for n, column in enumerate(columns) if column.primary_key]
        self._expected = [_type_of(column) for column in columns]
        self._booleans = [n for n, expected in enumerate(self._expected) if expected is bool]
        self._known: set[tuple[type, ...]] = set()
        """Types of rows that fit; nearly all rows of a table have one of a few."""
        self._texts, self._integers = [], []
        if for_postgresql:
            self._texts = [(n, _length_of(columns[n])) for n, kind in enumerate(self._expected) if kind is str]
            self._integers = [(n, _largest(columns[n])) for n, kind in enumerate(self._expected) if kind is int]

    def __call__(self, row: Row) -> Row:
        if (types := tuple(map(type, row))) not in self._known:
            for n, column in enumerate(self._columns):
                self._check_type(row, n, column)
            self._known.add(types)
        for n, length in self._texts:
            text = row[n]
            if text is not None and ("\0" in text or len(text) > length):
                raise self._refused(row, n, "text with a NUL" if "\0" in text else f"more than {length} characters")
        for n, largest in self._integers:
            if row[n] is not None and not -largest <= row[n] <= largest:
                raise self._refused(row, n, f"a number beyond {largest}")
        if self._booleans:
            values = list(row)
            for n in self._booleans:
                if (value := values[n]) not in (None, 0, 1):
                    raise self._refused(row, n, f"the number {value} in place of a truth value")
                values[n] = None if value is None else bool(value)
            return tuple(values)
        return row

    def _check_type(self, row: Row, n: int, column: sa.Column[Any]) -> None:
        value, expected = row[n], self._expected[n]
        if isinstance(value, expected) or (value is None and column.nullable):
            return
        if expected is bool and isinstance(value, int):
            return
        found = {_NotUtf8: "text that is not UTF-8", type(None): "NULL", str: "text", bytes: "bytes", int: "a number"}
        raise self._refused(row, n, f"{found.get(type(value), type(value).__name__)}, not {_WORDS[expected]}")

    def _refused(self, row: Row, n: int, what: str) -> DatabaseCopyError:
        key = "/".join(_shown(row[key]) for key in self._keys)
        return DatabaseCopyError(
            f"{self._table.name}.{self._columns[n].name} of the row {key} holds {what}: it was altered outside "
            "phasesync, and was not copied",
            hint="remove or correct the row, and repeat the command; or go on with the original: phasesync db unretire",
        )


_WORDS: Final[dict[type, str]] = {bool: "a truth value", int: "a number", str: "text", bytes: "bytes"}


def _type_of(column: sa.Column[Any]) -> type:
    kind = column.type.impl if isinstance(column.type, sa.types.TypeDecorator) else column.type
    match kind:
        case sa.Boolean():
            return bool
        case sa.Integer():
            return int
        case sa.String():
            return str
        case sa.LargeBinary():
            return bytes
    raise AssertionError(f"a column of type {kind!r} has no raw form")


def _length_of(column: sa.Column[Any]) -> int:
    length: int | None = column.type.length if isinstance(column.type, sa.String) else None
    return length or _LARGEST[False]


def _largest(column: sa.Column[Any]) -> int:
    return _LARGEST[not isinstance(column.type, sa.BigInteger | sa.types.TypeDecorator)]


def _shown(value: object) -> str:
    return str(value) if isinstance(value, int | str) else f"({type(value).__name__})"
