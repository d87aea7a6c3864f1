"""
Lists the benchmarks, or runs some of them.

    python -m bench                      the list
    python -m bench latency unchanged    one after the other
    python -m bench all
"""

import subprocess
import sys

BENCHMARKS = {
    "startup": "How long the command line takes to start.",
    "latency": "From an edit to the value at AWS, by a real daemon.",
    "unchanged": "What a run costs that finds nothing to do, beside the peers' way.",
    "sweep": "What it costs to check 10,000 objects for drift, beside a call for each.",
    "leases": "Leases issued, expired and revoked: calls for each, beside the model product's way.",
    "fairness": "How long small syncs wait beside large ones, at AWS's quotas.",
    "dispatch": "Changed syncs a second with one daemon and three, with and without a queue that distributes them.",
    "soak": "Whether a daemon stays as large as it is while requests fail and edits go on.",
    "pending": "What it costs to ask whether anything is due, and an idle daemon.",
}
"""Module -> what it measures."""


def main(names: list[str]) -> int:
    """Run benchmarks; the exit code is the worst of theirs."""
    if not names:
        for name, summary in BENCHMARKS.items():
            print(f"python -m bench.{name:<10} {summary}")
        return 0
    wanted = list(BENCHMARKS) if names == ["all"] else names
    if unknown := [name for name in wanted if name not in BENCHMARKS]:
        print(f"there is no benchmark {unknown[0]}; python -m bench lists them", file=sys.stderr)
        return 2
    worst = 0
    for name in wanted:
        print(f"\n== {name}: {BENCHMARKS[name]}\n", flush=True)
        worst = max(worst, subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
