"""What goes to stdout."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import click
import pytest
from click.testing import CliRunner

from phasesync.cli.output import Output, output_option
from phasesync.core.model import SecretValue
from phasesync.core.times import instant_text

ROWS = [
    {"name": "a", "made_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "count": 1, "tags": ["x", "y"]},
    {"name": "longer [bold]", "made_at": None, "count": 0, "tags": []},
]


def printed(*args, show):
    """What a command prints that shows something."""

    @click.command()
    @output_option
    def command(out):
        show(out)

    return CliRunner().invoke(command, list(args), catch_exceptions=False)


def test_a_list_is_an_aligned_table():
    done = printed(show=lambda out: out.items(ROWS, ["name", "made_at", "count", "tags"]))
    assert done.stdout.splitlines() == [
        "NAME           MADE AT               COUNT  TAGS",
        "a              2026-01-02 03:04:05Z  1      x, y",
        "longer [bold]  -                     0      -",
    ]


def test_a_narrow_terminal_cuts_nothing_into_pieces(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    runner, ids = CliRunner(), [{"id": "01a2009015ca90ce5b458d6b", "sync": "shop-production"}]

    @click.command()
    @output_option
    def command(out):
        out.items(ids, ["id", "sync"])

    done = runner.invoke(command, color=True, catch_exceptions=False)

    assert done.stdout.splitlines() == [
        "\x1b[1mID                        SYNC\x1b[0m",
        "01a2009015ca90ce5b458d6b  shop-production",
    ]


def test_a_list_is_one_document_with_items_and_next():
    done = printed("-o", "json", show=lambda out: out.items(ROWS, ["name"]))
    assert json.loads(done.stdout) == {
        "items": [
            {"name": "a", "made_at": "2026-01-02T03:04:05.000Z", "count": 1, "tags": ["x", "y"]},
            {"name": "longer [bold]", "made_at": None, "count": 0, "tags": []},
        ],
        "next": None,
    }
    assert done.stderr == ""


def test_an_empty_list_leaves_stdout_empty_or_is_an_empty_document():
    done = printed(show=lambda out: out.items([], ["name"], empty="nothing here"))
    assert (done.stdout, done.stderr) == ("", "nothing here\n")
    assert json.loads(printed("-o", "json", show=lambda out: out.items([], ["name"])).stdout) == {
        "items": [],
        "next": None,
    }


def test_what_was_done_is_said_on_stderr_or_printed_as_a_document():
    done = printed(show=lambda out: out.done("did it", {"n": 1}))
    assert (done.stdout, done.stderr) == ("", "did it\n")
    done = printed("-o", "json", show=lambda out: out.done("did it", {"n": 1}))
    assert (json.loads(done.stdout), done.stderr) == ({"n": 1}, "")


def test_what_a_terminal_would_obey_is_not_printed():
    done = printed(show=lambda out: out.items([{"name": "a\x1b]0;x\x07\nb\u202e"}], ["name"]))
    assert done.stdout == "NAME\na ]0;x  b\n"


class Word(StrEnum):
    IN_SYNC = "in-sync"


def test_json_knows_words_instants_durations_and_text_as_it_is():
    item = {
        "w": Word.IN_SYNC,
        "at": datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        "d": timedelta(1),
        "t": "ü",
    }
    done = printed("-o", "json", show=lambda out: out.item(item))
    assert json.loads(done.stdout) == {"w": "in-sync", "at": "2026-01-01T00:00:00.000Z", "d": 86_400.0, "t": "ü"}
    assert "ü" in done.stdout


def test_a_secret_value_is_never_printed_by_accident():
    done = printed(show=lambda out: out.item({"value": SecretValue("canary")}))
    assert "canary" not in done.output
    with pytest.raises(TypeError) as caught:
        Output(as_json=True).document({"value": SecretValue("canary")})
    assert "canary" not in str(caught.value)


def test_an_instant_is_the_same_in_messages_and_in_tables():
    moment = datetime(2026, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
    assert instant_text(moment) == "2026-01-01 00:00:00Z"
    assert instant_text(moment) in printed(show=lambda out: out.item({"at": moment})).stdout


def test_durations_in_lists_are_written_as_they_are_typed():
    done = printed(show=lambda out: out.items([{"name": "ci", "max_ttl_s": 28_800}], ["name", "max_ttl_s"]))
    assert done.stdout.splitlines() == ["NAME  MAX TTL", "ci    8h"]


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")], ids=lambda pair: pair[0])
def test_a_terminal_that_wants_no_colours_gets_none(variable, monkeypatch):
    """https://no-color.org; and a dumb terminal would show the escape codes."""
    monkeypatch.setenv(*variable)

    @click.command()
    @output_option
    def command(out):
        out.items(ROWS, ["name"])
        out.warn("look")

    done = CliRunner().invoke(command, color=True, catch_exceptions=False)

    assert "\x1b" not in done.output
    assert "warning: look" in done.stderr


def test_an_empty_no_color_asks_for_nothing(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "")

    @click.command()
    @output_option
    def command(out):
        out.warn("look")

    assert "\x1b[33mwarning:\x1b[0m look" in CliRunner().invoke(command, color=True, catch_exceptions=False).stderr
