"""Finds the program of a command before anything is issued for it; if there is none, ends as a shell would."""

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Final

from phasesync.cli.streams import one_line, print_to_stderr
from phasesync.core.names import without_value

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""Exit codes of shells for a command that is missing, and for one that cannot be run (POSIX, Shell Command)."""

_MISSING: Final = (errno.ENOENT, errno.ENOTDIR)


def find_command(command: str, environ: Mapping[str, str]) -> str:
    """
    Return the path of a command's program, found as a shell would find it.

    If it is missing or cannot be executed, this exits with the code of a shell, and prints why.

    Args:
        command: as it was typed.
        environ: has the PATH to search: that of the caller. The secrets of a command must not decide which program
            gets them.
    """
    path = _search(command, environ)
    if isinstance(path, str):
        return path
    show_start_error(command, path)
    raise SystemExit(NOT_FOUND if path.errno in _MISSING else NOT_EXECUTABLE)


def show_start_error(command: str, error: OSError) -> None:
    """Print why a command could not be started."""
    # Shells take KEY=VALUE before a command. Here it is taken for the command, and its value may be a secret.
    print_to_stderr(f"error: {one_line(without_value(command))}: {error.strerror}")
    if error.errno == errno.E2BIG:
        print_to_stderr(
            "hint: its arguments and its environment together are larger than this system takes; --path reads less"
        )


def _search(command: str, environ: Mapping[str, str]) -> str | OSError:
    """Return the path of a command's program, or why it cannot be started."""
    trouble = _error(errno.ENOENT)
    named = "/" in command  # Then PATH is not searched. Its folders may be missing or not readable.
    for place in [command] if named else _places(command, environ):
        try:
            mode = os.stat(place).st_mode
        except OSError as error:
            if named:
                trouble = error
            continue
        if stat.S_ISDIR(mode):
            if named:
                trouble = _error(errno.EISDIR)
        elif os.access(place, os.X_OK):
            return place
        else:
            trouble = _error(errno.EACCES)
    return trouble


def _places(command: str, environ: Mapping[str, str]) -> Sequence[str]:
    return [os.path.join(folder, command) for folder in os.get_exec_path(environ)] if command else []


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
