"""
From an edit to the value at AWS: a real daemon, an endpoint that answers at once, beside the peers' calls for the same.

    python -m bench.latency [--edits 60] [--quiet-ms 150]

Counted from the commit of the edit to the arrival of the request that carries the new value. Edits go round five syncs
of ten secrets each, at times that do not keep step with the daemon's polls. The peers' times are those of their AWS
calls alone, from their first call to the arrival of the value: no queue, no worker that has to notice the edit.
External Secrets and Infisical would first wait for an interval or a queue. Phase's own figure, measured on its whole
code with its database and its queue, was 115 to 124 ms from the begin of saving.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence

from bench.fast_aws import FastAws
from bench.figures import MODEL, Figure
from bench.ground import databases_option, edit, installed, print_figures, spread
from bench.peers import EXTERNAL_SECRETS, INFISICAL, Peers, pushes_ms
from tests.support.installation import Installation

SYNCS = 5
SECRETS = 10
WRITES = ("PutSecretValue", "CreateSecret")
GOALS_MS = {"sqlite": 15.0, "postgresql": 20.0}


def main(args: list[str]) -> int:
    """Measure and print; exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency")
    parser.add_argument("--edits", type=int, default=60)
    parser.add_argument("--quiet-ms", type=float, default=150.0, help="mean pause between two edits")
    databases_option(parser)
    options = parser.parse_args(args)
    with FastAws() as aws:
        found = measure(aws, options.databases, edits=options.edits, quiet_ms=options.quiet_ms)
    return print_figures(found)


def measure(aws: FastAws, databases: Sequence[str], *, edits: int, quiet_ms: float) -> list[Figure]:
    """Return the figures of row 5."""
    peers = _peers(aws, max(5, edits // 3))
    figures = []
    for database in databases:
        with installed(database, aws.empty().url) as installation:
            saves, values, describes = _measure(installation, aws, edits, quiet_ms)
        p50, p95, most = spread(values)
        what = "edit committed → value at the endpoint"
        figures += [
            Figure(
                key="latency_p50_ms",
                what=f"{what}, p50",
                database=database,
                value=p50,
                unit="ms",
                goal=GOALS_MS[database],
                peers={name: spread(own)[0] for name, own in peers.items()},
            ),
            Figure(
                key="latency_p95_ms",
                what="the same, p95",
                database=database,
                value=p95,
                unit="ms",
                peers={name: spread(own)[1] for name, own in peers.items()},
            ),
            Figure(key="latency_max_ms", what="the same, the slowest", database=database, value=most, unit="ms"),
            Figure(
                key="latency_noticed_ms",
                what="of it until DescribeSecret arrives, p50",
                database=database,
                value=spread(describes)[0],
                unit="ms",
            ),
            Figure(
                key="latency_save_ms",
                what="saving the edit, before the commit, p50",
                database=database,
                value=spread(saves)[0],
                unit="ms",
            ),
        ]
    return figures


def _measure(
    installation: Installation, aws: FastAws, edits: int, quiet_ms: float
) -> tuple[list[float], list[float], list[float]]:
    """Return milliseconds of each edit: saving it, and from its commit to the value and to the look before it."""
    names = [f"sync-{number}" for number in range(SYNCS)]
    installation.add_syncs(*names, values={f"KEY_{number}": "value" for number in range(SECRETS)})
    daemon = installation.start_daemon()
    installation.wait_for(*names)
    time.sleep(0.7)  # until no edit is held back to gather with others
    aws.forget_arrivals()
    moments = []
    with installation.application() as application:
        for number in range(edits):
            name = names[number % SYNCS]
            began = time.monotonic()
            moments.append((f"shop/{name}", began, edit(application, name, {"KEY_0": f"value {number}"})))
            time.sleep(random.uniform(0.5, 1.5) * quiet_ms / 1000)
    installation.wait_for(*names)
    if daemon.stop() != 0:
        raise AssertionError("the daemon did not stop cleanly")
    arrivals = aws.seen().arrivals
    saves, values, describes = [], [], []
    for name, began, committed in moments:
        own = [(at, operation) for at, operation, who in arrivals if who == name and at > began]
        put = min(at for at, operation in own if operation in WRITES)
        looked = max(at for at, operation in own if operation == "DescribeSecret" and at < put)
        saves.append((committed - began) * 1000)
        values.append((put - committed) * 1000)
        describes.append((looked - committed) * 1000)
    return saves, values, describes


def _peers(aws: FastAws, pushed: int) -> dict[str, list[float]]:
    peers = Peers(aws.empty().url)
    names = [f"peer-{number}" for number in range(pushed)]
    peers.create(names, "planted")
    return {peer: pushes_ms(peers, peer, names, aws) for peer in (MODEL, EXTERNAL_SECRETS, INFISICAL)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
