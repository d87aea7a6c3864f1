"""
Wakes daemons: marks the syncs that an edit affects, and notices that another process changed something.

The mark is `syncs.woken_at`, set in the transaction of the edit or of the request, so that it is there exactly if the
edit is. A notification only makes a daemon look earlier: one that is lost costs a poll interval.
"""

from functools import cache
from typing import Final

import sqlalchemy as sa

from phasesync.store.database import in_id_order
from phasesync.store.db_time import now
from phasesync.store.tables import sync_reads, syncs

CHANNEL: Final = "phasesync_wake"
"""
PostgreSQL's channel for notifications, shared by all schemas of a database. A notification says only that something
may be due.
"""

WOKEN: Final = {"woken_at": sa.func.coalesce(syncs.c.woken_at, now())}
"""Values of an update that marks syncs: a mark stays until a run has a result, and says since when it waits."""


def wake_readers(connection: sa.Connection, environment_id: str) -> None:
    """Mark the syncs that read an environment; called in the transaction that gives it a new revision."""
    if connection.execute(_wake_readers(), {"environment": environment_id}).rowcount:
        notify_daemons(connection)


@cache
def _wake_readers() -> sa.Update:
    # Syncs that are marked already are locked too: the end of a run may be clearing the mark at this moment.
    readers = sa.select(sync_reads.c.sync_id).where(sync_reads.c.environment_id == sa.bindparam("environment"))
    # Of several edits that no run has applied, the oldest counts. What stands there for a sync in step was left by a
    # run of a former release, which knows no such column.
    in_step = syncs.c.woken_at.is_(None) & (syncs.c.settled_status == "in-sync")
    behind_since = sa.case((in_step, now()), else_=sa.func.coalesce(syncs.c.behind_since, now()))
    readers_update = syncs.update().where(in_id_order(syncs, syncs.c.id.in_(readers)))
    return readers_update.values(**WOKEN, behind_since=behind_since)


def notify_daemons(connection: sa.Connection) -> None:
    """Notify daemons of this commit. SQLite needs nothing: daemons see that the database's version changed."""
    if connection.dialect.name == "postgresql":
        connection.execute(_NOTIFY)


_NOTIFY: Final = sa.select(sa.func.pg_notify(CHANNEL, ""))
