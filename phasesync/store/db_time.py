"""
Time of the database: integer microseconds since 1970, UTC, the same on both databases.

Claims and due times are compared by the database's clock, so replicas need not agree on theirs. The store never asks
the process for the time.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)


def to_microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970 of an aware instant; exact, without floats."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """
    Return the aware UTC instant of microseconds since 1970.

    A number beyond the calendar can only be an alteration. It becomes the nearest instant, so that one bad row does not
    fail a read of many.
    """
    try:
        return _EPOCH + count * _MICROSECOND
    except OverflowError:
        return _EARLIEST if count < 0 else _LATEST


LONGEST_WAIT: Final = timedelta(hours=1)
"""
No claim, membership or pause is longer: an instant further ahead was stored by a clock that has been set back since.
A daemon corrects most such instants when it notices (`clock_watch.py`); this bound covers reads before that.
"""


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware UTC instant, stored as a BIGINT of microseconds."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        """Convert Python to database. TypeError for an instant without a time zone."""
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Convert database to Python. SQLite may hold text in this column, which sorts after every number there."""
        if value is None:
            return None
        return from_microseconds(value) if isinstance(value, int) else _LATEST


def next_fence(fence: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """Return the fence of a new claim; 1 after a fence that cannot grow, which only an attacker can have written."""
    return sa.case(((fence >= 0) & (fence < _LAST_FENCE), fence + 1), else_=1)


_LAST_FENCE: Final = 2**62


class now(sa.sql.functions.FunctionElement[int]):
    """
    The database's time in microseconds, as an SQL expression.

    It is a scalar subquery, so that the clock is read once and not for every row, and a comparison can use an index.
    PostgreSQL reads the clock for each `now()` in a statement: they may be microseconds apart. A statement that waits
    for a lock uses the time from before the wait: claims become shorter, and nothing is due early. Where this is not
    enough, lock first and read the time afterwards.
    """

    type = sa.BigInteger()
    inherit_cache = True
    name = "phasesync_now"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **options: Any) -> str:
    return "(SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT))"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **options: Any) -> str:
    # unixepoch('subsec') came with 3.42; the clock of SQLite has milliseconds, and rounding gives them back exactly.
    return "(SELECT CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)"


def after(pause: timedelta) -> sa.ColumnElement[int]:
    """Return the database's time plus a duration, as an SQL expression."""
    return now() + sa.literal(pause // _MICROSECOND, sa.BigInteger())


def before(pause: timedelta) -> sa.ColumnElement[int]:
    """Return the database's time minus a duration, as an SQL expression."""
    return now() - sa.literal(pause // _MICROSECOND, sa.BigInteger())
