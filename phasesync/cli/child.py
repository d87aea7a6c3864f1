"""
A child process that stands for this one: it gets our signals, and we end as it ended.

A signal that comes before the child is there ends what is going on, so that it is undone; one that comes after its end
is put off once, so that its leases are revoked.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any, Final, Self

import click

from phasesync.cli.output import Output

_FORWARDED: Final = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_OF_TERMINALS: Final = (signal.SIGINT, signal.SIGQUIT)
"""A terminal sends these to the child as well."""
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""Exit codes of shells for a command that is not there, and for one that cannot be run (POSIX, Shell Command)."""


class Stopped(KeyboardInterrupt):
    """A signal came before the child was there, or a second one after its end."""

    def __init__(self, number: int) -> None:
        """
        Args:
            number: of the signal.
        """
        self.number = number


class Child:
    """Runs one command. Holds this process's signals from `with` on; for the main thread."""

    def __init__(self, out: Output) -> None:
        """
        Args:
            out: says why a signal is put off.
        """
        self._out = out
        self._former: dict[int, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._put_off = False
        self.ends = False
        """The command has ended, or will not be begun: what it was given is being taken back."""

    def __enter__(self) -> Self:
        for number in _FORWARDED:
            # What whoever started us had ignored stays so, for us and for the child: nohup.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._former[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str], environ: Mapping[str, str]) -> int:
        """Run a command to its end; return its exit code, 128 + N where signal N ended it."""
        try:
            self._process = subprocess.Popen(command, env=dict(environ))
        except OSError as error:
            return exit_code_of_spawn(command[0], error)
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def _take(self, number: int, _frame: FrameType | None) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            if number not in _OF_TERMINALS or not _in_foreground():
                process.send_signal(number)
        elif (process is None and not self.ends) or self._put_off:
            raise Stopped(number)
        else:
            self._put_off = True
            self._out.say("revoking the leases; a second signal leaves that to the daemon")


def exit_code_of_spawn(command: str, error: OSError) -> int:
    """Say why a command could not be begun; return the exit code that a shell has for that."""
    click.echo(f"error: {command}: {error.strerror}", err=True)
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE


def _in_foreground() -> bool:
    """Return whether a terminal's signals reach us and our child together."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
