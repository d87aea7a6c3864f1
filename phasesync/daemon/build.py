"""What a daemon works with, wired on an application of its own. It decides nothing: the service does."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

from phasesync.adapters.dispatch import SyncThreadDispatcher, ThreadDispatcher
from phasesync.adapters.telemetry.metrics import Metrics
from phasesync.bootstrap import Application, daemon_caller, open_application
from phasesync.core.chores import Chore
from phasesync.core.lease_claim import ClaimedLease
from phasesync.core.sync_claim import Claim
from phasesync.engine.claims import ClaimKeeper, release_claim
from phasesync.engine.leases.expiry import LeaseExpiry
from phasesync.engine.notifier import Notifier
from phasesync.engine.reconcile import Reconciler
from phasesync.engine.scheduled_backup import BackupMaker
from phasesync.engine.scheduler import LeaseWork, MessageWork, Scheduler
from phasesync.engine.sweep import Sweeper
from phasesync.ports.runtime import EventSink
from phasesync.settings.model import Settings
from phasesync.store.change_watch import ChangeWatch
from phasesync.store.figures import Figures
from phasesync.store.outbox import ClaimedMessage

if TYPE_CHECKING:
    from phasesync.adapters.dispatch.procrastinate import ProcrastinateDispatcher
    from phasesync.adapters.telemetry.tracing import OpenTelemetryTracer

LEASE_THREADS = 8
"""More than IAM's request rates keep busy: revoking a lease takes about five calls."""
MESSAGE_THREADS = 16
"""One for each notification with something to send: a channel that hangs takes one of them for some seconds."""


@dataclass(frozen=True, kw_only=True)
class Components:
    """
    What a daemon works with.

    Attributes:
        application: the opened installation. The daemon closes it at its end.
        scheduler: does rounds of chores.
        keeper: renews claims and permits writes.
        dispatcher: threads that reconcile claimed syncs.
        lease_dispatcher: threads that revoke claimed leases.
        message_dispatcher: threads that send notifications.
        watch: notices that something may be due.
        read_figures: reads what the database says for metrics; also of the syncs one by one, if True.
        key_ids: returns purpose -> id of the keys in use.
        queue: `dispatcher` if it takes its syncs out of a queue: then it has to be started. Otherwise None.
        tracer: takes traces of runs; None: nobody asks. The daemon closes it at its end.
    """

    application: Application
    scheduler: Scheduler
    keeper: ClaimKeeper
    dispatcher: SyncThreadDispatcher
    lease_dispatcher: ThreadDispatcher[ClaimedLease]
    message_dispatcher: ThreadDispatcher[ClaimedMessage]
    watch: ChangeWatch
    read_figures: Callable[[bool], Figures]
    key_ids: Callable[[], Mapping[str, str]]
    queue: "ProcrastinateDispatcher | None" = None
    tracer: "OpenTelemetryTracer | None" = None

    @property
    def dispatchers(self) -> tuple[ThreadDispatcher[Any], ...]:
        """All threads that work."""
        return self.dispatcher, self.lease_dispatcher


def build_components(
    current: Callable[[], Settings],
    events: EventSink,
    metrics: Metrics,
    *,
    tracer: "OpenTelemetryTracer | None" = None,
) -> Components:
    """
    Open the installation and wire what a daemon works with.

    Args:
        current: returns the settings that are in effect now.
        events: takes what happens.
        metrics: measures calls of AWS and transactions.
        tracer: takes traces of runs; None: nobody asks. The daemon closes it at its end.

    Raises:
        PhasesyncError: as `open_application` does.
    """
    application = open_application(current(), events=events, current=current, tracer=tracer, caller=daemon_caller())
    context, clients = application.context, application.clients
    keeper = ClaimKeeper(context, on_stop=clients.stop, overdue=clients.overdue)
    watch = ChangeWatch(application.store.database)
    reconciler = Reconciler(context)
    work, daemon = partial(reconciler.work, keeper=keeper), application.settings.daemon
    queue = _queue_dispatcher(application, reconciler, keeper, events, watch) if daemon.queued else None
    dispatcher = queue or SyncThreadDispatcher(work, threads=daemon.workers, events=events, ended=watch.wake)
    # Leases have threads of their own: large syncs must not keep a user alive.
    expiry = LeaseExpiry(context)
    lease_dispatcher = ThreadDispatcher(expiry.work, threads=LEASE_THREADS, events=events, chore=Chore.LEASE)
    notifier = Notifier(context, application.channels)
    message_dispatcher = ThreadDispatcher(notifier.send, threads=MESSAGE_THREADS, events=events, chore=Chore.SEND)

    def progressed() -> None:
        dispatcher.progressed()
        lease_dispatcher.progressed()

    clients.rate_limiter.progress = progressed
    _measure(application, metrics, tracer)
    scheduler = Scheduler(
        context,
        host=socket.gethostname(),
        pid=os.getpid(),
        keeper=keeper,
        dispatcher=dispatcher,
        reconciler=reconciler,
        runs_kept=lambda: timedelta(days=current().retention.runs_days),
        audit_kept=lambda: current().retention.audit_kept,
        share_among=clients.rate_limiter.share_among,
        sweeper=Sweeper(
            context,
            every=lambda: timedelta(seconds=current().daemon.sweep_interval_s),
            full_every=lambda: timedelta(seconds=current().daemon.full_sweep_interval_s),
        ),
        wake=watch.wake,
        lease_work=LeaseWork(expiry=expiry, dispatcher=lease_dispatcher),
        message_work=MessageWork(notifier=notifier, dispatcher=message_dispatcher),
        queue=queue,
        backups=BackupMaker(
            context,
            open_storage=application.open_backup_storage,
            database_url=application.settings.database_url,
            folder=application.settings.data_dir if os.access(application.settings.data_dir, os.W_OK) else None,
        ),
    )
    # Beside the start: the first edit after it should not wait for the SDK to load.
    Thread(target=clients.prepare, name="prepare-aws", daemon=True).start()
    return Components(
        application=application,
        scheduler=scheduler,
        keeper=keeper,
        dispatcher=dispatcher,
        lease_dispatcher=lease_dispatcher,
        message_dispatcher=message_dispatcher,
        watch=watch,
        read_figures=application.read_figures,
        key_ids=application.store.keys.ids,
        queue=queue,
        tracer=tracer,
    )


def _measure(application: Application, metrics: Metrics, tracer: "OpenTelemetryTracer | None") -> None:
    def request(service: str, operation: str, result: str, took_s: float) -> None:
        metrics.aws_request(service, operation, result, took_s)
        if tracer is not None:
            tracer.aws_request(service, operation, result, took_s)

    application.store.database.observe = metrics.transaction
    application.clients.reports.request = request
    application.clients.reports.clock = metrics.aws_clock
    application.clients.rate_limiter.waited = metrics.rate_limiter_waited


def _queue_dispatcher(
    application: Application, reconciler: Reconciler, keeper: ClaimKeeper, events: EventSink, watch: ChangeWatch
) -> "ProcrastinateDispatcher":
    # Imported here: it takes long, and is not installed everywhere.
    from phasesync.adapters.dispatch.procrastinate import ProcrastinateDispatcher
    from phasesync.store.postgresql import configure_async, driver_parameters

    context, engine = application.context, application.store.database.engine

    def claim(sync_ids: Sequence[str]) -> list[Claim]:
        claims = context.store.claims.claim_if_due(sync_ids, context.owner, ttl=keeper.ttl)
        if len(claims) > 1:
            reconciler.read_ahead(claims)
        return claims

    def release(claim: Claim) -> None:
        reconciler.forget(claim)
        release_claim(context, claim)

    return ProcrastinateDispatcher(
        partial(reconciler.work, keeper=keeper),
        threads=application.settings.daemon.workers,
        events=events,
        claim=claim,
        release=release,
        parameters=driver_parameters(engine),
        set_up=partial(configure_async, url=engine.url),
        ttl=keeper.ttl,
        ended=watch.wake,
    )
