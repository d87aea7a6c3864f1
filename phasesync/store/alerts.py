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
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.alert import Ended, SubjectKind
from phasesync.core.lease import ENDED, LeaseStatus
from phasesync.core.notification import STALE_AFTER
from phasesync.core.notification_message import Condition
from phasesync.core.sync import SyncStatus
from phasesync.store.alert_rows import IS_OPEN, end_alerts, open_alert
from phasesync.store.base import BaseStore
from phasesync.store.db_time import before, from_microseconds, now
from phasesync.store.notifications import load_notifications
from phasesync.store.sync_statuses import is_deferred
from phasesync.store.tables import LEASE_IS_LIVE, alerts, dynamic_secrets, leases, messages, syncs


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

    def check_times(self, *, stale_after: timedelta) -> None:
        """
        Open and end the alerts that depend on the time: stale syncs, and leases that are overdue.

        A sync is stale that has been out of step for as long as this, whatever its status; not one that is paused,
        waits for its maintenance window, or has a credential that is not complete yet.
        """
        with self._database.read() as connection:
            stale = [row.id for row in connection.execute(_select_stale(stale_after))]
            overdue = [row.id for row in connection.execute(_SELECT_OVERDUE)]
            over = [row.subject_id for row in connection.execute(_select_over(stale_after))]
        if not (stale or overdue or over):
            return
        with self._database.write() as connection:
            # Read again under a lock, which does not wait: a run may be bringing the sync in step at this moment.
            locked = _select_stale(stale_after).where(syncs.c.id.in_(stale)).with_for_update(skip_locked=True, of=syncs)
            for row in connection.execute(locked).all() if stale else ():
                since = from_microseconds(row.since)
                open_alert(connection, Condition.STALE, SubjectKind.SYNC, row.id, row.name, since=since)
            late = _SELECT_OVERDUE.where(leases.c.id.in_(overdue)).with_for_update(skip_locked=True, of=leases)
            for row in connection.execute(late).all() if overdue else ():
                subject, since = f"{row.dynamic}/{row.id}", row.expires_at
                open_alert(connection, Condition.LEASE_OVERDUE, SubjectKind.LEASE, row.id, subject, since=since)
            still_over = _select_over(stale_after).where(alerts.c.subject_id.in_(over))
            ended = connection.execute(still_over).all() if over else []
            for condition, by in ((Condition.STALE, Ended.IN_SYNC), (Condition.LEASE_OVERDUE, Ended.OVER)):
                ids = [row.subject_id for row in ended if row.condition == condition]
                if ids:
                    end_alerts(connection, ids, by, condition=condition)

    def stale_after(self) -> timedelta:
        """Return after how long some notification reports a sync as stale; `STALE_AFTER` if none says otherwise."""
        with self._database.read() as connection:
            loaded = load_notifications(connection, self._keys)
        asked = [
            notification.rules.after_of(Condition.STALE)
            for notification in loaded.usable.values()
            if notification.rules is not None and Condition.STALE in notification.rules.on
        ]
        return max(_SHORTEST_STALE, min(asked, default=STALE_AFTER))


_COUNT_OPEN: Final = (
    sa.select(alerts.c.condition, sa.func.count().label("alerts")).where(IS_OPEN).group_by(alerts.c.condition)
)
_COUNT_PENDING: Final = sa.select(
    sa.func.count().label("pending"),
    (now() - sa.func.min(sa.type_coerce(messages.c.created_at, sa.BigInteger))).label("age"),
).where(messages.c.next_at.is_not(None))


# --- what depends on the time

_AT_ONCE: Final = 500
"""Alerts that one check opens or ends at most; the next one goes on."""
_SHORTEST_STALE: Final = timedelta(minutes=1)
"""No sync is stale earlier, whatever a notification says: a run may take so long."""
_LATE: Final = timedelta(minutes=10)
"""How long after its end a lease is overdue of which no attempt to revoke it has failed."""

_number: Final = sa.BigInteger()
_opened: Final = alerts.alias("opened")
_earliest_alert: Final = (
    sa.select(sa.func.min(sa.type_coerce(_opened.c.since, _number)))
    .where(_opened.c.subject_id == syncs.c.id, _opened.c.ended_at.is_(None))
    .scalar_subquery()
)
_status_since: Final = sa.func.coalesce(sa.type_coerce(syncs.c.status_since, _number), now())
_earlier: Final = sa.case(
    (_earliest_alert < _status_since, _earliest_alert),
    else_=_status_since,
)
_OUT_OF_STEP: Final = [
    status.value for status in (SyncStatus.PENDING, SyncStatus.FAILING, SyncStatus.HELD, SyncStatus.HALTED)
]


@cache
def _select_stale(stale_after: timedelta) -> sa.Select[Any]:
    """Return the select of syncs that are stale and have no alert for it yet, with `since`."""
    in_step = syncs.c.settled_status == SyncStatus.IN_SYNC.value
    behind_since = sa.type_coerce(syncs.c.behind_since, _number)
    since = sa.case((in_step | (behind_since < _earlier), behind_since), else_=_earlier)
    alerted = sa.exists().where(
        _opened.c.subject_id == syncs.c.id, _opened.c.condition == Condition.STALE.value, _opened.c.ended_at.is_(None)
    )
    return (
        sa.select(syncs.c.id, syncs.c.name, since.label("since"))
        .where(
            # Each is a range of an index: few syncs are out of step.
            syncs.c.settled_status.in_(_OUT_OF_STEP) | syncs.c.behind_since.is_not(None),
            since < before(stale_after),
            ~is_deferred(),
            ~alerted,
        )
        .limit(_AT_ONCE)
    )


_SELECT_OVERDUE: Final = (
    sa.select(leases.c.id, leases.c.expires_at, dynamic_secrets.c.name.label("dynamic"))
    .join_from(leases, dynamic_secrets, dynamic_secrets.c.id == leases.c.dynamic_id)
    .where(
        LEASE_IS_LIVE,
        leases.c.expires_at < before(_LATE),
        ~sa.exists().where(
            _opened.c.subject_id == leases.c.id,
            _opened.c.condition == Condition.LEASE_OVERDUE.value,
            _opened.c.ended_at.is_(None),
        ),
    )
    .limit(_AT_ONCE)
)


@cache
def _select_over(stale_after: timedelta) -> sa.Select[Any]:
    """Return the select of the open alerts of these conditions whose subject is in step, has ended, or is gone."""
    behind = syncs.c.behind_since.is_not(None) & (syncs.c.behind_since < before(stale_after))
    stale = sa.exists().where(syncs.c.id == alerts.c.subject_id, syncs.c.settled_status.in_(_OUT_OF_STEP) | behind)
    is_live = leases.c.status.not_in([status.value for status in ENDED])
    failed = leases.c.status == LeaseStatus.REVOKE_FAILED.value
    revoking = leases.c.status == LeaseStatus.REVOKING.value
    overdue = sa.exists().where(
        leases.c.id == alerts.c.subject_id, is_live, failed | revoking | (leases.c.expires_at < now())
    )
    return (
        sa.select(alerts.c.subject_id, alerts.c.condition)
        .where(
            IS_OPEN,
            ((alerts.c.condition == Condition.STALE.value) & ~stale)
            | ((alerts.c.condition == Condition.LEASE_OVERDUE.value) & ~overdue),
        )
        .limit(_AT_ONCE)
    )
