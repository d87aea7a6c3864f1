"""Turns a defect of our own into an error that may be stored and shown."""

import traceback
from pathlib import Path

from phasesync.errors import InternalError


def internal_error(error: Exception) -> InternalError:
    """Return the error for a defect: its class and its place; the text may carry values and is left out."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} in {frame.name}, line {frame.lineno} of {Path(frame.filename).name}"
    return InternalError(f"internal error: {where}")
