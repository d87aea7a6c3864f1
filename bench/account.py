"""
A whole account: 500,000 objects of 100,000 syncs in one account and Region, the most that AWS allows.

    python -m bench.account [--objects 500000] [--edits 100] [--changes 10000] [--steady-s 65] [--cache FILE]

Mixed layouts: 95,800 syncs of one object, of which 20 share an environment each; 200 of one object alone; 4,000 with an
object for each of 101 secrets. The rows are synthetic and right (`bench.synthetic`); the daemon is a real process. It
checks everything once with lists, then stands idle but for its checks, then single edits go through, and at last edits
that change 10,000 objects, while the endpoint holds it to AWS's 50 writes a second.
"""

import argparse
import random
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa

from bench.fast_aws import FastAws
from bench.figures import Figure
from bench.ground import databases_option, edit, installed, print_figures, spread, unfinished, wait_for
from bench.machine import memory_mb, processes_cpu_s
from bench.synthetic import Planter, Shape, copy_database, plant_objects
from phasesync.bootstrap import Application
from tests.support.installation import Installation

_RATE_PERCENT = 97
QUOTA = 50
"""PutSecretValue, calls a second (User Guide, quotas)."""
WRITES = ("PutSecretValue", "CreateSecret")
_PATIENCE_S = 600.0


def main(args: list[str]) -> int:
    """Measure and print; exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.account")
    parser.add_argument("--objects", type=int, default=500_000)
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--changes", type=int, default=10_000)
    parser.add_argument("--steady-s", type=float, default=65.0, help="how long the idle daemon is watched")
    parser.add_argument("--cache", type=Path, help="file that keeps the planted database for the next time")
    databases_option(parser)
    options = parser.parse_args(args)
    with FastAws() as aws:
        found = measure(
            aws,
            options.databases,
            objects=options.objects,
            edits=options.edits,
            changes=options.changes,
            steady_s=options.steady_s,
            cache=options.cache,
        )
    return print_figures(found)


def shapes_of(objects: int) -> tuple[Shape, Shape, Shape]:
    """Return what is planted: syncs alone, syncs that share environments, and syncs with many objects."""
    share = objects / 500_000
    return (
        Shape(name="solo", environments=200, syncs=1, secrets=20),
        Shape(name="web", environments=max(1, round(4_790 * share)), syncs=20, secrets=20),
        Shape(name="keys", environments=max(2, round(200 * share)), syncs=20, secrets=101, per_key=True),
    )


def measure(
    aws: FastAws,
    databases: Sequence[str],
    *,
    objects: int,
    edits: int,
    changes: int,
    steady_s: float,
    cache: Path | None = None,
) -> list[Figure]:
    """Return the figures of row 7."""
    with ExitStack() as stack:
        planted = stack.enter_context(installed("sqlite", aws.empty().url))
        shapes = solo, web, keys = _plant(planted, aws, objects, cache)
        syncs = sum(shape.environments * shape.syncs for shape in shapes)
        accounts: list[Account] = []
        # PostgreSQL first: its rows are copied from those on SQLite before these change.
        for database in sorted(databases):
            endpoint, installation = aws, planted
            if database != "sqlite":
                endpoint = stack.enter_context(FastAws())
                installation = stack.enter_context(installed(database, endpoint.url, initialise=False))
                copy_database(planted, installation)
            account = Account(database, installation, endpoint, syncs)
            accounts.append(account)
            account.start()
            account.full_sweep()
            account.steady(steady_s)
            account.change_one_by_one(edits, solo)
        # At once, since AWS's rates are the limit and not this machine: it saves four minutes.
        with ThreadPoolExecutor(len(accounts)) as pool:
            for done in [pool.submit(account.change_many, changes, web, keys) for account in accounts]:
                done.result()
            for done in [pool.submit(account.check_after_changes, min(35.0, steady_s)) for account in accounts]:
                done.result()
        for account in accounts:
            account.stop()
    return [figure for account in accounts for figure in account.figures]


def _plant(installation: Installation, aws: FastAws, objects: int, cache: Path | None) -> tuple[Shape, Shape, Shape]:
    shapes = shapes_of(objects)
    file = Path(sa.make_url(installation.database_url).database or "")
    if cache is not None and cache.exists():
        shutil.copyfile(cache, file)
        return shapes
    Planter(installation, aws).plant(*shapes)
    if cache is not None:
        with installation.application() as application:
            application.store.database.checkpoint()
        shutil.copyfile(file, cache)
    return shapes


class Account:
    """A planted database, its endpoint and its daemon, step by step; each step adds figures."""

    def __init__(
        self,
        database: str,
        installation: Installation,
        aws: FastAws,
        syncs: int,
        *,
        peers: Mapping[str, float] | None = None,
    ) -> None:
        """
        Args:
            syncs: how many are planted.
            peers: peer -> its calls for a check of all objects.
        """
        self.database = database
        self.installation = installation
        self.figures: list[Figure] = []
        self._aws = aws
        self._syncs = syncs
        self._peers = peers or {}
        self._objects = plant_objects(installation, aws)

    def start(self) -> None:
        """Start a daemon."""
        # All of AWS's rates but a little: no one else calls in this account.
        self.installation.configure(aws__rate_percent=_RATE_PERCENT)
        self.daemon = self.installation.start_daemon()

    def stop(self) -> None:
        """Stop the daemon."""
        peak = memory_mb(self.daemon.pid, "VmHWM")
        self._figure("peak_memory_mb", "peak memory of the daemon in all", peak, "MB", 600)
        if self.daemon.stop(within_s=60) != 0:
            raise AssertionError("the daemon did not stop cleanly")

    def _figure(
        self,
        key: str,
        what: str,
        value: float,
        unit: str = "",
        goal: float | None = None,
        *,
        at_least: bool = False,
        peers: Mapping[str, float] | None = None,
    ) -> None:
        self.figures.append(
            Figure(
                key=key,
                what=what,
                database=self.database,
                value=value,
                unit=unit,
                goal=goal,
                at_least=at_least,
                peers=peers or {},
            )
        )

    def full_sweep(self) -> None:
        """Measure the check of everything that follows a start."""
        line = self.daemon.wait_for_line("sweep finished", within_s=_PATIENCE_S, full=True)
        if line["suspects"] or self.daemon.find("sync is halted") or unfinished(self.installation):
            raise AssertionError(f"the planted rows are not in step: {line}")
        what = f"full sweep of {self._objects:,} objects, calls"
        pages = -(-self._objects // 100)
        self._figure("sweep_calls", what, line["aws_calls"], goal=pages, peers=self._peers)
        counts = self._aws.counts()
        others = sum(counts.values()) - counts["ListSecrets"]
        self._figure("sweep_other_calls", "calls other than lists meanwhile", others)
        self._figure("sweep_seconds", "full sweep", line["duration_ms"] / 1000, "s")
        self._figure("sweep_cpu_s", "CPU until then, the start included", processes_cpu_s(self.daemon.pid), "s")
        peak = memory_mb(self.daemon.pid, "VmHWM")
        self._figure("sweep_memory_mb", "full sweep, peak memory of the daemon", peak, "MB", goal=600)

    def steady(self, seconds: float) -> None:
        """Watch a daemon that has nothing to do but its checks."""
        wait_for(lambda: not self._running(), within_s=_PATIENCE_S, what="the end of checks by runs", every_s=1)
        self._aws.forget_arrivals()
        used, began = processes_cpu_s(self.daemon.pid), time.monotonic()
        time.sleep(seconds)
        share = (processes_cpu_s(self.daemon.pid) - used) / (time.monotonic() - began) * 100
        self._figure("account_idle_percent", f"idle daemon, {self._syncs:,} syncs, its checks included", share, "%", 1)
        self._figure(
            "account_idle_mb", f"memory of that daemon, {self._objects:,} objects", memory_mb(self.daemon.pid), "MB"
        )
        checks, calls = self._checks()
        self._figure("steady_checks", f"checks in {seconds:.0f} s of an idle daemon", checks)
        if checks:
            self._figure("steady_calls", "calls of one steady check", calls / checks, goal=1, peers=self._peers)

    def check_after_changes(self, seconds: float) -> None:
        """Measure checks after many changes: a list of changes reads those of some minutes again."""
        self._aws.forget_arrivals()
        time.sleep(seconds)
        checks, calls = self._checks()
        if checks:
            self._figure("steady_calls_after", "calls of one check right after these changes", calls / checks)

    def _checks(self) -> tuple[int, int]:
        """Return how many checks there were, and how many calls they made."""
        at = [moment for moment, operation, _ in self._aws.seen().arrivals if operation == "ListSecrets"]
        return (1 + sum(later - earlier > 5 for earlier, later in pairwise(at)) if at else 0), len(at)

    def _running(self) -> int:
        with self.installation.database() as connection:
            now = time.time_ns() // 1000
            busy = (
                "SELECT count(*) FROM syncs WHERE paused_at IS NULL AND (claim_owner IS NOT NULL OR next_due_at < :at)"
            )
            return int(connection.scalar(sa.text(busy), {"at": now}) or 0)

    def _wait_for_writes(self, count: int, *, within_s: float) -> None:
        """Wait without asking the database, which has better things to do, until the last result is due."""

        def written() -> bool:
            counts = self._aws.counts()
            return sum(counts.get(operation, 0) for operation in WRITES) >= count

        wait_for(written, within_s=within_s, what=f"{count} writes", every_s=0.2)
        wait_for(lambda: unfinished(self.installation) == 0, within_s=60, what="the results", every_s=0.5)

    def change_one_by_one(self, edits: int, solo: Shape) -> None:
        """Change one object after the other, each of a sync of its own."""
        self._aws.forget_arrivals()
        committed = {}
        with self.installation.application() as application:
            for number in range(edits):
                name = f"solo-{number % solo.environments}"
                committed[f"o/{name}-0"] = edit(application, name, {solo.key(0): f"one edit among them {number}"})
                time.sleep(random.uniform(0.05, 0.15))
        self._wait_for_writes(edits, within_s=60)
        written = {name: at for at, operation, name in self._aws.seen().arrivals if operation in WRITES}
        p50, p95, _ = spread([(written[name] - at) * 1000 for name, at in committed.items()])
        self._figure("account_edit_p50_ms", f"one edit among {self._objects:,} objects, to the value, p50", p50, "ms")
        self._figure("account_edit_p95_ms", f"the same, p95 of {len(committed)}", p95, "ms", goal=200)

    def change_many(self, changes: int, web: Shape, keys: Shape) -> None:
        """Change many objects at once, at AWS's rates."""
        per_web = web.syncs
        per_keys = keys.syncs * (keys.secrets - 1)
        large = min(keys.environments, round(changes * 0.4 / per_keys))
        small = (changes - large * per_keys) // per_web
        if small > web.environments:
            raise AssertionError("there are too few environments for so many changes")
        total = large * per_keys + small * per_web
        self._aws.configure(quotas=True)
        self._aws.forget_arrivals()
        before = {name: versions for name, (_, versions, _) in self._aws.written().items()}
        used, failures = processes_cpu_s(self.daemon.pid), len(self._failed())
        expected: dict[str, str] = {}
        with self.installation.application() as application:
            for number in range(small):
                expected |= self._change(application, web, number, [0])
            for number in range(large):
                expected |= self._change(application, keys, number, range(1, keys.secrets))
        self._wait_for_writes(total, within_s=total / 10 + 60)
        cpu_ms = (processes_cpu_s(self.daemon.pid) - used) / total * 1000
        seen, written = self._aws.seen(), self._aws.written()
        self._aws.configure()
        writes = sorted(at for at, operation, _ in seen.arrivals if operation in WRITES)
        rate = _steady_rate(writes)
        lost = sum(name not in written or text not in written[name][2] for name, text in expected.items())
        doubled = sum(written[name][1] - before.get(name, 0) > 1 for name in expected if name in written)
        failed = len(self._failed()) - failures
        self._figure("changes", f"objects changed at once by {small + large} edits", total)
        self._figure(
            "changes_quota_share",
            f"share of AWS's quota that is used, with aws.rate_percent = {_RATE_PERCENT}",
            rate / QUOTA * 100,
            "%",
            95,
            at_least=True,
        )
        self._figure("changes_throttled", "calls that AWS throttled", sum(seen.refused.values()), goal=0)
        self._figure("changes_failed", "runs that failed", failed, goal=0)
        self._figure("changes_lost", "values lost", lost, goal=0)
        self._figure("changes_doubled", "objects with more than one new version", doubled, goal=0)
        self._figure("changes_cpu_ms", "CPU of one changed object, whole process", cpu_ms, "ms")

    def _change(self, application: Application, shape: Shape, number: int, keys: Sequence[int]) -> dict[str, str]:
        """Edit an environment; return what must be in which object."""
        name = f"{shape.name}-{number}"
        edit(application, name, {shape.key(key): f"{name} {key} of 10,000 changes" for key in keys})
        syncs = [f"{name}-{count}" for count in range(shape.syncs)]
        if shape.per_key:
            return {f"{sync}/{shape.key(key)}": f"{name} {key} of 10,000" for sync in syncs for key in keys}
        return {f"o/{sync}": f"{name} 0 of 10,000" for sync in syncs}

    def _failed(self) -> list[object]:
        lines = self.daemon.find("run finished")
        return [line for line in lines if line.get("outcome") not in ("applied", "unchanged")]


def _steady_rate(writes: Sequence[float]) -> float:
    """Return writes a second from the first to the last, without the burst that a full bucket allows."""
    burst = round(QUOTA * (1 - _RATE_PERCENT / 100))
    if len(writes) <= burst + 1:
        return 0.0
    return (len(writes) - burst) / (writes[-1] - writes[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
