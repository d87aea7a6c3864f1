"""
Decides when to renew a lease that is in use: at two thirds of its life, up to its maximum, and again after a failure.

Contains no loop and no thread: whoever uses a lease asks for one step at a time.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from phasesync.core.lease import Lease
from phasesync.core.times import instant_text
from phasesync.engine.leases.operations import LeaseOperations
from phasesync.errors import IllegalTransitionError, NotFoundError, PhasesyncError

RETRY_S: Final = 5.0
"""Time until a renewal that failed is tried again."""


@dataclass(frozen=True, kw_only=True)
class ScheduledRenewal:
    """
    The next renewal of a lease.

    Attributes:
        lease_id: of the lease.
        ttl: how long the lease lives after each renewal.
        due_s: when to renew it, by the monotonic clock, which never jumps.
        reported: the error that was reported last; None after a success.
    """

    lease_id: str
    ttl: timedelta
    due_s: float
    reported: str | None = None


@dataclass(frozen=True, kw_only=True)
class RenewalStep:
    """
    What one attempt to renew a lease led to.

    Attributes:
        next: the next renewal; None if the lease is not renewed any more.
        warning: a message for the user of the lease; None if there is nothing new.
    """

    next: ScheduledRenewal | None
    warning: str | None = None


def first_renewal(lease: Lease, *, since_s: float) -> ScheduledRenewal:
    """
    Return the first renewal of a lease.

    Args:
        lease: it can be renewed.
        since_s: reading of the monotonic clock from before it was requested; its life counts from no earlier.
    """
    ttl = lease.spec.ttl
    return ScheduledRenewal(lease_id=lease.id, ttl=ttl, due_s=_at_two_thirds(ttl, since_s))


def renew_once(operations: LeaseOperations, renewal: ScheduledRenewal, *, actor: str, now_s: float) -> RenewalStep:
    """
    Renew a lease that is due, and return the next renewal.

    Args:
        operations: renews leases.
        renewal: it is due.
        actor: who asks, for the lease's log.
        now_s: reading of the monotonic clock from before the attempt.
    """
    lease_id = renewal.lease_id
    try:
        # The database knows how much is left until the maximum: it counts by its own clock.
        lease = operations.prolong(lease_id, renewal.ttl, actor=actor)
    except (IllegalTransitionError, NotFoundError) as error:
        return RenewalStep(next=None, warning=f"the lease {lease_id} is not renewed: {error.message}")
    except PhasesyncError as error:
        again = replace(renewal, due_s=now_s + RETRY_S, reported=error.message)
        if error.message == renewal.reported:
            return RenewalStep(next=again)
        warning = f"the lease {lease_id} could not be renewed, which is tried again: {error.message}"
        return RenewalStep(next=again, warning=warning)
    if lease.expires_at >= lease.max_expires_at:
        end = instant_text(lease.expires_at)
        return RenewalStep(next=None, warning=f"the lease {lease_id} ends at {end} for good: its maximum is reached")
    due_s = _at_two_thirds(renewal.ttl, now_s)
    return RenewalStep(next=replace(renewal, due_s=due_s, reported=None))


def _at_two_thirds(ttl: timedelta, since_s: float) -> float:
    return since_s + ttl.total_seconds() * 2 / 3
