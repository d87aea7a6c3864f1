"""
Takes claims, renews them while their runs are under way, and stops a run that may no longer write.

The fence protects our database from a stale holder. The deadline here stops such a holder before it calls AWS.
"""

import threading
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TypeVar

from phasesync.core.sync import Sync, Trigger
from phasesync.core.sync_claim import Claim
from phasesync.engine.context import Context
from phasesync.engine.older_copy import is_restored
from phasesync.engine.stale_database import not_accepted_error
from phasesync.errors import (
    ClaimHeldError,
    ClaimLostError,
    InterruptedRunError,
    PhasesyncError,
    StoreUnavailableError,
)

_POLL_S = 0.1
"""Between two attempts to take a claim."""

PATIENCE = timedelta(seconds=30)
"""How long a command waits for a claim that another process has."""

T = TypeVar("T")
Checkpoint = Callable[[], None]
"""Called before every AWS write; raises when this run may not write any more."""


class ClaimKeeper:
    """Renews the claims of syncs that this process holds."""

    def __init__(
        self,
        context: Context,
        *,
        on_stop: Callable[[], None] = lambda: None,
        overdue: Callable[[], Set[str]] = frozenset,
    ) -> None:
        """
        Args:
            context: `renew` has to be called about every third of its `claim_ttl`.
            on_stop: called by `stop`; ends the waits of runs before their calls.
            overdue: returns the ids of syncs with a call that should have ended: their claims end too, so that another
                daemon may take over.
        """
        self.ttl = context.claim_ttl
        self._context = context
        self._lock = threading.Lock()
        self._deadlines: dict[str, tuple[Claim, float]] = {}
        self._stopping = False
        self._on_stop = on_stop
        self._overdue = overdue

    def hold(self, claim: Claim, *, heed_pause: bool = True) -> Checkpoint:
        """
        Begin to renew a new claim; return what its run has to call before every write.

        Args:
            claim: the claim.
            heed_pause: a pause of the sync forbids writes; False for commands that work on a paused sync.
        """
        with self._lock:
            self._deadlines[claim.sync_id] = (claim, self._deadline())

        def checkpoint() -> None:
            self._check(claim, heed_pause=heed_pause)

        return checkpoint

    def drop(self, claim: Claim) -> None:
        """Stop renewing a claim. A later claim of the same sync, which may have begun already, stays."""
        with self._lock:
            if self._holds(claim):
                del self._deadlines[claim.sync_id]

    def held(self) -> list[Claim]:
        """Return the claims that are renewed."""
        with self._lock:
            return [claim for claim, _ in self._deadlines.values()]

    def renew(self) -> None:
        """Renew every claim except those with overdue calls. A claim that passed to another process becomes invalid."""
        overdue = self._overdue()
        claims = [claim for claim in self.held() if claim.sync_id not in overdue]
        if not claims:
            return
        deadline = self._deadline()
        ours = self._context.store.claims.renew(claims, ttl=self.ttl)
        with self._lock:
            for claim in claims:
                if self._holds(claim):
                    self._deadlines[claim.sync_id] = (claim, deadline if claim.sync_id in ours else float("-inf"))

    def stop(self) -> None:
        """Let the current calls end, and allow no further write."""
        self._stopping = True
        self._on_stop()

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew in a separate thread while the block runs: for a run outside the daemon."""
        done = threading.Event()

        def loop() -> None:
            while not done.wait(self.ttl.total_seconds() / 3):
                try:
                    self.renew()
                except StoreUnavailableError:
                    continue  # If this persists, the deadline stops the run.

        thread = threading.Thread(target=loop, name="claim-renewal", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _holds(self, claim: Claim) -> bool:
        held, _ = self._deadlines.get(claim.sync_id, (None, 0.0))
        return held == claim

    def _deadline(self) -> float:
        return self._context.clock.monotonic() + self.ttl.total_seconds()

    def check_stop(self) -> None:
        """Raise InterruptedRunError once `stop` was called."""
        if self._stopping:
            raise InterruptedRunError("phasesync was asked to stop")

    def _check(self, claim: Claim, *, heed_pause: bool) -> None:
        self.check_stop()
        with self._lock:
            deadline = self._deadlines[claim.sync_id][1] if self._holds(claim) else float("-inf")
        if self._context.clock.monotonic() >= deadline:
            raise ClaimLostError
        conditions = self._context.store.claims.write_conditions(claim.sync_id)
        if heed_pause and conditions.paused:
            raise InterruptedRunError("the sync was paused")
        # Another run may have found meanwhile that the database is older than AWS.
        if conditions.restored:
            raise not_accepted_error()
        if not conditions.compared:
            raise InterruptedRunError(
                "the database server was started anew during the run, so the database has to be compared with AWS first"
            )


def wait_for_claim(
    context: Context, attempt: Callable[[], T], *, patience: timedelta, sleep: Callable[[float], None] = time.sleep
) -> T:
    """
    Return what `attempt` claims; try again while another process has the claim.

    Raises:
        ClaimHeldError: another process kept it for longer than `patience`.
    """
    deadline = context.clock.monotonic() + patience.total_seconds()
    while True:
        try:
            return attempt()
        except ClaimHeldError:
            if context.clock.monotonic() >= deadline:
                raise
        sleep(_POLL_S)


def take_claim(
    context: Context, sync: Sync, *, actor: str, patience: timedelta, check: Callable[[], None] = lambda: None
) -> Claim:
    """
    Claim a sync for a command.

    Args:
        context: of the installation.
        sync: the sync.
        actor: who asked.
        patience: how long to wait for another process.
        check: called before every attempt; what it raises ends the wait.

    Raises:
        ClaimHeldError: another process kept the claim for longer than `patience`.
    """

    def attempt() -> Claim:
        check()
        return context.store.claims.claim(
            sync.id, context.owner, trigger=Trigger.MANUAL, actor=actor, ttl=context.claim_ttl
        )

    try:
        return wait_for_claim(context, attempt, patience=patience)
    except ClaimHeldError:
        raise ClaimHeldError(
            f"another process has been reconciling {sync.name} for {patience.total_seconds():.0f} s",
            hint=f"phasesync runs list --sync {sync.name}",
        ) from None


@contextmanager
def held_claim(
    context: Context, sync: Sync, *, actor: str, patience: timedelta = PATIENCE
) -> Iterator[tuple[Claim, Checkpoint]]:
    """Hold the claim of a sync, even a paused one, while the block runs. Raises as `take_claim` does."""
    is_restored(context)  # If the database was not compared with AWS where it is, its checkpoint would refuse any call.
    claim = take_claim(context, sync, actor=actor, patience=patience)
    keeper = ClaimKeeper(context)
    checkpoint = keeper.hold(claim, heed_pause=False)
    try:
        with keeper.renewing():
            yield claim, checkpoint
    finally:
        release_claim(context, claim)


def release_claim(context: Context, claim: Claim) -> None:
    """Release a claim. If that fails, the claim expires by itself, and the first error is the one to report."""
    with suppress(PhasesyncError):
        context.store.claims.release(claim)
