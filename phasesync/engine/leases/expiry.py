"""
What a daemon does about leases by itself: takes back those whose time is over, those that nobody finished issuing, and
those that could not be taken back before.

What is due is in the database, so that an outage delays it and loses nothing.
"""

import threading
from typing import Final

from phasesync.core.events import LeaseUnreadable
from phasesync.core.lease import Cause, Lease, LeaseStatus
from phasesync.core.lease_claim import ClaimedLease
from phasesync.core.schedule import SLOW_PAUSE
from phasesync.engine.context import Context
from phasesync.engine.leases.revocation import LeaseRevoker
from phasesync.errors import ClaimLostError, InterruptedRunError
from phasesync.ports.runtime import Dispatcher

DAEMON: Final = "phasesync"
"""Actor of what a daemon does by itself."""

_REASONS: Final = {
    LeaseStatus.REQUESTED: "whoever asked for it went away before anything was called",
    LeaseStatus.ISSUING: "whoever issued it went away before it was handed out",
    LeaseStatus.ACTIVE: "its time was over",
}


class LeaseExpiry:
    """Takes leases back that are due. `work` is for a dispatcher's threads, everything else for one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stopping = threading.Event()
        self._ender = LeaseRevoker(context)

    def hand_out(self, dispatcher: Dispatcher[ClaimedLease]) -> None:
        """Claim what is due and hand it to the dispatcher. StoreUnavailableError."""
        while not self._stopping.is_set() and (free := dispatcher.free) > 0:
            running = dispatcher.running()
            failed = sum(one.lease is not None and one.lease.failures > 0 for one in running)
            # Calls that AWS does not answer take their time: what failed before has half of the threads, no more.
            again = max(0, (free + len(running) + 1) // 2 - failed)
            due = self._context.leases.claim_due(
                self._context.owner, limit=free, again=again, restored=self._context.store.restore_mark.is_set()
            )
            # They may come late, from a database that was locked, when the end has begun already.
            late = [one for one in due if not dispatcher.submit(one)]
            for claimed in late:
                self.give_back(claimed)
            if late or len(due) < free:
                return

    def work(self, claimed: ClaimedLease) -> None:
        """Take one claimed lease back. StoreUnavailableError where nothing could be noted."""
        lease = claimed.lease
        if lease is None:
            self._context.leases.defer(claimed.claim, SLOW_PAUSE)
            self._context.events.emit(LeaseUnreadable(lease_id=claimed.claim.lease_id))
            return
        try:
            if lease.status is LeaseStatus.ACTIVE and not self._context.issuers.traits(lease.issuer).takes_back:
                self._ender.let_lapse(claimed.claim, actor=DAEMON)
            else:
                self._ender.end(
                    claimed.claim,
                    lease,
                    cause=_cause_of(lease),
                    reason=lease.reason or _REASONS.get(lease.status, ""),
                    actor=DAEMON,
                    checkpoint=self.checkpoint,
                )
        except (ClaimLostError, InterruptedRunError):
            return  # Somebody else goes on with it: who has the claim, or the next daemon.

    def stop(self) -> None:
        """Hand out nothing more, and let those at work end after the call that they are in."""
        self._stopping.set()

    def give_back(self, claimed: ClaimedLease) -> None:
        """Give a claim back whose work hangs. StoreUnavailableError."""
        self._context.leases.release(claimed.claim)

    def checkpoint(self) -> None:
        """Raise InterruptedRunError once this daemon is to stop; asked before every call that changes something."""
        if self._stopping.is_set():
            raise InterruptedRunError("phasesync was told to stop")


def _cause_of(lease: Lease) -> Cause:
    if lease.cause is not None:
        return lease.cause
    return Cause.EXPIRY if lease.status is LeaseStatus.ACTIVE else Cause.FAILURE
