"""
One round of each chore of a daemon: heartbeats, polls, expired claims, sweeps, leases, housekeeping.

Each method returns whether its round succeeded. None of them sleeps, except between the steps of the retention. None
knows a rule about syncs: the daemon calls them in their rhythm, and use cases do the work.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from phasesync.core.audit import AuditKind
from phasesync.core.chores import AUDIT_RETENTION, HOLD_RETENTION, HOURLY, RETENTION_HELD, Chore, DaemonRole
from phasesync.core.events import (
    AuditHeadNoted,
    ChoreFailed,
    ClaimExpired,
    ClaimLost,
    ClockJumped,
    QueueCleared,
    RetentionHeld,
    RoleChanged,
    RunsPruned,
)
from phasesync.core.lease_claim import ClaimedLease
from phasesync.core.sync_claim import Claim
from phasesync.core.times import JUMP
from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.context import Context
from phasesync.engine.leases.expiry import LeaseExpiry
from phasesync.engine.leases.orphan_users import AGAIN, EVERY, OrphanCollector
from phasesync.engine.notifier import Notifier
from phasesync.engine.reconcile import Reconciler
from phasesync.engine.retention import empty_audit, end_requests, prune
from phasesync.engine.scheduled_backup import BackupMaker
from phasesync.engine.sweep import Sweeper
from phasesync.errors import ClaimLostError, PhasesyncError, StoreUnavailableError
from phasesync.ports.runtime import Dispatcher, SyncDispatcher, SyncQueue
from phasesync.store.daemons import DaemonRegistry
from phasesync.store.outbox import ClaimedMessage

_CLAIMED_BY_OTHERS: Final = timedelta(milliseconds=50)
"""Until the next poll, if what is due could not be claimed."""

_BACKLOG: Final = timedelta(milliseconds=200)
"""Until the next poll, if a queue just got many syncs: it holds enough for so long."""

_HEARTBEAT: Final = (Chore.CLOCK, Chore.RENEWAL, Chore.HEARTBEAT)
"""The steps of a heartbeat in order: what the clock left ahead is moved before anything new is written by the clock."""


@dataclass(frozen=True, kw_only=True)
class MessageWork:
    """How a daemon sends notifications: what makes messages, and the threads that send them."""

    notifier: Notifier
    dispatcher: Dispatcher[ClaimedMessage]


@dataclass(frozen=True, kw_only=True)
class LeaseWork:
    """How a daemon revokes leases: what finds those that are due, and the threads that revoke them."""

    expiry: LeaseExpiry
    dispatcher: Dispatcher[ClaimedLease]


class Scheduler:
    """The chores of one daemon. Methods may be called from several threads."""

    def __init__(
        self,
        context: Context,
        *,
        host: str,
        pid: int,
        keeper: ClaimKeeper,
        dispatcher: SyncDispatcher,
        reconciler: Reconciler,
        runs_kept: Callable[[], timedelta],
        share_among: Callable[[int], None],
        audit_kept: Callable[[], Mapping[AuditKind, timedelta]] = dict,
        wake: Callable[[], None] = lambda: None,
        sweeper: Sweeper | None = None,
        lease_work: LeaseWork | None = None,
        message_work: MessageWork | None = None,
        queue: SyncQueue | None = None,
        backups: BackupMaker | None = None,
    ) -> None:
        """
        Args:
            context: its `owner` names this daemon, and is new at every start.
            host: name of the host of this process.
            pid: of this process.
            keeper: renews our claims.
            dispatcher: runs claimed syncs.
            reconciler: reads ahead for several claims.
            runs_kept: returns how long to keep runs; called at each housekeeping.
            share_among: called at each heartbeat with the number of active daemons, this one included: they share AWS's
                request rates.
            audit_kept: returns how long the audit log keeps rows, by kind; a kind that is missing is kept for ever.
            wake: called when a poll may find something that no commit announces: this daemon has become active.
            sweeper: checks many objects at once; without it, a run checks each sync.
            lease_work: revokes leases; without it, no leases are revoked.
            message_work: sends notifications; without it, none are sent.
            backups: makes scheduled backups; without it, none are made.
            queue: gets what is due and has some daemon claim it; without it, this daemon claims what is due.
        """
        self._context = context
        self._host = host
        self._pid = pid
        self._keeper = keeper
        self._dispatcher = dispatcher
        self._reconciler = reconciler
        self._runs_kept = runs_kept
        self._share_among = share_among
        self._audit_kept = audit_kept
        self._wake = wake
        self._sweeper = sweeper
        self._lease_work = lease_work
        self._message_work = message_work
        self._queue = queue
        self._backups = backups
        self._polling = threading.Lock()
        self._due_in: timedelta | None = None
        self._enqueue_at = float("-inf")
        self._stopping = threading.Event()
        self._orphans_collected = True
        self._role: DaemonRole | None = None
        self._role_until = float("-inf")
        self._refused_woken = False
        self._wall_clock: datetime | None = None
        """The host's time at which its monotonic clock was at zero; changes if somebody sets the clock."""
        self._windows: tuple[str, ...] | None = None
        """The maintenance windows of all syncs that waiting syncs were run with; None before the first heartbeat."""
        self._failures: dict[Chore, PhasesyncError] = {}
        """How the newest round of each chore failed. A chore that succeeded has no entry."""

    @property
    def role(self) -> DaemonRole | None:
        """
        What this daemon does. None before the first heartbeat succeeded, and again once none has succeeded for the life
        of a role: other daemons count this one as dead then, and one of them may do its work.
        """
        return self._role if self._context.clock.monotonic() < self._role_until else None

    @property
    def may_claim(self) -> bool:
        """Whether this daemon may claim syncs now: it is active, and does not stop."""
        return self._active()

    @property
    def heartbeat_failure(self) -> PhasesyncError | None:
        """Why the newest heartbeat failed; None if it succeeded, or there was none. It is a write to the database."""
        return next((self._failures[chore] for chore in _HEARTBEAT if chore in self._failures), None)

    def beat(self) -> bool:
        """
        Report that we are alive, learn whether we work or stand by, and renew our claims.

        Without a database, the first step has waited for it, and each further step would wait as long again.
        """
        succeeded = True
        steps = (self._check_clock, self._keeper.renew, self._learn_role)
        for chore, step in zip(_HEARTBEAT, steps, strict=True):
            if not self._round(chore, step):
                succeeded = False
                if isinstance(self._failures[chore], StoreUnavailableError):
                    break
        return succeeded

    @property
    def due_in(self) -> timedelta | None:
        """Time from the newest poll until a sync is due; None if none will be, or no more runs can start now."""
        return self._due_in

    @property
    def busy(self) -> bool:
        """Whether most threads are at work, so that more runs need not be started at once."""
        return len(self._dispatcher.running()) > self._dispatcher.free

    def poll(self) -> bool:
        """Claim syncs that are due and submit them to the dispatcher, or put them into the queue."""
        with self._polling:
            self._due_in = None
            if self._queue is not None:
                return not self.may_claim or self._round(Chore.POLL, partial(self._enqueue, self._queue))
            if not self._active() or (free := self._dispatcher.free) <= 0:
                return True
            return self._round(Chore.POLL, partial(self._claim, free))

    def free_expired_claims(self) -> bool:
        """Free syncs after their holder died, and log what became of their runs. Check the database's clock first."""
        if self.role is not DaemonRole.ACTIVE:
            return True
        clock_checked = self._round(Chore.CLOCK, self._check_clock)
        return self._round(Chore.REAP, self._free_expired_claims) and clock_checked

    def clear_queue(self) -> bool:
        """Remove what daemons left in the queue that died or froze."""
        queue = self._queue
        return queue is None or not self.may_claim or self._round(Chore.QUEUE, partial(self._clear, queue))

    def sweep(self) -> bool:
        """Check by lists what is due soon. Takes long if there is much of it."""
        sweeper = self._sweeper
        if sweeper is None or not self._active():
            return True
        return self._round(Chore.SWEEP, partial(sweeper.sweep, lambda: not self._active()))

    def expire_leases(self) -> bool:
        """Submit the leases that are due to threads that revoke them."""
        work = self._lease_work
        if work is None or not self._active():
            return True
        return self._round(Chore.LEASES, partial(work.expiry.dispatch_due, work.dispatcher))

    def follow_root_keys(self) -> bool:
        """Load the root key that is to take the place of the present one, and report that we have it."""
        return self._round(Chore.ROOT_KEYS, partial(self._context.store.root_keys.follow, self._context.owner))

    def notify(self) -> bool:
        """Make the messages of notifications that are due, and submit them to threads that send them."""
        work = self._message_work
        if work is None or not self._active():
            return True
        return self._round(Chore.NOTIFY, partial(work.notifier.round, work.dispatcher))

    def remove_orphan_users(self) -> bool:
        """Remove users at AWS that belong to no live lease. One daemon a day does it."""
        work = self._lease_work
        if work is None or not self._active():
            return True
        return self._round(Chore.REAP_USERS, partial(self._remove_orphan_users, work))

    def back_up(self) -> bool:
        """Make the backups that are due. Takes long if the database is large."""
        maker = self._backups
        if maker is None or not self._active():
            return True
        return self._round(Chore.BACKUP, partial(maker.round, lambda: not self._active()))

    def prune(self) -> bool:
        """Delete old runs and leases, and shorten the database's log. One daemon an hour does it."""
        return self.role is not DaemonRole.ACTIVE or self._round(Chore.HOUSEKEEPING, self._prune)

    def note_audit_head(self) -> bool:
        """Emit where the audit log ends. One daemon an hour does it."""
        return self.role is not DaemonRole.ACTIVE or self._round(Chore.AUDIT, self._note_audit_head)

    def stop(self) -> None:
        """Claim nothing more; return when no poll is under way. A sweep ends after the call that it is in."""
        self._stopping.set()
        if self._lease_work is not None:
            self._lease_work.expiry.stop()
        if self._message_work is not None:
            self._message_work.notifier.stop()
        with self._polling:
            pass

    def sign_off(self, unfinished: list[Claim]) -> None:
        """Release the claims of unfinished work and leave the registry, so that a standby takes over at once."""
        for claim in unfinished:
            self._round(Chore.RELEASE, partial(self._release, claim))
        if self._lease_work is not None:
            for claimed in self._lease_work.dispatcher.running():
                self._round(Chore.RELEASE, partial(self._lease_work.expiry.release, claimed))
        self._round(Chore.SIGN_OFF, partial(self._context.store.daemons.deregister, self._context.owner))

    def _active(self) -> bool:
        return not self._stopping.is_set() and self.role is DaemonRole.ACTIVE

    def _check_clock(self) -> None:
        if (jump := self._context.store.clock_watch.check(self._context.owner)) is not None:
            self._context.events.emit(ClockJumped(back_s=round(jump.by.total_seconds(), 3), leases=jump.leases))

    def _learn_role(self) -> None:
        # Counted from before the call: the database counts from the call on.
        until = self._context.clock.monotonic() + self._keeper.ttl.total_seconds()
        role = self._context.store.daemons.beat(
            self._context.owner,
            host=self._host,
            pid=self._pid,
            ttl=self._keeper.ttl,
            root_keys=self._context.store.keys.root_key_ids,
        )
        self._role_until, former = until, self._role
        self._role = role
        if role is not former:
            self._context.events.emit(RoleChanged(role=role))
            self._wake()
        self._watch_wall_clock()
        if role is DaemonRole.ACTIVE:
            active = active_daemons(self._context.store.daemons)
            self._share_among(len(active))
            if self._queue is not None and self._context.owner in active:
                self._queue.share(active.index(self._context.owner), len(active))
            if not self._refused_woken:
                # Keys, proxies and endpoints belong to the process: this one may reach what a former one did not. AWS
                # refuses signatures of a host whose clock is off.
                self._context.store.sync_requests.retry_refused()
                self._context.store.sync_requests.wake_where_behind()
                self._refused_woken = True
            if (windows := self._context.windows()) != self._windows:
                # At the start too: the settings may have been other ones when the waiting syncs ran.
                self._context.store.sync_requests.retry_waiting_for_window(running=self._windows is not None)
                self._windows = windows

    def _watch_wall_clock(self) -> None:
        """Have what AWS refused tried again after the host's clock was set."""
        now = self._context.clock.now() - timedelta(seconds=self._context.clock.monotonic())
        if self._wall_clock is not None and abs(now - self._wall_clock) > JUMP:
            self._refused_woken = False
        self._wall_clock = now

    def _claim(self, free: int) -> None:
        large = self._dispatcher.free_for_large
        due = self._context.store.claims.next_due(large=large > 0)
        self._due_in = due.due_in
        if not due.urgencies:
            return
        claims = self._context.store.claims.claim_due(
            self._context.owner, limit=free, ttl=self._keeper.ttl, large=large, urgencies=due.urgencies
        )
        if len(claims) > 1:
            self._reconciler.read_ahead(claims)
        for claim in claims:
            # A claim that waited for a locked database may come after the shutdown began.
            if not self._dispatcher.submit(claim):
                self._reconciler.forget(claim)
                self._round(Chore.RELEASE, partial(self._release, claim))
        # If runs can start, the next poll finds out what is due then. What others are claiming is theirs in a moment.
        self._due_in = None if len(claims) == free else timedelta(0) if claims else _CLAIMED_BY_OTHERS

    def _enqueue(self, queue: SyncQueue) -> None:
        now = self._context.clock.monotonic()
        if now < self._enqueue_at:
            self._due_in = timedelta(seconds=self._enqueue_at - now)
            return
        due = self._context.store.claims.next_due()
        waiting = self._context.store.claims.due_for_queue(most=queue.most, urgencies=due.urgencies)
        queue.put(waiting)
        self._due_in = due.due_in
        if due.urgencies:
            # Of a long backlog the queue holds a part. Runs end all the time meanwhile, and each of them has us poll.
            self._due_in = _BACKLOG if len(waiting) >= queue.most // 8 else _CLAIMED_BY_OTHERS
            self._enqueue_at = now + self._due_in.total_seconds()

    def _clear(self, queue: SyncQueue) -> None:
        if count := queue.clear():
            self._context.events.emit(QueueCleared(count=count))

    def _free_expired_claims(self) -> None:
        for name in self._context.store.claims.release_expired():
            self._context.events.emit(ClaimExpired(sync=name))

    def _remove_orphan_users(self, work: LeaseWork) -> None:
        every = EVERY if self._orphans_collected else AGAIN
        if self._context.store.daemons.claim_chore(Chore.REAP_USERS.value, self._context.owner, every=every):
            self._orphans_collected = False  # Stays so if an error ends the scan.
            self._orphans_collected = OrphanCollector(self._context).collect(work.expiry.checkpoint)

    def _prune(self) -> None:
        gap = self._context.store.daemons.since_chore(Chore.HOUSEKEEPING)
        if not self._context.store.daemons.claim_chore(Chore.HOUSEKEEPING.value, self._context.owner, every=HOURLY):
            return
        self._context.store.sync_requests.wake_where_behind()
        if not self._is_held(gap):
            self._delete_old()
        self._context.store.database.checkpoint()

    def _is_held(self, gap: timedelta | None) -> bool:
        """Return whether old rows are kept for now. `gap`: how long no housekeeping was done; None: never here."""
        registry = self._context.store.daemons
        if gap is None or gap > HOLD_RETENTION:
            registry.claim_chore(RETENTION_HELD, self._context.owner, every=timedelta(0))
            self._context.events.emit(RetentionHeld(gap_s=None if gap is None else gap.total_seconds()))
        held = registry.since_chore(RETENTION_HELD)
        return held is not None and held < HOLD_RETENTION

    def _delete_old(self) -> None:
        end_requests(self._context, older_than=self._runs_kept(), stopped=lambda: not self._active())
        pruned = prune(
            self._context,
            older_than=self._runs_kept(),
            with_leases=self._lease_work is not None,
            pause=lambda length: self._stopping.wait(length.total_seconds()),
            stopped=lambda: not self._active(),
        )
        if pruned.runs or pruned.leases:
            self._context.events.emit(RunsPruned(count=pruned.runs, leases=pruned.leases))
        self._empty_audit()

    def _note_audit_head(self) -> None:
        # A little less than the time between two rounds, which never follow each other exactly.
        if self._context.store.daemons.claim_chore(Chore.AUDIT.value, self._context.owner, every=HOURLY * 0.9):
            head = self._context.store.audit.head()
            self._context.events.emit(AuditHeadNoted(head=None if head is None else str(head)))

    def _empty_audit(self) -> None:
        kept = self._audit_kept()
        daily = self._context.store.daemons.claim_chore(AUDIT_RETENTION, self._context.owner, every=HOURLY * 23)
        if not kept or not daily:
            return
        done = empty_audit(
            self._context.store.audit,
            kept,
            pause=lambda length: self._stopping.wait(length.total_seconds()),
            stopped=lambda: not self._active(),
        )
        if done.emptied or done.dropped:
            self._context.events.emit(done)

    def _release(self, claim: Claim) -> None:
        try:
            self._context.store.claims.release(claim)
        except ClaimLostError:
            self._context.events.emit(ClaimLost(sync_id=claim.sync_id))

    def _round(self, chore: Chore, work: Callable[[], object]) -> bool:
        """Do one round; return whether it succeeded. An event reports a failure once, until the failure changes."""
        try:
            work()
        except PhasesyncError as error:
            # Only its class: the frames of an error keep their variables, and so would keep every error before it.
            former = type(self._failures.get(chore))
            self._failures[chore] = error
            if former is not type(error):
                self._context.events.emit(ChoreFailed(chore=chore, error=type(error).__name__, message=error.message))
            return False
        self._failures.pop(chore, None)
        return True


def active_daemons(registry: DaemonRegistry) -> list[str]:
    """Return the daemons that call AWS now, in the same order for all. Those that stand by do not."""
    return [str(daemon["owner"]) for daemon in registry.alive() if daemon["role"] == DaemonRole.ACTIVE]


def count_active(registry: DaemonRegistry) -> int:
    """Return how many daemons call AWS now."""
    return len(active_daemons(registry))
