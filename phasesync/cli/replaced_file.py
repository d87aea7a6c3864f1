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
        raise OperatorError(
            f"{file} cannot be written: {os.strerror(error.errno or 0)}",
            hint=f"check the space and the permissions of {file.parent}",
        ) from None
