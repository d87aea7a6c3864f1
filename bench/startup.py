"""
How long the command line takes to start, against what a person at a prompt accepts; and what it costs.

    python -m bench.startup [--runs 9]

Each command runs several times in a fresh process with bytecode on disk, as after an installation by pip; the median
counts.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import Figure
from bench.ground import print_figures

COMMANDS: dict[tuple[str, ...], tuple[float, float | None]] = {
    ("--help",): (150, None),
    ("secrets", "set", "--help"): (150, None),
    ("apps", "list"): (500, 350),
    ("apps", "list", "-o", "json"): (500, 350),
}
"""Command -> the greatest time in ms, and the greatest CPU time where there is a goal."""

_MAKE = """
from phasesync.bootstrap import initialise_installation
from phasesync.settings import load_settings
initialise_installation(load_settings().settings)
"""
_RUN = "from phasesync.cli.main import main; main()"


def main(args: list[str]) -> int:
    """Measure and print; exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.startup")
    parser.add_argument("--runs", type=int, default=9)
    return print_figures(measure(runs=parser.parse_args(args).runs))


def measure(*, runs: int) -> list[Figure]:
    """Return the figures of row 8."""
    figures = []
    with tempfile.TemporaryDirectory() as home:
        environ = {"HOME": home, "PATH": os.environ["PATH"], "PYTHONPYCACHEPREFIX": str(Path(home, "bytecode"))}
        subprocess.run([sys.executable, "-c", _MAKE], env=environ, check=True)
        for command, (most_ms, most_cpu_ms) in COMMANDS.items():
            text = " ".join(command)
            took_ms, cpu_ms = _medians([sys.executable, "-c", _RUN, *command], environ, runs)
            key = text.replace(" ", "_").strip("-")
            figures += [
                Figure(key=f"start_{key}_cpu_ms", what=f"`{text}`, CPU", value=cpu_ms, unit="ms", goal=most_cpu_ms),
                Figure(key=f"start_{key}_ms", what=f"`{text}`, until its end", value=took_ms, unit="ms", goal=most_ms),
            ]
    return figures


def _medians(command: list[str], environ: dict[str, str], runs: int) -> tuple[float, float]:
    """Return the medians of the time and of the CPU time, in ms."""
    times, cpu_times = [], []
    for _ in range(runs + 1):
        before, began = _children_s(), time.perf_counter()
        subprocess.run(command, env=environ, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
        cpu_times.append(_children_s() - before)
    # The first one writes the bytecode.
    return statistics.median(times[1:]) * 1000, statistics.median(cpu_times[1:]) * 1000


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
