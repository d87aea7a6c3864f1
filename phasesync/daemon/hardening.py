"""
Keeps the memory of this process from lying around: no core dumps, no tracing by other processes of the same user.

Best effort: what Python cannot promise about memory and swap stands in docs/security.md.
"""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4
"""prctl(2), <linux/prctl.h>."""


def harden() -> tuple[str, ...]:
    """
    Switch core dumps off, and on Linux also ptrace and /proc/PID/mem for other processes of this user.

    Returns:
        What could not be done, one line each; empty = nothing.
    """
    problems = []
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        problems.append("core dumps could not be switched off: RLIMIT_CORE cannot be set")
    if sys.platform == "linux" and not _set_undumpable():
        problems.append("this process can be dumped and traced: PR_SET_DUMPABLE cannot be set")
    return tuple(problems)


def _set_undumpable() -> bool:
    try:
        prctl = ctypes.CDLL(None).prctl
        return int(prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)) == 0
    except (OSError, AttributeError, TypeError):
        return False
