"""Standard streams that are closed, or full: an error of one line, and nothing stored that nobody typed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine

FULL = Path("/dev/full")


def in_shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which `phasesync` is the command."""
    line = f'phasesync() {{ "{sys.executable}" -m phasesync "$@"; }}; {command}'
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("secrets set shop/prod KEY", 2, "there is no terminal to ask for KEY"),
        ("secrets set shop/prod KEY -", 2, "stdin cannot be read"),
        ("envs remove shop/prod", 2, "this needs a confirmation"),
        ("apps list", 0, "shop"),
    ],
)
def test_a_closed_stdin_has_no_answers_and_no_values(shop: CommandLine, arguments: str, code: int, said: str) -> None:
    """An empty value would be one that no one gave."""
    done = in_shell(f"phasesync {arguments} <&-")

    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "bug" not in done.stderr
    assert shop.items("secrets", "list", "shop/prod") == []


@pytest.mark.parametrize(
    "target", [">&-", pytest.param(">/dev/full", marks=pytest.mark.skipif(not FULL.exists(), reason="no /dev/full"))]
)
@pytest.mark.parametrize("arguments", ["apps list", "apps list -o json", "secrets get shop/prod KEY --reveal"])
def test_output_that_cannot_be_written_is_an_error_of_one_line(shop: CommandLine, arguments: str, target: str) -> None:
    """No traceback, no talk of a bug, and the exit code says that nothing was delivered."""
    shop.done("secrets", "set", "shop/prod", "KEY", "-", stdin="canary")

    done = in_shell(f"phasesync {arguments} {target}")

    assert done.returncode == 1
    assert "the output cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "canary" not in done.stderr


def test_an_error_that_cannot_be_told_still_has_its_exit_code(shop: CommandLine) -> None:
    """A script goes by the code; stderr may be closed."""
    assert in_shell("phasesync secrets get shop/prod NONE 2>&-").returncode == 5
    if FULL.exists():
        assert in_shell("phasesync secrets get shop/prod NONE 2>/dev/full").returncode == 5


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_what_was_done_was_done_though_nobody_can_be_told(shop: CommandLine) -> None:
    assert in_shell("phasesync apps add other 2>/dev/full").returncode == 0
    assert [one["name"] for one in shop.items("apps", "list")] == ["other", "shop"]
