"""
Where the time of a changed run goes: cProfile over 150 runs in this process, on the fast endpoint.

    python -m bench.profile [--runs 150] [--databases sqlite postgresql] [--top 25] [--together 8]

One environment of 20 secrets is read by `--runs` syncs, and one edit changes all of them. The claims come from the
daemon's own scheduler, as in production; the work runs in this thread instead of a pool's, because a profiler follows
one thread. Prints the functions by own time, the steps (what the engine asks of the store and of adapters, all that is
below them included), own time by package, and the SQL statements of a run. cProfile roughly doubles the times; the line
above the tables is without it.
"""

import argparse
import cProfile
import pstats
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import phasesync
from bench.fast_aws import FastAws
from bench.ground import ANY_RATE, add_fan_out, databases_option, edit_all, installed, table, unfinished
from phasesync.adapters.telemetry.metrics import Metrics
from phasesync.core.events import Event
from phasesync.daemon import build
from phasesync.settings import load_settings
from tests.support.installation import Installation
from tests.support.sql import counted

SECRETS = 20
_BEAT_S = 3.0
"""A daemon without heartbeats loses its role."""
_REPEATER = "repeating"
"""What `retry_on_conflict` wraps methods of the store in: it is looked through."""
_PACKAGE = Path(phasesync.__file__).parent


class Inline:
    """A dispatcher that does the work at once, in the thread that submits it."""

    def __init__(self, work: Callable[[Any], object], *, threads: int, events: object, ended: object) -> None:
        self._work = work
        self.free = self.free_for_large = threads
        self.done = 0

    def submit(self, work: Any) -> bool:
        self._work(work)
        self.done += 1
        return True

    def running(self) -> list[Any]:
        return []

    def progressed(self) -> None:
        pass


class _Silent:
    def emit(self, event: Event) -> None:
        pass


@contextmanager
def inline_daemon(installation: Installation) -> Iterator[tuple[build.Components, Inline]]:
    """Build what a daemon works with, active, with a dispatcher that works in this thread."""
    settings = load_settings(installation.config, environ=installation.environ).settings
    with patch.object(build, "SyncThreadDispatcher", Inline):
        components = build.build_components(lambda: settings, _Silent(), Metrics(version="profile"))
    try:
        if not components.scheduler.beat():
            raise AssertionError("it could not become active")
        dispatcher: Any = components.dispatcher
        yield components, dispatcher
        components.scheduler.sign_off([])
    finally:
        components.application.close()


def run_all(installation: Installation, components: build.Components, dispatcher: Inline) -> int:
    """Poll until every change is applied; return the number of runs."""
    until, before, beat_at = time.monotonic() + 120, dispatcher.done, float("-inf")
    while True:
        if time.monotonic() - beat_at > _BEAT_S:
            components.scheduler.beat()
            beat_at = time.monotonic()
        done = dispatcher.done
        components.scheduler.poll()
        if dispatcher.done == done and unfinished(installation) == 0:
            return dispatcher.done - before
        if time.monotonic() > until:
            raise AssertionError(f"{unfinished(installation)} changes are not applied")


def main(args: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile")
    parser.add_argument("--runs", type=int, default=150)
    parser.add_argument("--top", type=int, default=25, help="functions to print")
    parser.add_argument("--together", type=int, default=8, help="how many syncs a poll may claim")
    databases_option(parser)
    options = parser.parse_args(args)
    with FastAws() as aws:
        for database in options.databases:
            with installed(database, aws.empty().url) as installation:
                installation.configure(daemon__workers=options.together, aws__rate_percent=ANY_RATE)
                add_fan_out(installation, options.runs, secrets=SECRETS)
                with inline_daemon(installation) as (components, dispatcher):
                    run_all(installation, components, dispatcher)
                    print(f"\n=== {database}, {options.runs} changed runs ===\n")
                    _profile(installation, components, dispatcher, options.runs, options.top)
    return 0


def _profile(installation: Installation, components: build.Components, dispatcher: Inline, runs: int, top: int) -> None:
    engine = components.application.store.database.engine
    _settle_down()
    edit_all(installation, secrets=SECRETS, number=1)
    with counted(engine) as statements:
        cpu, wall = time.process_time(), time.perf_counter()
        run_all(installation, components, dispatcher)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"without the profiler: {cpu / runs * 1000:.2f} ms of CPU a run, {wall / runs * 1000:.2f} ms in all\n")
    _settle_down()
    edit_all(installation, secrets=SECRETS, number=2)
    profiler = cProfile.Profile()
    profiler.enable()
    run_all(installation, components, dispatcher)
    profiler.disable()
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]  # not in typeshed, and stable since Python 2
    _print_top(stats, runs, top)
    _print_steps(stats, runs)
    _print_packages(stats, runs)
    _print_statements(statements, runs)


def _settle_down() -> None:
    """Wait until an edit is not held back to gather with the one before."""
    time.sleep(0.7)


def _print_top(stats: Any, runs: int, top: int) -> None:
    ordered = sorted(stats.items(), key=lambda item: item[1][2], reverse=True)[:top]
    rows = [
        (_name(function), calls / runs, own / runs * 1000, total / runs * 1000)
        for function, (_, calls, own, total, _) in ordered
    ]
    table(["function, by own time", "calls a run", "own ms a run", "with all below it"], rows)
    print()


def _print_steps(stats: Any, runs: int) -> None:
    """Print what the engine calls outside of itself: each such call with all that is below it."""
    steps: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for function, (*_, callers) in stats.items():
        if _layer(function) in ("store", "adapters") and function[2] != _REPEATER:
            for caller, (_, calls, _, total) in callers.items():
                if _layer(caller) in ("engine", "daemon", "core") or caller[2] == _REPEATER:
                    steps[_name(function)][0] += calls
                    steps[_name(function)][1] += total
    ordered = sorted(steps.items(), key=lambda item: item[1][1], reverse=True)[:25]
    table(
        ["step: what the engine asks for", "calls a run", "ms a run"],
        [(name, calls / runs, total / runs * 1000) for name, (calls, total) in ordered],
    )
    print()


def _print_packages(stats: Any, runs: int) -> None:
    packages: Counter[str] = Counter()
    for function, (_, _, own, _, _) in stats.items():
        packages[_package(function)] += own / runs * 1000
    table(["own time by package", "ms a run"], packages.most_common(16))
    print()


def _print_statements(statements: list[str], runs: int) -> None:
    texts = Counter(" ".join(text.split())[:90] for text in statements)
    head = f"SQL statements: {len(statements) / runs:.1f} a run"
    table([head, "a run"], [(f"`{text}`", count / runs) for text, count in texts.most_common(30)])


def _layer(function: tuple[str, int, str]) -> str:
    path = Path(function[0])
    return path.relative_to(_PACKAGE).parts[0] if path.is_relative_to(_PACKAGE) else ""


def _package(function: tuple[str, int, str]) -> str:
    file, _, name = function
    if layer := _layer(function):
        return f"phasesync/{layer}"
    parts = Path(file).parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    if file == "~":
        return "built-in: " + next(
            (word for word in ("sqlite3", "psycopg", "socket", "json") if word in name), "others"
        )
    return "standard library"


def _name(function: tuple[str, int, str]) -> str:
    file, line, name = function
    if file == "~":
        return name.strip("<>")
    parts = Path(file).parts
    return f"{'/'.join(parts[-2:])}:{line} {name}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
