"""
The benchmarks still run, and say what must hold however slow the machine is. Their figures are for people.

One runs as people run it; the others run in this process, which saves the start of Python.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import boto3
import pytest

from bench import table
from bench.endpoint import Endpoint
from bench.fast_aws import FastAws
from bench.fast_secrets import REGION
from bench.figures import MODEL, Figure, Section, document, markdown, missed, picture, sections_of
from bench.samples import Sample, growths
from bench.soak import GROWTH_PERCENT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]

Bench = Callable[..., tuple[int, str]]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    """Run one benchmark in this process; return its exit code and what it printed."""
    kept = dict(os.environ)
    for name in kept:
        if name.startswith(("AWS_", "PHASESYNC_")):
            del os.environ[name]
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    def run(name: str, *options: str, at: Endpoint | None = None) -> tuple[int, str]:
        code = import_module(f"bench.{name}").main(list(options), *([] if at is None else [at]))
        captured = capsys.readouterr()
        assert not captured.err, captured.err
        return code, captured.out

    yield run
    os.environ.clear()
    os.environ.update(kept)


def cells(printed: str, row: str, *first: str) -> list[str]:
    """Return the cells of one row of a table; `first`: those that follow its name."""
    start = " +\\| +".join(map(re.escape, (row, *first)))
    found = re.search(rf"^\| {start} +\|(.*)\|$", printed, re.MULTILINE)
    assert found, printed
    return [cell.strip() for cell in found[1].split("|")]


def test_latency_finds_every_edit_at_the_endpoint_and_the_peers_calls_beside_it() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PHASESYNC_"))}
    done = subprocess.run(
        [sys.executable, "-m", "bench.latency", "--databases", "sqlite", "--edits", "6", "--quiet-ms", "20"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not done.stderr, done.stderr
    printed = done.stdout

    p50, _, peers, _ = cells(printed, "edit committed → value at the endpoint, p50 (ms)", "sqlite")
    p95 = cells(printed, "the same, p95 (ms)", "sqlite")[0]
    assert 0 < float(p50) <= float(p95)
    assert MODEL in peers
    assert "External Secrets" in peers


def test_each_change_is_one_write_in_a_bounded_number_of_transactions(bench: Bench) -> None:
    _, printed = bench("changed", "--databases", "sqlite", "--syncs", "8", "--rounds", "1", "--peers", "3")

    assert float(cells(printed, "write transactions of one changed run", "sqlite")[0]) <= 4
    assert "Phase" in cells(printed, "changed syncs, 8 of one environment, 8 workers (a second)", "sqlite")[2]


def test_an_unchanged_run_costs_one_call_and_the_same_statements_for_any_number_of_secrets(bench: Bench) -> None:
    code, printed = bench("unchanged", "--databases", "sqlite", "--runs", "3", "--few", "2")

    assert code == 0
    rows = [cells(printed, f"sqlite, {size} secrets") for size in (1, 10, 50, 200)]
    assert {tuple(row[1:4]) for row in rows} == {("1.0", "0", "0")}
    assert len({row[4] for row in rows}) == 1
    assert cells(printed, "read and update")[1:4] == ["2.0", "3", "3"], "the peers' way is counted alike"


def test_a_sweep_of_unchanged_objects_is_lists_alone_and_another_writer_is_found(bench: Bench) -> None:
    options = ("--databases", "sqlite", "--objects", "200", "--asked", "20", "--steady-s", "1", "--every-s", "5")
    _, printed = bench("sweep", *options)

    calls, _, peers, verdict = cells(printed, "full sweep of 200 objects, calls", "sqlite")
    assert (calls, verdict) == ("2", "met")
    assert "External Secrets 600" in peers, "three calls for each object"
    assert float(cells(printed, "another writer's change is found and brought back after (s)", "sqlite")[0]) > 0


def test_nothing_is_due_among_idle_syncs(bench: Bench) -> None:
    options = ("--databases", "postgresql", "--syncs", "20", "--asks", "3", "--idle-syncs", "10", "--seconds", "0.3")
    _, printed = bench("idle", *options)

    assert float(cells(printed, "is anything due among 20 syncs? (ms)", "postgresql")[0]) > 0
    assert float(cells(printed, "idle daemon, 20 syncs, share of a core (%)", "postgresql")[0]) < 100


def test_of_many_changes_none_is_lost_and_none_is_written_twice(bench: Bench) -> None:
    options = ("--databases", "sqlite", "--objects", "5000", "--changes", "60", "--edits", "3", "--steady-s", "0.1")
    _, printed = bench("account", *options)

    for row in (
        "values lost",
        "objects with more than one new version",
        "calls that AWS throttled",
        "runs that failed",
    ):
        assert cells(printed, row, "sqlite")[0] == "0", row
    assert cells(printed, "objects changed at once by 3 edits", "sqlite")[0] == "60"


def test_small_syncs_are_done_long_before_large_ones(bench: Bench) -> None:
    options = ("--databases", "sqlite", "--large", "2", "--objects", "40", "--small", "3", "--workers", "2")
    with Endpoint(rate_limiter=True) as endpoint:
        code, printed = bench("fairness", *options, at=endpoint)

    assert code == 0, printed
    p50, p95, most, meanwhile, _ = cells(printed, "sqlite, 3 beside 2 of 40")
    assert 0 < float(p50) <= float(p95) <= float(most)
    assert int(meanwhile) < 80


def test_after_a_soak_nothing_is_lost_and_its_chart_can_be_drawn(bench: Bench, tmp_path: Path) -> None:
    written = tmp_path / "soak.json"
    options = ("--minutes", "0.05", "--syncs", "4", "--edits", "6", "--no-leases", "--preloaded", "--seed", "1")
    _, printed = bench("soak", *options, "--output", str(written))

    assert int(cells(printed, "edits committed", "sqlite")[0]) > 7
    for row in (
        "objects that differ from the store",
        "edits that are lost",
        "versions that are wrong or written twice",
    ):
        assert cells(printed, row, "sqlite")[0] == "0", printed

    table._take([written], tmp_path)

    assert "| edits committed" in (tmp_path / "performance.md").read_text()
    assert "SQLite: memory, MB" in (tmp_path / "soak.svg").read_text()


def test_a_restart_under_load_loses_no_edit(bench: Bench) -> None:
    options = ("--replicas", "1", "--rounds", "1", "--syncs", "4", "--edits", "6", "--quiet-s", "0.5", "--preloaded")
    code, printed = bench("rolling", *options)

    assert code == 0, printed
    assert cells(printed, "restarts of replicas", "postgresql")[0] == "1"
    assert int(cells(printed, "meanwhile: changed objects", "postgresql")[0]) > 0


def test_a_process_that_grows_is_told_from_one_that_does_not() -> None:
    def life(pid: int, grows_mb: float) -> list[Sample]:
        return [
            Sample(
                at=at, age=at, replica="r", pid=pid, rss_mb=100 + grows_mb * at / 60 + 30 * (at % 100 == 0), pss_mb=90,
                descriptors=20, threads=9, connections=5,
            )
            for at in range(0, 1500, 5)
        ]  # fmt: skip

    flat, growing = growths([*life(1, 0.0), *life(2, 1.0)])

    assert flat.judged
    assert growing.judged
    assert flat.percent("rss_mb") == 0, "peaks do not count"
    assert growing.percent("rss_mb") > GROWTH_PERCENT


def test_the_table_writes_what_it_printed_and_its_exit_code_follows_the_goals(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(table._QUICK, "startup", {"runs": 1})

    code, printed = bench("table", "--quick", "--only", "startup", "--into", str(tmp_path))

    written = json.loads((tmp_path / "performance.json").read_text())
    figures = [figure for section in written["sections"] for figure in section["figures"]]
    assert code == int(any(figure["verdict"] == "missed" for figure in figures)) == int(bool(written["missed"]))
    assert {"cores", "python", "load_at_the_begin"} <= set(written["machine"])
    text = (tmp_path / "performance.md").read_text()
    assert "python -m bench.startup" in text
    assert all(line in text for line in printed.splitlines() if line.startswith("| `apps list`"))
    assert (tmp_path / "performance.svg").read_text().startswith("<svg")


def test_a_figure_below_its_goal_or_its_ratio_is_named() -> None:
    def figure(value: float, **changes: object) -> Figure:
        return Figure(key="x", what="things", value=value, goal=10, at_least=True, peers={MODEL: 2.0}, **changes)  # type: ignore[arg-type]

    def lines(*figures: Figure) -> list[str]:
        return missed([section(*figures)])

    def section(*figures: Figure) -> Section:
        return Section(name="s", title="S", command="c", figures=figures, load_before=0.0, load_during=0.0, seconds=1.0)

    assert lines(figure(12.0), figure(12.0, ratio_goal=6)) == []
    assert lines(figure(9.0)) == ["s: things: 9, the goal is ≥ 10"]
    assert lines(figure(12.0, ratio_goal=7)) == ["s: things: 6 times the way of Phase, the goal is 7 times"]
    assert "missed" in markdown([section(figure(9.0))])
    assert json.loads(document({}, [section(figure(9.0))]))["missed"] == ["s: things: 9, the goal is ≥ 10"]
    assert "Phase&#x27;s way" in picture([section(figure(9.0))])
    with_ratio = [section(figure(9.0, ratio_goal=7))]
    assert markdown(sections_of(document({}, with_ratio))) == markdown(with_ratio)


def test_the_fast_endpoint_lists_in_every_order_page_by_page_and_keeps_a_token_for_one_value() -> None:
    names = [f"o/{number:03}" for number in range(250)]
    with FastAws() as aws:
        aws.plant([(name, f"{number:032}", 0) for number, name in enumerate(names)], [{"ours": "yes"}], every_s=1.0)
        client: Any = boto3.client(
            "secretsmanager",
            region_name=REGION,
            endpoint_url=aws.url,
            aws_access_key_id="AKIABENCHBENCHBENCH1",
            aws_secret_access_key="not-a-real-secret-access-key",
        )
        client.put_secret_value(SecretId="o/007", SecretString="new", ClientRequestToken="t" * 32)
        client.put_secret_value(SecretId="o/007", SecretString="new", ClientRequestToken="t" * 32)
        with pytest.raises(client.exceptions.ResourceExistsException):
            client.put_secret_value(SecretId="o/007", SecretString="newer", ClientRequestToken="t" * 32)
        assert aws.written() == {"o/007": ("t" * 32, 1, "new")}

        def listed(**order: str) -> list[str]:
            found: list[str] = []
            more: dict[str, str] = {}
            while True:
                page = client.list_secrets(Filters=[{"Key": "tag-key", "Values": ["ours"]}], **order, **more)
                found += [entry["Name"] for entry in page["SecretList"]]
                if "NextToken" not in page:
                    return found
                more = {"NextToken": page["NextToken"]}

        assert listed() == listed(SortBy="name") == names
        assert listed(SortBy="name", SortOrder="desc") == names[::-1]
        others = [name for name in names if name != "o/007"]
        assert listed(SortBy="last-changed-date", SortOrder="desc") == ["o/007", *others[::-1]]
        assert listed(SortBy="last-changed-date", SortOrder="asc") == [*others, "o/007"]


def test_everything_lost_but_a_backup_and_the_root_key_comes_back_in_step(bench: Bench) -> None:
    """On PostgreSQL, into an empty database; what AWS had newer is written over once, and nothing else is written."""
    options = ("--databases", "postgresql", "--syncs", "4", "--edits", "1", "--in-process")
    code, printed = bench("restore_drill", *options)

    assert code == 0, printed
    assert '{"behind-aws": 1, "in-step": 3}; versions written at AWS since the loss: 1' in printed
    assert [line.split()[3:5] for line in printed.splitlines() if " phasesync db " in line] == [
        ["db", verb] for verb in ("verify", "drill", "restore", "accept-restore")
    ]


def test_the_list_names_what_there_is() -> None:
    done = subprocess.run([sys.executable, "-m", "bench"], cwd=ROOT, capture_output=True, text=True, check=True)

    listed = set(re.findall(r"python -m bench\.(\w+)", done.stdout))
    helpers = {
        "__init__", "__main__", "alert_causes", "alerts", "convergence", "endpoint", "fast_secrets", "faults",
        "figures", "ground", "killed_command", "line_chart", "machine", "peers", "prometheus", "replicas", "samples",
        "synthetic", "webhook", "workload",
    }  # fmt: skip
    assert listed == {path.stem for path in (ROOT / "bench").glob("*.py")} - helpers
