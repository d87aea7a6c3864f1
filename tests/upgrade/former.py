"""A former phasesync: its wheel, and its command line in one process, so that it is imported once."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from tests.support.waiting import HANG_GUARD_S
from tests.support.wheels import build_wheel
from tests.upgrade.origins import Origin, unpack

_PROGRAM: Final = """\
import base64, json, sys
from click.testing import CliRunner
from phasesync.cli.main import cli
for line in sys.stdin:
    args, stdin = json.loads(line)
    done = CliRunner().invoke(cli, args, input=base64.b64decode(stdin), prog_name="phasesync")
    print(json.dumps([done.exit_code, done.stdout, done.stderr]), flush=True)
"""


def install_release(origin: Origin, folder: Path) -> Path:
    """Build the wheel of a release from its tree, install it without its dependencies, and return where it is."""
    unpack(origin.commit, folder / "tree")
    wheel = build_wheel(folder / "tree", folder / "wheel")
    assert wheel.name.startswith(f"phasesync-{origin.version}-")
    installed = folder / "installed"
    options = ("--no-deps", "--no-index", "--no-compile", "--quiet", "--disable-pip-version-check")
    installing = [sys.executable, "-m", "pip", "install", *options, "--target", str(installed), str(wheel)]
    subprocess.run(installing, check=True, capture_output=True)
    return installed


class FormerCommands:
    """The command line of a former phasesync, with the packages of the environment that runs the tests."""

    def __init__(self, place: Path, environ: Mapping[str, str]) -> None:
        """
        Args:
            place: the folder that its package `phasesync` is in.
            environ: its environment.
        """
        self._place = place
        self._environ = dict(environ) | {"PYTHONPATH": str(place)}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            cwd=self._place,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=HANG_GUARD_S)

    def run(self, *args: str, stdin: bytes = b"", exit_code: int = 0) -> str:
        """Run a command, which has to end with an exit code; return what it prints."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([args, base64.b64encode(stdin).decode()]) + "\n")
        self._process.stdin.flush()
        ended_with, stdout, stderr = json.loads(self._process.stdout.readline())
        assert ended_with == exit_code, (args, ended_with, stdout, stderr)
        return str(stdout)

    def json(self, *args: str, stdin: bytes = b"") -> Any:
        """Run a command that succeeds and prints one JSON document."""
        return json.loads(self.run(*args, "-o", "json", stdin=stdin))
