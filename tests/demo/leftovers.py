"""Runs the demo or the sandbox as a process, with everything set that a user may have set, and looks for leftovers."""

from __future__ import annotations

import codecs
import os
import pty
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from phasesync.adapters.aws.endpoint import ENDPOINT_VARIABLES
from tests.support.preloaded import PreloadedProcess
from tests.support.waiting import HANG_GUARD_S, wait_until

MARK = "DEMO_TEST_MARK"
"""Inherited by whatever the demo starts, so that its processes can be told from others."""


@dataclass(frozen=True)
class Demo:
    """A demo under way, and the folder that it makes its files in."""

    process: subprocess.Popen[str] | PreloadedProcess
    temporary: Path
    mark: str
    stream: IO[str]
    """What it prints to: a pipe, or the other side of its terminal."""
    printed: list[str] = field(default_factory=list)
    """The pieces up to now."""
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", threading.Thread(target=self._read, daemon=True))
        self.reader.start()

    def output_until(self, text: str) -> None:
        """Wait until this text has been printed."""
        wait_until(lambda: self._has_printed(text) or not self.reader.is_alive(), what=f"{text!r} comes")
        assert self._has_printed(text), f"it ended without {text!r}:\n{self.output}"

    def finish(self) -> str:
        """Wait for its end; return all of its output."""
        self.reader.join(HANG_GUARD_S)
        assert not self.reader.is_alive(), f"it has not ended within {HANG_GUARD_S} s:\n{self.output}"
        self.process.wait(HANG_GUARD_S)
        return self.output

    @property
    def output(self) -> str:
        """What it has printed up to now."""
        return "".join(self.printed)

    def daemons(self) -> list[int]:
        """Return the processes that it started and that are there."""
        return [pid for pid in _marked(self.mark) if pid != self.process.pid]

    def assert_nothing_is_left(self) -> None:
        """Look for files and for processes."""
        assert list(self.temporary.iterdir()) == []
        assert self.daemons() == []

    def end(self) -> None:
        """Kill what a failed test has left."""
        self.process.kill()
        for pid in _marked(self.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join()
        self.stream.close()

    def type(self, text: str) -> None:
        """Type at its terminal."""
        os.write(self.stream.fileno(), text.encode())

    def _read(self) -> None:
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        with suppress(OSError):  # EIO: no process has the terminal open any more.
            while piece := os.read(self.stream.fileno(), 65536):
                self.printed.append(decode(piece))

    def _has_printed(self, text: str) -> bool:
        return text in self.output


def start_demo(
    folder: Path,
    *,
    program: str | None = None,
    command: Sequence[str] = ("demo",),
    terminal: bool = False,
    fresh: bool = False,
) -> Demo:
    """
    Start a demo. Its daemon, its watchdog and its commands are started by itself, as ever.

    Args:
        folder: for home and temporary files.
        program: Python to run in place of `phasesync`.
        command: what follows `phasesync`.
        terminal: give it a terminal, which `type` types at; else its output is plain, and it has no input.
        fresh: start Python for it, as users do; otherwise it begins after its imports.
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
        **dict.fromkeys(ENDPOINT_VARIABLES, "https://theirs.invalid"),
        "AWS_PROFILE": "missing",
        "AWS_SESSION_TOKEN": "stale",
        "http_proxy": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    ours, theirs = pty.openpty() if terminal else os.pipe()
    if terminal:
        environ |= {"SHELL": "/bin/bash", "TERM": "dumb"}
    with open(theirs, "wb", buffering=0) as output, open(os.devnull, "rb") as nothing:
        source = output if terminal else nothing
        process: subprocess.Popen[str] | PreloadedProcess
        if fresh:
            assert not terminal and program is None
            process = subprocess.Popen(
                [sys.executable, "-m", "phasesync", *command],
                env=environ,
                stdin=source,
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        else:
            streams = (source.fileno(), output.fileno(), output.fileno())
            process = PreloadedProcess(command, environ, streams, kind="demo", program=program, terminal=terminal)
    demo = Demo(process, temporary, mark, os.fdopen(ours, encoding="utf-8", errors="replace"))
    if fresh:
        try:
            wait_until(
                lambda: process.pid in _marked(mark) or process.poll() is not None, what="the demo is seen by its mark"
            )
        except BaseException:
            demo.end()
            raise
    return demo


def _marked(mark: str) -> list[int]:
    wanted = f"{MARK}={mark}".encode()
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and wanted in _environ(entry)]


def _environ(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:  # It has ended, or is somebody else's.
        return b""
