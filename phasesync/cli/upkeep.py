"""Keeps leases alive while a command runs: renews each at two thirds of its life, up to its maximum."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

from phasesync.cli.output import Output, instant
from phasesync.errors import IllegalTransitionError, NotFoundError, PhasesyncError

if TYPE_CHECKING:
    from phasesync.engine.leases import Issued, LeaseOperations
    from phasesync.ports import IssuerTraits

_TRY_AGAIN_S = 5.0


class _Care:
    """One lease, by the clock that never jumps: when to renew it, and until when that can be."""

    def __init__(self, issued: "Issued", now: float) -> None:
        lease = issued.lease
        self.id = lease.id
        self.ttl = lease.order.ttl
        self.lasts_until = now + (lease.max_expires_at - lease.requested_at).total_seconds()
        self.renew_at = now + self.ttl.total_seconds() * 2 / 3
        self.told: str | None = None


class Upkeep:
    """A thread that renews leases until the end of `with`."""

    def __init__(
        self,
        operations: "LeaseOperations",
        issued: "Sequence[Issued]",
        *,
        traits: "Callable[[str], IssuerTraits]",
        actor: str,
        out: Output,
    ) -> None:
        """
        Args:
            operations: renew leases.
            issued: the leases.
            traits: tell which kinds can be renewed, and how short a life may be.
            actor: who asks, for the leases' logs.
            out: says what cannot be renewed.
        """
        now = time.monotonic()
        self._operations = operations
        self._shortest = {one.lease.id: traits(one.lease.issuer).shortest_ttl for one in issued}
        self._cares = [_Care(one, now) for one in issued if traits(one.lease.issuer).takes_back]
        self._actor = actor
        self._out = out
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, name="upkeep", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ends.set()
        self._thread.join()

    def _work(self) -> None:
        while self._cares and not self._ends.is_set():
            due = min(self._cares, key=lambda care: care.renew_at)
            if not self._ends.wait(max(0.0, due.renew_at - time.monotonic())) and not self._renew(due):
                self._cares.remove(due)

    def _renew(self, care: _Care) -> bool:
        """Renew a lease; return whether it is to be renewed again."""
        now = time.monotonic()
        # A second less than the rest: the database counts by its own clock.
        rest = timedelta(seconds=int(care.lasts_until - now) - 1)
        ttl = min(care.ttl, rest)
        if ttl < self._shortest[care.id]:
            self._out.warn(f"the lease {care.id} cannot be renewed any more; its credentials end before long")
            return False
        try:
            lease = self._operations.renew(care.id, ttl, actor=self._actor)
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
        care.renew_at = now + ttl.total_seconds() * 2 / 3
        if ttl < care.ttl:
            self._out.warn(f"the lease {care.id} ends at {instant(lease.expires_at)} for good: its maximum is reached")
            return False
        return True
