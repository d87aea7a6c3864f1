"""Numbers in messages."""

from __future__ import annotations

import pytest

from phasesync.core.counted import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 data keys"), (1, "1 data key"), (2, "2 data keys"), (12_000, "12,000 data keys")]
)
def test_one_is_singular_and_thousands_are_apart(number: int, text: str) -> None:
    assert counted(number, "data key") == text
