"""
Checks of 10,000 unchanged objects for drift, beside what the peers' ways take for the same.

    python -m bench.sweep [--objects 10000] [--asked 1000] [--steady-s 35]

A real daemon, 100 syncs of 100 objects each, in one account and Region. It checks everything once; then its steady
checks are counted; then another writer changes one object, which has to be found and brought back. External Secrets
asks for each object in each interval, with three calls; Infisical lists all, reads all and describes each in each run.
Phase checks nothing. What the peers' ways take is counted over `--asked` objects and multiplied: each object takes the
same.
"""

import argparse
import sys
import time
import uuid
from collections.abc import Sequence

import sqlalchemy as sa

from bench.account import Account
from bench.fast_aws import FastAws
from bench.figures import Figure
from bench.ground import databases_option, installed, print_figures, wait_for
from bench.peers import EXTERNAL_SECRETS, INFISICAL, Peers
from bench.synthetic import Planter, Shape

KEYS = 100
_PATIENCE_S = 400.0


def main(args: list[str]) -> int:
    """Measure and print; exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.sweep")
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--asked", type=int, default=1_000, help="objects that the peers' ways ask for")
    parser.add_argument("--steady-s", type=float, default=35.0, help="how long steady checks are counted")
    parser.add_argument("--every-s", type=int, default=30, help="how often a daemon checks")
    databases_option(parser)
    options = parser.parse_args(args)
    with FastAws() as aws:
        found = measure(
            aws,
            options.databases,
            objects=options.objects,
            asked=options.asked,
            steady_s=options.steady_s,
            every_s=options.every_s,
        )
    return print_figures(found)


def measure(
    aws: FastAws, databases: Sequence[str], *, objects: int, asked: int, steady_s: float, every_s: int = 30
) -> list[Figure]:
    """Return the figures of row 6."""
    peers = _peers(aws, objects, asked)
    figures = []
    for database in databases:
        with installed(database, aws.empty().url) as installation:
            shape = Shape(name="keys", environments=objects // KEYS, syncs=1, secrets=KEYS, per_key=True)
            Planter(installation, aws).plant(shape)
            account = Account(database, installation, aws, shape.environments, peers=peers)
            installation.configure(daemon__sweep_interval_s=every_s)
            account.start()
            account.full_sweep()
            account.steady(steady_s)
            account.figures.append(_bring_back(account, aws))
            account.stop()
            figures += account.figures
    return figures


def _bring_back(account: Account, aws: FastAws) -> Figure:
    """Write one object as another writer would; return how long it takes until our value is back."""
    with account.installation.database() as connection:
        row = connection.execute(sa.text("SELECT journal.remote_name FROM journal ORDER BY remote_name LIMIT 1")).one()
    aws.forget_arrivals()
    began = time.monotonic()
    aws.plant([(row.remote_name, str(uuid.uuid4()), 0)], [{}])

    def back() -> bool:
        return aws.counts().get("PutSecretValue", 0) > 0

    wait_for(back, within_s=_PATIENCE_S, what="the value that was written over", every_s=0.2)
    return Figure(
        key="brought_back_s",
        what="another writer's change is found and brought back after",
        database=account.database,
        value=time.monotonic() - began,
        unit="s",
    )


def _peers(aws: FastAws, objects: int, asked: int) -> dict[str, float]:
    """Return peer -> calls for a check of all objects."""
    peers = Peers(aws.empty().url)
    names = [f"peer/{number:06}" for number in range(asked)]
    aws.plant([(name, str(uuid.uuid4()), 0) for name in names], [{}])
    counted = {}
    for peer, check in (
        (EXTERNAL_SECRETS, peers.check_as_external_secrets),
        (INFISICAL, peers.check_as_infisical),
    ):
        aws.forget_arrivals()
        check(names)
        counted[peer] = sum(aws.counts().values()) * objects / asked
    return counted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
