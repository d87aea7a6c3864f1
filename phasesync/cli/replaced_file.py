"""Replaces a file as a whole: a reader sees the former content or the new one, never a part."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from phasesync.errors import OperatorError


def replace_file(file: Path, content: bytes, *, mode: int) -> None:
    """Write a file in one step. OperatorError if that is not possible; the former content stays."""
    made: str | None = None
    try:
        # Beside the file: only within one file system is it replaced at once.
        opened, made = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        with open(opened, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
        os.replace(made, file)
    except OSError as error:
        if made is not None:
            with suppress(OSError):  # It may have been moved to its place already.
                os.unlink(made)
        raise _not_written(file, error) from None


def check_writable(file: Path) -> None:
    """Raise the error of `replace_file` now, unless the file can be replaced."""
    try:
        with tempfile.NamedTemporaryFile(prefix=f".{file.name}.", dir=file.parent):
            pass
    except OSError as error:
        raise _not_written(file, error) from None


def _not_written(file: Path, error: OSError) -> OperatorError:
    return OperatorError(
        f"{file} cannot be written: {os.strerror(error.errno or 0)}",
        hint=f"check the space and the permissions of {file.parent}",
    )
