"""
Runs benchmarks.

    python -m bench                      the list
    python -m bench table --quick        one, with its options
    python -m bench all                  one after the other
"""

import subprocess
import sys

BENCHMARKS = {
    "table": "Every figure that has a goal, beside the peers' ways; writes docs/performance.*.",
    "changed": "Changed syncs per second, and what one costs, beside the peers' ways.",
    "latency": "From an edit to the value at AWS, by a real daemon, beside the peers' calls.",
    "idle": "What it costs to ask whether anything is due, and an idle daemon.",
    "sweep": "What it costs to check 10,000 objects, beside the peers' ways.",
    "account": "500,000 objects in one account: checks, single edits, 10,000 changes at AWS's rates.",
    "lists": "How long lists, `status` and the retention take with 10,000,000 runs.",
    "startup": "How long the command line takes to start.",
    "profile": "Where the time of a changed run goes: functions, steps, statements.",
    "fast_aws": "How fast the endpoint of the measurements itself is.",
    "unchanged": "What a run costs that finds nothing to do, beside the peers' way.",
    "leases": "Leases issued, expired and revoked: calls for each, beside the model product's way.",
    "fairness": "How long small syncs wait beside large ones, at AWS's quotas.",
    "dispatch": "Changed syncs a second with one daemon and three, with and without a queue that distributes them.",
    "soak": "Whether daemons stay right, and as large as they are, while everything around them fails.",
    "alerting": "Each alert made to fire and to end, with a real Prometheus, and the notifications that came.",
    "keys": "Data keys and the root key replaced under load, killed at each step; the time for 10,000 secrets.",
    "audit": "Replicas and command lines that write to the audit log at once; each kind of tampering is named.",
    "restore_drill": "Everything lost but a backup and the root key: minutes and commands until every sync is in step.",
    "rolling": "How long edits take while three replicas are started anew, one by one.",
}
"""Module -> what it measures."""


def main(args: list[str]) -> int:
    """Run a benchmark with its options, or all; the exit code is the worst of theirs."""
    if not args or args[0] in ("-h", "--help"):
        for name, summary in BENCHMARKS.items():
            print(f"python -m bench.{name:<10} {summary}")
        return 0
    name, *options = args
    # The table has the others with goals.
    wanted = ["table", "unchanged", "leases", "fairness", "soak", "rolling"] if name == "all" else [name]
    if name != "all" and name not in BENCHMARKS:
        print(f"there is no benchmark {name}; python -m bench lists them", file=sys.stderr)
        return 2
    worst = 0
    for each in wanted:
        print(f"\n== {each}: {BENCHMARKS[each]}\n", flush=True)
        worst = max(worst, subprocess.run([sys.executable, "-m", f"bench.{each}", *options], check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
