"""
Keeps leases alive while a command runs, in a thread of its own.

Each lease is renewed from its own request on, so that none ends while another is still being issued. When a lease is
renewed is decided by `engine.leases.renewal`.
"""

import time
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self

from phasesync.cli.output import Output
from phasesync.engine.leases.renewal import ScheduledRenewal, first_renewal, renew_once

if TYPE_CHECKING:
    from phasesync.core.lease import Lease
    from phasesync.engine.leases.operations import LeaseOperations


class LeaseRenewer:
    """A thread that renews leases until the end of `with`."""

    def __init__(self, operations: "LeaseOperations", *, actor: str, out: Output) -> None:
        """
        Args:
            operations: renews leases.
            actor: who asks, for the leases' logs.
            out: takes warnings about what cannot be renewed.
        """
        self._operations = operations
        self._actor = actor
        self._out = out
        self._added: SimpleQueue[ScheduledRenewal | None] = SimpleQueue()
        """First renewals of leases; None ends the thread."""
        self._thread = Thread(target=self._work, name="lease-renewal", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._added.put(None)
        self._thread.join()

    def add(self, lease: "Lease", *, since_s: float) -> None:
        """
        Renew a lease from now on.

        Args:
            lease: it can be renewed.
            since_s: `time.monotonic` from before it was requested; its life counts from no earlier.
        """
        self._added.put(first_renewal(lease, since_s=since_s))

    def _work(self) -> None:
        renewals: list[ScheduledRenewal] = []
        while True:
            due = min(renewals, key=lambda renewal: renewal.due_s, default=None)
            try:
                added = self._added.get(timeout=None if due is None else max(0.0, due.due_s - time.monotonic()))
            except Empty:
                if due is not None:
                    renewals.remove(due)
                    renewals += self._renew(due)
                continue
            if added is None:
                return
            renewals.append(added)

    def _renew(self, renewal: ScheduledRenewal) -> list[ScheduledRenewal]:
        """Renew a lease; return its next renewal, if there is one."""
        step = renew_once(self._operations, renewal, actor=self._actor, now_s=time.monotonic())
        if step.warning is not None:
            self._out.warn(step.warning)
        return [] if step.next is None else [step.next]
