"""
How long the command line takes to start, against what a person at a prompt accepts.

    python bench/startup.py

Each command runs several times in a fresh process with bytecode on disk, as after an installation by pip; the median
counts. Exits 1 where a bound is broken.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 9
BOUNDS_MS = {
    ("--help",): 150,
    ("secrets", "set", "--help"): 150,
    ("apps", "list"): 500,
    ("apps", "list", "-o", "json"): 500,
}
"""Command -> milliseconds."""

_MAKE = """
from phasesync.bootstrap import initialise_installation
from phasesync.settings import load_settings
initialise_installation(load_settings().settings)
"""
_RUN = "from phasesync.cli.main import main; main()"


def main() -> int:
    """Measure every command and print a table."""
    with tempfile.TemporaryDirectory() as home:
        environ = {"HOME": home, "PATH": os.environ["PATH"], "PYTHONPYCACHEPREFIX": str(Path(home, "bytecode"))}
        subprocess.run([sys.executable, "-c", _MAKE], env=environ, check=True)
        slow = False
        print(f"{'command':<24}  median ms  bound ms")
        for command, bound in BOUNDS_MS.items():
            median = _median_ms([sys.executable, "-c", _RUN, *command], environ)
            slow |= median > bound
            print(f"{' '.join(command):<24}  {median:>9.0f}  {bound:>8}")
    return int(slow)


def _median_ms(command: list[str], environ: dict[str, str]) -> float:
    durations = []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        subprocess.run(command, env=environ, check=True, capture_output=True)
        durations.append(time.perf_counter() - began)
    # The first one writes the bytecode.
    return statistics.median(durations[1:]) * 1000


if __name__ == "__main__":
    sys.exit(main())
