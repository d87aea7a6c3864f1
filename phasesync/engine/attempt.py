"""What one run finds out and does, and the record that it leaves: the run, the sync's next state, the event."""

import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from phasesync.core.events import RunFinished
from phasesync.core.guard import Guarded
from phasesync.core.model import ChangeResult, Run, RunError, Sync
from phasesync.core.plan import Change
from phasesync.core.schedule import SLOW_PAUSE, UNREADABLE, after_error, after_success
from phasesync.core.status import SEVERITY, Outcome, SyncStatus, Trigger, Verdict, verdict_of, worst
from phasesync.errors import (
    CredentialRejectedError,
    DestinationError,
    InterruptedRunError,
    OwnershipConflictError,
    PhasesyncError,
    PlanHeldError,
)
from phasesync.ports import AfterRun, Claim, Destination


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is stored and told of a run."""

    run: Run
    after: AfterRun
    event: RunFinished


@dataclass(kw_only=True)
class Attempt:
    """What a run has found out and done so far, kept so that a failing run is recorded as well as a good one."""

    reads: Mapping[str, int] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    account: str | None = None
    destination: Destination | None = None
    results: list[ChangeResult] = field(default_factory=list)
    errors: list[PhasesyncError] = field(default_factory=list)
    drifted: bool = False
    approval_over: bool = False
    """What an approval could release has gone out, or there is nothing of it any more."""

    def refuse(self, change: Change) -> None:
        """Note a change that is not ours to make."""
        self._note(change, Outcome.REFUSED, change.reason)
        self.errors.append(OwnershipConflictError(f"{change.remote_name}: {change.reason}", hint=change.hint))

    def fail(self, change: Change, error: DestinationError) -> None:
        """Note a change that failed."""
        self._note(change, verdict_of(error).outcome, change.reason)
        self.errors.append(error)

    def hold(self, guarded: Guarded) -> None:
        """Note the changes that wait for an approval."""
        if not guarded.held or guarded.digest is None:
            return
        for change, reason in guarded.held:
            self._note(change, Outcome.HELD, reason)
        change, reason = guarded.held[0]
        self.errors.append(PlanHeldError(f"{change.remote_name}: {reason}", digest=guarded.digest))

    def _note(self, change: Change, outcome: Outcome, reason: str) -> None:
        self.results.append(
            ChangeResult(action=change.action, remote_name=change.remote_name, outcome=outcome, reason=reason)
        )

    def conclude(
        self, sync: Sync, claim: Claim, *, started_at: datetime, now: datetime, coalesce: timedelta, spread: float
    ) -> Record:
        """
        Turn what was found out into the run to store, what it leaves behind and the event to tell.

        Args:
            sync: as it was when the run began.
            claim: what woke it.
            started_at: when it began.
            now: when it ended.
            coalesce: how long edits gather after a write.
            spread: a random number in [0, 1).
        """
        error = max(self.errors, key=_weight, default=None)
        verdict = verdict_of(error) if error else Verdict(outcome=Outcome.UNCHANGED, status=SyncStatus.IN_SYNC)
        outcome = worst([verdict.outcome, *(result.outcome for result in self.results)])
        failures = _failures(sync, error, verdict)
        interval = sync.config.interval
        if self.reads is None and verdict.status is SyncStatus.HALTED:
            following = UNREADABLE
        elif error is None:
            following = after_success(outcome, interval=interval, coalesce=coalesce, spread=spread)
        else:
            following = after_error(error, failures=max(failures, 1), interval=interval, spread=spread)
        reads = self.reads or {}
        run = Run(
            id=_run_id(now),
            sync_id=sync.id,
            sync=sync.name,
            trigger=Trigger.DRIFT if claim.trigger is Trigger.SCHEDULE and self.drifted else claim.trigger,
            actor=claim.actor,
            attempt=sync.failures + 1,
            outcome=outcome,
            started_at=started_at,
            ended_at=now,
            revisions={self.labels[key]: revision for key, revision in reads.items()},
            counts=dict(sorted(Counter(str(result.action) for result in self.results).items())),
            aws_calls=self.destination.calls if self.destination else 0,
            versions_written=sum(result.version_id is not None for result in self.results),
            error=_run_error(error, sync),
            next_attempt_at=now + following.due_in if error and following.due_in else None,
            changes=tuple(self.results),
        )
        after = AfterRun(
            status=verdict.status,
            reason=run.error.message if run.error else None,
            reads=self.reads if verdict.status in _SETTLED else None,
            applied_revision=reads.get(sync.environment_id) if error is None else None,
            failures=failures,
            retry_in=following.retry_in,
            due_in=following.due_in,
            account=self.account if sync.account is None else None,
            adopt_done=sync.adopt is not None and error is None,
            approval_used=self.approval_over and sync.approved_digest is not None,
        )
        event = RunFinished(
            sync=run.sync,
            run_id=run.id,
            trigger=run.trigger,
            outcome=run.outcome,
            status=verdict.status,
            revision=reads.get(sync.environment_id),
            duration_ms=round((run.ended_at - run.started_at).total_seconds() * 1000),
            aws_calls=run.aws_calls,
            versions_written=run.versions_written,
            counts=dict(run.counts),
            error=run.error.cls if run.error else None,
            code=run.error.code if run.error else None,
            next_attempt_at=run.next_attempt_at,
        )
        return Record(run=run, after=after, event=event)


_SETTLED = (SyncStatus.IN_SYNC, SyncStatus.HELD, SyncStatus.HALTED)
"""After these a sync waits for the next edit of what it read; after the others what it read is still to be applied."""


def unreadable(claim: Claim, error: PhasesyncError, *, started_at: datetime, now: datetime) -> Run:
    """Return the run of a sync that could not even be read: what is known of it is its id."""
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
    """Count failed runs in a row; one that was interrupted says nothing of the destination."""
    if isinstance(error, InterruptedRunError):
        return sync.failures
    return sync.failures + 1 if error and verdict.status in (SyncStatus.FAILING, SyncStatus.PENDING) else 0


def _weight(error: PhasesyncError) -> int:
    return SEVERITY.index(verdict_of(error).outcome)


def _run_error(error: PhasesyncError | None, sync: Sync) -> RunError | None:
    if error is None:
        return None
    return RunError(
        cls=type(error).__name__,
        code=error.code,
        message=error.message,
        request_id=error.request_id,
        hint=hint_of(error, sync),
    )


def hint_of(error: PhasesyncError, sync: Sync) -> str | None:
    """Return an error's hint with the name that NAME stands for."""
    meant = sync.credential if isinstance(error, CredentialRejectedError) else sync.name
    return error.hint.replace("NAME", meant) if error.hint else None


def _run_id(now: datetime) -> str:
    """Return an id that sorts by time: 12 hex digits of milliseconds, 12 of chance."""
    return f"{int(now.timestamp() * 1000):012x}{uuid.uuid4().hex[:12]}"
