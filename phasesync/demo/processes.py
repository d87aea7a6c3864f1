"""
The processes beside this one: the real daemon, and a watchdog that ends it if this process is killed.

`python -m phasesync.demo.processes` is the watchdog. It imports the standard library only, so that it starts quickly.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

STOP_WITHIN_S: Final = 3.0
"""How long a process may take to stop before it is killed; an idle daemon takes a fraction of that."""

_DAEMON: Final = b"daemon"
"""An argument of each daemon that is started here."""


class DaemonProcess:
    """`phasesync daemon`, with the environment of this process."""

    def __init__(
        self, folder: Path, name: str, undisturbed: Callable[[], AbstractContextManager[None]], watchdog: "Watchdog"
    ) -> None:
        """
        Args:
            folder: where it runs and writes its log.
            name: of its log.
            undisturbed: keeps signals to this process away within its block.
            watchdog: ends it if this process is killed.
        """
        self._folder = folder
        self._watchdog = watchdog
        self._undisturbed = undisturbed
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / f"{name}.log"

    @property
    def pid(self) -> int | None:
        """Its process id, None if it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only this process, which stops it in order."""
        with self._undisturbed(), self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "phasesync", _DAEMON.decode()],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._watchdog.end(self._process.pid)

    def ask_to_stop(self) -> None:
        """Send it SIGTERM, as a service manager does."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int | None:
        """Stop it, with SIGKILL if need be. Return its exit code, None if it never ran."""
        self.ask_to_stop()
        if self._process is None:
            return None
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
        return self._process.returncode

    def kill(self) -> None:
        """End it and its children at once (kill -9), as a power cut would."""
        process = self._process
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def last_lines(self, count: int = 6) -> list[str]:
        """Return the end of its log, which carries no values."""
        if not self.log.exists():
            return []
        return self.log.read_text(errors="replace").splitlines()[-count:]


def stop_all(daemons: Iterable[DaemonProcess]) -> None:
    """Stop several at the same time."""
    daemons = list(daemons)
    for daemon in daemons:
        daemon.ask_to_stop()
    for daemon in daemons:
        daemon.stop()


_PR_SET_CHILD_SUBREAPER: Final = 36
"""prctl(2), <linux/prctl.h>."""


def adopt_orphans() -> None:
    """Become the parent of what descendants leave behind, such as background jobs of a shell; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_children(*, except_pid: int) -> None:
    """
    End all children of this process but one, and their children, which become its own; on Linux only.

    One that may not be signalled stays: a command that was started with sudo, for example.
    """
    deadline = time.monotonic() + STOP_WITHIN_S
    while children := [pid for pid in _children() if pid != except_pid]:
        if time.monotonic() > deadline + STOP_WITHIN_S:
            return
        for pid in children:
            _signal(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)


def _children() -> list[int]:
    """Return the children of this process; the kernel lists them for every process, dumpable or not."""
    children = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = entry.read_text(errors="replace").rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                children.append(int(entry.parent.name))
    return children


class Watchdog:
    """
    Ends processes and removes a folder if this process dies without doing so itself, for example by kill -9.

    It is a process of its own that reads a pipe; only this process holds the other end of it.
    """

    def __init__(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "phasesync.demo.processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def end(self, pid: int) -> None:
        """Let it end a process; if that leads a process group, the whole group."""
        self._send("end", pid)

    def remove(self, folder: Path) -> None:
        """Let it remove a folder, after the processes have ended."""
        self._send("remove", str(folder))

    def dismiss(self) -> None:
        """End it without any further action."""
        self._send("dismiss", None)
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._process.wait()

    def _send(self, action: str, operand: int | str | None) -> None:
        if self._process.stdin is None:
            return
        line = json.dumps([action, operand])  # A path may have line breaks and bytes that are no text.
        with suppress(OSError):  # It was killed; the tour goes on without it.
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()


def _keep_watch() -> None:
    """Read what to do; do it at the end of the pipe, unless dismissed."""
    pids: list[int] = []
    folders: list[str] = []
    for line in sys.stdin.buffer:
        action, operand = json.loads(line)
        if action == "dismiss":
            return
        if action == "end":
            pids.append(operand)
        elif action == "remove":
            folders.append(operand)
    # Whoever was killed may not have got round to telling the last one that it had started.
    _end(list(dict.fromkeys([*pids, *_daemons_in(folders)])))
    for folder in folders:
        _remove(folder)


def _daemons_in(folders: list[str]) -> list[int]:
    """Return the daemons that run in one of these folders; on Linux only."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if os.readlink(entry) in folders and _DAEMON in (entry.parent / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found


def _remove(folder: str) -> None:
    """Remove a folder, again and again while what was killed has not quite ended and writes into it."""
    deadline = time.monotonic() + STOP_WITHIN_S
    while os.path.lexists(folder):
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _end(pids: list[int]) -> None:
    for pid in pids:
        _signal(pid, signal.SIGTERM)
        _signal(pid, signal.SIGHUP)  # An interactive shell ignores SIGTERM.
    deadline = time.monotonic() + STOP_WITHIN_S
    while any(_signal(pid, 0) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in pids:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> bool:
    """Signal a process or the group that it leads; return whether there was one."""
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    _keep_watch()
