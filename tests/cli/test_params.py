"""How the command line writes things."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from phasesync.cli.params import DURATION, ENVIRONMENT, INSTANT, MOMENT, PAIR, Word, comma_list


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1h", timedelta(hours=1)),
        ("7d", timedelta(days=7)),
        ("0s", timedelta()),
    ],
)
def test_these_are_durations(text, duration):
    assert DURATION.convert(text, None, None) == duration
    assert MOMENT.convert(text, None, None) == duration


@pytest.mark.parametrize("text", ["", "1", "1 h", "-1h", "1.5h", "1w", "h", "١h", "9999999999s", "999999999999d"])
def test_these_are_not_durations(text):
    with pytest.raises(click.BadParameter, match="such as 90s"):
        DURATION.convert(text, None, None)


@pytest.mark.parametrize("text", ["36501d", "999999999h"])
def test_a_duration_of_more_than_a_hundred_years_is_refused(text):
    with pytest.raises(click.BadParameter, match="longer than a hundred years"):
        DURATION.convert(text, None, None)


@pytest.mark.parametrize("text", ["2026-01-31T09:00:00Z", "2026-01-31T10:00:00+01:00", "2026-01-31t09:00:00.000z"])
def test_an_instant_is_read_with_its_offset(text):
    assert INSTANT.convert(text.upper(), None, None) == datetime(2026, 1, 31, 9, tzinfo=UTC)
    assert MOMENT.convert(text.upper(), None, None) == datetime(2026, 1, 31, 9, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "2026-01-31", "2026-01-31T09:00:00", "tomorrow", "2026-13-01T00:00:00Z"])
def test_an_instant_without_offset_is_refused(text):
    with pytest.raises(click.BadParameter, match="such as 2026-01-31T09:00:00Z"):
        INSTANT.convert(text, None, None)


def test_a_pair_is_split_at_the_first_equal_sign():
    assert PAIR.convert("a=b=c", None, None) == ("a", "b=c")
    assert PAIR.convert("a=", None, None) == ("a", "")


@pytest.mark.parametrize("text", ["a", "=b", ""])
def test_these_are_not_pairs(text):
    with pytest.raises(click.BadParameter):
        PAIR.convert(text, None, None)


def test_an_environment_is_an_app_and_a_name():
    assert ENVIRONMENT.convert("shop/prod", None, None) == ("shop", "prod")


def parsed(args, **option):
    found = []

    @click.command()
    @click.option("--x", **option)
    def command(x):
        found.append(x)

    done = CliRunner().invoke(command, args)
    return found[0] if found else done


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3), max_size=4))
def test_repeats_and_commas_mean_the_same(given_words):
    words = tuple(dict.fromkeys(word for words in given_words for word in words))
    commas = [arg for words in given_words for arg in ("--x", ", ".join(words))]
    repeats = [arg for word in words for arg in ("--x", word)]
    assert parsed(commas, multiple=True, callback=comma_list) == words
    assert parsed(repeats, multiple=True, callback=comma_list) == words


class Colour(StrEnum):
    RED = "light-red"


def test_a_word_is_taken_by_its_value():
    assert parsed(["--x", "light-red"], type=Word(Colour)) is Colour.RED
    assert parsed(["--x", "RED"], type=Word(Colour)).exit_code == 2
