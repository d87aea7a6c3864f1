"""
A rolling restart under load: three replicas on PostgreSQL are stopped by SIGTERM and started again, one by one, twice.

    python -m bench.rolling [--syncs 120] [--edits 4] [--rounds 2] [--quiet-s 20] [--output rolling.json]

Edits go on at a steady rate before, meanwhile and afterwards. The lag of an edit is seen from outside: from its commit
to the version at AWS that holds it, or a later edit of the same secret, since edits that follow each other at once go
out together. Exit code 1 where an edit is lost, written twice, or a replica does not end as it has to.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from bench.convergence import differing, journal_differences, lost_edits, wrong_versions
from bench.endpoint import Endpoint, Written
from bench.figures import Figure, Section, document
from bench.ground import installed, print_figures, wait_for
from bench.machine import machine, watched
from bench.replicas import Replicas
from bench.soak import in_sync
from bench.workload import Workload, in_threads
from phasesync.bootstrap import Application
from tests.support.installation import Installation

_DATABASE: Final = "postgresql"
_PAUSE_S: Final = 2.0
"""Between the readiness of one replica and the end of the next."""


def main(args: list[str]) -> int:
    """Measure, print and write; exit code 1 where something is lost."""
    parser = argparse.ArgumentParser(prog="python -m bench.rolling")
    parser.add_argument("--syncs", type=int, default=120)
    parser.add_argument("--edits", type=float, default=4.0, help="edits a second, on average")
    parser.add_argument("--rounds", type=int, default=2, help="how often each replica is started anew")
    parser.add_argument(
        "--quiet-s", type=float, default=20.0, help="seconds before the first restart, and after the last"
    )
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--preloaded", action="store_true", help="replicas that begin after their imports: for tests")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--output", type=Path, help="file for what was found, as JSON")
    options = parser.parse_args(args)
    print(f"seed {options.seed}", flush=True)
    about, began = machine(), time.monotonic()
    with watched() as load, Endpoint() as endpoint, installed(_DATABASE, endpoint.url) as installation:
        found = _measure(installation, endpoint, options)
    section = Section(
        name="rolling",
        title="A rolling restart under load",
        command="python -m bench.rolling",
        figures=found.figures,
        load_before=load.before,
        load_during=load.during,
        seconds=time.monotonic() - began,
        measured_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
    if options.output is not None:
        written = json.loads(document(about, [section])) | {"seed": options.seed, "wrong": found.wrong}
        options.output.write_text(json.dumps(written, ensure_ascii=False) + "\n")
    code = print_figures(section.figures)
    for line in found.wrong:
        print(f"wrong: {line}")
    return int(bool(code or found.wrong))


@dataclass(frozen=True, kw_only=True)
class _Found:
    figures: list[Figure]
    wrong: list[str]


def _measure(installation: Installation, endpoint: Endpoint, options: argparse.Namespace) -> _Found:
    workload = Workload(installation, endpoint, options.seed)
    workload.furnish(options.syncs, leases=False)
    names = [f"replica-{number + 1}" for number in range(options.replicas)]
    replicas = Replicas(installation, names, preloaded=options.preloaded)
    for name in names:
        replicas.start(name, ready=True)
    with installation.application() as application:
        _wait(application, workload)
        loaded_from = time.time()
        with in_threads(lambda ended: workload.edit_steadily(ended, options.edits, commands=False)) as work:
            time.sleep(options.quiet_s)
            restarts_from = time.time()
            stops, starts = _restart(replicas, options.rounds)
            restarts_until = time.time()
            time.sleep(options.quiet_s)
            work.end()
        _wait(application, workload)
        replicas.look()
        wrong = {
            "objects that differ from the store": differing(workload),
            "edits that are lost": lost_edits(application, workload),
            "versions that are wrong or written twice": wrong_versions(workload, endpoint.written()),
            "objects that the journal miscounts": journal_differences(installation, endpoint.written()),
            "ends of daemons that were not as they must be": replicas.problems,
        }
    lags = [(at, lag) for at, lag in lags_of(workload, endpoint.written()) if at > loaded_from]
    phases = {
        "before": [lag for at, lag in lags if at < restarts_from],
        "meanwhile": [lag for at, lag in lags if restarts_from <= at <= restarts_until],
        "afterwards": [lag for at, lag in lags if at > restarts_until],
    }
    figures = [
        _figure("restarts", "restarts of replicas", len(stops)),
        _figure("restarts_s", "from the first SIGTERM to the last readiness", restarts_until - restarts_from, "s"),
        _figure("stop_s", "SIGTERM to the end of the process, the slowest", max(stops), "s", 10.0),
        _figure("start_s", "start to readiness, the slowest", max(starts), "s"),
        *(figure for phase, own in phases.items() for figure in _lag_figures(phase, own)),
        *(_figure(f"wrong_{number}", what, len(found), "", 0) for number, (what, found) in enumerate(wrong.items())),
    ]
    return _Found(figures=figures, wrong=[f"{what}: {line}" for what, found in wrong.items() for line in found[:10]])


def _restart(replicas: Replicas, rounds: int) -> tuple[list[float], list[float]]:
    """Start each replica anew, one after the other; return seconds of each end and of each start."""
    stops, starts = [], []
    for _ in range(rounds):
        for name in replicas.names:
            stops.append(replicas.stop(name))
            began = time.monotonic()
            replicas.start(name, ready=True)
            starts.append(time.monotonic() - began)
            time.sleep(_PAUSE_S)
    return stops, starts


def _wait(application: Application, workload: Workload) -> None:
    wait_for(lambda: in_sync(application) == len(workload.syncs), within_s=300, what="every sync in step", every_s=0.5)


def lags_of(workload: Workload, written: Mapping[str, list[Written]]) -> Iterator[tuple[float, float]]:
    """Yield when each edit was committed (seconds since 1970), and after how many seconds AWS held it."""
    for sync in workload.syncs.values():
        contents = [(at, sync.objects_of(content)) for at, content in sync.history]
        for name in contents[-1][1]:
            order = [content[name] for _, content in contents if name in content]
            seen = [(order.index(sync.read(version.text, name)), version.at) for version in written[name]]
            for (_, before), (at, content) in pairwise(contents):
                if content.get(name) not in (None, before.get(name)):
                    place = order.index(content[name])
                    yield at, min(moment for index, moment in seen if index >= place) - at


def _lag_figures(phase: str, lags: Sequence[float]) -> Iterator[Figure]:
    ordered = sorted(lags)
    yield _figure(f"{phase}_edits", f"{phase}: changed objects", len(ordered))
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
        value = ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
        yield _figure(f"{phase}_{name}", f"{phase}: commit → AWSCURRENT, {name}", value * 1000, "ms")


def _figure(key: str, what: str, value: float, unit: str = "", goal: float | None = None) -> Figure:
    return Figure(key=f"rolling_{key}", what=what, database=_DATABASE, value=value, unit=unit, goal=goal)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
