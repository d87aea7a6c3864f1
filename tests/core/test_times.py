"""How durations are written for people."""

from datetime import timedelta

import pytest

from phasesync.cli.params import DURATION
from phasesync.core.times import duration_text


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(seconds=90), "90s"),
        (timedelta(minutes=90), "90m"),
        (timedelta(hours=1), "1h"),
        (timedelta(hours=24), "1d"),
        (timedelta(days=30), "30d"),
        (timedelta(0), "0s"),
        (timedelta(milliseconds=500), "0.5s"),
    ],
)
def test_a_duration_has_the_largest_unit_that_divides_it(duration: timedelta, text: str) -> None:
    assert duration_text(duration) == text
    if duration.microseconds == 0:
        assert DURATION.convert(text, None, None) == duration, "it can be typed as it is shown"
