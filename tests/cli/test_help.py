"""What `--help` says of each option: a plain sentence, its unit, its default, and how several values are given."""

from __future__ import annotations

import re
from dataclasses import dataclass

import click
import pytest

from phasesync.cli.main import cli
from phasesync.cli.params import Duration, Moment

DURATION = re.compile(r"\b\d+[smhd]\b")
UNITS = re.compile(
    r"\b(days|percent|keys|secrets|leases|runs|apps|environments|credentials|syncs|notifications|characters|number|rows)\b",
    re.IGNORECASE,
)
"""What a whole number of an option counts."""
DEFAULT = re.compile(r"\b(Default|No default|New syncs)\b")


@dataclass(frozen=True)
class Case:
    """One option of one command."""

    path: tuple[str, ...]
    option: click.Option
    context: click.Context

    @property
    def help(self) -> str:
        """Its own sentences."""
        return self.option.help or ""

    @property
    def shown(self) -> str:
        """What `--help` shows beside it, with what click adds."""
        record = self.option.get_help_record(self.context)
        assert record is not None
        return record[1]

    def __str__(self) -> str:
        return " ".join([*self.path, self.option.opts[0]])


def leaves(
    command: click.Command, context: click.Context, path: tuple[str, ...]
) -> list[tuple[tuple[str, ...], click.Context]]:
    """Return every command below one, with its path."""
    if not isinstance(command, click.Group):
        return [(path, context)]
    found = []
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        found += leaves(inner, click.Context(inner, info_name=name, parent=context), (*path, name))
    return found


CASES = [
    Case(path, parameter, context)
    for path, context in leaves(cli, click.Context(cli, info_name="phasesync"), ())
    for parameter in context.command.params
    if isinstance(parameter, click.Option) and not parameter.hidden
]


def failing(cases: list[Case], right: re.Pattern[str]) -> list[str]:
    """Return those with help that does not match."""
    return [f"{case}: {case.shown}" for case in cases if not right.search(case.shown)]


def test_every_option_has_a_plain_sentence() -> None:
    assert len(CASES) > 150
    sentence = re.compile(r"[A-Z][^.]* \S+ .*\.$", re.DOTALL)
    assert [f"{case}: {case.help}" for case in CASES if not sentence.fullmatch(case.help)] == []


def test_every_duration_shows_how_one_is_written() -> None:
    durations = [case for case in CASES if isinstance(case.option.type, Duration | Moment)]
    assert len(durations) > 10
    assert failing(durations, DURATION) == []
    moments = [case for case in durations if isinstance(case.option.type, Moment)]
    assert failing(moments, re.compile("RFC 3339")) == []


def test_every_number_says_what_it_counts() -> None:
    assert failing([case for case in CASES if isinstance(case.option.type, click.IntRange)], UNITS) == []


def test_every_option_that_may_be_left_out_says_what_holds_then() -> None:
    """Of a flag its sentence says it, and of `update` its own help: what is not given stays."""
    optional = [case for case in CASES if not case.option.required and not case.option.is_flag]
    shown = [case for case in optional if not (case.option.show_default and case.option.default is not None)]
    assert failing([case for case in shown if case.path[-1] != "update"], DEFAULT) == []


@pytest.mark.parametrize("noun", ["apps", "credentials", "syncs", "dynamic"])
def test_an_update_says_that_what_is_not_given_stays(noun: str) -> None:
    context = next(context for path, context in leaves(cli, click.Context(cli), ()) if path == (noun, "update"))
    assert "What is not given stays as it is" in " ".join((context.command.help or "").split())


def test_a_required_option_says_so_once_and_nothing_in_it_reads_like_a_default() -> None:
    required = [case for case in CASES if case.option.required]
    assert len(required) > 8
    assert [str(case) for case in required if case.shown.lower().count("required") != 1] == []
    assert [f"{case}: {case.shown}" for case in required if "default" in case.shown.lower()] == []
    assert [f"{case}: {case.shown}" for case in required if re.search(r":\s*\S+\.$", case.help)] == []


def test_what_may_be_given_several_times_states_repeats_and_commas() -> None:
    several = [case for case in CASES if case.option.multiple]
    assert len(several) > 8
    assert failing(several, re.compile(r"[Rr]epeat.*commas", re.DOTALL)) == []
    # A command takes both in the same way.
    assert [str(case) for case in several if case.option.callback is None] == []
