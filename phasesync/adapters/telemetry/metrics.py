"""
The metrics of a process: what it counts and measures, in a registry of its own. docs/metrics.md describes each of them.

Labels are words of ours, AWS's names of operations, and numbers: a bounded set. Never a value, a key name or a remote
name. Run ids are exemplars, not labels. Nothing here asks the database or AWS; what a scrape asks for is collected by
`database_metrics.py` and by the daemon.
"""

import platform
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    disable_created_metrics,
)
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from phasesync.adapters.telemetry.process_metrics import ProcessMetrics
from phasesync.core.chores import Chore
from phasesync.core.run import Outcome
from phasesync.core.sync import Trigger

_CALLS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RUNS: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_TRANSACTIONS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15)
_LAGS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 14_400, 86_400)

SWEEPS: Final = ("incremental", "full")
FINDERS: Final = (*SWEEPS, "run")
"""What finds drift: a sweep, or a run that observes its objects itself."""
_STEPS: Final = frozenset({Chore.CLOCK, Chore.RENEWAL, Chore.HEARTBEAT})
"""Of a heartbeat: they fail as one."""
REVOCATIONS: Final = ("ended", "failed", "unsettled")


class Metrics:
    """What one process counts and measures. Safe to share between threads."""

    def __init__(self, *, version: str) -> None:
        """
        Args:
            version: of phasesync.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]  # They double the series and say only when a counter was first used.
        self.registry = registry = CollectorRegistry()
        ProcessMetrics(registry=registry)
        Info("phasesync_build", "The release that runs.", registry=registry).info(
            {"version": version, "python": platform.python_version()}
        )

        self.sync_lag = Histogram(
            "phasesync_sync_lag_seconds",
            "Time from the commit of an edit until AWS reported the version with it as current.",
            registry=registry,
            buckets=_LAGS,
        )
        self.runs = Counter("phasesync_runs", "Runs that ended.", ["outcome", "trigger"], registry=registry)
        self.run_duration = Histogram(
            "phasesync_run_duration_seconds", "Duration of runs.", ["outcome"], registry=registry, buckets=_RUNS
        )
        self.versions_written = Counter(
            "phasesync_versions_written", "Versions of remote objects that runs wrote.", registry=registry
        )

        self.aws_calls = Counter(
            "phasesync_aws_calls",
            "Requests sent to AWS, each attempt of the AWS SDK counted.",
            ["service", "operation", "result"],
            registry=registry,
        )
        self.aws_call_duration = Histogram(
            "phasesync_aws_call_duration_seconds",
            "Time from sending a request to AWS until its response was read.",
            ["service", "operation"],
            registry=registry,
            buckets=_CALLS,
        )
        self.aws_throttles = Counter(
            "phasesync_aws_throttles",
            "Requests that AWS throttled, those included that the AWS SDK repeated by itself.",
            ["service", "operation"],
            registry=registry,
        )
        self.rate_limiter_waits = Counter(
            "phasesync_rate_limiter_waits", "Calls that waited for the rate limiter.", ["group"], registry=registry
        )
        self.rate_limiter_wait = Counter(
            "phasesync_rate_limiter_wait_seconds",
            "Seconds that calls waited for the rate limiter.",
            ["group"],
            registry=registry,
        )

        self.drift_found = Counter(
            "phasesync_drift_found",
            "Objects that others changed, by what found them; a run counts once.",
            ["sweep"],
            registry=registry,
        )
        self.drift_missed = Counter(
            "phasesync_drift_missed",
            "Objects that a full sweep found although incremental sweeps had gone before it.",
            registry=registry,
        )
        self.sweeps = Counter("phasesync_sweeps", "Sweeps that ended.", ["kind"], registry=registry)
        self.sweep_last_end = Gauge(
            "phasesync_sweep_last_end_timestamp_seconds",
            "When the newest sweep of this process ended.",
            ["kind"],
            registry=registry,
        )

        self.lease_revocations = Counter(
            "phasesync_lease_revocations", "Attempts to revoke a lease.", ["result"], registry=registry
        )
        self.claims_expired = Counter(
            "phasesync_claims_expired",
            "Claims that ended without a result, found by this process: their holder died or froze.",
            registry=registry,
        )
        self.claims_lost = Counter(
            "phasesync_claims_lost", "Claims of this process that another process took over.", registry=registry
        )
        self.transaction_duration = Histogram(
            "phasesync_database_transaction_seconds",
            "Duration of transactions, the wait for their begin included.",
            ["kind"],
            registry=registry,
            buckets=_TRANSACTIONS,
        )
        self.clock_set_back = Counter(
            "phasesync_clock_set_back", "How often the database's clock was found set back.", registry=registry
        )
        self.messages_sent = Counter(
            "phasesync_messages_sent",
            "Attempts to send a message of a notification.",
            ["channel", "result"],
            registry=registry,
        )
        self.backups = Counter(
            "phasesync_backups", "Attempts to make a scheduled backup.", ["result"], registry=registry
        )
        self.chore_failures = Counter(
            "phasesync_chore_failures", "Rounds of a chore that failed.", ["chore"], registry=registry
        )
        self.chore_last_success = Gauge(
            "phasesync_chore_last_success_timestamp_seconds",
            "When a round of a chore last succeeded.",
            ["chore"],
            registry=registry,
        )
        self.ahead_of_aws_s: float | None = None
        """How far this host's clock is ahead of AWS's, by its newest answer; None before the first one."""
        self._begin_at_zero()

    def add(self, collector: Collector) -> None:
        """Have a collector asked at each scrape."""
        self.registry.register(collector)

    def aws_request(self, service: str, operation: str, result: str, duration_s: float) -> None:
        """Count a request that was sent to AWS; `result` is a word of `adapters.aws.request_reports`."""
        self.aws_calls.labels(service, operation, result).inc()
        self.aws_call_duration.labels(service, operation).observe(duration_s)
        if result == "throttled":
            self.aws_throttles.labels(service, operation).inc()

    def aws_clock(self, ahead_s: float) -> None:
        """Note how far this host's clock is ahead of AWS's."""
        self.ahead_of_aws_s = ahead_s

    def rate_limiter_waited(self, group: str, waited_s: float) -> None:
        """Count a call that waited for the rate limiter."""
        self.rate_limiter_waits.labels(group).inc()
        self.rate_limiter_wait.labels(group).inc(waited_s)

    def transaction(self, kind: str, duration_s: float) -> None:
        """Count a transaction; `kind` is read or write."""
        self.transaction_duration.labels(kind).observe(duration_s)

    def round_ended(self, chore: str, succeeded: bool) -> None:
        """Count a round of a chore."""
        if succeeded:
            self.chore_last_success.labels(chore).set_to_current_time()
        else:
            self.chore_failures.labels(chore).inc()

    def _begin_at_zero(self) -> None:
        """Make the series whose labels are known, so that the first event is an increase of a series that is there."""
        for outcome in Outcome:
            self.run_duration.labels(outcome.value)
            for trigger in Trigger:
                self.runs.labels(outcome.value, trigger.value)
        for finder in FINDERS:
            self.drift_found.labels(finder)
        for kind in SWEEPS:
            self.sweeps.labels(kind)
        for result in REVOCATIONS:
            self.lease_revocations.labels(result)
        for result in ("made", "failed"):
            self.backups.labels(result)
        for kind in ("read", "write"):
            self.transaction_duration.labels(kind)
        for chore in Chore:
            if chore not in _STEPS:
                self.chore_failures.labels(chore.value)


def gauge(name: str, documentation: str, value: float) -> Metric:
    """Return a gauge without labels for one scrape; `name` without `phasesync_`."""
    return GaugeMetricFamily(f"phasesync_{name}", documentation, value=float(value))
