"""What daemons know of each other: their role, how busy they are, and that a clock was set back."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class MemberRole(StrEnum):
    """What a daemon does."""

    ACTIVE = "active"
    STANDBY = "standby"


@dataclass(frozen=True, kw_only=True)
class Load:
    """
    How busy the threads of a dispatcher are.

    Attributes:
        threads: how many there are.
        quiet: of each that works: how long ago its work began or last made progress.
        full_for: how long every thread has worked without one of them coming to an end; 0 = one is free.
        failing_for: over how long all work has ended without a result that could be recorded, until just now; 0 = it
            has not.
    """

    threads: int
    quiet: tuple[timedelta, ...] = ()
    full_for: timedelta = timedelta(0)
    failing_for: timedelta = timedelta(0)


@dataclass(frozen=True, kw_only=True)
class ClockSetBack:
    """
    The database's clock was set back.

    Attributes:
        by: by how much, at least.
        leases: how many leases had their ends moved by as much.
    """

    by: timedelta
    leases: int
