"""What a daemon drives, on an application of its own. It decides nothing: the daemon's service does."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from phasesync.bootstrap.app import Application
from phasesync.bootstrap.open import open_application
from phasesync.ports import ClaimedLease, EventSink
from phasesync.settings.model import Settings

if TYPE_CHECKING:
    from phasesync.adapters.dispatch import ThreadDispatcher, WorkerPool
    from phasesync.engine.claims import ClaimKeeper
    from phasesync.engine.scheduler import LeaseWork, Scheduler

LIVE_SETTINGS = frozenset({"daemon.coalesce_ms", "retention.runs_days"})
"""Settings that a daemon's machinery reads anew whenever it needs them."""

LEASE_THREADS = 8
"""More than IAM's rates keep busy: taking a lease back is five calls or so."""


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """What a daemon drives, on an application that it closes at its end."""

    application: Application
    scheduler: "Scheduler"
    keeper: "ClaimKeeper"
    dispatcher: "ThreadDispatcher"
    lease_dispatcher: "WorkerPool[ClaimedLease]"


def build_machinery(current: Callable[[], Settings], events: EventSink) -> Machinery:
    """
    Wire what a daemon drives.

    Args:
        current: returns the settings that are in effect now.
        events: takes what happens.

    Raises:
        PhasesyncError: as `open_application` does.
    """
    from phasesync.adapters.dispatch import ThreadDispatcher
    from phasesync.engine.claims import ClaimKeeper
    from phasesync.engine.reconcile import Worker
    from phasesync.engine.scheduler import Member, Scheduler

    application = open_application(current(), events=events, current=current)
    clients, rate_limiter = application.clients, application.clients.rate_limiter
    keeper = ClaimKeeper(
        application.state, application.clock, application.claim_ttl, on_stop=clients.stop, overdue=clients.overdue
    )
    worker = Worker(application.reconciler, keeper)
    dispatcher = ThreadDispatcher(worker.work, threads=application.settings.daemon.workers, events=events)
    lease_work, lease_dispatcher = build_lease_work(application, events)
    watched = (dispatcher, lease_dispatcher)

    def progressed() -> None:
        for threads in watched:
            threads.progressed()

    rate_limiter.progress = progressed
    scheduler = Scheduler(
        member=Member(owner=application.owner, host=socket.gethostname(), pid=os.getpid()),
        state=application.state,
        registry=application.daemons,
        keeper=keeper,
        dispatcher=dispatcher,
        events=events,
        clock=application.clock,
        runs_kept=lambda: timedelta(days=current().retention.runs_days),
        share_among=rate_limiter.share_among,
        clock_watch=application.clock_watch,
        sweeper=application.sweeper,
        checkpoint=application.checkpoint_database,
        lease_work=lease_work,
    )
    return Machinery(
        application=application,
        scheduler=scheduler,
        keeper=keeper,
        dispatcher=dispatcher,
        lease_dispatcher=lease_dispatcher,
    )


def build_lease_work(application: Application, events: EventSink) -> "tuple[LeaseWork, WorkerPool[ClaimedLease]]":
    """Wire what a daemon does about leases. They have threads of their own: large syncs must not keep a user alive."""
    from phasesync.adapters.dispatch import WorkerPool
    from phasesync.engine.leases.expiry import LeaseExpiry
    from phasesync.engine.scheduler import LeaseWork

    expiry = LeaseExpiry(
        leases=application.leases,
        issuers=application.issuers,
        ender=application.lease_ender,
        owner=application.owner,
        is_restored=application.state.is_restored,
        events=events,
    )
    threads = WorkerPool(expiry.work, threads=LEASE_THREADS, events=events, chore="lease")
    work = LeaseWork(leases=application.leases, expiry=expiry, dispatcher=threads, reaper=application.reaper)
    return work, threads
