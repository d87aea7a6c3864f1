"""
What it costs to ask whether anything is due, with many syncs of which none is; and what an idle daemon takes.

    python -m bench.pending [--syncs 10,1000,10000] [--asks 200] [--idle-syncs 1000] [--seconds 10]

The daemon asks twenty times a second (poll_interval_ms = 50).
"""

import argparse
import sys
import time
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from bench.endpoint import Endpoint
from bench.ground import databases_option, installed, spread, table
from phasesync.store.tables import GENERATED, environments, sync_reads, syncs
from tests.support.installation import Installation

_MANY = 500
"""Rows in one insert."""


def main(args: list[str], endpoint: Endpoint) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.pending")
    parser.add_argument("--syncs", default="10,1000,10000", help="how many, one after the other")
    parser.add_argument("--asks", type=int, default=200)
    parser.add_argument("--idle-syncs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the idle daemon is watched")
    databases_option(parser)
    options = parser.parse_args(args)
    asked, idle = [], []
    for database in options.databases:
        for count in map(int, options.syncs.split(",")):
            with installed(database, endpoint.empty().url) as installation:
                _settle(installation, count)
                asked.append((f"{database}, {count:,} syncs", *_ask(installation, options.asks)))
        with installed(database, endpoint.empty().url) as installation:
            _settle(installation, options.idle_syncs)
            idle.append((f"{database}, {options.idle_syncs:,} syncs", _idle_percent(installation, options.seconds)))
    table(["is anything due? ms", "p50", "p95", "max"], asked)
    print()
    table(["idle daemon", "% of a core"], idle)
    return 0


def _settle(installation: Installation, count: int) -> None:
    """Make syncs that are in step and not due for an hour: one in earnest, the others after its rows."""
    installation.add_syncs("web", interval=timedelta(hours=1))
    installation.reconcile("web")
    with installation.database() as connection:
        _multiply(connection, environments, count, names=("id", "name", "name_key"))
        _multiply(connection, syncs, count, names=("id", "name", "name_key", "environment_id", "destination_key"))
        _multiply(connection, sync_reads, count, names=("sync_id", "environment_id"))
    # As after some hours of work: both databases have figures to plan with.
    engine = sa.create_engine(installation.database_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")


def _multiply(connection: sa.Connection, rows: sa.Table, count: int, *, names: tuple[str, ...]) -> None:
    """Add `count - 1` rows like the only one; what has to differ ends in a number."""
    (row,) = connection.execute(sa.select(rows)).mappings()
    copies: list[dict[str, Any]] = [
        {name: value for name, value in row.items() if name not in GENERATED}
        | {name: f"{str(row[name])[:24]}-{number}" for name in names}
        for number in range(1, count)
    ]
    for start in range(0, len(copies), _MANY):
        connection.execute(rows.insert(), copies[start : start + _MANY])


def _ask(installation: Installation, asks: int) -> tuple[float, float, float]:
    """Ask many times; return p50, p95 and the greatest in milliseconds."""
    durations = []
    with installation.application() as application:
        for number in range(asks + 5):
            began = time.perf_counter()
            claims = application.store.claims.claim_due("bench", limit=8, ttl=timedelta(seconds=15))
            if number >= 5:  # the first ones open the connection
                durations.append((time.perf_counter() - began) * 1000)
            if claims:
                raise AssertionError("something was due")
    return spread(durations)


def _idle_percent(installation: Installation, seconds: float) -> float:
    """Return what share of a core a daemon takes that has nothing to do."""
    daemon = installation.start_daemon()
    time.sleep(min(2.0, seconds))  # until its start is over
    used, began = daemon.cpu_s(), time.monotonic()
    time.sleep(seconds)
    percent = (daemon.cpu_s() - used) / (time.monotonic() - began) * 100
    if daemon.stop() != 0 or daemon.find("run finished"):
        raise AssertionError("it was not idle")
    return percent


if __name__ == "__main__":
    with Endpoint() as started:
        sys.exit(main(sys.argv[1:], started))
