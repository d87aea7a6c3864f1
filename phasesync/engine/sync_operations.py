"""
What an operator does with a sync: plan, run, trigger, wait, pause, resume, approve.

Uses the store and the reconciler. Prints nothing, and decides nothing about a single remote object.
"""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

from phasesync.core.actors import BY_ACTOR
from phasesync.core.change import Plan
from phasesync.core.credential import CredentialStatus
from phasesync.core.planning.guard import GuardedPlan, GuardRule, HeldChange
from phasesync.core.planning.plan import Estimate, estimate
from phasesync.core.planning.version_budget import within_a_day
from phasesync.core.run import Run
from phasesync.core.sync import Paused, Sync, SyncStatus, Trigger
from phasesync.core.sync_status import blocker_of, reason_clause, status_of
from phasesync.core.sync_windows import WindowState, closure_of, levels_for, window_state
from phasesync.engine.claims import ClaimKeeper, release_claim, take_claim
from phasesync.engine.context import Context
from phasesync.engine.error_hints import hint_of, hints_for
from phasesync.engine.reconcile import PlannedRun, Reconciler
from phasesync.engine.rehearsal import AffectedSync
from phasesync.engine.stale_database import not_accepted_error
from phasesync.errors import (
    ClaimLostError,
    IllegalTransitionError,
    InvalidInputError,
    NotFoundError,
    PhasesyncError,
    UnhealthyError,
)

POLL = 0.1
"""Seconds between two reads of the status while a command waits."""

STARTING_S = 3.0
"""Time to wait for a daemon that may be starting or restarting, before the command gives up."""


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """
    A plan, for the operator to read.

    Attributes:
        versions_24h: remote name -> versions written within 24 h.
        problems: remote name -> why it is in no plan: its payload cannot be built, or AWS did not describe it.
        window: how its maintenance windows stand; None if it has none.
    """

    sync: Sync
    account: str
    plan: Plan
    guarded: GuardedPlan
    versions_24h: dict[str, int]
    estimate: Estimate
    problems: Mapping[str, PhasesyncError]
    window: WindowState | None = None


class SyncOperations:
    """The operator's commands on syncs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reconciler = Reconciler(context)

    def plan(self, name: str) -> PlanReport:
        """Return what a run would do now. Writes nothing."""
        state = self._context.store.sync_states.state_of(name)
        with hints_for(state.sync):
            prepared = self._reconciler.prepare(state)
        return self._report(prepared)

    def plan_rehearsed(self, affected: AffectedSync) -> PlanReport:
        """Return what a run would do after a change that was rehearsed. Writes nothing. Raises as `plan` does."""
        with hints_for(affected.state.sync):
            prepared = self._reconciler.prepare_rehearsed(affected.state, affected.source)
        return self._report(prepared)

    def _report(self, prepared: PlannedRun) -> PlanReport:
        state = prepared.desired.state
        now = self._context.clock.now()
        problems: dict[str, PhasesyncError] = {**prepared.desired.problems, **prepared.observation.failed}
        for problem in problems.values():
            problem.hint = hint_of(problem, state.sync)
        entries = {**{entry.remote_name: entry for entry in state.journal}, **prepared.observation.entries}
        return PlanReport(
            sync=state.sync,
            account=prepared.desired.account,
            plan=prepared.plan,
            guarded=prepared.guarded,
            versions_24h={name: len(within_a_day(entry.versions_at, now)) for name, entry in entries.items()},
            estimate=estimate(prepared.guarded.go, observe_calls=prepared.desired.destination.calls),
            problems=problems,
            window=window_state(state.sync, self._context.windows(), now),
        )

    def run(
        self,
        name: str,
        *,
        actor: str,
        patience: timedelta = timedelta(seconds=30),
        keeper: ClaimKeeper | None = None,
    ) -> Run:
        """
        Reconcile a sync now, in this process, regardless of its back-off.

        Args:
            name: of the sync.
            actor: who asked.
            patience: how long to wait if another process has the claim.
            keeper: renews the claim, and those of other runs; None means one for this run.

        Raises:
            IllegalTransitionError: it is paused, or its credential has no role yet.
            ClaimHeldError: another process kept the claim for that long.
        """
        sync = self._require_runnable(name)
        shared, keeper = keeper is not None, keeper or ClaimKeeper(self._context)
        claim = take_claim(self._context, sync, actor=actor, patience=patience, check=keeper.check_stop)
        checkpoint = keeper.hold(claim)
        try:
            with nullcontext() if shared else keeper.renewing():
                run = self._reconciler.reconcile(claim, checkpoint)
        except BaseException:
            # Including Ctrl-C. The next run settles an open intent, so the claim need not run until it expires.
            release_claim(self._context, claim)
            raise
        finally:
            keeper.drop(claim)
        if run is None:
            raise ClaimLostError(f"the sync {name} was taken over or removed while it ran")
        return run

    def trigger(self, name: str, *, actor: str) -> Sync:
        """Have the daemon reconcile a sync at once. IllegalTransitionError while it is paused or incomplete."""
        self._require_runnable(name)
        self._context.store.sync_requests.request(name, Trigger.MANUAL, actor=actor)
        return self._context.store.syncs.get_sync(name)

    def wait(self, name: str, *, wanted: SyncStatus, timeout: timedelta, since_run: str | None = None) -> Sync:
        """
        Wait until a sync has a status.

        Args:
            name: of the sync.
            wanted: the status.
            timeout: how long.
            since_run: id of a run: only the status after a later run counts. None means any.

        Raises:
            IllegalTransitionError: the time is over, or the status cannot come in that time: the sync waits for a
                person, or its next run is later. The message says the status and why.
            UnhealthyError: no daemon is running that would reconcile it.
        """
        started = self._context.clock.monotonic()
        deadline = started + timeout.total_seconds()
        patience_s = min(STARTING_S, timeout.total_seconds())
        last_served = started
        while True:
            sync = self._context.store.syncs.get_sync(name)
            status = status_of(sync, self._credential_status(sync))
            fresh = since_run is None or sync.last_run_id != since_run
            if fresh and status is wanted:
                return sync
            moment = self._context.clock.monotonic()
            alive = bool(self._context.store.daemons.alive())
            last_served = moment if alive else last_served
            left = deadline - moment
            reason = blocker_of(
                sync,
                status,
                wanted,
                answered=fresh,
                served=alive or moment - last_served < patience_s,
                within=timedelta(seconds=left),
                now=self._context.clock.now(),
                error_hint=self._error_hint(sync) if status is SyncStatus.HALTED else None,
                closure=closure_of(sync, self._context.windows(), self._context.clock.now()),
            )
            if reason is not None:
                error = UnhealthyError if reason.unserved else IllegalTransitionError
                raise error(f"the sync {name} {reason.why}", hint=reason.hint)
            if left <= 0:
                raise IllegalTransitionError(
                    f"the sync {name} is still {status}, not {wanted}{reason_clause(sync, status)}",
                    hint=f"wait longer with --timeout; phasesync syncs why {name} says how it stands",
                )
            time.sleep(min(POLL, left))

    def _error_hint(self, sync: Sync) -> str | None:
        """Return the hint of the error that the newest run ended with."""
        if sync.last_run_id is None:
            return None
        try:
            error = self._context.store.runs.get_run(sync.last_run_id).error
        except NotFoundError:  # Old runs are deleted.
            return None
        return None if error is None else error.hint

    def pause(self, name: str, *, actor: str, reason: str, until: datetime | None) -> Sync:
        """Pause a sync. This takes effect before its next AWS write."""
        paused = pause_of(self._context, actor=actor, reason=reason, until=until)
        self._context.store.sync_requests.pause(name, paused)
        return self._context.store.syncs.get_sync(name)

    def resume(self, name: str, *, actor: str) -> Sync:
        """Resume a sync and have it reconciled at once."""
        self._context.store.sync_requests.resume(name, actor=actor)
        return self._context.store.syncs.get_sync(name)

    def approve(self, name: str, digest: str, *, actor: str, by: str = BY_ACTOR) -> tuple[HeldChange, ...]:
        """
        Approve held changes, and have them applied, if the maintenance windows of the sync are open.

        Args:
            name: of the sync.
            digest: of its plan.
            actor: who approves.
            by: `BY_ACTOR` or `BY_OS_USER`: how people are told apart.

        Returns:
            What was approved.

        Raises:
            IllegalTransitionError: nothing is held, or what is held now has another digest.
            StaleDatabaseError: this database is older than AWS; only accepting it releases the changes.
        """
        report = self.plan(name)
        if any(held.rule is GuardRule.RESTORED for held in report.guarded.held):
            raise not_accepted_error()
        if report.guarded.digest is None:
            raise IllegalTransitionError(
                f"nothing of the sync {name} is held", hint=f"phasesync syncs plan {name} shows what would change"
            )
        if report.guarded.digest != digest:
            raise IllegalTransitionError(
                f"the held changes of {name} have the digest {report.guarded.digest}, not {digest}",
                hint=f"look at them again: phasesync syncs plan {name}",
            )
        heeds_windows = bool(levels_for(report.sync, self._context.windows()))
        self._context.store.sync_requests.approve(name, digest, actor=actor, by=by, unattended=heeds_windows)
        return report.guarded.held

    def _require_runnable(self, name: str) -> Sync:
        sync = self._context.store.syncs.get_sync(name)
        if sync.paused is not None:
            raise IllegalTransitionError(f"the sync {name} is paused", hint=f"phasesync syncs resume {name}")
        if self._credential_status(sync) is CredentialStatus.INCOMPLETE:
            raise IllegalTransitionError(
                f"the credential {sync.credential} has no role yet",
                hint=f"phasesync credentials update {sync.credential} --role-arn ARN",
            )
        return sync

    def _credential_status(self, sync: Sync) -> CredentialStatus:
        return self._context.store.credentials.get_by_id(sync.credential_id).status


def pause_of(context: Context, *, actor: str, reason: str, until: datetime | None) -> Paused:
    """Return a pause that begins now. InvalidInputError if its end is in the past."""
    now = context.clock.now()
    if until is not None and until <= now:
        raise InvalidInputError("the end of the pause is in the past", hint="a time from now: --until 2h")
    return Paused(by=actor, at=now, reason=reason, until=until)
