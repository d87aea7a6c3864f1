"""Reads what a text tells somebody to type: which commands of ours are in it, and whether they exist."""

import re

import click

from phasesync.cli.main import cli

NO_COMMAND = frozenset(
    {
        "a",
        "after",
        "an",
        "and",
        "as",
        "attached",
        "can",
        "database",
        "did",
        "does",
        "expects",
        "from",
        "has",
        "in",
        "is",
        "itself",
        "it",
        "knows",
        "makes",
        "met",
        "must",
        "needs",
        "of",
        "or",
        "runs",
        "said",
        "says",
        "starts",
        "stops",
        "takes",
        "that",
        "the",
        "to",
        "tries",
        "understands",
        "uses",
        "v1",
        "was",
        "were",
        "which",
        "while",
        "with",
        "works",
        "writes",
        "yet",
    }
)
"""Words after the name of the program, where a sentence is about it."""

COMMAND = re.compile(r"(?<![\w./'-])phasesync (?=[a-z{])([^;,()`]*?)(?=[;,()`]|\bphasesync |$)")


def commands_in(text: str) -> list[str]:
    """Return what follows the name of the program, of every command in a text."""
    return COMMAND.findall(text)


def all_options(command: click.Command) -> set[str]:
    """Return the options of a command and of all below it."""
    options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            options |= all_options(inner)
    return options


def wrong_with(line: str) -> str | None:
    """Return what does not exist of a command line that follows `phasesync`; None if there is nothing."""
    words = [word.rstrip(".:") for word in line.split()]
    command: click.Command = cli
    if words[0] in NO_COMMAND:
        return None
    while isinstance(command, click.Group):
        if not words or words[0].startswith("{") or words[0] == "--help":
            return None  # What is filled in is a command of its own, and looked at where it is written.
        inner = command.get_command(click.Context(command), words[0])
        if inner is None:
            return f"there is no {words[0]}"
        command = inner
        words.pop(0)
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }
    for word in words:
        if word.startswith("--") and len(word) > 2 and word.partition("=")[0] not in options:
            return f"{command.name} has no {word}"
    return None
