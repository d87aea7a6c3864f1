"""What our messages and hints tell somebody to type exists: each command, with the options that stand behind it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import phasesync
from phasesync.cli.main import cli
from tests.support.commands import all_options, commands_in, wrong_with

PACKAGE = Path(phasesync.__file__).parent
SKIPPED = ("emulator/", "demo/")
"""The emulator says what AWS says; the tour has tests of its own."""

FOREIGN_OPTIONS = frozenset(
    {
        "--assume-role-policy-document",
        "--cross-account-replica-arn",
        "--env-file",
        "--filter",
        "--help",
        "--key-id",
        "--max-session-duration",
        "--output-type",
        "--policy-document",
        "--policy-name",
        "--policy-type",
        "--profile",
        "--query",
        "--remove-replica-regions",
        "--role-name",
        "--secret-id",
        "--serial-number",
        "--token-code",
        "--topic-arn",
        "--user-name",
    }
)
"""Of the AWS command line, and of node."""


@dataclass(frozen=True)
class Text:
    """One text of the package; what is filled in stands as `{}`."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def texts_of(path: Path) -> Iterator[Text]:
    """Yield every text of a module but docstrings."""
    module = path.relative_to(PACKAGE)
    nodes = list(ast.walk(ast.parse(path.read_text())))
    inside = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    shown_elsewhere = docs | inside
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield Text(f"{module}:{node.lineno}", "".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in shown_elsewhere:
            yield Text(f"{module}:{node.lineno}", node.value)


@pytest.fixture(scope="module")
def texts() -> list[Text]:
    """Every text of the package. Read when a test asks for it: every worker imports this module."""
    return [
        text
        for path in sorted(PACKAGE.rglob("*.py"))
        if not str(path.relative_to(PACKAGE)).startswith(SKIPPED)
        for text in texts_of(path)
    ]


def test_every_command_in_a_text_exists_with_its_options(texts: list[Text]) -> None:
    found = [(text, line) for text in texts for line in commands_in(text.text)]
    assert len(found) > 100

    wrong = [f"{text}\n    {why}" for text, line in found if (why := wrong_with(line)) is not None]

    assert wrong == []


def test_every_option_in_a_text_exists(texts: list[Text]) -> None:
    """In hints the command is often the one that was typed: the option alone stands there."""
    every_option = all_options(cli) | FOREIGN_OPTIONS
    named = [(text, option) for text in texts for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text.text)]
    assert len(named) > 50

    assert [f"{option} in {text}" for text, option in named if option not in every_option] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("syncs why web", None),
        ("syncs approve {} --plan {}", None),
        ("syncs approve web --digest d", "approve has no --digest"),
        ("sincs why web", "there is no sincs"),
        ("syncs explain web", "there is no explain"),
        ("takes UTF-8 in every locale", None),
    ],
)
def test_the_test_sees_what_does_not_exist(line: str, wrong: str | None) -> None:
    assert wrong_with(line) == wrong
