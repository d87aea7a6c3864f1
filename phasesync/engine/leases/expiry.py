"""
Revokes the leases that are due: expired leases, unfinished issuances and failed revocations.

The database says what is due, so an outage delays a revocation and loses none.
"""

import threading
from typing import Final

from phasesync.core.events import LeaseUnreadable
from phasesync.core.lease import Cause, Lease, LeaseStatus
from phasesync.core.lease_claim import ClaimedLease
from phasesync.core.schedule import SLOW_PAUSE
from phasesync.engine.context import Context
from phasesync.engine.leases.revocation import LeaseRevoker
from phasesync.engine.older_copy import is_restored
from phasesync.errors import ClaimLostError, InterruptedRunError
from phasesync.ports.runtime import Dispatcher

DAEMON: Final = "phasesync"
"""Actor of what a daemon does on its own."""

_REASONS: Final = {
    LeaseStatus.REQUESTED: "whoever asked for it went away before anything was called",
    LeaseStatus.ISSUING: "whoever issued it went away before its key was shown",
    LeaseStatus.ACTIVE: "its time was over",
}


class LeaseExpiry:
    """Revokes leases that are due. `work` is for the threads of a dispatcher, everything else for one thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stopping = threading.Event()
        self._revoker = LeaseRevoker(context)

    def dispatch_due(self, dispatcher: Dispatcher[ClaimedLease]) -> None:
        """Claim what is due and submit it to the dispatcher. StoreUnavailableError."""
        while not self._stopping.is_set() and (free := dispatcher.free) > 0:
            running = dispatcher.running()
            failed = sum(claimed.lease is not None and claimed.lease.failures > 0 for claimed in running)
            # Calls that AWS does not answer take long: leases that failed before get half of the threads at most.
            again = max(0, (free + len(running) + 1) // 2 - failed)
            due = self._context.leases.claim_due(
                self._context.owner, limit=free, again=again, restored=is_restored(self._context)
            )
            # They may arrive late, from a database that was locked, when shutdown has begun already.
            late = [claimed for claimed in due if not dispatcher.submit(claimed)]
            for claimed in late:
                self.release(claimed)
            if late or len(due) < free:
                return

    def work(self, claimed: ClaimedLease) -> None:
        """Revoke one claimed lease. StoreUnavailableError if nothing could be stored."""
        lease = claimed.lease
        if lease is None:
            self._context.leases.defer(claimed.claim, SLOW_PAUSE)
            self._context.events.emit(LeaseUnreadable(lease_id=claimed.claim.lease_id))
            return
        try:
            if lease.status is LeaseStatus.ACTIVE and not self._context.issuers.traits(lease.issuer).revocable:
                self._revoker.expire(claimed.claim, actor=DAEMON)
            else:
                self._revoker.revoke(
                    claimed.claim,
                    lease,
                    cause=_cause_of(lease),
                    reason=lease.reason or _REASONS.get(lease.status, ""),
                    actor=DAEMON,
                    checkpoint=self.checkpoint,
                )
        except (ClaimLostError, InterruptedRunError):
            return  # Another process continues: the holder of the claim, or the next daemon.

    def stop(self) -> None:
        """Dispatch nothing more, and let the threads end after their current call."""
        self._stopping.set()

    def release(self, claimed: ClaimedLease) -> None:
        """Release a claim if the work on it hangs. StoreUnavailableError."""
        self._context.leases.release(claimed.claim)

    def checkpoint(self) -> None:
        """Raise InterruptedRunError once this daemon has to stop. Called before every call that changes something."""
        if self._stopping.is_set():
            raise InterruptedRunError("phasesync was asked to stop")


def _cause_of(lease: Lease) -> Cause:
    if lease.cause is not None:
        return lease.cause
    return Cause.EXPIRY if lease.status is LeaseStatus.ACTIVE else Cause.FAILURE
