"""
The benchmarks still run, and say what must hold however slow the machine is. Their figures are for people.

One runs as people run it; the others run in this process, which saves the start of Python and of an endpoint for each.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import boto3
import pytest

from bench.endpoint import Endpoint

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]

Bench = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    """One for all: each benchmark empties it."""
    with Endpoint() as started:
        yield started


@pytest.fixture
def bench(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    """Run one benchmark in this process; return its exit code and what it printed."""
    kept = dict(os.environ)
    for name in kept:
        if name.startswith(("AWS_", "PHASESYNC_")):
            del os.environ[name]
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    def run(name: str, *options: str, at: Endpoint = endpoint) -> tuple[int, str]:
        code = import_module(f"bench.{name}").main(list(options), at)
        captured = capsys.readouterr()
        assert not captured.err, captured.err
        return code, captured.out

    yield run
    os.environ.clear()
    os.environ.update(kept)


def cells(printed: str, row: str) -> list[str]:
    """Return the cells of one row of a table."""
    found = re.search(rf"^\| {re.escape(row)} +\|(.*)\|$", printed, re.MULTILINE)
    assert found, printed
    return [cell.strip() for cell in found[1].split("|")]


def test_latency_finds_every_edit_at_the_endpoint() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PHASESYNC_"))}
    done = subprocess.run(
        [sys.executable, "-m", "bench.latency", "--databases", "sqlite", "--edits", "3", "--quiet-ms", "20"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not done.stderr, done.stderr
    printed = done.stdout

    p50, p95, most = map(float, cells(printed, "sqlite, from the commit"))
    assert 0 < p50 <= p95 <= most


def test_an_unchanged_run_costs_one_call_and_the_same_statements_for_any_number_of_secrets(bench: Bench) -> None:
    code, printed = bench("unchanged", "--databases", "sqlite", "--runs", "3", "--few", "2")

    assert code == 0
    rows = [cells(printed, f"sqlite, {size} secrets") for size in (1, 10, 50, 200)]
    assert {tuple(row[1:4]) for row in rows} == {("1.0", "0", "0")}
    assert len({row[4] for row in rows}) == 1
    assert cells(printed, "read and update")[1:4] == ["2.0", "3", "3"], "the peers' way is counted alike"


def test_a_sweep_of_unchanged_objects_is_lists_alone_and_finds_the_one_that_changed(bench: Bench) -> None:
    options = ("--databases", "sqlite", "--objects", "200", "--asked", "5", "--runs", "2")
    code, printed = bench("sweep", *options)

    assert code == 0
    for shape in ("sqlite, 200 syncs of 1", "sqlite, 2 syncs of 100"):
        calls, _, _, statements, _, unchanged, changed = cells(printed, shape)
        assert (calls, statements, unchanged, changed) == ("2 ListSecrets", "8", "0", "1")
    assert cells(printed, "GetSecretValue for each")[:2] == ["5", "5"], "the peers' way is counted alike"


def test_nothing_is_due_among_idle_syncs(bench: Bench) -> None:
    options = ("--databases", "postgresql", "--syncs", "7", "--asks", "3", "--idle-syncs", "3", "--seconds", "0.3")
    code, printed = bench("pending", *options)

    assert code == 0
    assert float(cells(printed, "postgresql, 7 syncs")[0]) > 0
    assert float(cells(printed, "postgresql, 3 syncs")[0]) < 100


def test_small_syncs_are_done_long_before_large_ones(bench: Bench) -> None:
    options = ("--databases", "sqlite", "--large", "2", "--objects", "40", "--small", "3", "--workers", "2")
    with Endpoint(rate_limiter=True) as endpoint:
        code, printed = bench("fairness", *options, at=endpoint)

    assert code == 0, printed
    p50, p95, most, meanwhile, _ = cells(printed, "sqlite, 3 beside 2 of 40")
    assert 0 < float(p50) <= float(p95) <= float(most)
    assert int(meanwhile) < 80


def test_the_list_names_what_there_is() -> None:
    done = subprocess.run([sys.executable, "-m", "bench"], cwd=ROOT, capture_output=True, text=True, check=True)

    listed = set(re.findall(r"python -m bench\.(\w+)", done.stdout))
    helpers = {"__init__", "__main__", "endpoint", "ground"}
    assert listed == {path.stem for path in (ROOT / "bench").glob("*.py")} - helpers
