"""
Changed syncs per second with one daemon and with three on one PostgreSQL: each claims what is due, or Procrastinate
distributes it (`daemon.dispatch`).

    python -m bench.dispatch [--syncs 300] [--rounds 3] [--daemons 1,3] [--workers 8]

As `bench.changed` does: one environment of 20 secrets that all syncs read, one edit that changes all, counted from its
commit to the arrival of the last value; once with an endpoint that answers at once, and once with 50 ms for each
response, as AWS takes. All daemons are on this machine, so that they share its cores: what more hosts bring beside
their threads is not in these figures.
"""

import argparse
import statistics
import sys
import time
from contextlib import closing

from bench.changed import SECRETS, SLOW_S
from bench.fast_aws import FastAws
from bench.ground import ANY_RATE, add_fan_out, edit_all, installed, table, unfinished
from bench.machine import processes_cpu_s
from phasesync.store import open_database
from phasesync.store.queue_schema import upgrade_queue
from tests.support.daemon import Daemon
from tests.support.installation import Installation
from tests.support.waiting import wait_until

DISPATCHES = ("threads", "procrastinate")
_PATIENCE_S = 180.0


def main(args: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.dispatch")
    parser.add_argument("--syncs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--daemons", default="1,3", help="how many daemons, one scene after the other")
    parser.add_argument("--workers", type=int, default=8, help="threads of each daemon")
    options = parser.parse_args(args)
    rows = []
    with FastAws() as aws:
        for daemons in map(int, options.daemons.split(",")):
            for dispatch in DISPATCHES:
                with installed("postgresql", aws.empty().url) as installation:
                    _prepare(installation, dispatch, options.workers, options.syncs)
                    rows.append((f"{dispatch}, {daemons}", *_measure(installation, aws, daemons, options)))
    table(
        [
            "dispatch, daemons",
            "changed syncs/s",
            "CPU ms a run, all daemons",
            "share of the busiest, %",
            "changed syncs/s at 50 ms",
        ],
        rows,
    )
    return 0


def _prepare(installation: Installation, dispatch: str, workers: int, syncs: int) -> None:
    installation.configure(daemon__dispatch=dispatch, daemon__workers=workers, aws__rate_percent=ANY_RATE)
    if dispatch == "procrastinate":
        with closing(open_database(installation.database_url)) as database:
            upgrade_queue(database)
    add_fan_out(installation, syncs, secrets=SECRETS)


def _measure(
    installation: Installation, aws: FastAws, count: int, options: argparse.Namespace
) -> tuple[float, float, float, float]:
    """Return changed syncs a second, CPU milliseconds a run, the share of the busiest daemon, and the slow rate."""
    aws.configure()
    daemons = [installation.start_daemon(ready=False) for _ in range(count)]
    for daemon in daemons:
        daemon.wait_until_ready()
    # The first round makes the objects, the second one the connections.
    wait_until(lambda: unfinished(installation) == 0, within_s=_PATIENCE_S, what="the objects")
    _round(installation, aws, daemons, options.syncs, 1)
    ended = [len(daemon.find("run finished")) for daemon in daemons]
    measured = [_round(installation, aws, daemons, options.syncs, 2 + number) for number in range(options.rounds)]
    runs = [len(daemon.find("run finished")) - before for daemon, before in zip(daemons, ended, strict=True)]
    aws.configure(delay_s=SLOW_S)
    slow = [
        _round(installation, aws, daemons, options.syncs, 100 + number)[0]
        for number in range(max(1, options.rounds // 2))
    ]
    if [daemon.stop() for daemon in daemons] != [0] * count:
        raise AssertionError("a daemon did not end well")
    rate, cpu_ms = (statistics.median(column) for column in zip(*measured, strict=True))
    return rate, cpu_ms, 100 * max(runs) / sum(runs), statistics.median(slow)


def _round(
    installation: Installation, aws: FastAws, daemons: list[Daemon], syncs: int, number: int
) -> tuple[float, float]:
    """Change all; return changed syncs a second, and CPU milliseconds a run."""
    time.sleep(0.7)  # until no edit is held back to gather with others
    aws.forget_arrivals()
    before = sum(processes_cpu_s(daemon.pid) for daemon in daemons)
    committed = edit_all(installation, secrets=SECRETS, number=number)
    wait_until(lambda: aws.counts().get("PutSecretValue", 0) >= syncs, within_s=_PATIENCE_S, what="the last value")
    seconds = max(at for at, operation, _ in aws.seen().arrivals if operation == "PutSecretValue") - committed
    wait_until(lambda: unfinished(installation) == 0, within_s=_PATIENCE_S, what="the end of all runs")
    used = sum(processes_cpu_s(daemon.pid) for daemon in daemons) - before
    return syncs / seconds, 1000 * used / syncs


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
