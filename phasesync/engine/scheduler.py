"""
One daemon's periodic work: the pending query, heartbeats, expired claims, sweeps, leases, housekeeping.

APScheduler calls these methods. Each does one round and returns whether it succeeded. None sleeps, and none contains a
rule about syncs.
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
"""The steps of a heartbeat, in order: times that a clock left in the future are moved before new ones are noted."""


@dataclass(frozen=True, kw_only=True)
class LeaseWork:
    """What a daemon needs for leases: it revokes those that are due, in separate threads."""

    expiry: LeaseExpiry
    dispatcher: Dispatcher[ClaimedLease]


class Scheduler:
    """Does the periodic work of one daemon. Its methods may be called from several threads."""

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
            host: name of this host.
            pid: of this process.
            keeper: renews our claims.
            dispatcher: runs what was claimed.
            runs_kept: how long runs are kept, asked at each housekeeping.
            share_among: called at each heartbeat with the number of active daemons, this one included: they share
                AWS's request rates.
            sweeper: checks many objects at once; None = each sync is checked by its own run.
            lease_work: revokes leases; None = no leases.
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
        self._orphans_removed = True
        self._role: MemberRole | None = None
        self._role_until = float("-inf")
        self._refused_woken = False
        self._failing: dict[str, PhasesyncError] = {}
        """Chore -> the error of its newest round, if that failed."""

    @property
    def role(self) -> MemberRole | None:
        """
        Whether this daemon is active or a standby.

        None before its first heartbeat succeeded, and if none has succeeded for the lifetime of its role: then other
        daemons count it as dead, and one of them may do its work.
        """
        return self._role if self._context.clock.monotonic() < self._role_until else None

    @property
    def heartbeat_failure(self) -> PhasesyncError | None:
        """The error of the newest heartbeat, a write to the database; None if it succeeded, or there was none."""
        return next((self._failing[chore] for chore in _HEARTBEAT if chore in self._failing), None)

    def poll(self) -> bool:
        """Claim what is pending and submit it to the dispatcher."""
        with self._polling:
            if not self._is_active() or (free := self._dispatcher.free) <= 0:
                return True
            return self._round("poll", partial(self._claim, free))

    def beat(self) -> bool:
        """
        Report that this daemon is alive, learn its role, and renew its claims.

        If the database is unavailable, the first step has waited for it, and the others would wait as long again.
        """
        good = True
        for chore, work in zip(_HEARTBEAT, (self._check_clock, self._keeper.renew, self._learn_role), strict=True):
            if not self._round(chore, work):
                good = False
                if isinstance(self._failing[chore], StoreUnavailableError):
                    break
        return good

    def reap(self) -> bool:
        """Release expired claims and log the interrupted runs; check the database's clock."""
        if self.role is not MemberRole.ACTIVE:
            return True
        right = self._round("clock", self._check_clock)
        return self._round("reap", self._reap) and right

    def sweep(self) -> bool:
        """Check by lists what is due soon. Takes long if there are many objects."""
        if self._sweeper is None or not self._is_active():
            return True
        sweeper = self._sweeper
        return self._round("sweep", partial(sweeper.sweep, lambda: not self._is_active()))

    def expire_leases(self) -> bool:
        """Revoke the leases that are due."""
        work = self._lease_work
        if work is None or not self._is_active():
            return True
        return self._round("leases", partial(work.expiry.dispatch_due, work.dispatcher))

    def reap_users(self) -> bool:
        """Remove users at AWS that belong to no live lease. One daemon does it, once a day."""
        work = self._lease_work
        if work is None or not self._is_active():
            return True
        return self._round("reap-users", partial(self._remove_orphans, work))

    def keep_house(self) -> bool:
        """Delete old runs and shorten the database's log. One daemon does it, once an hour."""
        return self.role is not MemberRole.ACTIVE or self._round("housekeeping", self._prune)

    def stop(self) -> None:
        """Claim nothing more. Returns when no poll is under way; a sweep ends after its current call."""
        self._stopped = True
        if self._lease_work is not None:
            self._lease_work.expiry.stop()
        with self._polling:
            pass

    def leave(self, unfinished: list[Claim]) -> None:
        """Release what could not be finished and sign off, so that a standby takes over at once."""
        for claim in unfinished:
            self._round("release", partial(self._release, claim))
        if self._lease_work is not None:
            for claimed in self._lease_work.dispatcher.running():
                self._round("release", partial(self._lease_work.expiry.release, claimed))
        self._round("sign-off", partial(self._context.store.daemons.leave, self._context.owner))

    def _is_active(self) -> bool:
        return not self._stopped and self.role is MemberRole.ACTIVE

    def _claim(self, free: int) -> None:
        claims = self._context.store.claims.claim_due(
            self._context.owner, limit=free, ttl=self._keeper.ttl, large=self._dispatcher.free_for_large
        )
        for claim in claims:
            # A claim may arrive late, from a database that was locked, when shutdown has begun already.
            if not self._dispatcher.submit(claim):
                self._round("release", partial(self._release, claim))

    def _check_clock(self) -> None:
        if (jumped := self._context.store.clock_watch.look(self._context.owner)) is not None:
            self._context.events.emit(ClockJumped(back_s=round(jumped.by.total_seconds(), 3), leases=jumped.leases))

    def _reap(self) -> None:
        for name in self._context.store.claims.reap_expired():
            self._context.events.emit(ClaimExpired(sync=name))

    def _learn_role(self) -> None:
        # Measured from before the call, since the database measures from the call.
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
                # Keys, proxies and endpoints belong to the process: this one may reach what an earlier process did not.
                self._context.store.syncs.wake_refused()
                self._refused_woken = True

    def _remove_orphans(self, work: LeaseWork) -> None:
        every = EVERY if self._orphans_removed else AGAIN
        if self._context.store.daemons.claim_chore("reap-users", self._context.owner, every=every):
            self._orphans_removed = False  # In case it raises.
            self._orphans_removed = OrphanCollector(self._context).collect(work.expiry.checkpoint)

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
        """Do one round; return whether it succeeded. A failure is reported once until it changes."""
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
    """Return the number of daemons that call AWS now; standbys do not."""
    return sum(daemon["role"] == MemberRole.ACTIVE for daemon in registry.alive())
