"""The table of incidents names tests that exist, and no test of an incident is missing from it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "incidents.md").read_text()
NAMED = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TABLE))


def names_in(file: Path) -> set[str]:
    """Return the names of the tests in a file."""
    nodes = ast.parse(file.read_text()).body
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_test_that_the_table_names_exists() -> None:
    assert len(NAMED) > 40
    assert {(file, name) for file, name in NAMED if name not in names_in(ROOT / file)} == set()


def test_every_test_of_an_incident_is_in_the_table() -> None:
    files = [file for file in Path(__file__).parent.glob("test_*.py") if file != Path(__file__)]
    there = {(str(file.relative_to(ROOT)), name) for file in files for name in names_in(file)}
    assert there - NAMED == set()


def test_every_row_of_the_table_has_a_public_link_and_a_test() -> None:
    rows = [line for line in TABLE.partition("## Not")[0].splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 30
    for row in rows:
        what, _, tests = row.strip("| ").split(" | ")
        assert "](https://github.com/" in what, row
        assert "::" in tests, row
