"""
What runs when: the pending query, claim renewal, expired claims, housekeeping. APScheduler drives these methods.

Each does one round and returns whether it succeeded; none of them sleeps, and none knows a rule about syncs.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from phasesync.core.daemons import MemberRole
from phasesync.core.events import ChoreFailed, ClaimExpired, ClockJumped, RoleChanged, RunsPruned
from phasesync.core.lease_claim import ClaimedLease
from phasesync.core.sync_state import Claim
from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.context import Context
from phasesync.engine.leases.expiry import LeaseExpiry
from phasesync.engine.leases.orphan_users import AGAIN, EVERY, OrphanCollector
from phasesync.engine.sweep import Sweeper
from phasesync.errors import ClaimLostError, PhasesyncError, StoreUnavailableError
from phasesync.ports.runtime import Dispatcher, SyncDispatcher
from phasesync.store.daemons import DaemonRegistry

_HEARTBEAT: Final = ("clock", "renewal", "heartbeat")
"""The steps of a heartbeat, in their order: what the clock left ahead is moved before anything is noted by it."""


@dataclass(frozen=True, kw_only=True)
class LeaseWork:
    """What a daemon does about leases: revokes those that are due, in threads of their own."""

    expiry: LeaseExpiry
    dispatcher: Dispatcher[ClaimedLease]


class Scheduler:
    """One daemon's rounds. Its methods may be called from several threads."""

    def __init__(
        self,
        context: Context,
        *,
        host: str,
        pid: int,
        keeper: ClaimKeeper,
        dispatcher: SyncDispatcher,
        runs_kept: Callable[[], timedelta],
        share_among: Callable[[int], None],
        sweeper: Sweeper | None = None,
        lease_work: LeaseWork | None = None,
    ) -> None:
        """
        Args:
            context: stores, time and events; its `owner` names this daemon, and is new at every start.
            host: that this daemon runs on.
            pid: of this process.
            keeper: renews our claims.
            dispatcher: runs what was claimed.
            runs_kept: how long runs are kept, asked at each housekeeping.
            share_among: called at each heartbeat with how many daemons work, this one included: they share AWS's
                request rates.
            sweeper: checks many objects at once; without it each sync is checked by a run of its own.
            lease_work: what is done about leases; without it nothing is.
        """
        self._context = context
        self._host = host
        self._pid = pid
        self._keeper = keeper
        self._dispatcher = dispatcher
        self._runs_kept = runs_kept
        self._share_among = share_among
        self._sweeper = sweeper
        self._lease_work = lease_work
        self._polling = threading.Lock()
        self._stopped = False
        self._reaped = True
        self._role: MemberRole | None = None
        self._role_until = float("-inf")
        self._refused_woken = False
        self._failing: dict[str, PhasesyncError] = {}
        """Chore -> how its newest round failed; those that succeeded are not in it."""

    @property
    def role(self) -> MemberRole | None:
        """
        What this daemon does; None before its first heartbeat succeeded, and once none has for as long as its role is
        good for: others count it as dead then, and one of them may do its work.
        """
        return self._role if self._context.clock.monotonic() < self._role_until else None

    @property
    def heartbeat_failure(self) -> PhasesyncError | None:
        """How the newest heartbeat failed, None = it succeeded, or there was none. It is a write to the database."""
        return next((self._failing[chore] for chore in _HEARTBEAT if chore in self._failing), None)

    def poll(self) -> bool:
        """Claim what is pending and hand it to the dispatcher."""
        with self._polling:
            if not self._works() or (free := self._dispatcher.free) <= 0:
                return True
            return self._round("poll", lambda: self._claim(free))

    def beat(self) -> bool:
        """
        Say that we are alive, learn whether we work or stand by, and renew our claims.

        Where the database is not there, the first step has waited for it, and the others would wait as long again.
        """
        good = True
        for chore, work in zip(_HEARTBEAT, (self._look_at_clock, self._keeper.renew, self._learn_role), strict=True):
            if not self._round(chore, work):
                good = False
                if isinstance(self._failing[chore], StoreUnavailableError):
                    break
        return good

    def reap(self) -> bool:
        """Free syncs whose holder died, and log what became of their runs; look at the database's clock."""
        if self.role is not MemberRole.ACTIVE:
            return True
        right = self._round("clock", self._look_at_clock)
        return self._round("reap", self._reap) and right

    def sweep(self) -> bool:
        """Check by lists what is due soon; takes long where there is much of it."""
        if self._sweeper is None or not self._works():
            return True
        sweeper = self._sweeper
        return self._round("sweep", lambda: sweeper.sweep(lambda: not self._works()))

    def expire_leases(self) -> bool:
        """Take back the leases that are due."""
        work = self._lease_work
        if work is None or not self._works():
            return True
        return self._round("leases", lambda: work.expiry.hand_out(work.dispatcher))

    def reap_users(self) -> bool:
        """Remove users at AWS that belong to no live lease; one daemon a day does it."""
        work = self._lease_work
        if work is None or not self._works():
            return True
        return self._round("reap-users", lambda: self._reap_users(work))

    def keep_house(self) -> bool:
        """Delete old runs, and shorten the database's log; one daemon an hour does it."""
        return self.role is not MemberRole.ACTIVE or self._round("housekeeping", self._prune)

    def stop(self) -> None:
        """Claim nothing more; returns when no poll is under way. A sweep ends after the call that it is in."""
        self._stopped = True
        if self._lease_work is not None:
            self._lease_work.expiry.stop()
        with self._polling:
            pass

    def leave(self, unfinished: list[Claim]) -> None:
        """Give back what could not be finished and sign off, so that a standby takes over at once."""
        for claim in unfinished:
            self._round("release", partial(self._release, claim))
        if self._lease_work is not None:
            for claimed in self._lease_work.dispatcher.running():
                self._round("release", partial(self._lease_work.expiry.give_back, claimed))
        self._round("sign-off", lambda: self._context.store.daemons.deregister(self._context.owner))

    def _works(self) -> bool:
        return not self._stopped and self.role is MemberRole.ACTIVE

    def _claim(self, free: int) -> None:
        claims = self._context.store.claims.claim_due(
            self._context.owner, limit=free, ttl=self._keeper.ttl, large=self._dispatcher.free_for_large
        )
        for claim in claims:
            # A claim may come late, from a database that was locked, when the end has begun already.
            if not self._dispatcher.submit(claim):
                self._round("release", partial(self._release, claim))

    def _look_at_clock(self) -> None:
        if (jumped := self._context.store.clock_watch.check(self._context.owner)) is not None:
            self._context.events.emit(ClockJumped(back_s=round(jumped.by.total_seconds(), 3), leases=jumped.leases))

    def _reap(self) -> None:
        for name in self._context.store.claims.release_expired():
            self._context.events.emit(ClaimExpired(sync=name))

    def _learn_role(self) -> None:
        # Counted from before the call: the database counts from the call on.
        until = self._context.clock.monotonic() + self._keeper.ttl.total_seconds()
        role = self._context.store.daemons.beat(
            self._context.owner, host=self._host, pid=self._pid, ttl=self._keeper.ttl
        )
        self._role_until, former = until, self._role
        self._role = role
        if role is not former:
            self._context.events.emit(RoleChanged(role=role))
        if role is MemberRole.ACTIVE:
            self._share_among(working(self._context.store.daemons))
            if not self._refused_woken:
                # Keys, proxies and endpoints are those of the process: this one may reach what a former one did not.
                self._context.store.syncs.retry_refused()
                self._refused_woken = True

    def _reap_users(self, work: "LeaseWork") -> None:
        every = EVERY if self._reaped else AGAIN
        if self._context.store.daemons.claim_chore("reap-users", self._context.owner, every=every):
            self._reaped = False  # Whatever ends it before it has returned.
            self._reaped = OrphanCollector(self._context).reap(work.expiry.checkpoint)

    def _prune(self) -> None:
        if not self._context.store.daemons.claim_chore("housekeeping", self._context.owner, every=timedelta(hours=1)):
            return
        kept = self._runs_kept()
        count = self._context.store.runs.prune_runs(older_than=kept)
        leases = 0 if self._lease_work is None else self._context.leases.prune(older_than=kept)
        if count or leases:
            self._context.events.emit(RunsPruned(count=count, leases=leases))
        self._context.store.database.checkpoint()

    def _release(self, claim: Claim) -> None:
        try:
            self._context.store.claims.release(claim)
        except ClaimLostError:
            self._context.events.emit(ClaimExpired(sync=claim.sync_id))

    def _round(self, chore: str, work: Callable[[], object]) -> bool:
        """Do one round; return whether it succeeded. A failure is told once until it changes; the next tries again."""
        try:
            work()
        except PhasesyncError as error:
            former = self._failing.get(chore)
            self._failing[chore] = error
            if type(former) is not type(error):
                self._context.events.emit(ChoreFailed(chore=chore, error=type(error).__name__, message=error.message))
            return False
        self._failing.pop(chore, None)
        return True


def working(registry: DaemonRegistry) -> int:
    """Return how many daemons call AWS now; those that stand by do not."""
    return sum(one["role"] == MemberRole.ACTIVE for one in registry.alive())
