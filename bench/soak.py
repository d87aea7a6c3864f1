"""
Does a daemon stay as large as it is? A real daemon on an endpoint where some requests fail, with edits all the time.

    python -m bench.soak [--minutes 15] [--syncs 20] [--faults 3.0] [--databases sqlite]

Of the requests, the given share is dropped before or after it was carried out, refused with a server error, throttled,
or answered with half a JSON object. At the end AWS has to hold what the store holds, and no secret more versions than
edits. Memory is the daemon's resident set in MB, descriptors are its open files.
"""

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Final

import boto3
from botocore.config import Config

from bench.endpoint import Endpoint
from bench.ground import installed, table
from tests.support.installation import REGION, Installation

SAMPLES: Final = 10
"""Lines of the table."""
FLAT_MB: Final = 10.0
"""By how much memory may grow over the second half."""


def main(args: list[str], endpoint: Endpoint) -> int:
    """Measure and print; exit code 1 where AWS is not the store, or the daemon keeps growing."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--syncs", type=int, default=20)
    parser.add_argument("--faults", type=float, default=3.0, help="requests that fail, in percent")
    parser.add_argument("--databases", nargs="+", default=["sqlite"], choices=("sqlite", "postgresql"))
    options = parser.parse_args(args)
    worst = 0
    for database in options.databases:
        with installed(database, endpoint.empty().url) as installation:
            worst = max(worst, _soak(installation, endpoint, database, options))
    return worst


def _soak(installation: Installation, endpoint: Endpoint, database: str, options: argparse.Namespace) -> int:
    names = [f"sync-{number}" for number in range(options.syncs)]
    installation.add_syncs(*names)
    daemon = installation.start_daemon()
    installation.wait_for(*names)
    endpoint.fail(options.faults / 100)
    edits = dict.fromkeys(names, 1)
    samples = [(0.0, *_size(daemon.pid), sum(edits.values()))]
    began, seconds = time.monotonic(), options.minutes * 60
    while (passed := time.monotonic() - began) < seconds:
        name = random.choice(names)
        edits[name] += 1
        installation.edit(name, URL=f"postgres://db/{edits[name]}")
        if passed >= len(samples) * seconds / SAMPLES:
            samples.append((passed / 60, *_size(daemon.pid), sum(edits.values())))
        # AWS keeps 100 versions a day of a secret: the budget of 90 is not to be what is measured.
        time.sleep(seconds / (options.syncs * 60))
    samples.append((options.minutes, *_size(daemon.pid), sum(edits.values())))
    endpoint.fail(0.0)
    for name in names:
        with installation.application() as application:
            application.operations.trigger(name, actor="bench")
    installation.wait_for(*names, within_s=120)
    stopped = daemon.stop()
    table(
        [f"{database}, minutes", "memory MB", "descriptors", "edits"],
        [(f"{at:.1f}", memory, files, count) for at, memory, files, count in samples],
    )
    wrong = _differing(installation, endpoint, edits)
    half = samples[len(samples) // 2][1]
    grown = samples[-1][1] - half
    print(f"\nfailed on purpose: {endpoint.failed():,} requests; objects that differ: {len(wrong)}; exit {stopped}")
    print(f"grown over the second half: {grown:.1f} MB")
    return int(bool(wrong) or stopped != 0 or grown > FLAT_MB)


def _size(pid: int) -> tuple[float, int]:
    """Return the resident set in MB and the number of open files."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(resident.split()[1]) / 1024, len(os.listdir(f"/proc/{pid}/fd"))


def _differing(installation: Installation, endpoint: Endpoint, edits: dict[str, int]) -> list[str]:
    """Return the syncs with a secret that differs from the store or has more versions than there were edits."""
    client = boto3.client("secretsmanager", region_name=REGION, config=Config(retries={"max_attempts": 5}))
    versions = endpoint.seen().versions
    wrong = []
    for name, count in edits.items():
        stored = json.loads(client.get_secret_value(SecretId=f"shop/{name}")["SecretString"])
        last = "postgres://db" if count == 1 else f"postgres://db/{count}"
        if stored != {"URL": last, "USER": "shop"} or versions[f"shop/{name}"] > count:
            wrong.append(name)
    return wrong


if __name__ == "__main__":
    with Endpoint() as started:
        sys.exit(main(sys.argv[1:], started))
