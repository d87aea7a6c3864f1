"""
How long the command line takes to start, against what a person at a prompt accepts.

    python -m bench.startup
    python -m bench.startup --imports           what `apps list` imports, and what each package costs
    python -m bench.startup --imports syncs list

Each command runs several times in a fresh process with bytecode on disk, as after an installation by pip; the median
counts. CPU is user and system time of the process, which other processes on the machine change far less than the time
on the clock, so the bounds are for CPU. Exits 1 where a bound is broken. `--runs` says how many runs.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure
from bench.ground import print_figures

Command = tuple[str, ...]

RUNS = 15
BOUNDS_MS: dict[Command, int] = {
    ("--help",): 150,
    ("secrets", "set", "--help"): 150,
    ("apps", "list"): 350,
    ("apps", "list", "-o", "json"): 350,
    ("secrets", "list", "shop/production"): 450,
    ("secrets", "set", "shop/production", "TOKEN", "-"): 450,
    ("syncs", "list"): 500,
    ("runs", "list"): 500,
    ("status",): 500,
}
"""Command -> milliseconds of CPU."""

SHOWN_MODULES = 25
"""Of the import profile."""

_PREPARE = (["init"], ["apps", "add", "shop"], ["envs", "add", "shop/production"])
_RUN = "from phasesync.__main__ import main; main()"
_VALUE = b"a value of the benchmark\n"


@dataclass(frozen=True, kw_only=True)
class Times:
    """Medians of one command, in milliseconds."""

    cpu_ms: float
    wall_ms: float


def main(args: list[str]) -> int:
    """Measure every command and print a table; or print the import profile of one command."""
    if args[:1] == ["--imports"]:
        return _print_imports(args[1:] or ["apps", "list"])
    parser = argparse.ArgumentParser(prog="python -m bench.startup")
    parser.add_argument("--runs", type=int, default=RUNS)
    return print_figures(measure(runs=parser.parse_args(args).runs))


def measure(*, runs: int = RUNS) -> list[Figure]:
    """Return the figures of row 8: the times of every command of `BOUNDS_MS`, on a SQLite database with one app."""
    figures = []
    with _installation() as environ:
        for command, bound in BOUNDS_MS.items():
            text = " ".join(command)
            key = text.strip("-").replace(" ", "_")
            times = _times(_process(*command), environ, runs)
            figures += [
                Figure(key=f"start_{key}_cpu_ms", what=f"`{text}`, CPU", value=times.cpu_ms, unit="ms", goal=bound),
                Figure(key=f"start_{key}_ms", what=f"`{text}`, until its end", value=times.wall_ms, unit="ms"),
            ]
    return figures


@contextmanager
def _installation() -> Iterator[dict[str, str]]:
    """Make an installation; yield the environment of its commands, which is without PYTHONDONTWRITEBYTECODE."""
    with tempfile.TemporaryDirectory() as home:
        environ = {"HOME": home, "PATH": os.environ["PATH"]}
        for command in _PREPARE:
            subprocess.run(_process(*command), env=environ, check=True, capture_output=True)
        Path(home, "value").write_bytes(_VALUE)
        yield environ


def _process(*command: str) -> list[str]:
    return [sys.executable, "-c", _RUN, *command]


def _times(process: list[str], environ: dict[str, str], runs: int) -> Times:
    measured = [_measure(process, environ) for _ in range(runs + 1)]
    # The first one writes the bytecode that is missing.
    cpu, wall = zip(*measured[1:], strict=True)
    return Times(cpu_ms=statistics.median(cpu) * 1000, wall_ms=statistics.median(wall) * 1000)


def _measure(process: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Run a process; return its CPU and wall time in seconds."""
    files = [
        (os.POSIX_SPAWN_OPEN, 0, str(Path(environ["HOME"], "value")), os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    began = time.perf_counter()
    _, status, usage = os.wait4(os.posix_spawn(process[0], process, environ, file_actions=files), 0)
    wall_s = time.perf_counter() - began
    if status != 0:
        raise SystemExit(f"{' '.join(process[3:])} failed")
    return usage.ru_utime + usage.ru_stime, wall_s


@dataclass(frozen=True, kw_only=True)
class Import:
    """One line of `python -X importtime`."""

    module: str
    own_us: int
    with_inner_us: int


_LINE = re.compile(r"import time: +(?P<own>\d+) \| +(?P<with_inner>\d+) \| +(?P<module>\S+)")


def _print_imports(command: list[str]) -> int:
    """Print what a command imports: by package, and the modules that take longest with all that they import."""
    process = [sys.executable, "-X", "importtime", *_process(*command)[1:]]
    with _installation() as environ:
        profiles = [_imports(process, environ) for _ in range(RUNS + 1)]
    # These are times on the clock: the run that other processes disturbed least. The first one writes the bytecode.
    imports = min(profiles[1:], key=lambda profile: sum(each.own_us for each in profile))
    own_us, modules = Counter[str](), Counter[str]()
    for each in imports:
        package = _package(each.module)
        own_us[package] += each.own_us
        modules[package] += 1
    print(
        f"{' '.join(command)}: {len(imports)} modules, {sum(own_us.values()) / 1000:.0f} ms with the profiler's own\n"
    )
    print("| package              | modules | own ms |")
    print("| -------------------- | ------: | -----: |")
    for package, microseconds in own_us.most_common():
        print(f"| {package:<20} | {modules[package]:>7} | {microseconds / 1000:>6.1f} |")
    print("\n| module                                   | ms with what it imports |")
    print("| ---------------------------------------- | ----------------------: |")
    for each in sorted(imports, key=lambda each: -each.with_inner_us)[:SHOWN_MODULES]:
        print(f"| {each.module:<40} | {each.with_inner_us / 1000:>23.1f} |")
    return 0


def _imports(process: list[str], environ: dict[str, str]) -> list[Import]:
    done = subprocess.run(process, env=environ, input=_VALUE, capture_output=True, check=True)
    return [
        Import(module=line["module"], own_us=int(line["own"]), with_inner_us=int(line["with_inner"]))
        for line in _LINE.finditer(done.stderr.decode())
    ]


def _package(module: str) -> str:
    """Return the package of a module; the modules of the standard library go under one name."""
    name = module.partition(".")[0]
    return "Python" if name in sys.stdlib_module_names else name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
