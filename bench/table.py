"""
The whole table: every figure that has a goal, on both databases, beside the peers' ways, in one run.

    python -m bench.table [--quick] [--only changed latency …] [--databases sqlite postgresql] [--cache FILE]
    python -m bench.table --from soak-sqlite.json soak-postgresql.json rolling.json

It writes docs/performance.md, docs/performance.json and docs/performance.svg; with `--only` the other sections stay as
they were measured. `--quick` measures less of everything, and writes nothing unless `--into FOLDER` says where. The
exit code is 1 where a figure, or a ratio to the peers' way, falls below its goal. `--from` measures nothing: it takes
what `bench.soak` and `bench.rolling` wrote with `--output`, and draws docs/soak.svg.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import account, changed, idle, latency, startup, sweep
from bench.fast_aws import FastAws
from bench.figures import Figure, Section, document, markdown, missed, picture, sections_of
from bench.ground import databases_option
from bench.line_chart import soak_chart
from bench.machine import machine, watched

ROOT = Path(__file__).parents[1]
_TEXT = Path(__file__).with_name("performance.md.in")
"""What docs/performance.md says around the figures."""
_MARK = "<!-- figures -->"

Measure = Callable[..., list[Figure]]

_FULL: dict[str, tuple[str, Measure, dict[str, Any]]] = {
    "changed": ("Changed syncs", changed.measure, {"syncs": 300, "rounds": 5, "pushed": 40}),
    "latency": ("From an edit to the value", latency.measure, {"edits": 60, "quiet_ms": 150}),
    "idle": (
        "Is anything due?",
        idle.measure,
        {"syncs": [10_000, 50_000, 100_000], "asks": 300, "idle_syncs": 1_000, "seconds": 30},
    ),
    "sweep": ("Checks of 10,000 objects", sweep.measure, {"objects": 10_000, "asked": 1_000, "steady_s": 35}),
    "account": (
        "A whole account",
        account.measure,
        {"objects": 500_000, "edits": 100, "changes": 10_000, "steady_s": 65},
    ),
    "startup": ("The start of a command", startup.measure, {"runs": 15}),
}
"""Module -> title, what measures, and how much."""
_TAKEN = ("soak", "rolling")
"""Sections that `--from` takes out of files."""
_QUICK: dict[str, dict[str, Any]] = {
    "changed": {"syncs": 100, "rounds": 2, "pushed": 12},
    "latency": {"edits": 20, "quiet_ms": 100},
    "idle": {"syncs": [10_000], "asks": 100, "idle_syncs": 1_000, "seconds": 8},
    "sweep": {"objects": 2_000, "asked": 100, "steady_s": 1},
    "account": {"objects": 20_000, "edits": 20, "changes": 400, "steady_s": 5},
    "startup": {"runs": 3},
}


def main(args: list[str]) -> int:
    """Measure, print and write; exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.table")
    parser.add_argument("--quick", action="store_true", help="less of everything, in some minutes")
    parser.add_argument("--only", nargs="+", choices=list(_FULL), default=list(_FULL))
    parser.add_argument("--into", type=Path, help="folder for performance.md, .json and .svg")
    parser.add_argument("--from", dest="files", type=Path, nargs="+", help="files of bench.soak and bench.rolling")
    parser.add_argument("--cache", type=Path, help="file that keeps the planted account for the next time")
    databases_option(parser)
    options = parser.parse_args(args)
    if options.files:
        return _take(options.files, options.into or ROOT / "docs")
    about = machine() | {"amount": "quick" if options.quick else "full"}
    sections = []
    with FastAws() as aws:
        for name in options.only:
            title, measure, much = _FULL[name]
            arguments = much | (_QUICK[name] if options.quick else {})
            if name == "account":
                arguments["cache"] = options.cache
            if name != "startup":
                arguments |= {"aws": aws, "databases": options.databases}
            section = _measured(name, title, measure, arguments)
            sections.append(section)
            print(markdown([section]), flush=True)
    complete = not options.quick and len(options.databases) > 1
    folder = options.into or (ROOT / "docs" if complete else None)
    if folder is not None:
        _write(folder, about, _with_former(folder, sections))
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    for line in missed(sections):
        print(f"missed: {line}")
    return int(bool(missed(sections)))


def _take(files: Sequence[Path], folder: Path) -> int:
    """Add what other benchmarks wrote to the table that there is; return 1 where a goal is missed."""
    found = [json.loads(file.read_text()) for file in files]
    sections = list(_joined(section for file in files for section in sections_of(file.read_text())))
    former = folder / "performance.json"
    about = json.loads(former.read_text())["machine"] if former.exists() else found[0]["machine"] | {"amount": "full"}
    _write(folder, about, _with_former(folder, sections))
    if soaks := [each for each in found if "samples" in each]:
        (folder / "soak.svg").write_text(soak_chart(soaks))
    print(markdown(sections))
    return int(bool(missed(sections)))


def _joined(sections: Iterable[Section]) -> Iterator[Section]:
    """Yield one section for each name, with the figures of all databases."""
    by_name: dict[str, list[Section]] = {}
    for section in sections:
        by_name.setdefault(section.name, []).append(section)
    for own in by_name.values():
        yield replace(
            own[0],
            command=", ".join(section.command for section in own),
            figures=[figure for section in own for figure in section.figures],
            load_during=max(section.load_during for section in own),
            seconds=max(section.seconds for section in own),
        )


def _with_former(folder: Path, sections: Sequence[Section]) -> list[Section]:
    """Return sections, and those that were written before and not measured now, in the order of the table."""
    file = folder / "performance.json"
    former = sections_of(file.read_text()) if file.exists() else []
    by_name = {section.name: section for section in (*former, *sections)}
    return [by_name[name] for name in (*_FULL, *_TAKEN) if name in by_name]


def _measured(name: str, title: str, measure: Measure, arguments: dict[str, Any]) -> Section:
    began = time.monotonic()
    with watched() as load:
        figures = measure(**arguments)
    return Section(
        name=name,
        title=title,
        command=f"python -m bench.{name}",
        figures=figures,
        load_before=load.before,
        load_during=load.during,
        seconds=time.monotonic() - began,
        measured_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def _write(folder: Path, about: dict[str, object], sections: Sequence[Section]) -> None:
    less = " with `--quick`" if about["amount"] == "quick" else ""
    lines = [f"Measured {about['measured_at']}{less}: {about['cores']} cores, {about['system']}, {about['python']},"]
    lines += [
        f"SQLAlchemy {about['sqlalchemy']}, boto3 {about['boto3']}; load {about['load_at_the_begin']} at the begin."
    ]
    if goals := missed(sections):
        lines += ["", "Missed:", "", *(f"- {line}" for line in goals)]
    body = "\n".join(lines) + "\n\n" + markdown(sections)
    (folder / "performance.md").write_text(_TEXT.read_text().replace(_MARK, body.rstrip()))
    (folder / "performance.json").write_text(document(about, sections) + "\n")
    (folder / "performance.svg").write_text(picture(sections))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
