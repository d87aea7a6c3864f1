"""
What the database says, as metrics: asked for at a scrape, and never for longer than a scrape may take.

The figures are the same on each replica. If they cannot be read, these metrics are absent from the scrape, and
`phasesync_database_up` is 0: a former value would look like the present.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client import Metric
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from phasesync.adapters.telemetry.logging import get_logger
from phasesync.adapters.telemetry.metrics import gauge
from phasesync.errors import PhasesyncError
from phasesync.host_files import shortage

if TYPE_CHECKING:
    from phasesync.store.figures import Figures

FRESH_FOR_S: Final = 1.0
"""Figures of this age are shown again: several scrapers cost the database no more than one."""
READ_WITHIN_S: Final = 2.0
"""How long a scrape waits for the database."""
KEPT_FOR_S: Final = 90.0
"""A database that answers, but not in time, is shown as it was at the scrape before: scrapes are a minute apart at
most. One that hangs or fails is not shown."""


class FreshFigures:
    """Reads figures for scrapes, in a thread of its own. Safe to share between threads."""

    def __init__(
        self,
        read: "Callable[[], Figures]",
        *,
        fresh_for_s: float = FRESH_FOR_S,
        within_s: float = READ_WITHIN_S,
        kept_for_s: float = KEPT_FOR_S,
    ) -> None:
        """
        Args:
            read: asks the database.
            fresh_for_s: how long figures count as present.
            within_s: how long to wait for them.
            kept_for_s: how long figures are shown while newer ones are late.
        """
        self._read = read
        self._fresh_for_s = fresh_for_s
        self._within_s = within_s
        self._kept_for_s = kept_for_s
        self._lock = threading.Lock()
        self._reading: _Reading | None = None
        self._former: _Reading | None = None
        self._wanted: queue.SimpleQueue[_Reading] = queue.SimpleQueue()
        # Started beforehand: under load, where memory is limited, none may start any more.
        threading.Thread(target=self._read_all, name="metrics", daemon=True).start()

    def get(self) -> "Figures | None":
        """
        Return the figures; None without a database.

        A read that has already kept a scrape waiting in vain keeps no other one: while it hangs, they are answered at
        once, with the former figures as long as these may be shown.
        """
        with self._lock:
            reading = self._reading
            if reading is None or reading.ended_ago_s > self._fresh_for_s:
                self._former, reading = reading, _Reading(self._read)
                self._reading = reading
                self._wanted.put(reading)
            former = self._former
        if reading.done.wait(max(0.0, self._within_s - reading.age_s)):
            return reading.result
        return None if former is None or former.ended_ago_s > self._kept_for_s else former.result

    def _read_all(self) -> None:
        while True:
            reading = self._wanted.get()
            try:
                reading.run()
            except Exception as error:  # noqa: BLE001 -- the next scrape asks again
                if shortage(error) is None:
                    get_logger().error("figures for metrics could not be read", exc_info=error)


class _Reading:
    """One read. Ends by itself, however long the database takes."""

    def __init__(self, read: "Callable[[], Figures]") -> None:
        self._read = read
        self._began = self._ended = time.monotonic()
        self.result: Figures | None = None
        self.done = threading.Event()

    @property
    def age_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    @property
    def ended_ago_s(self) -> float:
        """Seconds since it ended; 0 while it lasts."""
        return time.monotonic() - self._ended if self.done.is_set() else 0.0

    def run(self) -> None:
        """Ask the database."""
        try:
            self.result = self._read()
        except PhasesyncError:
            self.result = None  # The chores report why, and `phasesync_database_up` says that it is so.
        finally:
            self._ended = time.monotonic()
            self.done.set()


class DatabaseCollector(Collector):
    """Shows figures of the database at each scrape."""

    def __init__(
        self,
        get: "Callable[[], Figures | None]",
        *,
        key_ids: Callable[[], Mapping[str, str]],
        ahead_of_aws: Callable[[], float | None],
        waits_for_schema: Callable[[], bool],
    ) -> None:
        """
        Args:
            get: returns figures; None without a database.
            key_ids: returns purpose -> id of the keys that are in use. Ids, not keys.
            ahead_of_aws: returns how far this host's clock is ahead of AWS's; None if AWS has not answered yet.
            waits_for_schema: returns whether the database answers, and has no figures because of its schema.
        """
        self._get = get
        self._key_ids = key_ids
        self._ahead_of_aws = ahead_of_aws
        self._waits_for_schema = waits_for_schema

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not ask the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Ask the database."""
        figures = self._get()
        up = figures is not None or self._waits_for_schema()
        yield gauge("database_up", "Whether the database answers.", up)
        yield _keys(self._key_ids())
        ahead_of_database = None if figures is None else figures.host_ahead.total_seconds()
        yield _skew(database=ahead_of_database, aws=self._ahead_of_aws())
        if figures is not None:
            yield from _families(figures)


def _families(figures: "Figures") -> Iterator[Metric]:
    """Yield the metrics that follow from figures."""
    syncs = GaugeMetricFamily("phasesync_syncs", "Syncs by status.", labels=["status"])
    longest = GaugeMetricFamily(
        "phasesync_syncs_longest_in_status_seconds",
        "For how long the sync has its status that has had it for the longest time; 0 if no sync has it.",
        labels=["status"],
    )
    for status, count in figures.syncs.items():
        syncs.add_metric([status.value], count)
        since = figures.longest.get(status) if count else None
        longest.add_metric([status.value], figures.age(since).total_seconds())
    yield syncs
    yield longest
    yield gauge(
        "syncs_behind",
        "Syncs with a committed edit that is not at AWS, without those that are deferred.",
        figures.behind,
    )
    yield gauge(
        "syncs_behind_longest_seconds",
        "Time since the oldest edit was committed that is not at AWS, and that is not deferred; 0 if there is none.",
        figures.age(figures.behind_since).total_seconds(),
    )
    yield gauge(
        "version_budget_left",
        "Versions that may be written at once of the remote object that was written most; 30 = no object was.",
        figures.versions_left,
    )
    yield gauge(
        "syncs_waiting_for_budget", "Syncs with changes that wait for the version budget.", figures.waiting_for_budget
    )
    leases = GaugeMetricFamily("phasesync_leases", "Live leases by status.", labels=["status"])
    for word, count in figures.leases.items():
        leases.add_metric([word], count)
    yield leases
    yield gauge("leases_overdue", "Leases that are past their end, and whose keys may still work.", figures.overdue)
    yield gauge(
        "lease_overdue_longest_seconds",
        "Time since the end of the lease that is overdue for the longest time; 0 if none is.",
        figures.age(figures.overdue_since).total_seconds(),
    )
    yield gauge("claims", "Syncs that a process is reconciling.", figures.claims)
    daemons = GaugeMetricFamily("phasesync_daemons", "Live daemons by role.", labels=["role"])
    for role, count in figures.daemons.items():
        daemons.add_metric([role.value], count)
    yield daemons
    alerts = GaugeMetricFamily(
        "phasesync_alerts", "Syncs and leases with which something is wrong, by condition.", labels=["condition"]
    )
    for condition, count in figures.alerts.open.items():
        alerts.add_metric([condition.value], count)
    yield alerts
    yield gauge("messages_pending", "Messages of notifications that wait to be sent.", figures.alerts.pending)
    oldest = figures.alerts.oldest_pending
    yield gauge(
        "messages_oldest_pending_seconds",
        "For how long the oldest of them has waited; 0 if there is none.",
        0 if oldest is None else oldest.total_seconds(),
    )
    backups = figures.backups
    yield gauge("backup_schedules", "Schedules of backups.", backups.schedules)
    yield gauge("backups_failing", "Of these, how many failed at their newest attempt.", backups.failing)
    yield gauge(
        "backup_age_seconds",
        "Time since the newest backup was complete, of the schedule with the oldest one; 0 without a schedule.",
        backups.age.total_seconds(),
    )
    yield gauge(
        "backup_overdue_seconds",
        "For how long a scheduled backup has been missing, beyond two of its intervals; 0 if none is.",
        backups.overdue.total_seconds(),
    )
    yield gauge(
        "restored", "Whether the database counts as older than AWS, so that nothing is written.", figures.restored
    )
    if figures.each:
        yield from _each(figures)


def _each(figures: "Figures") -> Iterator[Metric]:
    """Yield the metrics of single syncs."""
    status = GaugeMetricFamily("phasesync_sync_status", "The status of a sync, as a label.", labels=["sync", "status"])
    in_status = GaugeMetricFamily(
        "phasesync_sync_in_status_seconds", "For how long a sync has its status.", labels=["sync"]
    )
    behind = GaugeMetricFamily(
        "phasesync_sync_behind_seconds",
        "Time since the oldest edit was committed that is not at AWS; 0 if there is none.",
        labels=["sync"],
    )
    for sync in figures.each:
        status.add_metric([sync.name, sync.status.value], 1)
        if sync.since is not None:
            in_status.add_metric([sync.name], figures.age(sync.since).total_seconds())
        behind.add_metric([sync.name], figures.age(sync.behind_since).total_seconds())
    yield status
    yield in_status
    yield behind
    yield gauge("per_sync_left_out", "Syncs without series of their own, since they are too many.", figures.left_out)


def _skew(**ahead: float | None) -> Metric:
    family = GaugeMetricFamily(
        "phasesync_clock_skew_seconds",
        "How far this host's clock is ahead of another one; below 0: behind it.",
        labels=["against"],
    )
    for against, seconds in ahead.items():
        if seconds is not None:
            family.add_metric([against], seconds)
    return family


def _keys(key_ids: Mapping[str, str]) -> Metric:
    family = InfoMetricFamily("phasesync_key", "Ids of the keys in use.", labels=["purpose"])
    for purpose, key_id in key_ids.items():
        family.add_metric([purpose], {"key_id": key_id})
    return family
