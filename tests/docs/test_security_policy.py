"""SECURITY.md supports this release, and each row of its threat model names tests that exist and are not left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from phasesync import __version__

ROOT = Path(__file__).parents[2]
POLICY = (ROOT / "SECURITY.md").read_text()
COLUMNS = ("who", "can", "cannot", "tests")
MODEL = POLICY.partition("## Threat model\n")[2]
ROWS = [
    dict(zip(COLUMNS, (cell.strip() for cell in line.strip("| ").split(" | ")), strict=True))
    for line in MODEL.splitlines()
    if line.startswith("| ") and not line.startswith("| who |")
]

ELSEWHERE = ("sys.platform != 'linux'", "(ROOT / '.git').exists()")
"""Conditions that hold wherever phasesync is built: on Linux, from a clone. A program that may be missing is none."""


def leaving_out(marks: list[ast.expr], named: dict[str, ast.expr]) -> list[str]:
    """Return the marks that may keep a test from running; `named` are those that stand under a name of the module."""
    texts = [ast.unparse(named.get(ast.unparse(mark), mark)) for mark in marks]
    return [
        text
        for text in texts
        if re.search(r"\b(skip|skipif|xfail)\b", text) and not any(condition in text for condition in ELSEWHERE)
    ]


def wrong_with(reference: str) -> list[str]:
    """Return what is wrong with `tests/FILE.py::[CLASS::]TEST`."""
    file, *names = reference.split("::")
    if not (ROOT / file).is_file():
        return [f"{file} is not there"]
    body = ast.parse((ROOT / file).read_text()).body
    named = {ast.unparse(each.targets[0]): each.value for each in body if isinstance(each, ast.Assign)}
    wrong = leaving_out([named[name] for name in ("pytestmark",) if name in named], named)
    for name in names:
        there = [each for each in body if isinstance(each, ast.FunctionDef | ast.ClassDef) and each.name == name]
        if not there:
            return [f"{file} has no {name}"]
        wrong += leaving_out(there[0].decorator_list, named)
        body = there[0].body
    return [f"{reference}: {mark}" for mark in wrong]


def test_this_release_is_supported() -> None:
    minor = __version__.rpartition(".")[0]
    versions = re.findall(r"^\| (\d+\.\d+) \| (yes|no)", POLICY, flags=re.MULTILINE)

    assert versions[0] == (minor, "yes")
    assert [says for _, says in versions[1:]] == ["no"] * (len(versions) - 1), "the newest alone gets fixes"


def test_the_model_is_long_enough_to_be_one() -> None:
    assert len(ROWS) >= 20
    assert len({row["who"] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row["who"][:50] for row in ROWS])
def test_each_row_is_shown_by_tests(row: dict[str, str]) -> None:
    references = re.findall(r"`([^`]+)`", row["tests"])

    assert row["can"] and row["cannot"]
    assert references, "a row without a test is a claim"
    assert [fault for reference in references for fault in wrong_with(reference)] == []


@pytest.mark.parametrize(
    ("reference", "fault"),
    [
        ("tests/security/test_gone.py::test_this", "is not there"),
        ("tests/security/test_roles.py::test_gone", "has no test_gone"),
        ("tests/cli/test_completion.py::test_bash_completes_a_command", "skipif(shutil.which('bash')"),
        ("tests/deploy/test_debian_package.py::test_it_brings_the_alerts_the_dashboard_and_the_drop_ins", "skipif("),
        ("tests/cli/test_dotenv_readers.py::test_lines_for_shells_are_exact", "skipif("),
    ],
)
def test_a_test_that_is_gone_or_left_out_would_be_found(reference: str, fault: str) -> None:
    (found,) = wrong_with(reference)

    assert fault in found


def test_every_page_that_it_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#([a-z-]+))?\)", POLICY)

    assert len(links) >= 3
    for path, heading in links:
        text = (ROOT / path).read_text()
        headings = {
            re.sub(r"[^a-z -]", "", line.lower()).strip().replace(" ", "-")
            for line in text.splitlines()
            if line[:1] == "#"
        }
        assert not heading or heading in headings, f"{path}#{heading}"
