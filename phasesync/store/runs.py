"""
Runs: the sync log, and the end of a run.

`RunStore.finish` is the only place where a run ends: in one transaction it stores the run, the sync's status and due
times and what the run read, and releases the claim.

Counts, revisions, error and changes of a run are one ciphertext: messages and reasons may name keys. Numbers follow the
order of commits, so that a reader who follows the log misses no run.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.audit import NAMES_IN_LOG, AuditOutcome
from phasesync.core.pages import PAGE_SIZE, Page, bad_cursor, page_of
from phasesync.core.remote import JournalEntry
from phasesync.core.run import Outcome, Run
from phasesync.core.sync import SyncStatus, Trigger
from phasesync.core.sync_claim import AfterRun, Claim
from phasesync.errors import NotFoundError, StaleDatabaseError
from phasesync.store.alert_rows import alert_after_run
from phasesync.store.base import BaseStore, from_pair_cursor, full_id, to_pair_cursor
from phasesync.store.database import insert_or_update
from phasesync.store.db_time import after as later
from phasesync.store.db_time import before, from_microseconds, now, to_microseconds
from phasesync.store.journal import store_entries
from phasesync.store.key_ring import KeyRing
from phasesync.store.restore_mark import set_mark
from phasesync.store.run_requests import WAITS_FOR_BUDGET, WAITS_FOR_WINDOW
from phasesync.store.serialization import members, to_member, to_plain
from phasesync.store.sync_rows import (
    check_sync_mac,
    has_newer_revision,
    lock_claimed,
    reason_context,
    settled,
    with_mac,
)
from phasesync.store.tables import environments, runs, sync_reads, syncs
from phasesync.store.wake_ups import notify_daemons

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class PrunedRuns:
    """
    What one step of the retention did.

    Attributes:
        count: how many runs were deleted.
        next: where the next step goes on; None if there are no more old runs.
    """

    count: int
    next: str | None


_LONGEST_NUMBER: Final = 18
"""Digits of a number of 64 bits."""


@dataclass(frozen=True, kw_only=True)
class RunTail:
    """The end of the log: runs, oldest first, and the id of the newest run of all; None if there is none."""

    runs: tuple[Run, ...]
    last_id: str | None


class RunStore(BaseStore):
    """Runs of syncs."""

    def finish(self, claim: Claim, run: Run, after: AfterRun, entries: Sequence[JournalEntry] = ()) -> timedelta | None:
        """
        Store a run with its changes and the state that it leaves behind, and release the claim, in one transaction.

        Args:
            claim: the claim of the sync.
            run: the run.
            after: the state of the sync.
            entries: what the run found out about remote objects and has not stored yet.

        Returns:
            The time from the commit of the oldest edit that was not applied until this run had applied it; None if the
            run wrote no version, left something to do, or applied no edit.

        Raises:
            ClaimLostError: a successor has the claim; nothing is stored.
            CiphertextError: the row of the sync was altered; nothing is stored.
        """
        with self._database.write() as connection:
            stale = run.error is not None and run.error.cls == StaleDatabaseError.__name__
            if stale and set_mark(connection, self._keys):
                self._audit(connection, "db.mark-restored", "database", details={"sync": run.sync}, actor=run.actor)
            if after.reads is not None:
                _wait_for_edits(connection, after.reads.keys() - after.former_reads.keys())
            row = lock_claimed(connection, claim)
            check_sync_mac(row, self._keys)
            if after.reads is not None:
                _store_reads(connection, row.id, after.former_reads, after.reads)
            applied = after.applied_revision is not None
            finished, configured = _finished(applied), self._configured(connection, row, after)
            alerted = alert_after_run(connection, row, after.status, drifted=after.drifted, contested=after.contested)
            connection.execute(
                finished.values(**configured) if configured else finished,
                {**self._settled(row, run, after), "alerted": alerted},
            )
            store_entries(connection, self._keys, row.data_key_id, entries)
            insert_runs(connection, self._keys, [(run, row.data_key_id)])
            if row.request_number != row.claim_request:
                notify_daemons(connection)
            if any(change.outcome is not Outcome.UNCHANGED for change in run.changes):
                self._audit_run(connection, run)
        if not applied or not run.versions_written or row.behind_since is None:
            return None
        behind_since: datetime = row.behind_since
        return max(from_microseconds(row.clock) - behind_since, timedelta(0))

    def _audit_run(self, connection: sa.Connection, run: Run) -> None:
        """Write that a run changed something at AWS, or tried to; what a run only looked at is in the sync log."""
        tried = {Outcome.APPLIED, Outcome.FAILED, Outcome.UNKNOWN} & {change.outcome for change in run.changes}
        if not tried and not run.versions_written:
            return
        self._audit(
            connection,
            "sync.run",
            run.sync,
            outcome=AuditOutcome.DONE if run.outcome is Outcome.APPLIED else AuditOutcome.FAILED,
            details={
                "run": run.id,
                "trigger": run.trigger,
                "outcome": run.outcome,
                "versions_written": run.versions_written,
                "counts": run.counts,
                "revisions": run.revisions,
                "objects": [change.remote_name for change in run.changes if change.outcome in tried][:NAMES_IN_LOG],
            },
            actor=run.actor,
        )

    def halt(self, claim: Claim, run: Run, *, retry_in: timedelta) -> None:
        """
        Log a failed run of a sync with an altered configuration or journal, and halt the sync. Reads neither of them.

        Args:
            claim: the claim of the sync.
            run: the run to log.
            retry_in: time until the sync is checked again.

        Raises:
            ClaimLostError: a successor has the claim; nothing is stored.
        """
        with self._database.write() as connection:
            row = lock_claimed(connection, claim)
            reason = run.error.message if run.error else None
            context = reason_context(row.id, "status_reason")
            connection.execute(
                syncs.update()
                .where(syncs.c.id == row.id)
                .values(
                    **settled(SyncStatus.HALTED.value),
                    alerted_status=alert_after_run(connection, row, SyncStatus.HALTED, drifted=False, contested=False),
                    status_reason=self._keys.encrypt_text(row.data_key_id, context, reason),
                    error_class=run.error.cls if run.error else None,
                    last_run_id=run.id,
                    retry_at=later(retry_in),
                    next_due_at=later(retry_in),
                    requested=None,
                    requested_by=None,
                    woken_at=_still_woken(answered=sa.true()),
                    claim_owner=None,
                    claim_until=None,
                )
            )
            insert_runs(connection, self._keys, [(run, row.data_key_id)])

    def page_runs(
        self,
        *,
        sync: str | None = None,
        outcomes: Sequence[Outcome] = (),
        since: datetime | None = None,
        after: str | None = None,
        limit: int = PAGE_SIZE,
    ) -> Page[Run]:
        """
        Return runs with their changes, newest first.

        The order is that of the log, or of the ends of runs with `outcomes` or `since`, for which there is an index.
        They differ only where the clock was set back, or runs ended at the same moment.

        Args:
            sync: name of a sync; None means all.
            outcomes: those with one of these; empty means all.
            since: those that ended at this time or later; None means all.
            after: a cursor; None means from the beginning.
            limit: maximum number.

        Raises:
            NotFoundError: the sync.
            InvalidInputError: the cursor.
        """
        with self._database.read() as connection:
            sync_id = None if sync is None else _sync_id(connection, sync)
            rows = _newest(connection, sync_id, outcomes, since, after, limit + 1)
        return page_of(
            rows, limit, lambda row: to_run(row, self._keys), lambda row: to_pair_cursor(row.ended_at, row.number)
        )

    def list_runs(
        self,
        *,
        sync: str | None = None,
        outcomes: Sequence[Outcome] = (),
        since: datetime | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Return up to `limit` runs as `page_runs` does; with `after` (a run id), later runs, oldest first."""
        if after is None:
            return list(self.page_runs(sync=sync, outcomes=outcomes, since=since, limit=limit).items)
        statement = select_runs().limit(limit).order_by(runs.c.number)
        with self._database.read() as connection:
            if sync is not None:
                statement = statement.where(runs.c.sync_id == _sync_id(connection, sync))
            if outcomes:
                statement = statement.where(runs.c.outcome.in_(list(outcomes)))
            if since is not None:
                statement = statement.where(runs.c.ended_at >= since)
            number = connection.scalar(sa.select(runs.c.number).where(runs.c.id == after))
            if number is None:
                raise _no_run(after)
            rows = connection.execute(statement.where(runs.c.number > number)).all()
        return [to_run(row, self._keys) for row in rows]

    def tail(self, *, sync: str | None, outcomes: Sequence[Outcome], since: datetime | None, limit: int) -> "RunTail":
        """Return the newest runs, oldest first, and where the log ended then. Arguments as of `page_runs`."""
        # One snapshot: a run that ends in between is neither missed nor there twice.
        with self._database.read() as connection:
            sync_id = None if sync is None else _sync_id(connection, sync)
            rows = _newest(connection, sync_id, outcomes, since, None, limit)
            last = sa.select(runs.c.id).order_by(runs.c.number.desc()).limit(1)
            last_id = connection.scalar(last if sync_id is None else last.where(runs.c.sync_id == sync_id))
        return RunTail(runs=tuple(to_run(row, self._keys) for row in reversed(rows)), last_id=last_id)

    def get_run(self, run_id: str) -> Run:
        """Return one run. NotFoundError."""
        with self._database.read() as connection:
            row = connection.execute(select_runs().where(runs.c.id == run_id)).first()
        if row is None:
            raise _no_run(run_id)
        return to_run(row, self._keys)

    def before(self, run_id: str) -> Run | None:
        """Return the run of the same sync before a run; None if there is none, or it was deleted."""
        this = sa.select(runs.c.sync_id, runs.c.number).where(runs.c.id == run_id).subquery()
        former = select_runs().where(runs.c.sync_id == this.c.sync_id, runs.c.number < this.c.number)
        with self._database.read() as connection:
            row = connection.execute(former.order_by(runs.c.number.desc()).limit(1)).first()
        return None if row is None else to_run(row, self._keys)

    def full_run_id(self, prefix: str) -> str:
        """Return the id of the only run that begins with a prefix. NotFoundError, InvalidInputError."""
        with self._database.read() as connection:
            run_id = full_id(connection, runs.c.id, prefix, kind="run", lists="phasesync runs list")
        if run_id is None:
            raise _no_run(prefix)
        return run_id

    def prune_runs(self, *, older_than: timedelta, limit: int = 500, after: str | None = None) -> PrunedRuns:
        """
        Delete, of the next `limit` runs that are older than this, all but the newest run of a sync.

        One short transaction. What is read and locked does not depend on the size of the log, nor on how many old runs
        are kept: the next call goes on where this one ended.

        Args:
            older_than: age of the runs.
            limit: how many runs to look at.
            after: where the former call ended; None begins with the oldest run.
        """
        looked_at = sa.select(runs.c.ended_at, runs.c.number).where(runs.c.ended_at < before(older_than))
        if after is not None:
            looked_at = looked_at.where(*_beyond(after))
        looked_at = looked_at.order_by(runs.c.ended_at, runs.c.number)
        with self._database.read() as connection:
            last = connection.execute(_at_end_of(looked_at, limit)).first()
        if last is None:
            return PrunedRuns(count=0, next=None)
        upto = to_pair_cursor(last.ended_at, last.number)
        newer = runs.alias("newer")
        has_newer = sa.exists().where(newer.c.sync_id == runs.c.sync_id, newer.c.number > runs.c.number)
        # In no order: what others have locked is skipped, and an order by number would have SQLite read the whole log.
        numbers = sa.select(runs.c.number).where(has_newer, *_upto(upto), *([] if after is None else _beyond(after)))
        with self._database.write() as connection:
            count = connection.execute(
                runs.delete().where(runs.c.number.in_(numbers.with_for_update(skip_locked=True, of=runs)))
            ).rowcount
        return PrunedRuns(count=count, next=upto if last.looked_at == limit else None)

    def _settled(self, row: sa.Row[Any], run: Run, after: AfterRun) -> dict[str, Any]:
        """Return the parameters of `_finished`."""
        due_in = after.due_in
        if due_in is None and after.status is SyncStatus.PENDING:
            due_in = timedelta(0)  # a pending sync always gets another run
        context = reason_context(row.id, "status_reason")
        return {
            "sync": row.id,
            "new_status": after.status,
            "new_reason": self._keys.encrypt_text(row.data_key_id, context, after.reason),
            "new_error_class": run.error.cls if run.error else _waits_for(after),
            "new_failures": after.failures,
            "run": run.id,
            "new_objects": after.objects or row.objects,
            "new_full_at": None if after.budget_full_at is None else to_microseconds(after.budget_full_at),
            "new_revision": row.applied_revision if after.applied_revision is None else after.applied_revision,
            "retry_in": None if after.retry_in is None else after.retry_in // _MICROSECOND,
            "due_in": None if due_in is None else due_in // _MICROSECOND,
        }

    def _configured(self, connection: sa.Connection, row: sa.Row[Any], after: AfterRun) -> dict[str, Any]:
        """
        Return the configuration columns that a run changes.

        If there was a request since the claim, the run may have used an older configuration, and changes nothing here:
        the next run does it again.
        """
        if row.request_number != row.claim_request:
            return {}
        changes: dict[str, Any] = {}
        if after.account is not None and row.account is None:
            changes["account"] = after.account
        if after.adopt_done:
            changes |= {"adopt": None, "adopt_versions": None}
        if after.approval_used:
            changes["approved_digest"] = None
        return with_mac(connection, self._keys, row, changes, lenient=True) if changes else {}


def _still_woken(*, answered: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    """
    Return the value of `woken_at` at the end of a run: a mark if there is a newer edit or request, else NULL.

    The wait for the next run counts from now: a sync that is edited all the time must not come before the others.

    Args:
        answered: whether the run answers the newest request.
    """
    return sa.case((~answered | has_newer_revision(), now()), else_=None)


def _waits_for(after: AfterRun) -> str | None:
    return WAITS_FOR_WINDOW if after.waits_for_window else WAITS_FOR_BUDGET if after.waits_for_budget else None


@cache
def _finished(applied: bool) -> sa.Update:
    """Return the update of a sync at the end of its run, by whether all that it read is applied; it is built once."""
    # A request that arrived during the run leads to one more run.
    answered = syncs.c.request_number == syncs.c.claim_request
    number = sa.BigInteger()
    full_at = sa.bindparam("new_full_at", type_=number)
    # An edit that is newer than what the run read was committed after the claim.
    newer = sa.case((has_newer_revision(), syncs.c.claimed_at), else_=None)
    return (
        syncs.update()
        .where(syncs.c.id == sa.bindparam("sync"))
        .values(
            **settled(sa.bindparam("new_status")),
            alerted_status=sa.bindparam("alerted"),
            status_reason=sa.bindparam("new_reason"),
            error_class=sa.bindparam("new_error_class"),
            failures=sa.bindparam("new_failures"),
            last_run_id=sa.bindparam("run"),
            objects=sa.bindparam("new_objects"),
            applied_revision=sa.bindparam("new_revision"),
            # NULL plus the time is NULL.
            retry_at=now() + sa.bindparam("retry_in", type_=number),
            next_due_at=now() + sa.bindparam("due_in", type_=number),
            requested=sa.case((answered, None), else_=syncs.c.requested),
            requested_by=sa.case((answered, None), else_=syncs.c.requested_by),
            woken_at=_still_woken(answered=answered),
            behind_since=newer if applied else syncs.c.behind_since,
            # Objects that the run did not write have the budget that they had.
            budget_full_at=sa.case(
                (
                    sa.type_coerce(syncs.c.budget_full_at, number) > sa.func.coalesce(full_at, now()),
                    syncs.c.budget_full_at,
                ),
                else_=full_at,
            ),
            claim_owner=None,
            claim_until=None,
        )
    )


def _wait_for_edits(connection: sa.Connection, environment_ids: Collection[str]) -> None:
    """
    Wait for edits of environments that a run has read for the first time.

    Such an edit does not know yet that this sync reads the environment, so it cannot mark it. It holds the row of the
    environment until its commit; afterwards this transaction sees the new revision. An edit that begins later waits for
    this transaction, and then finds what the sync reads. Locked before the sync, in the order of edits.
    """
    if environment_ids and connection.dialect.name != "sqlite":
        ids = sa.select(environments.c.id).where(environments.c.id.in_(environment_ids)).order_by(environments.c.id)
        connection.execute(ids.with_for_update(read=True)).all()


def _store_reads(connection: sa.Connection, sync_id: str, former: Mapping[str, int], reads: Mapping[str, int]) -> None:
    """Replace what a sync read last; send statements only for differences."""
    if obsolete := [environment_id for environment_id in former if environment_id not in reads]:
        connection.execute(
            sync_reads.delete().where(sync_reads.c.sync_id == sync_id, sync_reads.c.environment_id.in_(obsolete))
        )
    if newer := {key: revision for key, revision in sorted(reads.items()) if former.get(key) != revision}:
        connection.execute(
            _upsert_read(connection.dialect.name),
            [{"reader": sync_id, "read": key, "seen": revision} for key, revision in newer.items()],
        )


@cache
def _upsert_read(dialect: str) -> Any:
    # An environment that was removed meanwhile is left out; its removal has requested a run.
    existing = sa.select(
        sa.bindparam("reader", type_=sa.String), environments.c.id, sa.bindparam("seen", type_=sa.BigInteger)
    ).where(environments.c.id == sa.bindparam("read"))
    insert = insert_or_update(dialect, sync_reads).from_select(["sync_id", "environment_id", "revision"], existing)
    return insert.on_conflict_do_update(
        index_elements=["sync_id", "environment_id"], set_={"revision": insert.excluded.revision}
    )


def _page_of_numbers(
    sync_id: str | None, outcomes: Sequence[Outcome], since: datetime | None, after: str | None, limit: int
) -> sa.Subquery:
    """Return `number`, and `ended_at` where it decides the order, of a page of runs; found through indexes alone."""
    if sync_id is not None or not (outcomes or since):
        # One sync has few runs, which may well be looked through.
        numbers = sa.select(runs.c.number)
        if sync_id is not None:
            numbers = numbers.where(runs.c.sync_id == sync_id)
        if outcomes:
            numbers = numbers.where(runs.c.outcome.in_(list(outcomes)))
        if since is not None:
            numbers = numbers.where(runs.c.ended_at >= since)
        if after is not None:
            numbers = numbers.where(runs.c.number < _number(after))
        return numbers.order_by(runs.c.number.desc()).limit(limit).subquery("page")
    # The first runs of each outcome, then the first of those: each is a range of the index.
    ranges = [runs.c.outcome == outcome for outcome in dict.fromkeys(outcomes)] or [sa.true()]
    firsts = []
    for which in ranges:
        places = sa.select(runs.c.ended_at, runs.c.number).where(which)
        if since is not None:
            places = places.where(runs.c.ended_at >= since)
        if after is not None:
            places = places.where(*_upto(after), runs.c.number != _number(after))
        firsts.append(sa.select(places.order_by(*_newest_first(runs.c)).limit(limit).subquery()))
    newest = sa.union_all(*firsts).subquery("newest")
    return sa.select(newest).order_by(*_newest_first(newest.c)).limit(limit).subquery("page")


def _newest_first(columns: Any) -> list[sa.ColumnElement[Any]]:
    return [columns[name].desc() for name in ("ended_at", "number") if name in columns]


def _at_end_of(places: sa.Select[Any], limit: int) -> sa.Select[Any]:
    """Return the select of the last of the first `limit` places, and how many there are (`looked_at`)."""
    first = places.limit(limit).subquery("first")
    count = sa.select(sa.func.count()).select_from(first).scalar_subquery()
    return sa.select(first, count.label("looked_at")).order_by(*_newest_first(first.c)).limit(1)


def _place(cursor: str) -> sa.Tuple:
    """Return the end and the number of the run that a cursor is. InvalidInputError."""
    return sa.tuple_(sa.literal(from_pair_cursor(cursor)[0], sa.BigInteger), sa.literal(_number(cursor), sa.BigInteger))


def _beyond(cursor: str) -> list[sa.ColumnElement[bool]]:
    """
    Return the conditions that a run ended after the one that a cursor is.

    The first follows from the second; SQLite finds the range of the index by it.
    """
    at = sa.literal(from_pair_cursor(cursor)[0], sa.BigInteger)
    return [_ended_at >= at, sa.tuple_(runs.c.ended_at, runs.c.number) > _place(cursor)]


def _upto(cursor: str) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that a run ended no later than the one that a cursor is."""
    at = sa.literal(from_pair_cursor(cursor)[0], sa.BigInteger)
    return [_ended_at <= at, sa.tuple_(runs.c.ended_at, runs.c.number) <= _place(cursor)]


_ended_at: Final = sa.type_coerce(runs.c.ended_at, sa.BigInteger)


def _number(cursor: str) -> int:
    number = from_pair_cursor(cursor)[1]
    if not number.isdigit() or len(number) > _LONGEST_NUMBER:
        raise bad_cursor()
    return int(number)


def _newest(
    connection: sa.Connection,
    sync_id: str | None,
    outcomes: Sequence[Outcome],
    since: datetime | None,
    after: str | None,
    limit: int,
) -> Sequence[sa.Row[Any]]:
    page = _page_of_numbers(sync_id, outcomes, since, after, limit)
    statement = select_runs().join(page, page.c.number == runs.c.number).order_by(*_newest_first(page.c))
    return connection.execute(statement).all()


def _sync_id(connection: sa.Connection, name: str) -> str:
    sync_id: str | None = connection.scalar(sa.select(syncs.c.id).where(syncs.c.name_key == name.lower()))
    if sync_id is None:
        raise NotFoundError(f"there is no sync {name}", hint="phasesync syncs list")
    return sync_id


def _no_run(run_id: str) -> NotFoundError:
    return NotFoundError(f"there is no run {run_id}", hint="phasesync runs list")


# --- rows

_PLAIN: Final = (
    "id",
    "sync_id",
    "trigger",
    "actor",
    "attempt",
    "outcome",
    "started_at",
    "ended_at",
    "next_attempt_at",
    "aws_calls",
    "versions_written",
)
"""Plain columns; every other member of a run, except the name of its sync, is in `details`."""

_ORDER_LOCK: Final = 0x70_68_61_73_65_72_75_6E
"""Advisory lock of PostgreSQL ("phaserun"): held from the numbering of a run to its commit."""


def insert_runs(connection: sa.Connection, keys: KeyRing, entries: Sequence[tuple[Run, str]]) -> None:
    """Store runs, each with the id of the data key that encrypts its details."""
    rows = [_values(run, data_key_id, keys) for run, data_key_id in entries]
    if connection.dialect.name == "postgresql":
        connection.execute(_INSERT_IN_ORDER, [{f"new_{name}": row[name] for name in row} for row in rows])
    else:
        connection.execute(_INSERT, rows)


_INSERT: Final = runs.insert()
_STORED: Final = (*_PLAIN, "error_class", "details")
_order: Final = sa.select(sa.func.pg_advisory_xact_lock(sa.literal(_ORDER_LOCK, sa.BigInteger())).label("held"))
_new: Final = [sa.cast(sa.bindparam(f"new_{name}", type_=runs.c[name].type), runs.c[name].type) for name in _STORED]
_INSERT_IN_ORDER: Final = runs.insert().from_select(
    list(_STORED),
    # PostgreSQL numbers a row once the subquery has returned, so with the lock.
    sa.select(*_new).select_from(_order.subquery("numbered_in_order")),
)


@cache
def select_runs() -> sa.Select[Any]:
    """Return the select behind `to_run`."""
    return sa.select(runs, syncs.c.name.label("sync")).join_from(runs, syncs)


def to_run(row: sa.Row[Any], keys: KeyRing) -> Run:
    """Decrypt a row of `select_runs`. CiphertextError."""
    plain = {name: getattr(row, name) for name in _PLAIN}
    plain |= {
        "trigger": to_member(Trigger, row.trigger, "trigger in table runs"),
        "outcome": to_member(Outcome, row.outcome, "outcome in table runs"),
        "sync": row.sync,
    }
    details = json.loads(keys.decrypt(run_context(row.id, row.sync_id), row.details))
    return Run(**plain, **members(Run, details))


def _values(run: Run, data_key_id: str, keys: KeyRing) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(run, name) for name in _PLAIN}
    details = {
        member.name: to_plain(getattr(run, member.name))
        for member in fields(run)
        if member.name not in _PLAIN and member.name != "sync"
    }
    values["error_class"] = None if run.error is None else run.error.cls
    values["details"] = keys.encrypt_json(data_key_id, run_context(run.id, run.sync_id), details)
    return values


def run_context(run_id: str, sync_id: str) -> tuple[str, ...]:
    """Return what the details of a run are bound to."""
    return ("runs", run_id, "details", "1", sync_id)
