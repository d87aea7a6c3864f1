"""
Claims: the time-limited right to reconcile a sync, on the sync's own row.

The database's clock decides what has expired. The fence grows with every claim, so that a holder that lost its claim
can write nothing. On PostgreSQL claimers skip rows that others hold; on SQLite writes are one at a time anyway. A claim
that expired without a result is logged as a run `interrupted`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.audit import AuditOutcome
from phasesync.core.credential import CredentialStatus
from phasesync.core.run import Outcome, Run, RunError
from phasesync.core.schedule import LARGE_ABOVE
from phasesync.core.sync import SyncStatus, Trigger
from phasesync.core.sync_claim import Claim, DueSync, WriteConditions
from phasesync.core.times import JUMP
from phasesync.errors import ClaimHeldError, InterruptedRunError, NotFoundError
from phasesync.store.base import BaseStore, new_id
from phasesync.store.database import in_id_order, lock_rows
from phasesync.store.db_time import LONGEST_WAIT, after, from_microseconds, next_fence, now, to_microseconds
from phasesync.store.key_ring import KeyRing
from phasesync.store.queue_schema import HIGHEST_PRIORITY, LARGE, SMALL, entries, entry_events
from phasesync.store.restore_mark import is_restored, select_mark
from phasesync.store.run_requests import REQUESTER
from phasesync.store.runs import insert_runs
from phasesync.store.server_run import is_compared, place_of_sync
from phasesync.store.sync_rows import IS_CLAIMED, claimed_by, settled
from phasesync.store.tables import credentials, environments, syncs
from phasesync.store.wake_ups import notify_daemons

URGENCIES: Final = (0, 1, 2)
"""Values of `syncs.urgency`: requested, edited, due by time."""
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Due:
    """
    When a daemon may claim a sync next.

    Attributes:
        due_in: time until then; 0 if a sync is due now, None if none will be as things stand.
        urgencies: the urgencies of which a sync is due now.
    """

    due_in: timedelta | None
    urgencies: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ExpiredClaim:
    """A claim that expired without a result."""

    sync_id: str
    trigger: str
    actor: str
    started_at: datetime


def log_interrupted_runs(connection: sa.Connection, keys: KeyRing, former: Sequence[ExpiredClaim]) -> list[Run]:
    """Store a run `interrupted` for each expired claim, and return them; their syncs become pending."""
    if not former:
        return []
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
            **settled(SyncStatus.PENDING.value),
            interrupted_at=None,
            status_reason=None,
        ),
        [{"sync": run.sync_id, "run": run.id} for run, _ in runs],
    )
    return [run for run, _ in runs]


_CLEARED: Final = {"claim_owner": None, "claim_until": None}

_returned: Final = (
    syncs.c.id,
    syncs.c.fence,
    syncs.c.claim_trigger,
    syncs.c.claim_actor,
    syncs.c.interrupted_at,
    syncs.c.objects,
    sa.select(environments.c.data_key_id)
    .where(environments.c.id == syncs.c.environment_id)
    .correlate(syncs)
    .scalar_subquery()
    .label("data_key_id"),
)


class ClaimStore(BaseStore):
    """Claims of syncs."""

    def next_due(self, *, large: bool = True) -> Due:
        """
        Return when a daemon may claim a sync next: three reads of an index, whatever the number of syncs.

        `large`: whether large syncs count (`core.schedule.LARGE_ABOVE`).
        """
        # As text, since a daemon that waits asks this often: what SQLAlchemy does for an expression takes longer.
        with self._database.read_once() as connection:
            clock, *due_at = connection.exec_driver_sql(_next_due_sql(connection.dialect, large=large)).one()
        # Instants as numbers, as the clock: SQLite may hold text in any column.
        times = {urgency: at for urgency, at in enumerate(due_at) if isinstance(at, int)}
        return Due(
            due_in=timedelta(microseconds=max(0, min(times.values()) - clock)) if times else None,
            urgencies=tuple(urgency for urgency, at in times.items() if at <= clock),
        )

    def claim_due(
        self,
        owner: str,
        *,
        limit: int,
        ttl: timedelta,
        large: int | None = None,
        urgencies: Sequence[int] = URGENCIES,
    ) -> list[Claim]:
        """
        Claim up to `limit` syncs that are due and free: the most urgent first, and of those the longest due.

        A sync with an expired claim is free, and the expired run is logged `interrupted`. To report such runs, call
        `release_expired` first.

        Args:
            owner: claims them.
            limit: how many at most.
            ttl: life of the claims.
            large: how many of them may be large (`core.schedule.LARGE_ABOVE`); None means any number.
            urgencies: of the syncs to claim, from `next_due`.
        """
        rows: list[sa.Row[Any]] = []
        large = limit if large is None else large
        with self._database.write() as connection:
            for urgency in urgencies:
                if (free := limit - len(rows)) <= 0:
                    break
                claimed_large = sum(row.objects > LARGE_ABOVE for row in rows)
                sizes = _Sizes.of(free, large - claimed_large)
                values = {"of_urgency": urgency, "by_owner": owner, "ttl": ttl // _MICROSECOND, "most": free}
                if sizes is _Sizes.SOME_LARGE:
                    values["most_large"] = large - claimed_large
                rows += connection.execute(_claim_due(sizes), values).all()
            self._log_taken_over(connection, rows)
        return [_to_claim(row, owner) for row in rows]

    def claim_if_due(self, sync_ids: Sequence[str], owner: str, *, ttl: timedelta) -> list[Claim]:
        """Claim those of some syncs that are due and free now, as `claim_due` does. Waits for no lock."""
        values = {"these": list(sync_ids), "by_owner": owner, "ttl": ttl // _MICROSECOND}
        with self._database.write() as connection:
            rows = connection.execute(_claim_these(), values).all()
            self._log_taken_over(connection, rows)
        return [_to_claim(row, owner) for row in rows]

    def due_for_queue(self, *, most: int, urgencies: Sequence[int] = URGENCIES) -> list[DueSync]:
        """
        Return syncs that are due and free and not in the queue yet, the most urgent first.

        An entry of a sync that has become more urgent since it was put into the queue gets the priority of that.

        Only if the database has the tables of `store.queue_schema`. An entry that a daemon has taken out and not
        finished counts for a moment only: the daemon may have died.

        Args:
            most: how many entries of small syncs the queue may hold, and how many of large ones.
            urgencies: of the syncs, from `next_due`.
        """
        due: list[DueSync] = []
        if not urgencies:
            return due
        if urgencies != (URGENCIES[-1],):  # What is due by time is put in with the lowest priority.
            with self._database.write_once() as connection:
                connection.execute(_RAISE_PRIORITIES)
        with self._database.read() as connection:
            waiting = {row.queue_name: row.waiting for row in connection.execute(_COUNT_WAITING, {"most": 2 * most})}
            for queue in (SMALL, LARGE):
                room = most - waiting.get(queue, 0)
                for urgency in urgencies:
                    if room <= 0:
                        break
                    values = {"of_urgency": urgency, "most": room}
                    ids = connection.scalars(_due_and_not_queued(queue), values).all()
                    due += [DueSync(sync_id=sync_id, urgency=urgency, large=queue == LARGE) for sync_id in ids]
                    room -= len(ids)
        return sorted(due, key=lambda sync: sync.urgency)

    def claim(self, sync_id: str, owner: str, *, trigger: Trigger, actor: str, ttl: timedelta) -> Claim:
        """Claim one sync, due or not. ClaimHeldError; NotFoundError if it was removed."""
        statement = _claim_update(sa.literal(trigger.value), sa.literal(actor))
        values = {"by_owner": owner, "ttl": ttl // _MICROSECOND}
        with self._database.write() as connection:
            rows = connection.execute(
                statement.where(syncs.c.id == sync_id, _free()).returning(*_returned), values
            ).all()
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
            connection.execute(syncs.update().where(IS_CLAIMED).values(**_CLEARED), claimed_by(claim))
            notify_daemons(connection)

    def write_conditions(self, sync_id: str) -> WriteConditions:
        """Return what forbids a write of a sync now; one statement, sent before every write to AWS."""
        with self._database.read_once() as connection:
            row = connection.execute(_WRITE_CONDITIONS, {"sync": sync_id}).one()
            return WriteConditions(
                paused=not row.may_run,
                restored=is_restored(row, self._keys),
                compared=is_compared(connection, row, place=row.place),
            )

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
            if not connection.scalar(_ANY_EXPIRED):
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
            self._log_interrupted(connection, former)
            # A clock that was ahead set these times; since it was set back, they would be reached much too late.
            woken_at = sa.case((syncs.c.woken_at.is_not(None), now()))
            connection.execute(
                syncs.update()
                .where(ahead)
                .values(claimed_at=now(), retry_at=None, next_due_at=now(), woken_at=woken_at)
            )
            notify_daemons(connection)
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
        self._log_interrupted(connection, former)

    def _log_interrupted(self, connection: sa.Connection, former: Sequence[ExpiredClaim]) -> None:
        """Log the runs of expired claims; in the audit log too, since such a run may have written to AWS."""
        for run in log_interrupted_runs(connection, self._keys, former):
            details = {"run": run.id, "trigger": run.trigger, "outcome": run.outcome}
            outcome = AuditOutcome.FAILED
            self._audit(connection, "sync.run", run.sync, outcome=outcome, details=details, actor=run.actor)


# Each condition reads the end of an index. A claim without an end, which only an alteration makes, is due by itself.
_ANY_EXPIRED: Final = sa.select(
    sa.or_(
        sa.exists().where(syncs.c.claim_until < now()),
        sa.exists().where(syncs.c.claim_until > after(LONGEST_WAIT)),
        sa.exists().where(syncs.c.claimed_at > after(JUMP)),
    )
)


def _free() -> sa.ColumnElement[bool]:
    return syncs.c.claim_owner.is_(None) | _expired()


def _expired() -> sa.ColumnElement[bool]:
    until = syncs.c.claim_until
    return until.is_(None) | (until < now()) | (until > after(LONGEST_WAIT))


class _Sizes(Enum):
    """Which syncs may be claimed by their number of objects."""

    ANY = auto()
    SOME_LARGE = auto()
    SMALL = auto()

    @classmethod
    def of(cls, free: int, large: int) -> "_Sizes":
        """Return which syncs may be claimed if there is room for some, and for some large ones among them."""
        return cls.ANY if large >= free else cls.SOME_LARGE if large > 0 else cls.SMALL


_WRITE_CONDITIONS: Final[sa.Select[Any]] = sa.select(
    *select_mark().selected_columns,
    sa.exists()
    .where(syncs.c.id == sa.bindparam("sync"), syncs.c.paused_at.is_(None) | (syncs.c.paused_until <= now()))
    .label("may_run"),
    sa.select(place_of_sync()).where(syncs.c.id == sa.bindparam("sync")).scalar_subquery().label("place"),
)

_SMALL: Final = syncs.c.objects <= LARGE_ABOVE
_urgency: Final = sa.bindparam("of_urgency", type_=sa.Integer)

# A subquery and not a join: the index gives the order, and few rows are read of it.
_CREDENTIAL_COMPLETE: Final = (
    sa.select(credentials.c.status).where(credentials.c.id == syncs.c.credential_id).scalar_subquery()
    != CredentialStatus.INCOMPLETE.value
)


def _select_next_due(*which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return the select of the clock, and for each urgency of the time when its first sync is due."""
    firsts = (
        sa.select(sa.type_coerce(syncs.c.due_at, sa.BigInteger()))
        .where(syncs.c.urgency == urgency, syncs.c.due_at.is_not(None), _CREDENTIAL_COMPLETE, *which)
        .order_by(syncs.c.due_at)
        .limit(1)
        .scalar_subquery()
        for urgency in URGENCIES
    )
    return sa.select(now().label("clock"), *firsts)


@cache
def _next_due_sql(dialect: sa.Dialect, *, large: bool) -> str:
    statement = _select_next_due() if large else _select_next_due(_SMALL)
    return str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


@cache
def _claim_due(sizes: _Sizes) -> Any:
    """Return the statement that claims syncs of one urgency; it is built once."""
    match sizes:
        case _Sizes.ANY:
            due = _next_due("due", "most")
        case _Sizes.SMALL:
            due = _next_due("due", "most", _SMALL)
        case _:
            large = _next_due("large", "most_large", ~_SMALL)
            due = _next_due("due", "most", _SMALL | syncs.c.id.in_(sa.select(large.c.id)))
    update = _claim_update(_trigger_of_due(), sa.func.coalesce(syncs.c.requested_by, REQUESTER))
    return update.where(syncs.c.id.in_(sa.select(due.c.id))).returning(*_returned)


def _next_due(name: str, limit: str, *which: sa.ColumnElement[bool]) -> sa.CTE:
    """
    Return the syncs of one urgency that have been due for the longest time, locked.

    A CTE, because PostgreSQL may run a subquery with LIMIT more than once and would then lock more rows.
    """
    return (
        sa.select(syncs.c.id)
        .where(syncs.c.urgency == _urgency, syncs.c.due_at <= now(), _CREDENTIAL_COMPLETE, *which)
        .order_by(syncs.c.due_at)
        .limit(sa.bindparam(limit, type_=sa.Integer))
        .with_for_update(skip_locked=True, of=syncs, key_share=True)
        .cte(name)
    )


@cache
def _claim_these() -> Any:
    """Return the statement that claims those of some syncs that are due."""
    these = syncs.c.id.in_(sa.bindparam("these", expanding=True))
    due = (
        sa.select(syncs.c.id)
        .where(these, syncs.c.due_at <= now(), _CREDENTIAL_COMPLETE)
        .with_for_update(skip_locked=True, of=syncs, key_share=True)
        .cte("due")
    )
    update = _claim_update(_trigger_of_due(), sa.func.coalesce(syncs.c.requested_by, REQUESTER))
    return update.where(syncs.c.id.in_(sa.select(due.c.id))).returning(*_returned)


# --- the queue of `store.queue_schema`

_CLOCK: Final = sa.func.clock_timestamp(type_=sa.DateTime(timezone=True))
_TAKEN_LATELY: Final = timedelta(seconds=5)
"""From an entry's way out of the queue to the claim of its sync it takes milliseconds."""

# An enumeration of PostgreSQL is compared with literals only.
_WAITS: Final = entries.c.status == sa.literal_column("'todo'")
_RAISE_PRIORITIES: Final = (
    sa.update(entries)
    .values(priority=HIGHEST_PRIORITY - syncs.c.urgency)
    .where(
        entries.c.id.in_(
            # An entry that a daemon is taking out at this moment needs no priority.
            sa.select(entries.c.id)
            .join(syncs, syncs.c.id == entries.c.queueing_lock)
            .where(_WAITS, entries.c.priority < HIGHEST_PRIORITY - syncs.c.urgency, syncs.c.due_at <= now())
            .with_for_update(skip_locked=True, of=entries)
        ),
        syncs.c.id == entries.c.queueing_lock,
    )
)
_most: Final = sa.bindparam("most", type_=sa.Integer)
_some_waiting: Final = sa.select(entries.c.queue_name).where(_WAITS).limit(_most).subquery()
_COUNT_WAITING: Final = sa.select(_some_waiting.c.queue_name, sa.func.count().label("waiting")).group_by(
    _some_waiting.c.queue_name
)
"""Queues and how many entries wait in each; counts no further than `most` altogether."""


@cache
def _due_and_not_queued(queue: str) -> Any:
    """Return the select of syncs of one urgency that are due and belong into a queue, and have no entry yet."""
    of_sync = entries.c.queueing_lock == syncs.c.id
    taken = sa.exists().where(
        of_sync,
        entries.c.worker_id.is_not(None),
        entries.c.status == sa.literal_column("'doing'"),
        entry_events.c.job_id == entries.c.id,
        entry_events.c.type == sa.literal_column("'started'"),
        # On both sides, for a clock that was set back.
        entry_events.c.at.between(_CLOCK - _TAKEN_LATELY, _CLOCK + _TAKEN_LATELY),
    )
    return (
        sa.select(syncs.c.id)
        .where(
            syncs.c.urgency == _urgency,
            syncs.c.due_at <= now(),
            _CREDENTIAL_COMPLETE,
            _SMALL if queue == SMALL else ~_SMALL,
            ~sa.exists().where(of_sync, _WAITS),
            ~taken,
        )
        .order_by(syncs.c.due_at)
        .limit(_most)
    )


def _trigger_of_due() -> sa.ColumnElement[str]:
    return sa.case(
        (syncs.c.requested.is_not(None), syncs.c.requested),
        ((syncs.c.failures > 0) & (syncs.c.next_due_at <= now()), sa.literal(Trigger.RETRY.value)),
        (syncs.c.woken_at.is_not(None), sa.literal(Trigger.CHANGE.value)),
        else_=sa.literal(Trigger.SCHEDULE.value),
    )


def _claim_update(trigger: sa.ColumnElement[str], actor: sa.ColumnElement[str]) -> sa.Update:
    """Return the update that claims syncs, with the parameters `by_owner` and `ttl` (microseconds)."""
    return syncs.update().values(
        claim_owner=sa.bindparam("by_owner", type_=sa.Text),
        claim_until=now() + sa.bindparam("ttl", type_=sa.BigInteger),
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
        data_key_id=row.data_key_id,
        objects=row.objects,
    )
