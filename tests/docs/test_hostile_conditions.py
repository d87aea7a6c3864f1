"""The table of hostile conditions names tests, alerts and metrics that are there, and no test is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "hostile-conditions.md"
RULES = ROOT / "deploy" / "prometheus" / "phasesync.rules.yaml"
METRICS = ROOT / "docs" / "metrics.md"
COLUMNS = ("condition", "what", "readyz", "metric", "alert", "notification", "test")

ROWS = [
    dict(zip(COLUMNS, (cell.strip() for cell in line.strip("|\n ").split("|")), strict=True))
    for line in TABLE.read_text().splitlines()
    if line.startswith("| ") and "`tests/" in line
]


def functions_of(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_test_of_a_hostile_condition_has_a_row() -> None:
    written = {re.findall(r"`(\S+?)::(\w+)`", row["test"])[0] for row in ROWS}
    there = {
        (str(file.relative_to(ROOT)), name)
        for file in (ROOT / "tests" / "hostile").glob("test_*.py")
        for name in functions_of(file)
        if name.startswith("test_")
    }

    assert there <= written
    for file, name in written:
        assert name in functions_of(ROOT / file), f"{file} has no {name}"


@pytest.mark.parametrize("row", ROWS, ids=[row["condition"][:40] for row in ROWS])
def test_what_a_row_names_is_there(row: dict[str, str]) -> None:
    alerts = {
        rule["alert"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert set(re.findall(r"Phasesync\w+", row["alert"])) <= alerts
    assert row["alert"], "an alert, or that there is none"
    for metric in re.findall(r"phasesync_\w+", row["metric"]):
        assert f"`{metric}`" in METRICS.read_text(), metric
        file, name = re.findall(r"`(\S+?)::(\w+)`", row["test"])[0]
        assert f'"{metric}"' in (ROOT / file).read_text(), f"{name} does not look at {metric}"
    for text in re.findall(r"`([^`]+)`", row["readyz"]):
        file, _ = re.findall(r"`(\S+?)::(\w+)`", row["test"])[0]
        if "sigterm" not in file:
            assert text in (ROOT / file).read_text(), f"{file} does not look for {text}"
