"""
How long small syncs wait beside large ones: a real daemon, and AWS's quota of 50 CreateSecret a second, which the
endpoint holds it to.

    python -m bench.fairness [--large 0,1,8] [--objects 300] [--small 50] [--workers 8]

The large syncs begin, each with one object for each of its keys; as soon as their first object is there, the small ones
of one object follow. Counted from the commit that resumes a small sync to the arrival of its CreateSecret. Done one
after the other, the last small one would wait for every object of the large ones: the last column.
"""

import argparse
import sys
import time

from bench.endpoint import Endpoint
from bench.ground import databases_option, installed, spread, table
from phasesync.core.sync import Layout
from phasesync.core.token_bucket import Rate
from tests.support.installation import Installation
from tests.support.waiting import wait_until

QUOTA = 50
"""CreateSecret, calls a second (User Guide, quotas)."""
PATIENCE_S = 300.0


def main(args: list[str], endpoint: Endpoint) -> int:
    """Measure and print; exit code 1 where small syncs had to wait for the end of the large ones."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness")
    parser.add_argument("--large", default="0,1,8", help="how many large syncs, one scene after the other")
    parser.add_argument("--objects", type=int, default=300, help="of each large sync")
    parser.add_argument("--small", type=int, default=50, help="how many small syncs")
    parser.add_argument("--workers", type=int, default=8, help="threads of the daemon")
    databases_option(parser)
    options = parser.parse_args(args)
    rate = Rate(quota=QUOTA)
    rows, unfair = [], False
    for database in options.databases:
        for large in map(int, options.large.split(",")):
            with installed(database, endpoint.empty().url) as installation:
                installation.configure(daemon__workers=options.workers)
                waits, meanwhile = _measure(installation, endpoint, large, options.objects, options.small)
            unfair |= large > 0 and meanwhile >= large * options.objects * 0.9
            in_line_s = max(0.0, large * options.objects + options.small - rate.burst) / rate.pace
            name = f"{database}, {options.small} beside {large} of {options.objects}"
            rows.append((name, *(wait * 1000 for wait in spread(waits)), meanwhile, in_line_s * 1000))
    head = [
        "small syncs, ms from commit to AWS",
        "p50",
        "p95",
        "max",
        "objects of large ones meanwhile",
        "one after the other",
    ]
    table(head, rows)
    return int(unfair)


def _measure(
    installation: Installation, endpoint: Endpoint, large: int, objects: int, small: int
) -> tuple[list[float], int]:
    """Return how long each small sync waited, and how many objects of large ones came before the last of them."""
    larges, smalls = [f"large-{number}" for number in range(large)], [f"small-{number}" for number in range(small)]
    values = {f"KEY_{number}": "value" for number in range(objects)}
    per_key = {"layout": Layout.PER_KEY, "remote_name": None, "name_template": "shop/{env}/{key}"}
    installation.add_syncs("first")
    installation.add_syncs(*larges, values=values, **per_key)
    installation.add_syncs(*smalls, values={"KEY": "value"})
    with installation.application() as application:
        operations = application.operations
        for name in (*larges, *smalls):
            operations.pause(name, actor="bench", reason="", until=None)
        daemon = installation.start_daemon()
        installation.wait_for("first")  # by then everything is loaded
        for name in larges:
            operations.resume(name, actor="bench")
        if larges:
            wait_until(lambda: _created(endpoint, "shop/large-"), within_s=30, what="the first object of a large sync")
        resumed = {}
        for name in smalls:
            operations.resume(name, actor="bench")
            resumed[f"shop/{name}"] = time.monotonic()
    wait_until(
        lambda: len(_created(endpoint, "shop/small-")) == small, within_s=PATIENCE_S, what="the objects of small syncs"
    )
    arrivals = _created(endpoint, "shop/")
    began, last = min(resumed.values()), max(arrivals[name] for name in resumed)
    between = sum(began < at < last for name, at in arrivals.items() if name.startswith("shop/large-"))
    if daemon.stop() != 0:
        raise AssertionError("the daemon did not end well")
    return [arrivals[name] - at for name, at in resumed.items()], between


def _created(endpoint: Endpoint, prefix: str) -> dict[str, float]:
    """Return when each object with this prefix in its name was created."""
    arrivals = endpoint.seen().arrivals
    return {name: at for at, operation, name in arrivals if operation == "CreateSecret" and name.startswith(prefix)}


if __name__ == "__main__":
    with Endpoint(rate_limiter=True) as started:
        sys.exit(main(sys.argv[1:], started))
