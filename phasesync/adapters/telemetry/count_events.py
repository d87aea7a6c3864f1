"""Counts the events of the core: the other half of `log_events.py`, as metrics."""

import time

from phasesync.adapters.telemetry.metrics import Metrics
from phasesync.core.chores import Chore
from phasesync.core.events import (
    BackupFailed,
    BackupMade,
    ChoreFailed,
    ClaimExpired,
    ClaimLost,
    ClockJumped,
    DriftMissedByIncrementalSweep,
    Event,
    LeaseRevoked,
    MessageFailed,
    MessageSent,
    RunFinished,
    SweepFinished,
    SyncUnreadable,
)
from phasesync.core.lease import ENDED
from phasesync.core.run import Outcome

_NOT_IN_ROUNDS = frozenset({Chore.START, Chore.RECONCILE, Chore.LEASE, Chore.SEND, Chore.RELEASE, Chore.SIGN_OFF})
"""Chores without a rhythm: their failures are counted by their events, those of the others round by round."""


class CountEvents:
    """An EventSink that counts."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def emit(self, event: Event) -> None:
        """Count an event. Most events of chores are counted by their rounds, and many need no count."""
        metrics = self._metrics
        match event:
            case RunFinished():
                self._run(event)
            case SyncUnreadable():
                exemplar = {"run_id": event.run_id}
                metrics.runs.labels(Outcome.FAILED.value, event.trigger.value).inc(exemplar=exemplar)
            case ClaimExpired():
                metrics.claims_expired.inc()
            case ClaimLost():
                metrics.claims_lost.inc()
            case ClockJumped():
                metrics.clock_set_back.inc()
            case SweepFinished():
                kind = "full" if event.full else "incremental"
                metrics.sweeps.labels(kind).inc()
                metrics.sweep_last_end.labels(kind).set(time.time())
                metrics.drift_found.labels(kind).inc(event.suspects)
            case DriftMissedByIncrementalSweep():
                metrics.drift_missed.inc(event.listed + event.unlisted)
            case LeaseRevoked():
                result = "ended" if event.status in ENDED else "unsettled" if event.error is None else "failed"
                metrics.lease_revocations.labels(result).inc()
            case MessageSent():
                metrics.messages_sent.labels(event.channel, "sent").inc()
            case MessageFailed():
                result = "given-up" if event.retry_in_s is None else "failed"
                metrics.messages_sent.labels(event.channel, result).inc()
            case BackupMade():
                metrics.backups.labels("made").inc()
            case BackupFailed():
                metrics.backups.labels("failed").inc()
            case ChoreFailed() if event.chore in _NOT_IN_ROUNDS:
                metrics.chore_failures.labels(event.chore.value).inc()

    def _run(self, run: RunFinished) -> None:
        metrics, exemplar = self._metrics, {"run_id": run.run_id}
        metrics.runs.labels(run.outcome.value, run.trigger.value).inc(exemplar=exemplar)
        metrics.run_duration.labels(run.outcome.value).observe(run.duration_ms / 1000, exemplar=exemplar)
        metrics.versions_written.inc(run.versions_written)
        if run.lag_ms is not None:
            metrics.sync_lag.observe(run.lag_ms / 1000, exemplar=exemplar)
        if run.found_drift:
            metrics.drift_found.labels("run").inc()
