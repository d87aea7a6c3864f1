"""
The child process of `phasesync run`: it gets our signals, and we exit as it exits.

A signal from before the start of the child ends what is in progress, so that it is undone. A signal during the start
waits until it can be forwarded. A signal after the end is deferred once, so that the leases are revoked.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, Self

from phasesync.cli.output import Output
from phasesync.cli.run.executable import NOT_EXECUTABLE, show_start_error

_FORWARDED: Final = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_FROM_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)
"""Signals that a terminal sends to the child as well."""


class Stopped(KeyboardInterrupt):
    """A signal arrived before the child was started, or a second one after its end."""

    def __init__(self, number: int) -> None:
        """
        Args:
            number: of the signal.
        """
        self.number = number


class Child:
    """Runs one command. Handles the signals of this process inside `with`; for the main thread."""

    def __init__(self, out: Output) -> None:
        """
        Args:
            out: reports that a signal is deferred.
        """
        self._out = out
        self._former: dict[int, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._held: list[int] | None = None
        """Signals that wait for the end of an uninterruptible part; None outside of one."""
        self._deferred = False
        self._stopped: int | None = None
        self.code: int | None = None
        """Exit code of the command, once it has ended."""
        self.ends = False
        """The command has ended, or will not be started: its leases are being revoked."""

    def __enter__(self) -> Self:
        for number in _FORWARDED:
            # A signal that was ignored when we were started stays ignored, for us and for the child: nohup.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._former[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str], environ: Mapping[str, str], program: str | None = None) -> int:
        """
        Run a command to its end; return its exit code, 128 + N where signal N ended it.

        Args:
            command: its words.
            environ: its environment.
            program: the file to execute; None: the first word, searched in the PATH of `environ`.
        """
        try:
            # The child exists before Popen returns its id. A signal that interrupted it here would leave a command
            # that runs on without us.
            with self.holding_signals():
                if self._stopped is not None:
                    raise Stopped(self._stopped)  # The code that it was raised in swallowed it.
                self._process = subprocess.Popen(command, executable=program, env=dict(environ))
        except OSError as error:
            show_start_error(command[0], error)
            return NOT_EXECUTABLE
        code = self._process.wait()
        self.code = code if code >= 0 else 128 - code
        return self.code

    @contextmanager
    def holding_signals(self) -> Iterator[None]:
        """Let no signal interrupt what is done inside; signals that arrive meanwhile are handled at the end."""
        held: list[int] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
        for number in held:
            # One from a terminal is forwarded too: the child had not started, or has died of it.
            self._handle(number, child_got_it=False)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._held is not None:
            self._held.append(number)
        else:
            self._handle(number, child_got_it=number in _FROM_TERMINAL and _in_foreground())

    def _handle(self, number: int, *, child_got_it: bool) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            if not child_got_it:
                process.send_signal(number)
        elif (process is None and not self.ends) or self._deferred:
            # From here on leases are revoked, which the next signal does not interrupt at once.
            self._stopped, self.ends = number, True
            raise Stopped(number)
        else:
            self._deferred = True
            self._out.say("revoking the leases; a second signal leaves that to the daemon")


def _in_foreground() -> bool:
    """Return whether signals of a terminal reach us and our child together, whatever stdin is."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False  # There is no terminal that could send a signal.
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False  # It has hung up.
    finally:
        os.close(terminal)
