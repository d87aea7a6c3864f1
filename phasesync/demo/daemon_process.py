"""The real daemon, in a process of its own. However the tour ends, it ends with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

STOP_WITHIN_S: Final = 3.0
"""How long a daemon may take to stop before it is killed; with nothing in hand it takes a fraction of that."""


class DaemonProcess:
    """`phasesync daemon`, with the environment of this process."""

    def __init__(self, folder: Path, name: str, undisturbed: Callable[[], AbstractContextManager[None]]) -> None:
        """
        Args:
            folder: where it runs and writes its log.
            name: of its log.
            undisturbed: keeps signals of ours away within its block.
        """
        self._folder = folder
        self._undisturbed = undisturbed
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / f"{name}.log"

    @property
    def pid(self) -> int | None:
        """Its process id, None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it. It gets a session of its own, so that Ctrl-C reaches only us, who stop it in order."""
        with self._undisturbed(), self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "phasesync", "daemon"],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ask_to_stop(self) -> None:
        """Tell it to stop, as a service manager does."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int | None:
        """Have it stop, and kill it if it does not. Return its exit code, None = it never ran."""
        self.ask_to_stop()
        if self._process is None:
            return None
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
        return self._process.returncode

    def kill(self) -> None:
        """End it at once, as a power cut would (kill -9), with whatever it started."""
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
