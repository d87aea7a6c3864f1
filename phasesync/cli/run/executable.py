"""Whether a command can be run, before anything is done for it; and what a shell would exit with where it cannot."""

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Final

from phasesync.cli.failures import one_line, tell
from phasesync.core.names import without_value

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""Exit codes of shells for a command that is not there, and for one that cannot be run (POSIX, Shell Command)."""

_MISSING: Final = (errno.ENOENT, errno.ENOTDIR)


def find_command(command: str, environ: Mapping[str, str]) -> str:
    """
    Return where a command is; it is looked for as a shell would.

    Where it is missing or cannot be executed, this ends with a shell's exit code, and with a line that says why.

    Args:
        command: as it was typed.
        environ: whose PATH says where to look: that of the caller. What a command is given must not decide which
            program gets it.
    """
    found = _look_for(command, environ)
    if isinstance(found, str):
        return found
    show_start_error(command, found)
    raise SystemExit(NOT_FOUND if found.errno in _MISSING else NOT_EXECUTABLE)


def show_start_error(command: str, error: OSError) -> None:
    """Say why a command could not be begun."""
    # Shells take KEY=VALUE before a command; here it is one, and its value may be a secret.
    tell(f"error: {one_line(without_value(command))}: {error.strerror}")
    if error.errno == errno.E2BIG:
        tell("hint: its arguments and its environment together are larger than this system takes; --path reads less")


def _look_for(command: str, environ: Mapping[str, str]) -> str | OSError:
    """Return where a command is, or why it cannot be begun, as far as a look tells."""
    trouble = _error(errno.ENOENT)
    named = "/" in command  # and not looked for in PATH, whose folders need neither be there nor open to us
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
