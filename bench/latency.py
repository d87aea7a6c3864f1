"""
From an edit to the value at AWS: a real daemon, a real database, an endpoint that answers in about 2 ms.

    python -m bench.latency [--edits 50] [--quiet-ms 150]

Counted from the commit of the edit to the arrival of the request that carries the new value, and also from the begin
of saving it, as Phase, the model product, was measured (115 to 124 ms). Edits go round five syncs of ten secrets each,
at times that do not keep step with the daemon's polls. AWS's request rates are off at the endpoint: what is measured is
the daemon.
"""

import argparse
import random
import sys
import time

from bench.endpoint import Endpoint
from bench.ground import databases_option, installed, spread, table
from phasesync.bootstrap import Application
from phasesync.core.model import SecretValue, SecretWrite
from tests.support.installation import Installation

SYNCS = 5
SECRETS = 10
WRITES = ("PutSecretValue", "CreateSecret")


def main(args: list[str], endpoint: Endpoint) -> int:
    """Measure and print; exit code 1 where the median is above what the model product needs."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency")
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--quiet-ms", type=float, default=150.0, help="mean pause between two edits")
    databases_option(parser)
    options = parser.parse_args(args)
    rows, parts, slow = [], [], False
    for database in options.databases:
        with installed(database, endpoint.empty().url) as installation:
            measured = _measure(installation, endpoint, options.edits, options.quiet_ms)
        from_commit = spread([(put - commit) * 1000 for _, commit, _, put in measured])
        from_save = spread([(put - save) * 1000 for save, _, _, put in measured])
        rows.append((f"{database}, from the commit", *from_commit))
        rows.append((f"{database}, from the save", *from_save))
        slow |= from_save[0] > 115
        parts.append(
            (
                database,
                spread([(commit - save) * 1000 for save, commit, _, _ in measured])[0],
                spread([(describe - commit) * 1000 for _, commit, describe, _ in measured])[0],
                spread([(put - describe) * 1000 for _, _, describe, put in measured])[0],
            )
        )
    table(["edit -> value at the endpoint, ms", "p50", "p95", "max"], rows)
    print()
    table(["where the median goes, ms", "save", "commit -> DescribeSecret", "DescribeSecret -> value"], parts)
    return int(slow)


def _measure(
    installation: Installation, endpoint: Endpoint, edits: int, quiet_ms: float
) -> list[tuple[float, float, float, float]]:
    """Return (save begins, commit, DescribeSecret arrives, the value arrives) of each edit."""
    names = [f"sync-{number}" for number in range(SYNCS)]
    installation.add_syncs(*names, values={f"KEY_{number}": "value" for number in range(SECRETS)})
    daemon = installation.start_daemon()
    installation.wait_for(*names)
    time.sleep(0.7)  # until no edit is held back to gather with others
    moments = []
    with installation.application() as application:
        for number in range(edits):
            name = names[number % SYNCS]
            save = time.monotonic()
            _save(application, name, f"value {number}")
            moments.append((name, save, time.monotonic()))
            time.sleep(random.uniform(0.5, 1.5) * quiet_ms / 1000)
    installation.wait_for(*names)
    if daemon.stop() != 0:
        raise AssertionError("the daemon did not stop cleanly")
    arrivals = endpoint.seen().arrivals
    timings = []
    for name, save, commit in moments:
        # A put names the ARN, which ends in the name and six more characters.
        mine = [(at, call) for at, call, who in arrivals if at > save and who.partition(":secret:shop/")[2][:6] == name]
        mine += [(at, call) for at, call, who in arrivals if at > save and who == f"shop/{name}"]
        put = min(at for at, call in mine if call in WRITES)
        timings.append((save, commit, max(at for at, call in mine if call == "DescribeSecret" and at < put), put))
    return timings


def _save(application: Application, name: str, text: str) -> None:
    write = SecretWrite(path="/", key="KEY_0", value=SecretValue(text))
    application.store.secrets.edit("shop", name, actor="bench", origin="set", writes=[write])


if __name__ == "__main__":
    with Endpoint() as started:
        sys.exit(main(sys.argv[1:], started))
