"""Collects what one run finds out and does, and concludes the result: the run, the sync's next state, the event."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from phasesync.core.change import Change
from phasesync.core.events import RunFinished
from phasesync.core.planning.guard import DelayedChange, GuardRule, HeldChange, brief_of, digest_of
from phasesync.core.remote import Action
from phasesync.core.run import (
    SEVERITY,
    WAITS_FOR_WINDOW,
    ChangeResult,
    Outcome,
    Run,
    RunError,
    Verdict,
    verdict_of,
    worst,
)
from phasesync.core.schedule import SLOW_PAUSE, UNREADABLE, NextRun, after_error, after_success, soonest
from phasesync.core.sync import Sync, SyncStatus, Trigger
from phasesync.core.sync_claim import AfterRun, Claim
from phasesync.engine.apply import JournalWriter
from phasesync.engine.error_hints import hint_of
from phasesync.engine.observe import STOPS_OBSERVING
from phasesync.engine.stale_database import not_accepted_error
from phasesync.errors import (
    CredentialRejectedError,
    DestinationError,
    InterruptedRunError,
    InvalidInputError,
    OwnershipConflictError,
    PhasesyncError,
    PlanError,
    PlanHeldError,
    StaleDatabaseError,
)
from phasesync.ports.destination import Destination

if TYPE_CHECKING:
    from phasesync.core.windows import Closure


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The result of a run: what is stored, and the event."""

    run: Run
    after: AfterRun
    event: RunFinished


@dataclass(kw_only=True)
class RunBuilder:
    """What a run has found out and done so far, so that a failed run is recorded too."""

    reads: Mapping[str, int] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    account: str | None = None
    destination: Destination | None = None
    results: list[ChangeResult] = field(default_factory=list)
    errors: list[PhasesyncError] = field(default_factory=list)
    held: list[HeldChange] = field(default_factory=list)
    delayed: list[DelayedChange] = field(default_factory=list)
    wake_at: list[datetime] = field(default_factory=list)
    """Times at which something is due without an edit: the end of a grace, the next step of a deletion."""
    unobserved: int = 0
    """Number of objects that were not observed, because nothing about them changed."""
    drifted: bool = False
    journal: JournalWriter | None = None
    approval_over: bool = False
    """Nothing is left that an approval could release."""
    windowed: list[Change] = field(default_factory=list)
    """Changes that wait for a maintenance window."""
    closure: "Closure | None" = None
    """The closed window that they wait for, or that a manual run crossed."""
    crossed: bool = False

    def refuse(self, change: Change) -> None:
        """Note a change that is refused, because the object is not ours."""
        self._note(change, Outcome.REFUSED, change.reason)
        self.errors.append(OwnershipConflictError(f"{change.remote_name}: {change.reason}", hint=change.hint))

    def fail(self, change: Change, error: PhasesyncError) -> None:
        """Note a change that failed."""
        self._note(change, verdict_of(error).outcome, change.reason)
        self._note_error(change.remote_name, error)

    def fail_object(self, remote_name: str, error: PhasesyncError) -> None:
        """Note an object that is in no plan: its payload could not be built, or AWS did not describe it."""
        self.forget(remote_name)
        outcome = verdict_of(error).outcome
        self.results.append(
            ChangeResult(action=Action.NOOP, remote_name=remote_name, outcome=outcome, reason=error.message)
        )
        self._note_error(remote_name, error)

    def wait(self, held: Sequence[HeldChange], delayed: Sequence[DelayedChange]) -> None:
        """Note the changes that wait: for an approval, or for the version budget."""
        self.held += held
        self.delayed += delayed
        for change_held in held:
            self._note(change_held.change, Outcome.HELD, change_held.reason)
        for late in delayed:
            reason = f"{late.change.reason}; {_budget_reason(late)}"
            self._note(late.change, Outcome.UNCHANGED, reason)

    def wait_for_window(self, change: Change, closure: "Closure") -> None:
        """Note a change that waits until its maintenance window opens."""
        self.windowed.append(change)
        self.closure = closure
        self._note(change, Outcome.UNCHANGED, f"{change.reason}; {_window_reason(closure)}")

    def cross_window(self, change: Change, closure: "Closure") -> Change:
        """Note that a person's run carries out a change in a closed window; return the change, which says so."""
        self.closure, self.crossed = closure, True
        return replace(change, reason=f"{change.reason}; {_crossed_reason(closure)}")

    def forget(self, remote_name: str) -> None:
        """Drop what an earlier round found unchanged or waiting: the next round decides again."""
        dropped = (Outcome.UNCHANGED, Outcome.HELD)
        self.results = [
            result for result in self.results if result.remote_name != remote_name or result.outcome not in dropped
        ]
        self.held = [held for held in self.held if held.change.remote_name != remote_name]
        self.delayed = [late for late in self.delayed if late.change.remote_name != remote_name]
        self.windowed = [change for change in self.windowed if change.remote_name != remote_name]

    def _note_error(self, remote_name: str, error: PhasesyncError) -> None:
        """Note an error with the name of its object."""
        if remote_name not in error.message:
            error.message = f"{remote_name}: {error.message}"
        self.errors.append(error)

    def _note(self, change: Change, outcome: Outcome, reason: str) -> None:
        self.results.append(
            ChangeResult(
                action=change.action, remote_name=change.remote_name, outcome=outcome, reason=reason, keys=change.keys
            )
        )

    def conclude(
        self, sync: Sync, claim: Claim, *, started_at: datetime, now: datetime, coalesce: timedelta, spread: float
    ) -> RunResult:
        """
        Return the run to store, the sync's next state and the event.

        Args:
            sync: as it was when the run began.
            claim: what triggered it.
            started_at: when it began.
            now: when it ended.
            coalesce: how long edits gather after a write.
            spread: a random number in [0, 1).
        """
        self._note_held()
        error = max(self.errors, key=_weight, default=None)
        verdict = self._verdict(error)
        outcome = worst([verdict.outcome, *(result.outcome for result in self.results)])
        failures = _failures(sync, error, verdict)
        following = self._following(sync, outcome, verdict, failures, coalesce=coalesce, spread=spread, now=now)
        if claim.trigger is Trigger.MANUAL and isinstance(error, CredentialRejectedError) and error.code is None:
            # The shell that ran it has no identity. This says nothing about the daemon's identity: it tries at once.
            following = NextRun(retry_in=None, due_in=timedelta(0))
        run = self._run(sync, claim, outcome, error, following, started_at=started_at, now=now)
        return RunResult(
            run=run,
            after=self._after(sync, run, verdict, failures, following, complete=error is None),
            event=_finished(
                run,
                verdict.status,
                revision=(self.reads or {}).get(sync.environment_id),
                window=self._window(),
                # A run of a sweep's trigger confirms what the sweep has found.
                found_drift=self.drifted and claim.trigger is not Trigger.DRIFT,
            ),
        )

    def _note_held(self) -> None:
        """Turn held changes into an error that says what they wait for."""
        if any(held.rule is GuardRule.RESTORED for held in self.held):
            self.errors.append(not_accepted_error())
        elif self.held:
            first = self.held[0]
            message = f"{first.change.remote_name}: {first.reason}{_and_more(self.held)}"
            self.errors.append(PlanHeldError(message, digest=digest_of(self.held)))

    def _verdict(self, error: PhasesyncError | None) -> Verdict:
        if error is not None:
            return verdict_of(error)
        status = SyncStatus.PENDING if self.delayed or self.windowed else SyncStatus.IN_SYNC
        return Verdict(outcome=Outcome.UNCHANGED, status=status)

    def _run(
        self,
        sync: Sync,
        claim: Claim,
        outcome: Outcome,
        error: PhasesyncError | None,
        following: NextRun,
        *,
        started_at: datetime,
        now: datetime,
    ) -> Run:
        """Return the run as it is stored."""
        counts = Counter(str(result.action) for result in self.results)
        counts[str(Action.NOOP)] += self.unobserved
        return Run(
            id=_run_id(now),
            sync_id=sync.id,
            sync=sync.name,
            trigger=Trigger.DRIFT if claim.trigger is Trigger.SCHEDULE and self.drifted else claim.trigger,
            actor=claim.actor,
            attempt=sync.failures + 1,
            outcome=outcome,
            started_at=started_at,
            ended_at=now,
            revisions={self.labels[key]: revision for key, revision in (self.reads or {}).items()},
            counts={action: count for action, count in sorted(counts.items()) if count},
            aws_calls=self.destination.calls if self.destination else 0,
            versions_written=sum(result.version_id is not None for result in self.results),
            error=_run_error(error, sync, self.held),
            next_attempt_at=now + following.due_in if error and following.due_in is not None else None,
            changes=_worth_keeping(self.results),
        )

    def _after(
        self, sync: Sync, run: Run, verdict: Verdict, failures: int, following: NextRun, *, complete: bool
    ) -> AfterRun:
        """Return the sync's next state. `complete`: the run had no error."""
        reads = self.reads or {}
        done = complete and not self.windowed
        return AfterRun(
            status=verdict.status,
            reason=run.error.message if run.error else self._waiting(),
            reads=self.reads if verdict.status in _SETTLED or self._is_partial() else None,
            applied_revision=reads.get(sync.environment_id) if done and not self.delayed else None,
            failures=failures,
            retry_in=following.retry_in,
            due_in=following.due_in,
            former_reads=sync.reads,
            account=self.account if sync.account is None else None,
            adopt_done=sync.adopt is not None and done,
            approval_used=self.approval_over and sync.approved_digest is not None,
            objects=len({result.remote_name for result in self.results}) + self.unobserved,
            waits_for_window=bool(self.windowed) and complete,
            drifted=self.drifted,
            contested=any(held.rule is GuardRule.CONTESTED for held in self.held),
            waits_for_budget=bool(self.delayed) and complete,
            budget_full_at=None if self.journal is None else self.journal.budget_full_at(),
        )

    def _following(
        self,
        sync: Sync,
        outcome: Outcome,
        verdict: Verdict,
        failures: int,
        *,
        coalesce: timedelta,
        spread: float,
        now: datetime,
    ) -> NextRun:
        """Return when the sync runs next: the earliest time that any of its errors, waits or graces asks for."""
        interval = sync.config.interval
        if self.reads is None and verdict.status is SyncStatus.HALTED:
            return UNREADABLE
        if self.errors:
            nexts = [
                after_error(error, failures=max(failures, 1), interval=interval, spread=spread) for error in self.errors
            ]
            following = soonest(nexts)
        else:
            following = after_success(outcome, interval=interval, coalesce=coalesce, spread=spread)
        if self._is_partial():
            # What failed or waits concerns single objects: edits of others are applied as ever, and they are checked.
            following = NextRun(retry_in=coalesce, due_in=min(following.due_in or interval, interval))
        wakes = [late.until - now for late in self.delayed]
        wakes += [at - now for at in self.wake_at]
        if self.windowed:
            # Drift is still checked meanwhile; edits are not looked at one by one.
            opens_at = None if self.closure is None else self.closure.opens_at
            opens_in = interval if opens_at is None else max(opens_at - now, timedelta(0)) + _CLOCKS_DIFFER
            wakes.append(opens_in)
            following = following if self.errors else replace(following, retry_in=opens_in)
        if self.unobserved and sync.next_due_at is not None:
            wakes.append(sync.next_due_at - now)  # The check of what this run did not observe is still due.
        for wake in wakes:
            due_in = wake if following.due_in is None else min(following.due_in, wake)
            following = replace(following, due_in=max(due_in, timedelta(0)))
        return following

    def _is_partial(self) -> bool:
        """
        Return whether what failed or waits concerns single objects only, and not the sync as a whole.

        This is the case if some objects, or some dimensions of one, succeeded, and every error is about an object, or
        the run waits for the version budget only.
        """
        succeeded = self.unobserved or any(
            result.outcome in (Outcome.APPLIED, Outcome.UNCHANGED) for result in self.results
        )
        about_objects = all(
            isinstance(error, (DestinationError, PlanError, InvalidInputError))
            and not isinstance(error, STOPS_OBSERVING)
            for error in self.errors
        )
        return bool(succeeded and about_objects and (self.errors or self.delayed))

    def _waiting(self) -> str | None:
        if self.windowed and self.closure is not None:
            return _window_reason(self.closure)
        return _budget_reason(min(self.delayed, key=lambda late: late.until)) if self.delayed else None

    def _window(self) -> str | None:
        """Return what the run had to do with a closed maintenance window; None if it had nothing to do with one."""
        if self.closure is None or not (self.windowed or self.crossed):
            return None
        return _crossed_reason(self.closure) if self.crossed else _window_reason(self.closure)


def _finished(
    run: Run, status: SyncStatus, *, revision: int | None, window: str | None, found_drift: bool
) -> RunFinished:
    return RunFinished(
        sync=run.sync,
        run_id=run.id,
        trigger=run.trigger,
        outcome=run.outcome,
        status=status,
        revision=revision,
        duration_ms=round((run.ended_at - run.started_at).total_seconds() * 1000),
        aws_calls=run.aws_calls,
        versions_written=run.versions_written,
        counts=dict(run.counts),
        error=run.error.cls if run.error else None,
        code=run.error.code if run.error else None,
        next_attempt_at=run.next_attempt_at,
        window=window,
        found_drift=found_drift,
    )


_CLOCKS_DIFFER = timedelta(milliseconds=10)
"""A run that waits for a window is due so long after it opens: the clock of the database is coarser, or another one."""

_SETTLED = (SyncStatus.IN_SYNC, SyncStatus.HELD, SyncStatus.HALTED)
"""In these a sync waits for the next edit of what it read; in the others what it read is still to be applied."""


def unreadable(claim: Claim, error: PhasesyncError, *, started_at: datetime, now: datetime) -> Run:
    """Return the run of a sync that could not be read: only its id is known."""
    return Run(
        id=_run_id(now),
        sync_id=claim.sync_id,
        sync=claim.sync_id,
        trigger=claim.trigger,
        actor=claim.actor,
        attempt=1,
        outcome=Outcome.FAILED,
        started_at=started_at,
        ended_at=now,
        revisions={},
        counts={},
        aws_calls=0,
        versions_written=0,
        error=RunError(cls=type(error).__name__, code=None, message=error.message, request_id=None, hint=error.hint),
        next_attempt_at=now + SLOW_PAUSE,
        changes=(),
    )


def _failures(sync: Sync, error: PhasesyncError | None, verdict: Verdict) -> int:
    """Return the number of failed runs in a row. A run that was interrupted says nothing about the destination."""
    if isinstance(error, InterruptedRunError):
        return sync.failures
    return sync.failures + 1 if error and verdict.status in (SyncStatus.FAILING, SyncStatus.PENDING) else 0


def _weight(error: PhasesyncError) -> tuple[bool, int, bool]:
    """
    Return the sort key of errors; the greatest error decides the status of the sync.

    That the database is older than AWS comes first, since nothing may be written then. Otherwise the worst error
    decides, and of equally bad errors one that is retried automatically.
    """
    verdict = verdict_of(error)
    restored = isinstance(error, StaleDatabaseError)
    return restored, SEVERITY.index(verdict.outcome), verdict.status is SyncStatus.FAILING


def _and_more(held: Sequence[HeldChange]) -> str:
    others = len({change_held.change.remote_name for change_held in held}) - 1
    return f" (and {others} more {'object' if others == 1 else 'objects'})" if others else ""


def _window_reason(closure: "Closure") -> str:
    return f"{WAITS_FOR_WINDOW}: {closure.text}"


def _crossed_reason(closure: "Closure") -> str:
    return f"crossed the closed maintenance window of {closure.owner} ({closure.window.text})"


def _budget_reason(late: DelayedChange) -> str:
    return f"{late.change.remote_name}: version budget used up, next write after {late.until:%Y-%m-%d %H:%M:%S} UTC"


_SHORT = 20
"""Up to this many results, a run also lists the objects that it left unchanged."""


def _worth_keeping(results: Sequence[ChangeResult]) -> tuple[ChangeResult, ...]:
    if len(results) <= _SHORT:
        return tuple(results)
    return tuple(
        result for result in results if result.action != Action.NOOP or result.outcome is not Outcome.UNCHANGED
    )


def _run_error(error: PhasesyncError | None, sync: Sync, held: Sequence[HeldChange]) -> RunError | None:
    if error is None:
        return None
    return RunError(
        cls=type(error).__name__,
        code=error.code,
        message=error.message,
        request_id=error.request_id,
        hint=hint_of(error, sync),
        held=brief_of(held) if isinstance(error, PlanHeldError) else None,
    )


def _run_id(now: datetime) -> str:
    """Return an id that sorts by time: 12 hex digits of milliseconds, then 12 random ones."""
    return f"{int(now.timestamp() * 1000):012x}{uuid.uuid4().hex[:12]}"
