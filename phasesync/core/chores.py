"""What a daemon does by itself and how often, its role, how busy it is, and that a clock was set back."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final


class Chore(StrEnum):
    """What a daemon does by itself. The values are in log lines."""

    # At the start
    START = "start"

    # A heartbeat and its steps
    BEAT = "beat"
    """All steps, every third of `daemon.claim_ttl_s`."""
    CLOCK = "clock"
    """Moves what the database's clock left ahead."""
    RENEWAL = "renewal"
    """Renews our claims."""
    HEARTBEAT = "heartbeat"
    """Reports that we are alive, and learns the role."""

    # Periodic
    TAKE_OVER = "take-over"
    """A heartbeat out of turn, while we stand by or the last heartbeat failed."""
    POLL = "poll"
    """Claims what is pending, every `daemon.poll_interval_ms`."""
    SCHEMA = "schema"
    """Checks the database and its schema."""
    REAP = "reap"
    """Frees syncs after their holder died."""
    QUEUE = "queue"
    """Removes entries of dead daemons from the queue of due syncs."""
    ROOT_KEYS = "root-keys"
    """Loads the root key that is to take the place of the present one, while one is being replaced."""
    SWEEP = "sweep"
    """Checks remote objects by lists, every `daemon.sweep_interval_s`."""
    LEASES = "leases"
    """Revokes leases that are due."""
    REAP_USERS = "reap-users"
    """Removes orphan users."""
    HOUSEKEEPING = "housekeeping"
    """Deletes old runs and leases, and messages of notifications."""
    AUDIT = "audit"
    """Logs where the audit log ends."""
    NOTIFY = "notify"
    """Makes messages of notifications from what is wrong, and has them sent."""

    BACKUP = "backup"
    """Makes the backups that are scheduled."""

    # Claimed work, in threads
    RECONCILE = "reconcile"
    """Runs one sync."""
    LEASE = "lease"
    """Revokes one lease."""
    SEND = "send"
    """Sends one message of a notification."""

    # At the end
    RELEASE = "release"
    """Releases a claim."""
    SIGN_OFF = "sign-off"
    """Leaves the registry of daemons, so that a standby takes over at once."""


TAKE_OVER_EVERY: Final = timedelta(milliseconds=500)
"""A standby follows a clean stop at once, and a database that can be written again is noticed at once."""
CHECK_SCHEMA_EVERY: Final = timedelta(seconds=2)
"""While the daemon waits for the database, and while it works."""
REAP_EVERY: Final = timedelta(seconds=1)
"""A sync waits at most so long after its claim expired."""
CLEAR_QUEUE_EVERY: Final = timedelta(seconds=5)
"""Such entries block nothing; they only add up."""
FOLLOW_ROOT_KEYS_EVERY: Final = timedelta(seconds=2)
"""Whoever replaces the root key waits so long for a daemon. One statement finds nothing to do nearly always."""
EXPIRE_LEASES_EVERY: Final = timedelta(seconds=1)
"""A lease is over at most so long, and a few calls, after its end."""
NOTIFY_EVERY: Final = timedelta(seconds=1)
"""What happens is in a message so long, and `core.notices.GATHER`, later. Nearly always one statement finds nothing."""
AUDIT_RETENTION: Final = "audit-retention"
"""A part of the housekeeping, once a day."""
RETENTION_HELD: Final = "retention-held"
"""When housekeeping found that time had gone by without it."""
HOLD_RETENTION: Final = timedelta(days=1)
"""
If more time than this goes by without housekeeping, nothing is deleted for as long as that.

The clock may have gone forward, and by its time everything is old. Meanwhile somebody notices: AWS refuses requests
that are signed five minutes ahead.
"""
BACK_UP_EVERY: Final = timedelta(seconds=10)
"""A backup begins at most so long after it is due. Nearly always one statement finds nothing."""
HOURLY: Final = timedelta(hours=1)
"""For housekeeping, the head of the audit log, and to ask whether orphan users are due, which they are once a day."""


class DaemonRole(StrEnum):
    """What a daemon does."""

    ACTIVE = "active"
    STANDBY = "standby"


@dataclass(frozen=True, kw_only=True)
class Load:
    """
    How busy the threads of a dispatcher are.

    Attributes:
        threads: how many there are.
        quiet: for each busy thread, how long ago its work began or last made progress.
        full_for: how long all threads have been busy without one of them finishing; 0 if one is free.
        failing_for: for how long all work has ended without a result that could be stored, until just now; 0 if some
            result was stored.
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
