"""
How large the processes of daemons are, again and again; and whether they stay so.

A process is compared with itself: the median of the first third of its life with that of the last, once its first five
minutes are over. So neither a peak nor a dip decides, and a process that was started anew begins anew.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from statistics import median

import psycopg
import sqlalchemy as sa

from bench.replicas import Life, Replicas

WARM_UP_S = 300.0
"""A process imports, fills its pools and caches, and starts its threads in this time."""
LEAST_S = 300.0
"""A life whose rest is shorter says nothing of growth."""
EVERY_S = 5.0
_PATIENCE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """
    One look at one process.

    Attributes:
        at: seconds since the begin of the whole.
        age: seconds since the process was started.
        rss_mb: resident memory; `pss_mb`: the same with what it shares counted in part.
        connections: to the database: sessions on PostgreSQL, open files of the database on SQLite.
        series: how many series /metrics shows; None if it did not answer.
        metrics: name -> sum over its labels.
    """

    at: float
    replica: str
    pid: int
    age: float
    rss_mb: float
    pss_mb: float
    descriptors: int
    threads: int
    connections: int | None
    series: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


class Sampler:
    """Takes samples of all replicas in a thread of its own, until the block ends."""

    def __init__(self, replicas: Replicas, database_url: str, began: float, *, every_s: float = EVERY_S) -> None:
        self.samples: list[Sample] = []
        self.unanswered = 0
        """How often /metrics of a process that was neither frozen nor starting did not answer."""
        self._replicas = replicas
        self._database_url = database_url
        self._began = began
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sampler", daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ended.wait(self._every_s):
            self._replicas.look()
            sessions = _sessions(self._database_url)
            for life in self._replicas.running():
                if (sample := self._sample(life, sessions)) is not None:
                    self.samples.append(sample)

    def _sample(self, life: Life, sessions: Mapping[str, int] | None) -> Sample | None:
        pid, now = life.daemon.pid, time.monotonic()
        try:
            memory, status = _fields(f"/proc/{pid}/smaps_rollup"), _fields(f"/proc/{pid}/status")
            files = [_target(pid, name) for name in os.listdir(f"/proc/{pid}/fd")]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None  # It has just ended.
        if "Rss" not in memory:
            return None
        shown: dict[str, float] | None = None
        series = 0
        if not life.frozen:
            shown, series = _metrics(life)
            if shown is None and not life.frozen and life.ended is None and now - life.began > 10:
                self.unanswered += 1
        on_sqlite = sum(path.startswith(_path(self._database_url)) for path in files) if sessions is None else None
        return Sample(
            at=now - self._began,
            replica=life.replica,
            pid=pid,
            age=now - life.began,
            rss_mb=memory["Rss"] / 1024,
            pss_mb=memory["Pss"] / 1024,
            descriptors=len(files),
            threads=int(status["Threads"]),
            connections=on_sqlite if sessions is None else sessions.get(life.replica),
            series=None if shown is None else series,
            metrics=shown or {},
        )


def _fields(path: str) -> dict[str, float]:
    """Return what a file of /proc says in lines of `Name: number`."""
    found = {}
    with open(path) as file:
        for line in file:
            name, _, rest = line.partition(":")
            if (words := rest.split()) and words[0].isdecimal():
                found[name] = float(words[0])
    return found


def _target(pid: int, descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{descriptor}")
    except FileNotFoundError:
        return ""


def _path(database_url: str) -> str:
    return sa.make_url(database_url).database or "/nonexistent"


def _sessions(database_url: str) -> dict[str, int] | None:
    """Return replica -> its sessions on PostgreSQL; None on SQLite; empty while the server does not answer."""
    url = sa.make_url(database_url)
    if url.get_backend_name() != "postgresql":
        return None
    counted = "SELECT application_name, count(*) FROM pg_stat_activity WHERE datname = %s GROUP BY 1"
    try:
        raw = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(raw, connect_timeout=2) as connection:
            return {name: int(number) for name, number in connection.execute(counted, [url.database])}
    except psycopg.OperationalError:
        return {}


def _metrics(life: Life) -> tuple[dict[str, float] | None, int]:
    """Return what a process shows: name -> sum over its labels, and the number of series; None without an answer."""
    if (address := life.address) is None:
        return None, 0
    try:
        connection = HTTPConnection(address, timeout=_PATIENCE_S)
        try:
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
    except (OSError, HTTPException):
        return None, 0
    if response.status != 200:
        return None, 0
    sums: dict[str, float] = {}
    series = 0
    for line in text.splitlines():
        if line.startswith("#") or not line:
            continue
        series += 1
        name = line.partition("{")[0].partition(" ")[0]
        if not name.endswith("_bucket"):
            value = line.rpartition("}")[2].split("#")[0].split()
            sums[name] = sums.get(name, 0.0) + float(value[0] if "{" in line else value[1])
    return sums, series


# --- whether a process stays as large as it is


@dataclass(frozen=True, kw_only=True)
class Growth:
    """
    One process: what it had in the first third of its life after the warm-up, and in the last.

    Attributes:
        seconds: how long it lived after the warm-up.
        judged: long enough to be judged.
    """

    replica: str
    pid: int
    seconds: float
    judged: bool
    first: Mapping[str, float]
    last: Mapping[str, float]

    def percent(self, what: str) -> float:
        """Return by how much something grew."""
        return 100 * (self.last[what] / self.first[what] - 1) if self.first.get(what) else 0.0

    def more(self, what: str) -> float:
        """Return how many more there are."""
        return self.last.get(what, 0.0) - self.first.get(what, 0.0)


MEASURED: Mapping[str, Callable[[Sample], float | None]] = {
    "rss_mb": lambda sample: sample.rss_mb,
    "pss_mb": lambda sample: sample.pss_mb,
    "descriptors": lambda sample: sample.descriptors,
    "threads": lambda sample: sample.threads,
    "connections": lambda sample: sample.connections,
    "series": lambda sample: sample.series,
}


def growths(samples: Sequence[Sample]) -> Iterator[Growth]:
    """Yield how each process grew; those that lived too short for thirds are left out."""
    for pid in dict.fromkeys(sample.pid for sample in samples):
        own = [sample for sample in samples if sample.pid == pid]
        warm = [sample for sample in own if sample.age > WARM_UP_S]
        seconds = warm[-1].at - warm[0].at if warm else 0.0
        judged = seconds >= LEAST_S
        used = warm if judged else own[len(own) // 4 :]
        third = len(used) // 3
        if not third:
            continue
        yield Growth(
            replica=own[0].replica,
            pid=pid,
            seconds=seconds if judged else used[-1].at - used[0].at,
            judged=judged,
            first=_medians(used[:third]),
            last=_medians(used[-third:]),
        )


def _medians(samples: Iterable[Sample]) -> dict[str, float]:
    listed = list(samples)
    found = {}
    for what, of in MEASURED.items():
        if values := [value for sample in listed if (value := of(sample)) is not None]:
            found[what] = median(values)
    return found
