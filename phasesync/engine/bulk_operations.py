"""
What an operator does with several syncs at once: plan, run, trigger, wait, pause, resume, approve.

The error of one sync never stops the others: it is the result of that sync. Changes of the store are one transaction,
plans and runs are made in threads.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from phasesync.core.actors import BY_ACTOR
from phasesync.core.credential import CredentialStatus
from phasesync.core.planning.bulk_digest import bulk_digest
from phasesync.core.planning.guard import GuardRule, HeldChange
from phasesync.core.run import Run
from phasesync.core.sync import SyncStatus, Trigger
from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.context import Context
from phasesync.engine.defects import error_of
from phasesync.engine.rehearsal import AffectedSync
from phasesync.engine.stale_database import not_accepted_error
from phasesync.engine.sync_operations import PlanReport, SyncOperations, pause_of
from phasesync.errors import IllegalTransitionError, PhasesyncError, UnhealthyError

T = TypeVar("T")

Ended = Callable[[str, object], None]
"""Called in the caller's thread as each sync is done, with its name and its result."""

Errors = Mapping[str, PhasesyncError]
"""Name -> error, of the syncs that were left alone."""

_NO_WAIT: Final = timedelta()


@dataclass(frozen=True, kw_only=True)
class Threads:
    """
    How several syncs are worked on at once.

    Attributes:
        most: number of threads.
        ended: called as each sync is done.
        stop: ends the waits before calls of AWS, when the operator interrupts.
    """

    most: int
    ended: Ended
    stop: Callable[[], None]


def plan_all(
    operations: SyncOperations, names: Sequence[str], threads: Threads
) -> dict[str, PlanReport | PhasesyncError]:
    """Return the plans of several syncs, in the order of their names. Writes nothing."""
    return _each(names, operations.plan, threads, stop=threads.stop)


def plan_rehearsed_all(
    operations: SyncOperations, affected: Sequence[AffectedSync], threads: Threads
) -> dict[str, PlanReport | PhasesyncError]:
    """Return the plans of several syncs after a change that was rehearsed, in their order. Writes nothing."""
    by_name = {sync.state.sync.name: sync for sync in affected}
    return _each(list(by_name), lambda name: operations.plan_rehearsed(by_name[name]), threads, stop=threads.stop)


def run_all(
    context: Context, operations: SyncOperations, names: Sequence[str], threads: Threads, *, actor: str
) -> dict[str, Run | PhasesyncError]:
    """
    Reconcile several syncs now, in this process, as `SyncOperations.run` does one.

    An interruption lets the calls under way end, and makes no further write; the claims are released.
    """
    keeper = ClaimKeeper(context, on_stop=threads.stop)
    with keeper.renewing():
        return _each(names, lambda name: operations.run(name, actor=actor, keeper=keeper), threads, stop=keeper.stop)


def trigger_all(context: Context, names: Sequence[str], *, actor: str) -> Errors:
    """Have the daemon reconcile several syncs at once; those that are paused or incomplete are left alone."""
    statuses = context.store.credentials.statuses()
    incomplete: dict[str, PhasesyncError] = {
        sync.name: IllegalTransitionError(
            f"the credential {sync.credential} has no role yet",
            hint=f"phasesync credentials update {sync.credential} --role-arn ARN",
        )
        for sync in context.store.syncs.get_syncs(names)
        if sync.paused is None and statuses[sync.credential_id] is CredentialStatus.INCOMPLETE
    }
    rest = [name for name in names if name not in incomplete]
    return incomplete | context.store.sync_requests.request_all(rest, Trigger.MANUAL, actor=actor)


def wait_all(
    context: Context, operations: SyncOperations, since_run: Mapping[str, str | None], *, timeout: timedelta
) -> Errors:
    """
    Wait until several syncs are in sync, for `timeout` together.

    Args:
        context: of the installation.
        operations: waits for one.
        since_run: name -> id of a run: only the status after a later run counts. None means any later run.
        timeout: how long.
    """
    errors: dict[str, PhasesyncError] = {}
    deadline = context.clock.monotonic() + timeout.total_seconds()
    unserved = False
    for name, run_id in since_run.items():
        # A daemon that did not come for one sync is not waited for again.
        left = _NO_WAIT if unserved else timedelta(seconds=max(0.0, deadline - context.clock.monotonic()))
        try:
            operations.wait(name, wanted=SyncStatus.IN_SYNC, timeout=left, since_run=run_id or "none")
        except PhasesyncError as error:
            errors[name] = error
            unserved = unserved or isinstance(error, UnhealthyError)
    return errors


def pause_all(context: Context, names: Sequence[str], *, actor: str, reason: str, until: datetime | None) -> Errors:
    """Pause several syncs in one transaction, as `SyncOperations.pause` does one."""
    return context.store.sync_requests.pause_all(names, pause_of(context, actor=actor, reason=reason, until=until))


def resume_all(context: Context, names: Sequence[str], *, actor: str) -> Errors:
    """Resume several syncs in one transaction and have them reconciled at once."""
    return context.store.sync_requests.resume_all(names, actor=actor)


@dataclass(frozen=True, kw_only=True)
class BulkApproval:
    """
    What an approval of several plans did.

    Attributes:
        approved: name -> what was approved; empty if that was approved already.
        digests: name -> digest of the plan of that sync.
        errors: syncs without a plan, of which nothing was approved.
    """

    approved: Mapping[str, tuple[HeldChange, ...]]
    digests: Mapping[str, str]
    errors: Errors


def held_digest(reports: Iterable[object]) -> str | None:
    """Return the digest over the held plans among the results of `plan_all`; None if nothing is held."""
    return bulk_digest(
        {
            report.sync.id: report.guarded.digest
            for report in reports
            if isinstance(report, PlanReport) and report.guarded.held and report.guarded.digest is not None
        }
    )


def approve_all(
    context: Context,
    operations: SyncOperations,
    names: Sequence[str],
    digest: str,
    threads: Threads,
    *,
    actor: str,
    by: str = BY_ACTOR,
) -> BulkApproval:
    """
    Approve the held plans of several syncs, and have them applied: all of them, or none.

    Args:
        context: of the installation.
        operations: plans.
        names: of the syncs; those of which nothing is held are left alone.
        digest: the digest over all held plans, as `held_digest` returns it.
        threads: for the plans.
        actor: who approves.
        by: `BY_ACTOR` or `BY_OS_USER`: how people are told apart.

    Raises:
        IllegalTransitionError: nothing is held, or what is held now has another digest.
        StaleDatabaseError: this database is older than AWS; only accepting it releases the changes.
    """
    results = plan_all(operations, names, threads)
    reports = {name: report for name, report in results.items() if isinstance(report, PlanReport)}
    errors = {name: error for name, error in results.items() if isinstance(error, PhasesyncError)}
    if any(held.rule is GuardRule.RESTORED for report in reports.values() for held in report.guarded.held):
        raise not_accepted_error()
    tripped = {
        name: (report, report.guarded.digest) for name, report in reports.items() if report.guarded.digest is not None
    }
    held = held_digest(reports.values())
    # What was approved with the same digest before, and not carried out yet, is approved already.
    if digest not in (held, bulk_digest({report.sync.id: each for report, each in tripped.values()})):
        unplanned = f"; {len(errors)} could not be planned" if errors else ""
        if held is None:
            raise IllegalTransitionError(f"nothing of these syncs is held{unplanned}")
        raise IllegalTransitionError(
            f"the held changes of these syncs have the digest {held}, not {digest}: nothing was approved{unplanned}"
        )
    to_approve = {name: each for name, (report, each) in tripped.items() if report.guarded.held}
    heeding = [name for name in to_approve if reports[name].window is not None]
    context.store.sync_requests.approve_all(to_approve, actor=actor, by=by, unattended=heeding)
    return BulkApproval(
        approved={name: report.guarded.held for name, (report, _) in tripped.items()},
        digests={name: each for name, (_, each) in tripped.items()},
        errors=errors,
    )


def _each(
    names: Sequence[str], work: Callable[[str], T], threads: Threads, *, stop: Callable[[], None]
) -> dict[str, T | PhasesyncError]:
    """Do some work on each sync, several at once; return name -> result or error, in the order of the names."""
    results: dict[str, T | PhasesyncError] = {}
    pool = ThreadPoolExecutor(max_workers=max(1, min(threads.most, len(names))), thread_name_prefix="sync")
    try:
        futures = {pool.submit(_result, work, name): name for name in names}
        for future in as_completed(futures):
            name = futures[future]
            results[name] = future.result()
            threads.ended(name, results[name])
    except BaseException:  # Ctrl-C above all.
        stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return {name: results[name] for name in names}


def _result(work: Callable[[str], T], name: str) -> T | PhasesyncError:
    try:
        return work(name)
    except PhasesyncError as error:
        return error
    except Exception as error:  # noqa: BLE001  A defect in one sync must not stop the others or be lost.
        return error_of(error)
