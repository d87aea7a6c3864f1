"""
Alerts: what is wrong with syncs and leases, and since when.

An alert is a level, not an event: a row that is open while a condition holds. It opens and ends in the transaction that
changes the state of its subject, so that a crash loses none. There is one open alert of each condition for a subject:
a sync that fails, is tried again and fails again stays one alert, and ends once it is in step, paused or removed.

`syncs.alerted_status` is the status that the alerts of a sync are for. A run that leaves it as it is sends no statement
here. Rows are not authenticated, as the status of a sync is not: whoever can write to the database can hide an alert.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from phasesync.core.notification_message import Condition
from phasesync.store.base import BaseStore
from phasesync.store.db_time import now
from phasesync.store.tables import alerts, messages

_IS_OPEN: Final = alerts.c.ended_at.is_(None)


@dataclass(frozen=True, kw_only=True)
class AlertCounts:
    """
    How many alerts are open, and what waits to be sent.

    Attributes:
        open: number of open alerts of each condition, also those that no notification asks for.
        pending: messages that were made and are not sent yet, nor given up.
        oldest_pending: how long ago the oldest of them was made; None if there is none.
    """

    open: Mapping[Condition, int]
    pending: int
    oldest_pending: timedelta | None


class AlertStore(BaseStore):
    """Alerts."""

    def counts(self) -> AlertCounts:
        """Return how many alerts are open, and what waits to be sent: two statements, each a range of an index."""
        with self._database.read() as connection:
            words = {row.condition: row.alerts for row in connection.execute(_COUNT_OPEN)}
            waiting = connection.execute(_COUNT_PENDING).one()
        oldest = None if waiting.age is None else timedelta(microseconds=max(0, waiting.age))
        return AlertCounts(
            open={condition: words.get(condition.value, 0) for condition in Condition},
            pending=waiting.pending,
            oldest_pending=oldest,
        )


_COUNT_OPEN: Final = (
    sa.select(alerts.c.condition, sa.func.count().label("alerts")).where(_IS_OPEN).group_by(alerts.c.condition)
)
_COUNT_PENDING: Final = sa.select(
    sa.func.count().label("pending"),
    (now() - sa.func.min(sa.type_coerce(messages.c.created_at, sa.BigInteger))).label("age"),
).where(messages.c.due_at.is_not(None))
