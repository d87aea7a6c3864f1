"""
Standard streams that the caller closed (`>&-`): they get a place holder on which reading and writing fail.

Without one the next file that is opened would take the number of the stream, and whatever is printed would go into it.
"""

import os
import sys


def fill_closed_streams() -> None:
    """Give each closed stream a descriptor of the wrong direction, so that its use is an error and not silence."""
    if sys.stdin is None:
        sys.stdin = open(os.open(os.devnull, os.O_WRONLY))  # noqa: SIM115 - for the life of the process
    if sys.stdout is None:
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115 - for the life of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process
