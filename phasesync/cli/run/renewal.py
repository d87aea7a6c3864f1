"""
Keeps leases alive while a command runs: renews each at two thirds of its life, up to its maximum.

Each is looked after from its own request on, so that none ends while another is still being issued.
"""

import time
from datetime import timedelta
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self

from phasesync.cli.output import Output, instant
from phasesync.errors import IllegalTransitionError, NotFoundError, PhasesyncError

if TYPE_CHECKING:
    from phasesync.engine.leases.issuance import IssuedLease
    from phasesync.engine.leases.operations import LeaseOperations

_TRY_AGAIN_S = 5.0


class _Care:
    """One lease, and when to renew it by the clock that never jumps."""

    def __init__(self, lease_id: str, ttl: timedelta, since: float) -> None:
        self.id = lease_id
        self.ttl = ttl
        self.renew_at = self.at_two_thirds(since)
        self.told: str | None = None

    def at_two_thirds(self, since: float) -> float:
        return since + self.ttl.total_seconds() * 2 / 3


class LeaseRenewer:
    """A thread that renews leases until the end of `with`."""

    def __init__(self, operations: "LeaseOperations", *, actor: str, out: Output) -> None:
        """
        Args:
            operations: renew leases.
            actor: who asks, for the leases' logs.
            out: says what cannot be renewed.
        """
        self._operations = operations
        self._actor = actor
        self._out = out
        self._came: SimpleQueue[_Care | None] = SimpleQueue()
        """Leases to look after; None ends it."""
        self._thread = Thread(target=self._work, name="upkeep", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._came.put(None)
        self._thread.join()

    def take(self, issued: "IssuedLease", *, since: float) -> None:
        """
        Look after a lease from now on.

        Args:
            issued: a lease that can be renewed.
            since: `time.monotonic` from before it was asked for; its life is counted from no earlier.
        """
        self._came.put(_Care(issued.lease.id, issued.lease.spec.ttl, since))

    def _work(self) -> None:
        cares: list[_Care] = []
        while True:
            due = min(cares, key=lambda care: care.renew_at, default=None)
            try:
                came = self._came.get(timeout=None if due is None else max(0.0, due.renew_at - time.monotonic()))
            except Empty:
                if due is not None and not self._renew(due):
                    cares.remove(due)
                continue
            if came is None:
                return
            cares.append(came)

    def _renew(self, care: _Care) -> bool:
        """Renew a lease; return whether it is to be renewed again."""
        now = time.monotonic()
        try:
            # How much is left until the maximum, the database knows: it counts by its own clock.
            lease = self._operations.prolong(care.id, care.ttl, actor=self._actor)
        except (IllegalTransitionError, NotFoundError) as error:
            self._out.warn(f"the lease {care.id} is not renewed: {error.message}")
            return False
        except PhasesyncError as error:
            if care.told != error.message:
                care.told = error.message
                self._out.warn(f"the lease {care.id} could not be renewed, which is tried again: {error.message}")
            care.renew_at = now + _TRY_AGAIN_S
            return True
        care.told = None
        care.renew_at = care.at_two_thirds(now)
        if lease.expires_at >= lease.max_expires_at:
            self._out.warn(f"the lease {care.id} ends at {instant(lease.expires_at)} for good: its maximum is reached")
            return False
        return True
