"""
Rows of alerts: how they open and end, in the transactions of others.

`syncs.alerted_status` says which status the alerts of a sync are for: a run that leaves the same one sends no statement
here. `in-sync` means that none is open, apart from stale ones, which time opens and ends.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.alert import Ended, SubjectKind
from phasesync.core.notification_message import Condition
from phasesync.core.sync import SyncStatus
from phasesync.store.base import new_id
from phasesync.store.database import insert_or_update
from phasesync.store.db_time import now
from phasesync.store.tables import OPEN_ALERT, alerts

NONE_OPEN: Final = SyncStatus.IN_SYNC.value
"""`syncs.alerted_status` of a sync without alerts."""

IS_OPEN: Final = alerts.c.ended_at.is_(None)

_OPENED_BY: Final = {
    SyncStatus.HELD: Condition.HELD,
    SyncStatus.HALTED: Condition.HALTED,
    SyncStatus.FAILING: Condition.FAILING,
}
"""Status -> what a run that leaves it opens. Pending opens and ends nothing: a sync that is tried again is no news."""


_HAS_OPEN_DRIFT: Final = sa.select(
    sa.exists().where(
        IS_OPEN, alerts.c.subject_id == sa.bindparam("subject"), alerts.c.condition == Condition.DRIFT.value
    )
)


def alert_after_run(
    connection: sa.Connection, row: sa.Row[Any], status: SyncStatus, *, drifted: bool, contested: bool
) -> str | None:
    """
    Open and end the alerts of a sync at the end of its run; return its new `alerted_status`.

    Args:
        connection: in the transaction that stores the run.
        row: of the sync, locked, as it was before.
        status: the one that the run leaves.
        drifted: the run found that somebody else changed a remote object.
        contested: it holds a change because somebody keeps changing the object back.
    """
    former: str | None = row.alerted_status
    if status is SyncStatus.IN_SYNC:
        # Drift that is reported already ends with everything else; that of this run is over.
        if drifted and (former == NONE_OPEN or not connection.scalar(_HAS_OPEN_DRIFT, {"subject": row.id})):
            _insert(connection, Condition.DRIFT, SubjectKind.SYNC, row.id, row.name, over=True)
        if former != NONE_OPEN:
            end_alerts(connection, [row.id], Ended.IN_SYNC)
        return NONE_OPEN
    if drifted:
        open_alert(connection, Condition.DRIFT, SubjectKind.SYNC, row.id, row.name)
    condition = _OPENED_BY.get(status)
    if condition is None:
        return status.value if drifted else former
    if former != status or contested:
        if contested and condition is Condition.HELD:
            condition = Condition.CONTESTED
        open_alert(connection, condition, SubjectKind.SYNC, row.id, row.name)
    return status.value


def open_alert(
    connection: sa.Connection,
    condition: Condition,
    kind: SubjectKind,
    subject_id: str,
    subject: str,
    *,
    since: datetime | None = None,
) -> None:
    """Open an alert, since now unless `since` says otherwise; one that is open stays as it is."""
    _insert(connection, condition, kind, subject_id, subject, since=since)


def end_alerts(
    connection: sa.Connection, subject_ids: Sequence[str], by: Ended, *, condition: Condition | None = None
) -> None:
    """End the open alerts of some subjects: all of them, or those of one condition."""
    which = IS_OPEN & alerts.c.subject_id.in_(subject_ids)
    if condition is not None:
        which &= alerts.c.condition == condition.value
    connection.execute(alerts.update().where(which).values(ended_at=now(), ended_by=by.value, news_at=now()))


def _insert(
    connection: sa.Connection,
    condition: Condition,
    kind: SubjectKind,
    subject_id: str,
    subject: str,
    *,
    since: datetime | None = None,
    over: bool = False,
) -> None:
    connection.execute(
        _insert_alert(connection.dialect.name),
        {
            "id": new_id(),
            "condition": condition.value,
            "subject_kind": kind.value,
            "subject_id": subject_id,
            "subject": subject,
            "from": since,
            "over": over,
        },
    )


@cache
def _insert_alert(dialect: str) -> Any:
    over = sa.bindparam("over", type_=sa.Boolean)
    insert = insert_or_update(dialect, alerts).values(
        **{name: sa.bindparam(name) for name in ("id", "condition", "subject_kind", "subject_id", "subject")},
        since=sa.func.coalesce(sa.bindparam("from", type_=alerts.c.since.type), now()),
        ended_at=sa.case((over, now()), else_=None),
        ended_by=sa.case((over, Ended.REPAIRED.value), else_=None),
        news_at=now(),
    )
    return insert.on_conflict_do_nothing(index_elements=["subject_id", "condition"], index_where=sa.text(OPEN_ALERT))
