"""
What it costs to ask whether anything is due, with many syncs of which none is; and what an idle daemon takes.

    python -m bench.idle [--syncs 10000 50000 100000] [--asks 300] [--idle-syncs 1000] [--seconds 30]

The syncs are in step, and none is due for an hour. The idle daemon makes its checks, one in 30 s. It is watched at
`--idle-syncs` and at the greatest number of `--syncs`: its share of one core, and its memory.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from bench.fast_aws import FastAws
from bench.figures import Figure
from bench.ground import databases_option, installed, print_figures, spread
from bench.machine import memory_mb, processes_cpu_s
from bench.synthetic import Planter, Shape, plant_objects
from phasesync.store.tables import chores, sweeps
from tests.support.installation import Installation

_TOGETHER = 20
"""Syncs that read one environment."""
_START_S = 300.0
"""A daemon checks everything once when it starts; then it is idle."""


def main(args: list[str]) -> int:
    """Measure and print; exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.idle")
    parser.add_argument("--syncs", type=int, nargs="+", default=[10_000, 50_000, 100_000])
    parser.add_argument("--asks", type=int, default=300)
    parser.add_argument("--idle-syncs", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long an idle daemon is watched")
    databases_option(parser)
    options = parser.parse_args(args)
    with FastAws() as aws:
        found = measure(
            aws,
            options.databases,
            syncs=options.syncs,
            asks=options.asks,
            idle_syncs=options.idle_syncs,
            seconds=options.seconds,
        )
    return print_figures(found)


def measure(
    aws: FastAws, databases: Sequence[str], *, syncs: Sequence[int], asks: int, idle_syncs: int, seconds: float
) -> list[Figure]:
    """Return the figures of row 4."""
    figures = []
    for database in databases:
        with installed(database, aws.empty().url) as installation:
            planter, planted = Planter(installation, aws), 0
            for count in sorted({idle_syncs, *syncs}):
                more = max(1, (count - planted) // _TOGETHER)
                planter.plant(Shape(name=f"to-{count}", environments=more, syncs=_TOGETHER, secrets=1))
                planted += more * _TOGETHER
                if count in syncs:
                    p50, p95, _ = spread(_ask(installation, asks))
                    what = f"is anything due among {count:,} syncs?"
                    figures += [
                        Figure(key=f"due_{count}_p50_ms", what=what, database=database, value=p50, unit="ms", goal=0.2),
                        Figure(key=f"due_{count}_p95_ms", what="p95", database=database, value=p95, unit="ms"),
                    ]
                if count in (idle_syncs, max(syncs)):
                    percent, memory = _idle(installation, aws, seconds)
                    of = f"idle daemon, {count:,} syncs"
                    figures += [
                        Figure(
                            key=f"idle_{count}_percent",
                            what=f"{of}, share of a core",
                            database=database,
                            value=percent,
                            unit="%",
                            goal=1,
                        ),
                        Figure(
                            key=f"idle_{count}_mb", what=f"{of}, memory", database=database, value=memory, unit="MB"
                        ),
                    ]
    return figures


def _ask(installation: Installation, asks: int) -> list[float]:
    """Ask many times; return the milliseconds of each."""
    durations = []
    with installation.application() as application:
        for number in range(asks + 5):
            began = time.perf_counter()
            due = application.store.claims.next_due()
            if number >= 5:  # the first ones open the connection
                durations.append((time.perf_counter() - began) * 1000)
            if due.urgencies:
                raise AssertionError("something was due")
    return durations


def _idle(installation: Installation, aws: FastAws, seconds: float) -> tuple[float, float]:
    """Return what share of a core a daemon takes that has nothing to do, in percent, and its memory in MB."""
    plant_objects(installation, aws)
    with installation.database() as connection:  # otherwise everything was checked lately, before these were there
        connection.execute(sweeps.delete())
        connection.execute(chores.delete())
    daemon = installation.start_daemon()
    daemon.wait_for_line("sweep finished", within_s=_START_S, full=True)
    used, began = processes_cpu_s(daemon.pid), time.monotonic()
    time.sleep(seconds)
    percent = (processes_cpu_s(daemon.pid) - used) / (time.monotonic() - began) * 100
    memory = memory_mb(daemon.pid)
    if daemon.stop() != 0 or daemon.find("run finished"):
        raise AssertionError("it was not idle")
    return percent, memory


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
