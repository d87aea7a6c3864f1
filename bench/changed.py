"""
Changed syncs per second: a real daemon, one environment of 20 secrets that 300 syncs read, one edit that changes all.

    python -m bench.changed [--syncs 300] [--rounds 5] [--peers 40]

Counted from the commit of the edit to the arrival of the last value. Once with an endpoint that answers at once and 8
workers, and once with 50 ms for each response and 32 workers. The CPU time is that of the whole daemon process, from
the commit until every run is stored. Statements and write transactions are counted in this process, which does the same
work with the same components. The daemon does not keep to AWS's 50 writes a second here (`aws.rate_percent`), which
would be all that is measured; `bench.account` keeps to them.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

from bench.fast_aws import FastAws
from bench.figures import MODEL, Figure
from bench.ground import (
    ANY_RATE,
    add_fan_out,
    databases_option,
    edit_all,
    installed,
    print_figures,
    unfinished,
    wait_for,
)
from bench.machine import processes_cpu_s
from bench.peers import EXTERNAL_SECRETS, INFISICAL, Peers, pushes_per_second
from bench.profile import inline_daemon, run_all
from tests.support.daemon import Daemon
from tests.support.installation import Installation
from tests.support.sql import Traffic, traffic

SECRETS = 20
SLOW_S = 0.05
_PATIENCE_S = 180.0


def main(args: list[str]) -> int:
    """Measure and print; exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.changed")
    parser.add_argument("--syncs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=int, default=40, help="objects that each peer's way changes")
    databases_option(parser)
    options = parser.parse_args(args)
    with FastAws() as aws:
        found = measure(aws, options.databases, syncs=options.syncs, rounds=options.rounds, pushed=options.peers)
    return print_figures(found)


def measure(aws: FastAws, databases: Sequence[str], *, syncs: int, rounds: int, pushed: int) -> list[Figure]:
    """Return the figures of rows 1 to 3."""
    quick_peers, slow_peers = _peers(aws, pushed, 0.0), _peers(aws, max(5, pushed // 4), SLOW_S)
    figures = []
    for database in databases:
        with installed(database, aws.empty().url) as installation:
            add_fan_out(installation, syncs, secrets=SECRETS)
            rate, cpu_ms = _rounds(installation, aws, syncs, rounds, workers=8, delay_s=0.0, first=1)
            slow_rate, _ = _rounds(installation, aws, syncs, max(1, rounds // 2), workers=32, delay_s=SLOW_S, first=100)
            aws.configure()
            sent, runs = _traffic(installation)
        figures += [
            Figure(
                key="changed_per_second",
                what=f"changed syncs, {syncs} of one environment, 8 workers",
                database=database,
                value=rate,
                unit="a second",
                goal=130,
                at_least=True,
                peers=quick_peers,
                ratio_goal=25,
            ),
            Figure(
                key="changed_per_second_50ms",
                what="the same at 50 ms a response, 32 workers",
                database=database,
                value=slow_rate,
                unit="a second",
                goal=110,
                at_least=True,
                peers=slow_peers,
                ratio_goal=25,
            ),
            Figure(
                key="changed_cpu_ms",
                what="CPU of one changed run, whole process",
                database=database,
                value=cpu_ms,
                unit="ms",
                goal=6,
            ),
            Figure(
                key="changed_write_transactions",
                what="write transactions of one changed run",
                database=database,
                value=sent.writes / runs,
                goal=4,
            ),
            Figure(
                key="changed_transactions",
                what="transactions of one changed run, reads included",
                database=database,
                value=sent.transactions / runs,
            ),
            Figure(
                key="changed_statements",
                what="SQL statements of one changed run",
                database=database,
                value=len(sent.statements) / runs,
                goal=9,
            ),
        ]
    return figures


def _rounds(
    installation: Installation, aws: FastAws, syncs: int, rounds: int, *, workers: int, delay_s: float, first: int
) -> tuple[float, float]:
    """Return the medians of changed syncs a second, and of CPU milliseconds a run."""
    aws.configure(delay_s=delay_s)
    installation.configure(daemon__workers=workers, aws__rate_percent=ANY_RATE)
    daemon = installation.start_daemon()
    # The first daemon makes the objects. A round that does not count makes the connections.
    wait_for(lambda: unfinished(installation) == 0, within_s=_PATIENCE_S, what="the objects", every_s=0.1)
    _edit_and_wait(installation, daemon, aws, syncs, first)
    measured = [_edit_and_wait(installation, daemon, aws, syncs, first + number) for number in range(1, rounds + 1)]
    if daemon.stop() != 0:
        raise AssertionError("the daemon did not stop cleanly")
    return statistics.median(rate for rate, _ in measured), statistics.median(cpu for _, cpu in measured)


def _edit_and_wait(
    installation: Installation, daemon: Daemon, aws: FastAws, syncs: int, number: int
) -> tuple[float, float]:
    """Change all; return changed syncs a second, and CPU milliseconds a run."""
    time.sleep(0.7)  # until no edit is held back to gather with others
    aws.forget_arrivals()
    before = processes_cpu_s(daemon.pid)
    committed = edit_all(installation, secrets=SECRETS, number=number)

    def all_written() -> bool:
        counts = aws.counts()
        return counts.get("PutSecretValue", 0) + counts.get("CreateSecret", 0) >= syncs

    wait_for(all_written, within_s=_PATIENCE_S, what=f"{syncs} values", every_s=0.05)
    wait_for(lambda: unfinished(installation) == 0, within_s=_PATIENCE_S, what="the last result", every_s=0.05)
    cpu_ms = (processes_cpu_s(daemon.pid) - before) / syncs * 1000
    writes = [at for at, operation, _ in aws.seen().arrivals if operation in ("PutSecretValue", "CreateSecret")]
    if len(writes) != syncs:
        raise AssertionError(f"{len(writes)} writes for {syncs} changes")
    return syncs / (max(writes) - committed), cpu_ms


def _traffic(installation: Installation) -> tuple[Traffic, int]:
    """Count what one round of changed runs sends to the database; return also how many runs they were."""
    installation.configure(daemon__workers=8, aws__rate_percent=ANY_RATE)
    with inline_daemon(installation) as (components, dispatcher):
        time.sleep(0.7)
        edit_all(installation, secrets=SECRETS, number=1000)
        with traffic(components.application.store.database.engine) as sent:
            runs = run_all(installation, components, dispatcher)
    return sent, runs


def _peers(aws: FastAws, pushed: int, delay_s: float) -> dict[str, float]:
    peers = Peers(aws.empty().url)
    names = [f"peer-{number}" for number in range(pushed)]
    peers.create(names, "planted")
    aws.configure(delay_s=delay_s)
    rates = {peer: pushes_per_second(peers, peer, names) for peer in (MODEL, EXTERNAL_SECRETS, INFISICAL)}
    aws.configure()
    return rates


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
