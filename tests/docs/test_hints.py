"""Commands that messages and hints name: they exist, with the options that are named beside them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import phasesync
from phasesync.cli.main import cli

PACKAGE = Path(phasesync.__file__).parent
FILES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if not {"testing", "demo"} & set(path.relative_to(PACKAGE).parts)
]
HOLE = "HOLE"
"""Stands for what is only known when the program runs."""
COMMAND = re.compile(r"\bphasesync((?: (?:--?[a-zA-Z-]+|[\w.{}/$'*=<>|…-]+))+)")


def texts_in(path: Path) -> Iterator[str]:
    """Yield the texts of a file, those that are put together from parts as one."""
    tree = ast.parse(path.read_text())
    parts = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts | documented:
            yield node.value


def commands_in(path: Path) -> Iterator[list[str]]:
    """Yield the words of every command that a text of a file names: its first word is one of ours."""
    for text in texts_in(path):
        for match in COMMAND.finditer(text):
            words = match[1].partition(" phasesync ")[0].split()
            if words[0] in cli.commands or words[0] in cli.list_commands(click.Context(cli)):
                yield words


def fault_of(words: list[str]) -> str | None:
    """Return what is wrong with a command, None where it exists with its options."""
    command: click.Command = cli
    context, rest = click.Context(cli), list(words)
    while isinstance(command, click.Group) and rest and HOLE not in rest[0] and rest[0].islower():
        context = click.Context(command, parent=context)
        found = command.get_command(context, rest.pop(0))
        if found is None:
            return "there is no such command"
        command = found
    if isinstance(command, click.Group):
        return None  # A command of several, by its group.
    options = {name for one in command.get_params(context) for name in (*one.opts, *one.secondary_opts)}
    for word in rest:
        if word == "--":
            break
        if word.startswith("--") and HOLE not in word and word.partition("=")[0] not in options:
            return f"it has no {word}"
    return None


def test_every_command_that_a_message_names_exists() -> None:
    found = [(path, words) for path in FILES for words in commands_in(path)]
    wrong = [f"{path.name}: phasesync {' '.join(words)}: {why}" for path, words in found if (why := fault_of(words))]
    assert wrong == []
    assert len(found) > 100
    assert ["credentials", "test", "NAME"] in [words[:3] for _, words in found]


@pytest.mark.parametrize("line", ["credentials tset NAME", "aws policy --starter sync --kms KEY", "syncs show X --all"])
def test_a_command_that_does_not_exist_would_be_found(line: str) -> None:
    assert fault_of(line.split()) is not None
