"""Daemons among themselves: who is alive, and who works on what was claimed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

from phasesync.ports.state import Claim

Work = TypeVar("Work")


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


class ClockWatch(Protocol):
    """Notices that the database's clock was set back."""

    def look(self, owner: str) -> ClockSetBack | None:
        """Note the time for the next look, and put right what lies ahead of a clock that was set back since."""
        ...


class DaemonRegistry(Protocol):
    """Which daemons are alive, and which one may work where only one may (SQLite)."""

    def beat(self, owner: str, *, host: str, pid: int, ttl: timedelta) -> MemberRole:
        """Say that a daemon is alive; return whether it works or stands by. On PostgreSQL every daemon works."""
        ...

    def leave(self, owner: str) -> None:
        """Sign off; a standby takes over at once."""
        ...

    def alive(self) -> list[Mapping[str, object]]:
        """Return daemons that are alive: owner, host, pid, role, started_at, beat_at."""
        ...

    def claim_chore(self, name: str, owner: str, *, every: timedelta) -> bool:
        """Return True for the one daemon that shall do a chore now; at most once in `every`."""
        ...


class Dispatcher(Protocol[Work]):
    """
    Runs what was claimed. It distributes; exclusion is the claim's, so that a dead worker never blocks anything.
    """

    @property
    def free(self) -> int:
        """How many more claims can be started at once."""
        ...

    def submit(self, work: Work) -> bool:
        """Do it soon; return False where no more work is taken, and nothing is done."""
        ...

    def running(self) -> Sequence[Work]:
        """Return what is being worked on."""
        ...

    def drain(self, timeout: timedelta) -> bool:
        """Take no more work and wait; return whether all was done in time."""
        ...


class SyncDispatcher(Dispatcher[Claim], Protocol):
    """Runs claimed syncs."""

    @property
    def free_for_large(self) -> int:
        """How many of those that are free large syncs may have; 0 or less = none, so that small ones need not wait."""
        ...
