"""
A child process that stands for this one: it gets our signals, and we end as it ended.

A signal that comes before the child is there ends what is going on, so that it is undone; one that comes while it is
being started waits until it can be passed on; one that comes after its end is put off once, so that its leases are
revoked.
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
_OF_TERMINALS: Final = (signal.SIGINT, signal.SIGQUIT)
"""A terminal sends these to the child as well."""


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
        self._held: list[int] | None = None
        """Signals that wait for the end of something that none may break off; None = nothing like that is going on."""
        self._put_off = False
        self._stopped: int | None = None
        self.code: int | None = None
        """What the command ended with, once it has."""
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

    def run(self, command: Sequence[str], environ: Mapping[str, str], program: str | None = None) -> int:
        """
        Run a command to its end; return its exit code, 128 + N where signal N ended it.

        Args:
            command: its words.
            environ: what it gets as its environment.
            program: the file to execute; None looks for the first word in the PATH that the command gets.
        """
        try:
            # Until Popen returns nobody knows the child, which is there already: a signal that broke it off here would
            # leave a command that runs on without us.
            with self.holding_signals():
                if self._stopped is not None:
                    raise Stopped(self._stopped)  # Whatever it was raised in took no notice.
                self._process = subprocess.Popen(command, executable=program, env=dict(environ))
        except OSError as error:
            show_start_error(command[0], error)
            return NOT_EXECUTABLE
        code = self._process.wait()
        self.code = code if code >= 0 else 128 - code
        return self.code

    @contextmanager
    def holding_signals(self) -> Iterator[None]:
        """Let no signal break off what is done here; those that come meanwhile count when it is done."""
        held: list[int] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
        for number in held:
            # A terminal's too is passed on: the child was not there yet, or it is dead of it.
            self._heed(number, childs_too=False)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._held is not None:
            self._held.append(number)
        else:
            self._heed(number, childs_too=number in _OF_TERMINALS and _in_foreground())

    def _heed(self, number: int, *, childs_too: bool) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            if not childs_too:
                process.send_signal(number)
        elif (process is None and not self.ends) or self._put_off:
            # What follows is the end, which the next one does not break off at once.
            self._stopped, self.ends = number, True
            raise Stopped(number)
        else:
            self._put_off = True
            self._out.say("revoking the leases; a second signal leaves that to the daemon")


def _in_foreground() -> bool:
    """Return whether a terminal's signals reach us and our child together, whatever stdin is."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False  # There is none that could send us anything.
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False  # It has hung up.
    finally:
        os.close(terminal)
