"""Runs the operator's editor on a private file, found and started as git does it."""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from phasesync.cli.input import is_terminal
from phasesync.errors import OperatorError
from phasesync.settings.model import secret_variables

_FALLBACK: Final = "vi"
_SHELL_CHARACTERS: Final = frozenset("|&;<>()$`\\\"' \t\n*?[#~=%")
"""What makes git start an editor through a shell (prepare_shell_cmd in run-command.c)."""
_VIM: Final = ("-n", "-i", "NONE", "-c", "silent! set nobackup nowritebackup noundofile")
"""No swap file, no registers and no undo file on a disk, whatever the operator's settings say."""
_PATIENCE_S: Final = 5
"""How long an editor may take to end after a signal, before it is killed."""


def run_editor(file: Path) -> None:
    """
    Have the operator edit a file: VISUAL, unless the terminal is dumb, or EDITOR, or vi.

    Raises:
        OperatorError: there is no editor, or it ended with an error.
    """
    editor = _editor()
    arguments = [*_private_arguments(editor), str(file)]
    command = [editor, *arguments]
    if _SHELL_CHARACTERS & set(editor):
        command = ["sh", "-c", f'{editor} "$@"', editor, *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in secret_variables()}
    # A document that we print must not be mixed with what the editor draws.
    stdout = None if os.isatty(1) else 2
    process = None
    with _left_to_the_editor():
        try:
            # The editor exists before Popen returns it. A signal that interrupted it here would leave an editor that
            # runs on without us, on a file that is gone.
            with _held(signal.SIGTERM, signal.SIGHUP):
                process = subprocess.Popen(command, env=environment, stdout=stdout)
            code = process.wait()
        except BaseException as error:
            if process is not None:
                _end(process)
            elif isinstance(error, OSError):
                raise _cannot_start(editor, error.strerror or "") from None
            raise
    if code == 127 and len(command) > len(arguments) + 1:
        raise _cannot_start(editor, "there is no such program")
    if code:
        raise OperatorError(f"the editor ended with exit code {code}: nothing was changed")


def _editor() -> str:
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    editor = ("" if dumb else os.environ.get("VISUAL", "")) or os.environ.get("EDITOR", "")
    if editor.strip():
        return editor
    if not is_terminal():
        raise OperatorError(f"there is no terminal for {_FALLBACK}", hint="set EDITOR to a program that edits a file")
    return _FALLBACK


def _private_arguments(editor: str) -> tuple[str, ...]:
    """Return what keeps an editor from writing parts of a file elsewhere; nothing for those that do not."""
    with suppress(ValueError):
        words = shlex.split(editor)
        program = shutil.which(words[0]) if words else None
        name = Path(os.path.realpath(program)).name if program else ""
        if name.startswith(("vim", "nvim", "gvim", "mvim")):
            return _VIM
    return ()


def _cannot_start(editor: str, reason: str) -> OperatorError:
    return OperatorError(f"the editor {editor!r} cannot be started: {reason}", hint="set EDITOR to another program")


@contextmanager
def _left_to_the_editor() -> Iterator[None]:
    """Leave the keys that interrupt to the editor: the terminal sends their signals to both."""
    numbers = (signal.SIGINT, signal.SIGQUIT)
    # A handler of ours, and not SIG_IGN, which the editor would inherit.
    former = {number: signal.signal(number, lambda _number, _frame: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _held(*numbers: signal.Signals) -> Iterator[None]:
    """Handle signals that arrive meanwhile at the end, if they are handled at all."""
    arrived: list[int] = []
    handled = [one for one in numbers if callable(signal.getsignal(one))]
    former = {one: signal.signal(one, lambda number, _frame: arrived.append(number)) for one in handled}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    for received in arrived:
        signal.raise_signal(received)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
