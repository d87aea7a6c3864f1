"""Wait for a condition, never for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

HANG_GUARD_S: Final = 60.0
"""For what comes or ends at all, promptly or not: on a busy machine it takes many times as long as on an idle one."""


def wait_until(condition: Callable[[], object], *, within_s: float = HANG_GUARD_S, what: str = "the condition") -> None:
    """Return as soon as the condition holds; AssertionError when it does not in time."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < within_s, f"{what} did not hold within {within_s} s"
        # Looking costs what is looked at its time: the two share a core.
        time.sleep(min(0.005 + waited / 10, 0.1))
