"""
Protects the memory of this process: no core dumps, no tracing by other processes of the same user.

Best effort: docs/security.md says what Python cannot promise about memory and swap.
"""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4
"""prctl(2), <linux/prctl.h>."""


def harden() -> tuple[str, ...]:
    """
    Disable core dumps, and on Linux also ptrace and /proc/PID/mem for other processes of this user.

    Returns:
        One line for each measure that failed.
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
