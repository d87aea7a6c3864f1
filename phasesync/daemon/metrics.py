"""What a daemon says about itself at each scrape: role, threads, database and schema, as its health has them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from phasesync.adapters.telemetry.database_metrics import DatabaseCollector, FreshFigures
from phasesync.adapters.telemetry.exposition import expose
from phasesync.adapters.telemetry.metrics import Metrics, gauge
from phasesync.core.chores import DaemonRole
from phasesync.daemon.health import HealthState
from phasesync.daemon.http import Page

if TYPE_CHECKING:
    from phasesync.daemon.build import Components


class DaemonMetrics:
    """The metrics of one daemon, from its start to its end."""

    def __init__(self, metrics: Metrics, state: HealthState, *, per_sync: Callable[[], bool]) -> None:
        """
        Args:
            metrics: what this process counts and measures.
            state: the facts of its health.
            per_sync: returns whether syncs have series of their own; asked at each scrape.
        """
        self._metrics = metrics
        self._state = state
        self._per_sync = per_sync
        self._figures: FreshFigures | None = None
        self._key_ids: Callable[[], Mapping[str, str]] = dict
        metrics.add(_StateCollector(state))
        metrics.add(
            DatabaseCollector(
                lambda: None if self._figures is None else self._figures.get(),
                key_ids=lambda: self._key_ids(),
                ahead_of_aws=lambda: metrics.ahead_of_aws_s,
                waits_for_schema=lambda: state.database_reachable is True and not state.schema_is_current,
            )
        )

    def page(self, accept: str, accept_encoding: str) -> Page:
        """Return all metrics in the form that the headers of a scrape ask for."""
        exposition = expose(self._metrics.registry, accept=accept, accept_encoding=accept_encoding)
        headers = {"Vary": "Accept, Accept-Encoding"}
        if exposition.encoding is not None:
            headers["Content-Encoding"] = exposition.encoding
        return Page(content_type=exposition.content_type, content=exposition.content, headers=headers)

    def round_ended(self, chore: str, succeeded: bool) -> None:
        """Count a round of a chore."""
        self._metrics.round_ended(chore, succeeded)

    def work_begins(self, components: "Components") -> None:
        """Ask the database at each scrape, from the moment that the daemon works."""
        self._key_ids = components.key_ids
        self._figures = FreshFigures(lambda: components.read_figures(self._per_sync()))


class _StateCollector(Collector):
    """Shows the state of a daemon; asks nobody."""

    def __init__(self, state: HealthState) -> None:
        self._state = state

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names are those of `collect`."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the state."""
        yield from self._of_database()
        yield from self._of_work()
        yield CounterMetricFamily(
            "phasesync_log_lines_dropped",
            "Log lines that were lost because nobody read them.",
            value=self._state.lines_lost(),
        )

    def _of_database(self) -> Iterator[Metric]:
        state = self._state
        heartbeat = None if state.heartbeat is None else state.heartbeat()
        schema = state.schema
        if schema is not None:
            info = {"found": schema.current or "none", "expected": schema.expected}
            yield InfoMetricFamily("phasesync_schema", "The schema of the database, and the one it should be.", info)
        yield gauge("schema_current", "Whether the schema is that of this release.", state.schema_is_current)
        writable = state.database_reachable is True and (heartbeat is None or heartbeat.heartbeat_failure is None)
        yield gauge("database_writable", "Whether the newest write of a heartbeat or a check succeeded.", writable)

    def _of_work(self) -> Iterator[Metric]:
        heartbeat = None if self._state.heartbeat is None else self._state.heartbeat()
        loads = () if heartbeat is None else heartbeat.loads
        yield gauge("workers", "Threads that do claimed work.", sum(load.threads for load in loads))
        yield gauge("workers_busy", "Of these, how many are at work.", sum(len(load.quiet) for load in loads))
        yield gauge("ready", "Whether this daemon works or stands by, as /readyz says.", self._state.ready().ok)
        stuck = 0 if heartbeat is None else heartbeat.stuck
        yield gauge("workers_stuck", "Of these, how many have made no progress for too long.", stuck)
        full_for = timedelta(0) if heartbeat is None else heartbeat.full_for
        yield gauge(
            "workers_full_seconds",
            "For how long all threads have been at work without one of them finishing; 0 if one is free.",
            full_for.total_seconds(),
        )
        family = GaugeMetricFamily("phasesync_role", "Whether this daemon has a role.", labels=["role"])
        for role in DaemonRole:
            family.add_metric([role.value], heartbeat is not None and heartbeat.role is role)
        yield family
