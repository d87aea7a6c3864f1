"""Logs the runs of claims that expired without a result. Knows nothing of how they are found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from phasesync.adapters.store.instants import from_microseconds, now, to_microseconds
from phasesync.adapters.store.part import new_id
from phasesync.adapters.store.run_rows import insert_runs
from phasesync.adapters.store.sealing import Sealer
from phasesync.adapters.store.tables import environments, syncs
from phasesync.core.run import Run, RunError
from phasesync.core.status import Outcome, SyncStatus, Trigger
from phasesync.errors import InterruptedRunError


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """A claim that expired without a result."""

    sync_id: str
    trigger: str
    actor: str
    started_at: datetime


def log_interrupted(connection: sa.Connection, sealer: Sealer, former: Sequence[Interrupted]) -> None:
    """Store a run `interrupted` for each; their syncs are pending."""
    if not former:
        return
    claims = {one.sync_id: one for one in former}
    rows = connection.execute(
        sa.select(syncs.c.id, syncs.c.name, syncs.c.failures, environments.c.data_key_id, now().label("clock"))
        .join(environments, environments.c.id == syncs.c.environment_id)
        .where(syncs.c.id.in_(list(claims)))
    ).all()
    runs = []
    for row in rows:
        claim = claims[row.id]
        run = Run(
            id=f"{to_microseconds(claim.started_at) // 1000:012x}{new_id()[:12]}",
            sync_id=row.id,
            sync=row.name,
            trigger=Trigger(claim.trigger),
            actor=claim.actor,
            attempt=row.failures + 1,
            outcome=Outcome.INTERRUPTED,
            started_at=claim.started_at,
            ended_at=from_microseconds(row.clock),
            revisions={},
            counts={},
            aws_calls=0,
            versions_written=0,
            error=RunError(
                cls=InterruptedRunError.__name__,
                code=None,
                message="the process that ran this stopped without a result",
                request_id=None,
                hint=None,
            ),
            next_attempt_at=None,
            changes=(),
        )
        runs.append((run, row.data_key_id))
    insert_runs(connection, sealer, runs)
    connection.execute(
        syncs.update()
        .where(syncs.c.id == sa.bindparam("sync"))
        .values(
            last_run_id=sa.bindparam("run"),
            settled_status=SyncStatus.PENDING,
            interrupted_at=None,
            status_reason=None,
        ),
        [{"sync": run.sync_id, "run": run.id} for run, _ in runs],
    )
