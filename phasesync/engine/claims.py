"""
Keeps claims alive while their runs are under way, and tells a run when it may no longer write.

The fence guards our database against a stale holder; the deadline here stops it before it calls AWS at all.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from phasesync.errors import ClaimLostError, InterruptedRunError, StoreUnavailableError
from phasesync.ports import Claim, Clock, StateStore

Permit = Callable[[], None]
"""Called before every AWS write; raises when this run may not write any more."""


class ClaimKeeper:
    """Renews the claims that this process holds."""

    def __init__(self, state: StateStore, clock: Clock, ttl: timedelta) -> None:
        """
        Args:
            state: where claims live.
            clock: its monotonic time measures the deadlines.
            ttl: life of a claim without renewal; `renew` has to be called about every third of it.
        """
        self.ttl = ttl
        self._state = state
        self._clock = clock
        self._lock = threading.Lock()
        self._deadlines: dict[str, tuple[Claim, float]] = {}
        self._stopping = False

    def hold(self, claim: Claim) -> Permit:
        """Begin to renew a claim that was just made; return what its run asks before every write."""
        with self._lock:
            self._deadlines[claim.sync_id] = (claim, self._deadline())

        def permit() -> None:
            self._check(claim)

        return permit

    def drop(self, claim: Claim) -> None:
        """Stop renewing a claim."""
        with self._lock:
            self._deadlines.pop(claim.sync_id, None)

    def held(self) -> list[Claim]:
        """Return the claims that are renewed."""
        with self._lock:
            return [claim for claim, _ in self._deadlines.values()]

    def renew(self) -> None:
        """Prolong every claim; those that passed to somebody else lose their permit."""
        claims = self.held()
        if not claims:
            return
        deadline = self._deadline()
        ours = self._state.renew(claims, ttl=self.ttl)
        with self._lock:
            for claim in claims:
                if claim.sync_id in self._deadlines:
                    self._deadlines[claim.sync_id] = (claim, deadline if claim.sync_id in ours else float("-inf"))

    def stop(self) -> None:
        """Let the calls in hand end and permit no further write."""
        self._stopping = True

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew in a thread of its own for as long as the block lasts: for a run outside the daemon."""
        done = threading.Event()

        def loop() -> None:
            while not done.wait(self.ttl.total_seconds() / 3):
                try:
                    self.renew()
                except StoreUnavailableError:
                    continue  # The deadline stops the run if this goes on.

        thread = threading.Thread(target=loop, name="claim-renewal", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _deadline(self) -> float:
        return self._clock.monotonic() + self.ttl.total_seconds()

    def _check(self, claim: Claim) -> None:
        if self._stopping:
            raise InterruptedRunError("phasesync was told to stop")
        with self._lock:
            _, deadline = self._deadlines.get(claim.sync_id, (claim, float("-inf")))
        if self._clock.monotonic() >= deadline:
            raise ClaimLostError
        if self._state.paused(claim.sync_id):
            raise InterruptedRunError("the sync was paused")
