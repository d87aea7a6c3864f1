"""
`phasesync daemon` as a process of its own: start it, wait for it, signal it, read its log, and leave nothing behind.

    daemon = Daemon(environ, folder / "daemon.log")
    daemon.wait_until_ready()                      # the port is a free one; the log's first line tells which
    daemon.wait_for_line("run finished", outcome="applied")
    assert daemon.stop() == 0
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.support.preloaded import PreloadedProcess
from tests.support.waiting import HANG_GUARD_S, wait_until

PHASESYNC = Path(sys.executable).with_name("phasesync")
"""The command as an installation by pip leaves it."""
ENDS_WITHIN_S = 10.0
"""What docs/operations.md says of its end, even with a thread that hangs."""

_PHASESYNC = "from phasesync.__main__ import main\nmain()\n"
_DEFECTS = frozenset({"a round failed", "uncaught exception", "exception that nothing could catch", "python warning"})
"""Events that no daemon of a test may log, whatever is done to it."""


class Daemon:
    """A daemon and its log. It leads a process group of its own, so that a Ctrl-C of the tests is not its own."""

    def __init__(self, environ: Mapping[str, str], log: Path, *, installed: bool = False, first: str = "") -> None:
        """
        Args:
            environ: its whole environment.
            log: a file that its stderr goes to.
            installed: start the command as an installation has it; otherwise begin after its imports.
            first: Python that the process runs before it becomes phasesync. Not if `installed`.
        """
        self.log = log
        self.lacks_memory = False
        """For a while: SQLAlchemy and SQLite then fail in ways that cannot be told from a defect."""
        self.process: subprocess.Popen[bytes] | PreloadedProcess
        with log.open("wb") as stderr:
            if installed:
                self.process = subprocess.Popen(
                    [str(PHASESYNC), "daemon"],
                    env=dict(environ),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    start_new_session=True,
                )
            else:
                with open(os.devnull, "r+b") as nothing:
                    streams = (nothing.fileno(), nothing.fileno(), stderr.fileno())
                    program = f"{first}\n{_PHASESYNC}" if first else None
                    self.process = PreloadedProcess(["daemon"], environ, streams, program=program)
        self.pid = self.process.pid

    # --- its log

    def lines(self) -> list[dict[str, Any]]:
        """
        Return the log so far: every whole line is a JSON document, but for those that say why it did not start, and for
        one that was cut short by a full disk.
        """
        whole = [line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        cut = {line for line in whole if line.startswith("{") and not line.endswith("}\n")}
        return [json.loads(line) for line in whole if not line.startswith(("error: ", "hint: ")) and line not in cut]

    def find(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Return the lines of an event that have these fields."""
        return [
            line
            for line in self.lines()
            if line["event"] == event and all(line.get(name) == value for name, value in fields.items())
        ]

    def wait_for_line(
        self, event: str, *, count: int = 1, within_s: float = HANG_GUARD_S, **fields: object
    ) -> dict[str, Any]:
        """Return the newest of at least `count` such lines."""
        wait_until(
            lambda: len(self.find(event, **fields)) >= count or self.ended,
            within_s=within_s,
            what=f"{event} {fields} in the log",
        )
        lines = self.find(event, **fields)
        assert len(lines) >= count, f"it ended with {self.process.poll()}: {self.log.read_text()}"
        return lines[-1]

    # --- its health

    @property
    def address(self) -> str:
        """HOST:PORT of its health, as soon as it listens."""
        return str(self.wait_for_line("phasesync starts")["listening"])

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Ask for `/healthz` or `/readyz`."""
        connection = HTTPConnection(self.address, timeout=HANG_GUARD_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def wait_until_ready(self) -> str:
        """Return its role as soon as it works or stands by."""
        answers: list[tuple[int, dict[str, Any]]] = []

        def ready() -> bool:
            answers.append(self.get("/readyz"))
            return answers[-1][0] == 200

        wait_until(ready, what="readiness")
        return str(answers[-1][1]["role"])

    # --- signals and the end

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9; returns when it is dead. Safe to repeat."""
        self.process.kill()
        self.process.wait(timeout=HANG_GUARD_S)

    def ends(self, within_s: float = ENDS_WITHIN_S) -> int:
        """Return the exit code once it has ended by itself."""
        return self.process.wait(timeout=within_s)

    def stop(self, within_s: float = ENDS_WITHIN_S) -> int:
        """SIGTERM; return the exit code. Nothing of its process group may be left."""
        self.signal(signal.SIGTERM)
        code = self.ends(within_s)
        self.assert_nothing_left()
        return code

    def freeze(self) -> None:
        """SIGSTOP; returns when no thread of it runs any more."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: _states_of(self.pid) == {"T"}, what="the freeze")

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def assert_nothing_left(self) -> None:
        """No process of its group is alive."""

        def gone() -> bool:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return True
            return False

        wait_until(gone, what="the end of the process group")

    def assert_without_defects(self) -> None:
        """Its log shows no defect of phasesync."""
        unforeseen = () if self.lacks_memory else ("InternalError",)
        defects = [line for line in self.lines() if line["event"] in _DEFECTS or line.get("error") in unforeseen]
        assert not defects, defects

    def clean_up(self) -> None:
        """Kill what is left of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(timeout=HANG_GUARD_S)

    def cpu_s(self) -> float:
        """Return the CPU time it has used, of user and system, in seconds."""
        # The name of the process may hold anything; what follows its last bracket does not.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _states_of(pid: int) -> set[str]:
    """Return the states of a process's threads, as in ps."""
    states = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        states.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return states
