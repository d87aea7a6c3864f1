"""
Claims: the time-limited right to reconcile a sync, on the sync's own row.

The database's clock decides what has expired. The fence grows with every claim, so that a holder that lost its claim
can write nothing. On PostgreSQL claimers skip rows that others hold; on SQLite writes are one at a time anyway. A claim
that expired without a result is logged as a run `interrupted`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.credential import CredentialStatus
from phasesync.core.run import Outcome, Run, RunError
from phasesync.core.schedule import LARGE_ABOVE
from phasesync.core.sync import SyncStatus, Trigger
from phasesync.core.sync_claim import Claim, DueSync
from phasesync.core.times import JUMP
from phasesync.errors import ClaimHeldError, InterruptedRunError, NotFoundError
from phasesync.store.base import BaseStore, new_id
from phasesync.store.database import in_id_order, lock_rows
from phasesync.store.db_time import LONGEST_WAIT, after, from_microseconds, next_fence, now, to_microseconds
from phasesync.store.key_ring import KeyRing
from phasesync.store.queue_schema import LARGE, SMALL, entries, entry_events
from phasesync.store.run_requests import REQUESTER
from phasesync.store.runs import insert_runs
from phasesync.store.sync_rows import has_newer_revision, is_claimed_by
from phasesync.store.tables import credentials, environments, syncs


@dataclass(frozen=True, kw_only=True)
class ExpiredClaim:
    """A claim that expired without a result."""

    sync_id: str
    trigger: str
    actor: str
    started_at: datetime


def log_interrupted_runs(connection: sa.Connection, keys: KeyRing, former: Sequence[ExpiredClaim]) -> None:
    """Store a run `interrupted` for each expired claim; their syncs become pending."""
    if not former:
        return
    claims = {claim.sync_id: claim for claim in former}
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
    insert_runs(connection, keys, runs)
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


_CLEARED: Final = {"claim_owner": None, "claim_until": None}

_returned: Final = (
    syncs.c.id,
    syncs.c.fence,
    syncs.c.claim_trigger,
    syncs.c.claim_actor,
    syncs.c.interrupted_at,
    syncs.c.objects,
)


class ClaimStore(BaseStore):
    """Claims of syncs."""

    def claim_due(self, owner: str, *, limit: int, ttl: timedelta, large: int | None = None) -> list[Claim]:
        """
        Claim up to `limit` syncs that are pending or due and free, in one statement.

        At most `large` of them are large (`core.schedule.LARGE_ABOVE`); None means any number.

        A sync with an expired claim is free, and the expired run is logged `interrupted`. To report such runs, call
        `release_expired` first.
        """
        large = limit if large is None else large
        # Nearly always nothing is due: this read locks nothing, and its statement is built once.
        with self._database.read() as connection:
            if connection.scalar(_ANY_DUE if large > 0 else _ANY_SMALL_DUE) is None:
                return []
        if large >= limit:
            due = _next_due("due", limit)
        elif large <= 0:
            due = _next_due("due", limit, _SMALL)
        else:
            large_due = _next_due("large", large, ~_SMALL)
            due = _next_due("due", limit, _SMALL | syncs.c.id.in_(sa.select(large_due.c.id)))
        statement = _claim_update(owner, ttl, _trigger_of_due(), sa.func.coalesce(syncs.c.requested_by, REQUESTER))
        with self._database.write() as connection:
            rows = connection.execute(statement.where(syncs.c.id.in_(sa.select(due.c.id))).returning(*_returned)).all()
            self._log_taken_over(connection, rows)
        return [_to_claim(row, owner) for row in rows]

    def claim_if_due(self, sync_id: str, owner: str, *, ttl: timedelta) -> Claim | None:
        """Claim one sync as `claim_due` does if it is due and free now; otherwise return None. Waits for no lock."""
        due = (
            _select_due()
            .where(syncs.c.id == sync_id)
            .with_for_update(skip_locked=True, of=syncs, key_share=True)
            .cte("due")
        )
        statement = _claim_update(owner, ttl, _trigger_of_due(), sa.func.coalesce(syncs.c.requested_by, REQUESTER))
        with self._database.write() as connection:
            rows = connection.execute(statement.where(syncs.c.id.in_(sa.select(due.c.id))).returning(*_returned)).all()
            self._log_taken_over(connection, rows)
        return _to_claim(rows[0], owner) if rows else None

    def due_for_queue(self, *, most: int) -> list[DueSync]:
        """
        Return syncs that are due and free and not in the queue yet, the most urgent first. Locks nothing.

        Only if the database has the tables of `store.queue_schema`. An entry that a daemon has taken out and not
        finished counts for a moment only: the daemon may have died.

        Args:
            most: how many entries of small syncs the queue may hold, and how many of large ones.
        """
        found: list[DueSync] = []
        with self._database.read() as connection:
            # Nearly always nothing is due.
            if connection.scalar(_ANY_DUE) is None:
                return found
            waiting = {row.queue_name: row.waiting for row in connection.execute(_count_waiting(2 * most))}
            for queue, size in ((SMALL, _SMALL), (LARGE, ~_SMALL)):
                if (room := most - waiting.get(queue, 0)) <= 0:
                    continue
                due = _select_due().add_columns(_URGENCY.label("urgency")).where(size, ~_is_waiting(), ~_was_taken())
                rows = connection.execute(due.order_by(_URGENCY, syncs.c.next_due_at).limit(room))
                found += [DueSync(sync_id=row.id, urgency=row.urgency, large=queue == LARGE) for row in rows]
        return found

    def claim(self, sync_id: str, owner: str, *, trigger: Trigger, actor: str, ttl: timedelta) -> Claim:
        """Claim one sync, due or not. ClaimHeldError; NotFoundError if it was removed."""
        statement = _claim_update(owner, ttl, sa.literal(trigger.value), sa.literal(actor))
        with self._database.write() as connection:
            rows = connection.execute(statement.where(syncs.c.id == sync_id, _free()).returning(*_returned)).all()
            if not rows:
                holder = connection.execute(
                    sa.select(syncs.c.name, syncs.c.claim_owner).where(syncs.c.id == sync_id)
                ).first()
                if holder is None:
                    raise NotFoundError("the sync was removed")
                raise ClaimHeldError(f"the sync {holder.name} is being reconciled by {holder.claim_owner}")
            self._log_taken_over(connection, rows)
        return _to_claim(rows[0], owner)

    def renew(self, claims: Sequence[Claim], *, ttl: timedelta) -> set[str]:
        """Extend claims; return the ids of the syncs that their holders still have."""
        if not claims:
            return set()
        ours = [(claim.sync_id, claim.fence, claim.owner) for claim in claims]
        statement = (
            syncs.update()
            .where(in_id_order(syncs, sa.tuple_(syncs.c.id, syncs.c.fence, syncs.c.claim_owner).in_(ours)))
            .values(claim_until=after(ttl))
            .returning(syncs.c.id)
        )
        with self._database.write() as connection:
            return set(connection.scalars(statement))

    def release(self, claim: Claim) -> None:
        """Release a claim without a result; the sync stays as due as it was."""
        with self._database.write() as connection:
            connection.execute(syncs.update().where(is_claimed_by(claim)).values(**_CLEARED))

    def paused(self, sync_id: str) -> bool:
        """Return whether a sync is paused or removed now; one indexed read, done before every write to AWS."""
        free = sa.select(syncs.c.id).where(
            syncs.c.id == sync_id, syncs.c.paused_at.is_(None) | (syncs.c.paused_until <= now())
        )
        with self._database.read() as connection:
            return connection.scalar(free) is None

    def release_expired(self) -> list[str]:
        """
        Release every claim that expired without a result, and log a run `interrupted` for each.

        A sync that was last claimed while the clock was ahead becomes due at once.

        Returns:
            The names of the syncs, sorted.
        """
        expired = syncs.c.claim_owner.is_not(None) & _expired()
        ahead = syncs.c.claim_owner.is_(None) & (syncs.c.claimed_at > after(JUMP))
        statement = (
            syncs.update()
            .where(expired)
            # The requested run has not happened, whatever triggered it.
            .values(**_CLEARED, next_due_at=now())
            .returning(syncs.c.id, syncs.c.name, syncs.c.claim_trigger, syncs.c.claim_actor, syncs.c.claimed_at)
        )
        # Nearly always there is none: this read locks nothing.
        with self._database.read() as connection:
            if connection.scalar(sa.select(syncs.c.id).where(expired | ahead).limit(1)) is None:
                return []
        with self._database.write() as connection:
            lock_rows(connection, syncs, expired | ahead)
            rows = connection.execute(statement).all()
            former = [
                ExpiredClaim(
                    sync_id=row.id, trigger=row.claim_trigger, actor=row.claim_actor, started_at=row.claimed_at
                )
                for row in rows
            ]
            log_interrupted_runs(connection, self._keys, former)
            # A clock that was ahead set these times; since it was set back, they would be reached much too late.
            connection.execute(syncs.update().where(ahead).values(claimed_at=now(), retry_at=None, next_due_at=now()))
        return sorted(row.name for row in rows)

    def _log_taken_over(self, connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> None:
        """Log the interrupted runs of expired claims that were just taken over."""
        former = [
            ExpiredClaim(
                sync_id=row.id, trigger=row.claim_trigger, actor=row.claim_actor, started_at=row.interrupted_at
            )
            for row in rows
            if row.interrupted_at is not None
        ]
        log_interrupted_runs(connection, self._keys, former)


def _free() -> sa.ColumnElement[bool]:
    return syncs.c.claim_owner.is_(None) | _expired()


def _expired() -> sa.ColumnElement[bool]:
    until = syncs.c.claim_until
    return until.is_(None) | (until < now()) | (until > after(LONGEST_WAIT))


@cache
def _select_due() -> sa.Select[tuple[str]]:
    """Return the select of the syncs that a daemon may claim now."""
    return (
        sa.select(syncs.c.id)
        .join(credentials, credentials.c.id == syncs.c.credential_id)
        .where(
            _free(),
            syncs.c.paused_at.is_(None) | (syncs.c.paused_until <= now()),
            credentials.c.status != CredentialStatus.INCOMPLETE,
            syncs.c.requested.is_not(None) | (syncs.c.next_due_at <= now()) | (_back_off_over() & has_newer_revision()),
        )
    )


def _next_due(name: str, limit: int, *which: sa.ColumnElement[bool]) -> sa.CTE:
    """
    Return the most urgent syncs among those that may be claimed, locked.

    A CTE, because PostgreSQL may run a subquery with LIMIT more than once and would then lock more rows.
    """
    return (
        _select_due()
        .where(*which)
        .order_by(_URGENCY, syncs.c.next_due_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=syncs, key_share=True)
        .cte(name)
    )


_CLOCK: Final = sa.func.clock_timestamp(type_=sa.DateTime(timezone=True))
_TAKEN_LATELY: Final = timedelta(seconds=5)
"""From an entry's way out of the queue to the claim of its sync it takes milliseconds."""


def _count_waiting(most: int) -> sa.Select[Any]:
    """Return the select of queues and how many entries wait in each; counts no further than `most` altogether."""
    waiting = sa.select(entries.c.queue_name).where(_WAITS).limit(most).subquery()
    return sa.select(waiting.c.queue_name, sa.func.count().label("waiting")).group_by(waiting.c.queue_name)


def _is_waiting() -> sa.ColumnElement[bool]:
    """Return the condition that a sync has an entry that waits in the queue."""
    return sa.exists().where(entries.c.queueing_lock == syncs.c.id, _WAITS)


def _was_taken() -> sa.ColumnElement[bool]:
    """Return the condition that a daemon has just taken the entry of a sync out of the queue."""
    return sa.exists().where(
        entries.c.queueing_lock == syncs.c.id,
        entries.c.worker_id.is_not(None),
        entries.c.status == sa.literal_column("'doing'"),
        entry_events.c.job_id == entries.c.id,
        entry_events.c.type == sa.literal_column("'started'"),
        # On both sides, for a clock that was set back.
        entry_events.c.at.between(_CLOCK - _TAKEN_LATELY, _CLOCK + _TAKEN_LATELY),
    )


def _back_off_over() -> sa.ColumnElement[bool]:
    return syncs.c.retry_at.is_(None) | (syncs.c.retry_at <= now())


def _trigger_of_due() -> sa.ColumnElement[str]:
    return sa.case(
        (syncs.c.requested.is_not(None), syncs.c.requested),
        ((syncs.c.failures > 0) & (syncs.c.next_due_at <= now()), sa.literal(Trigger.RETRY.value)),
        (has_newer_revision(), sa.literal(Trigger.CHANGE.value)),
        else_=sa.literal(Trigger.SCHEDULE.value),
    )


def _claim_update(
    owner: str, ttl: timedelta, trigger: sa.ColumnElement[str], actor: sa.ColumnElement[str]
) -> sa.Update:
    return syncs.update().values(
        claim_owner=owner,
        claim_until=after(ttl),
        fence=next_fence(syncs.c.fence),
        claim_trigger=trigger,
        claim_actor=actor,
        # What triggered the run is kept until it has a result, so that a crash loses nothing.
        claim_request=syncs.c.request_number,
        interrupted_at=sa.case((syncs.c.claim_owner.is_not(None), syncs.c.claimed_at)),
        claimed_at=now(),
    )


def _to_claim(row: sa.Row[Any], owner: str) -> Claim:
    return Claim(
        sync_id=row.id,
        owner=owner,
        fence=row.fence,
        trigger=Trigger(row.claim_trigger),
        actor=row.claim_actor,
        objects=row.objects,
    )


_WAITS: Final = entries.c.status == sa.literal_column("'todo'")
_URGENCY: Final = sa.case((syncs.c.requested.is_not(None), 0), (has_newer_revision(), 1), else_=2)
_SMALL: Final = syncs.c.objects <= LARGE_ABOVE
_ANY_DUE: Final = _select_due().limit(1)
_ANY_SMALL_DUE: Final = _select_due().where(_SMALL).limit(1)
