"""
AWS's own command line, as its users install it: in an environment of its own inside the one of the tests.

    aws = AwsCli(folder, environ)
    aws.configure("ci", credential_process="…")
    aws.run("--profile", "ci", "sts", "get-caller-identity")
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import HANG_GUARD_S

ENVIRONMENT = Path(sys.prefix) / "awscli"
"""Where `make` puts it: the Makefile's `$(VENV)/awscli`."""


class AwsCliMissing(Exception):
    """It is not installed; the text says how it comes there."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a command left."""

    exit_code: int
    stdout: str
    stderr: str


class AwsCli:
    """The command `aws`, with a configuration of its own and nothing from the shell."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        """
        Args:
            folder: its configuration goes there.
            environ: what it gets: how to reach AWS, and keys where no profile has any.
        """
        if not (ENVIRONMENT / "bin" / "python").exists():
            raise AwsCliMissing(f"{ENVIRONMENT} is missing; `make pytest` makes it, and so does `make .venv/.awscli`")
        self.config = folder / "aws-config"
        self.config.touch()
        self._environ = environ | {
            "AWS_CONFIG_FILE": str(self.config),
            "AWS_PAGER": "",
            "HOME": str(folder),
        }

    def configure(self, profile: str, **settings: str) -> None:
        """Add a profile."""
        lines = [f"[profile {profile}]", *(f"{name} = {value}" for name, value in settings.items()), ""]
        self.config.write_text(self.config.read_text() + "\n".join(lines))

    def run(self, *args: str, **environ: str) -> Said:
        """Run `aws` with these arguments."""
        done = subprocess.run(
            [str(ENVIRONMENT / "bin" / "python"), "-m", "awscli", *args],
            env=self._environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HANG_GUARD_S,
            check=False,
        )
        return Said(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)
