"""Runs the demo as a process, with everything in its way that a user may have set, and looks for leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import wait_until

MARK = "DEMO_TEST_MARK"
"""Inherited by whatever the demo starts, so that its processes can be told from others."""


@dataclass(frozen=True)
class Demo:
    """A demo under way, and the folder that it makes its files in."""

    process: subprocess.Popen[str]
    temporary: Path
    mark: str

    def output_until(self, text: str) -> str:
        """Return what it has printed when a line with this text comes."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if text in line:
                return "".join(lines)
        raise AssertionError(f"it ended without {text!r}:\n{''.join(lines)}")

    def finish(self, timeout_s: float = 40.0) -> str:
        """Wait for its end; return the rest of its output."""
        rest, _ = self.process.communicate(timeout=timeout_s)
        return rest

    def daemons(self) -> list[int]:
        """Return the processes that it started and that are there."""
        return [pid for pid in _marked(self.mark) if pid != self.process.pid]

    def assert_nothing_is_left(self) -> None:
        """Look for files and for processes."""
        assert list(self.temporary.iterdir()) == []
        assert self.daemons() == []

    def end(self) -> None:
        """Kill what a failed test has left."""
        for pid in _marked(self.mark):
            os.kill(pid, signal.SIGKILL)
        self.process.communicate()


def start_demo(folder: Path, *, program: str | None = None) -> Demo:
    """
    Start a demo.

    Args:
        folder: for home and temporary files.
        program: Python to run in place of `-m phasesync demo`.
    """
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir()
    temporary.mkdir()
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text("[default]\nregion = nowhere\nendpoint_url = https://aws.invalid\n")
    mark = uuid.uuid4().hex
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(temporary),
        MARK: mark,
        "PHASESYNC_CONFIG": str(home / "missing.toml"),
        "PHASESYNC_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing",
        "PHASESYNC_ROOT_KEY": "not a key",
        "AWS_ENDPOINT_URL": "https://aws.invalid",
        "AWS_ENDPOINT_URL_STS": "https://sts.invalid",
        "AWS_PROFILE": "missing",
        "AWS_SESSION_TOKEN": "stale",
        "http_proxy": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    arguments = ["-c", program] if program is not None else ["-m", "phasesync", "demo"]
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    wait_until(lambda: process.pid in _marked(mark) or process.poll() is not None, what="the demo is seen by its mark")
    return Demo(process, temporary, mark)


def _marked(mark: str) -> list[int]:
    wanted = f"{MARK}={mark}".encode()
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and wanted in _environ(entry)]


def _environ(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:  # It has ended, or is somebody else's.
        return b""
