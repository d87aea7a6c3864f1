"""The benchmarks still run, and say what must hold however slow the machine is. Their figures are for people."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def bench(name: str, *options: str) -> tuple[int, str]:
    """Run one benchmark in a process of its own; return its exit code and what it printed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PHASESYNC_"))}
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", *options],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def cells(printed: str, row: str) -> list[str]:
    """Return the cells of one row of a table."""
    found = re.search(rf"^\| {re.escape(row)} +\|(.*)\|$", printed, re.MULTILINE)
    assert found, printed
    return [cell.strip() for cell in found[1].split("|")]


def test_latency_finds_every_edit_at_the_endpoint() -> None:
    options = ("--databases", "sqlite", "--edits", "3", "--quiet-ms", "20")
    _, printed = bench("latency", *options)

    p50, p95, most = map(float, cells(printed, "sqlite, from the commit"))
    assert 0 < p50 <= p95 <= most


def test_an_unchanged_run_costs_one_call_and_the_same_statements_for_any_number_of_secrets() -> None:
    code, printed = bench("unchanged", "--databases", "sqlite", "--runs", "3", "--few", "2")

    assert code == 0
    rows = [cells(printed, f"sqlite, {size} secrets") for size in (1, 10, 50, 200)]
    assert {tuple(row[1:4]) for row in rows} == {("1.0", "0", "0")}
    assert len({row[4] for row in rows}) == 1
    assert cells(printed, "read and update")[1:4] == ["2.0", "3", "3"], "the peers' way is counted alike"


def test_a_sweep_of_unchanged_objects_is_lists_alone_and_finds_the_one_that_changed() -> None:
    options = ("--databases", "sqlite", "--objects", "200", "--asked", "5", "--runs", "2")
    code, printed = bench("sweep", *options)

    assert code == 0
    for shape in ("sqlite, 200 syncs of 1", "sqlite, 2 syncs of 100"):
        calls, _, _, statements, _, unchanged, changed = cells(printed, shape)
        assert (calls, statements, unchanged, changed) == ("2 ListSecrets", "8", "0", "1")
    assert cells(printed, "GetSecretValue for each")[:2] == ["5", "5"], "the peers' way is counted alike"


def test_nothing_is_due_among_idle_syncs() -> None:
    options = ("--databases", "postgresql", "--syncs", "7", "--asks", "3", "--idle-syncs", "3", "--seconds", "0.3")
    code, printed = bench("pending", *options)

    assert code == 0
    assert float(cells(printed, "postgresql, 7 syncs")[0]) > 0
    assert float(cells(printed, "postgresql, 3 syncs")[0]) < 100


def test_small_syncs_are_done_long_before_large_ones() -> None:
    options = ("--databases", "sqlite", "--large", "2", "--objects", "40", "--small", "3", "--workers", "2")
    code, printed = bench("fairness", *options)

    assert code == 0, printed
    p50, p95, most, meanwhile, _ = cells(printed, "sqlite, 3 beside 2 of 40")
    assert 0 < float(p50) <= float(p95) <= float(most)
    assert int(meanwhile) < 80


def test_the_list_names_what_there_is() -> None:
    done = subprocess.run([sys.executable, "-m", "bench"], cwd=ROOT, capture_output=True, text=True, check=True)

    listed = set(re.findall(r"python -m bench\.(\w+)", done.stdout))
    helpers = {"__init__", "__main__", "endpoint", "ground"}
    assert listed == {path.stem for path in (ROOT / "bench").glob("*.py")} - helpers
