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


def require_command(command: str, environ: Mapping[str, str]) -> None:
    """
    End with a shell's exit code, and with a line that says why, where a command is missing or cannot be executed.

    Args:
        command: as it was typed.
        environ: what it will have; its PATH is where it is looked for.
    """
    error = _trouble(command, environ)
    if error is not None:
        say_why(command, error)
        raise SystemExit(NOT_FOUND if error.errno in _MISSING else NOT_EXECUTABLE)


def say_why(command: str, error: OSError) -> None:
    """Say why a command could not be begun."""
    # Shells take KEY=VALUE before a command; here it is one, and its value may be a secret.
    tell(f"error: {one_line(without_value(command))}: {error.strerror}")


def _trouble(command: str, environ: Mapping[str, str]) -> OSError | None:
    """Return why a command cannot be begun, as far as a look tells; None = it seems to be fine."""
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
            return None
        else:
            trouble = _error(errno.EACCES)
    return trouble


def _places(command: str, environ: Mapping[str, str]) -> Sequence[str]:
    return [os.path.join(folder, command) for folder in os.get_exec_path(environ)] if command else []


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
