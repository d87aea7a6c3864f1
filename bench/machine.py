"""The machine that figures were measured on, and how busy it was: without that a figure says little."""

import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import boto3
import sqlalchemy

_EVERY_S = 1.0


@dataclass(kw_only=True)
class Load:
    """
    The load average over one minute: how many processes ran or waited for a core.

    Attributes:
        before: at the begin of a measurement.
        during: the highest since.
    """

    before: float = field(default_factory=lambda: os.getloadavg()[0])
    during: float = 0.0


@contextmanager
def watched() -> Iterator[Load]:
    """Watch the load while the block runs."""
    load, ended = Load(), threading.Event()

    def watch() -> None:
        while True:
            load.during = max(load.during, os.getloadavg()[0])
            if ended.wait(_EVERY_S):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield load
    finally:
        ended.set()
        thread.join()


def machine() -> dict[str, object]:
    """Return what a reader has to know to compare figures with those of another machine."""
    return {
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlalchemy": sqlalchemy.__version__,
        "boto3": boto3.__version__,
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load_at_the_begin": round(os.getloadavg()[0], 2),
    }


def processes_cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used, of user and system, in seconds."""
    return sum(int(part) for part in _stat(pid)[11:13]) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """Return the resident memory of a process in MB; `VmHWM` is its peak."""
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith(f"{what}:"))
    return int(line.split()[1]) / 1024


def forget_peak(pid: int) -> None:
    """Count the peak of a process's memory from now on."""
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")


def _stat(pid: int) -> list[str]:
    # The name of the process may hold anything; what follows its last bracket does not.
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()
