"""
Time as the database knows it: integer microseconds since 1970, UTC, the same on both databases.

Claims and due times are compared by the database's clock, so that replicas need not agree on theirs. Nothing in the
store asks the process for the time.
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
    """Return microseconds since 1970 of an aware instant; exact, no float on the way."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """
    Return the aware UTC instant of microseconds since 1970.

    What no calendar has is somebody's alteration, and becomes the nearest instant: whoever reads many rows must not
    fail over one.
    """
    try:
        return _EPOCH + count * _MICROSECOND
    except OverflowError:
        return _EARLIEST if count < 0 else _LATEST


AHEAD: Final = timedelta(hours=1)
"""
No claim, membership or pause is longer: what ends later was noted by a clock that has been set back since. Most such
instants are put right as soon as a daemon notices (`clock.py`); this is for whoever reads them before.
"""


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware UTC instant, stored as a BIGINT of microseconds."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        """Python to database. TypeError for an instant without a time zone."""
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Database to Python. SQLite keeps whatever is put into a column; a text sorts after every number there."""
        if value is None:
            return None
        return from_microseconds(value) if isinstance(value, int) else _LATEST


def next_fence(fence: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """Return the number of a new claim; one that cannot be counted on from, which nobody but a tamperer writes, too."""
    return sa.case(((fence >= 0) & (fence < _LAST_FENCE), fence + 1), else_=1)


_LAST_FENCE: Final = 2**62


class now(sa.sql.functions.FunctionElement[int]):
    """
    The database's time in microseconds, as an SQL expression.

    It is a scalar subquery, so that the clock is asked once and not for every row, and an index on the other side of a
    comparison can be used. PostgreSQL asks anew for every `now()` that stands in a statement: they may be microseconds
    apart. A statement that waits for a lock goes by the time from before: claims come out shorter, and nothing is due
    early. Where that would not do, lock first and ask then.
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
