"""promtool, which checks and tries out the rules of `deploy/prometheus/`; `make` puts it beside the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

FOLDER = Path(sys.prefix) / "promtool"
"""Where `make` puts it: the Makefile's `$(VENV)/promtool`."""


def program(name: str = "promtool") -> Path:
    """
    Return promtool, or the prometheus of the same package.

    Where there is none the test is skipped, with the reason. In continuous integration it fails.
    """
    found = FOLDER / name
    if found.exists() and not (FOLDER / "missing").exists():
        return found
    note = FOLDER / "missing"
    reason = note.read_text().strip() if note.exists() else f"there is no {found}: run `make .venv/.promtool`"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"no alert is tested: {reason}", pytrace=False)
    pytest.skip(reason)


def promtool(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool; return its exit code and what it printed."""
    command: Sequence[str] = [str(program()), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
