"""What a daemon drives, on an application of its own. It decides nothing: the daemon's service does."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from phasesync.bootstrap.app import Application
from phasesync.bootstrap.open import open_application
from phasesync.core.lease_claim import ClaimedLease
from phasesync.ports.runtime import EventSink
from phasesync.settings.model import Settings

if TYPE_CHECKING:
    from phasesync.adapters.dispatch import ThreadDispatcher, Threads
    from phasesync.engine.claims import ClaimKeeper
    from phasesync.engine.scheduler import Scheduler

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
    lease_dispatcher: "Threads[ClaimedLease]"


def build_machinery(current: Callable[[], Settings], events: EventSink) -> Machinery:
    """
    Wire what a daemon drives.

    Args:
        current: returns the settings that are in effect now.
        events: takes what happens.

    Raises:
        PhasesyncError: as `open_application` does.
    """
    from phasesync.adapters.dispatch import ThreadDispatcher, Threads
    from phasesync.engine.claims import ClaimKeeper
    from phasesync.engine.leases.expiry import LeaseExpiry
    from phasesync.engine.reconcile import Reconciler
    from phasesync.engine.scheduler import LeaseWork, Scheduler
    from phasesync.engine.sweep import Sweeper

    application = open_application(current(), events=events, current=current)
    context, clients = application.context, application.clients
    keeper = ClaimKeeper(context, on_stop=clients.stop, overdue=clients.overdue)
    reconciler = Reconciler(context)
    dispatcher = ThreadDispatcher(
        lambda claim: reconciler.work(claim, keeper), threads=application.settings.daemon.workers, events=events
    )
    # Leases have threads of their own: large syncs must not keep a user alive.
    expiry = LeaseExpiry(context)
    lease_dispatcher = Threads(expiry.work, threads=LEASE_THREADS, events=events, chore="lease")

    def progressed() -> None:
        dispatcher.progressed()
        lease_dispatcher.progressed()

    clients.rate_limiter.progress = progressed
    scheduler = Scheduler(
        context,
        host=socket.gethostname(),
        pid=os.getpid(),
        keeper=keeper,
        dispatcher=dispatcher,
        runs_kept=lambda: timedelta(days=current().retention.runs_days),
        share_among=clients.rate_limiter.share_among,
        sweeper=Sweeper(context),
        lease_work=LeaseWork(expiry=expiry, dispatcher=lease_dispatcher),
    )
    return Machinery(
        application=application,
        scheduler=scheduler,
        keeper=keeper,
        dispatcher=dispatcher,
        lease_dispatcher=lease_dispatcher,
    )
