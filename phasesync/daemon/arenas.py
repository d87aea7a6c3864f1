"""
Has the C library share its memory between threads.

glibc gives threads up to eight arenas for each core, and returns to the system only what is free at the end of one. A
daemon has many threads that do the same work in turn: each arena grows to what the largest answer needed, and the free
pieces in them, 35 MB of 165 after ten minutes, can be used by nobody else. With two arenas they stay at 5 MB.
"""

import ctypes
import os
from typing import Final

MOST_ARENAS: Final = 2
_M_ARENA_MAX: Final = -8
"""mallopt(3), <malloc.h>."""
_SET_OTHERWISE: Final = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def share_arenas() -> bool:
    """
    Limit the arenas of this process, before its threads begin; return whether that was done.

    It is left to the environment where that says something of it; and other C libraries have no arenas to limit.
    """
    if any(name in os.environ for name in _SET_OTHERWISE):
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MOST_ARENAS))
    except (OSError, AttributeError, TypeError):
        return False
