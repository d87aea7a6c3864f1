"""
The life of a daemon: wait for the database and its schema, run periodic chores, reload, and stop cleanly.

The main thread handles signals and does nothing that takes long while the daemon works. Must not know what a chore
does: the scheduler does.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from phasesync import __version__
from phasesync.adapters.telemetry.logging import flush_log, get_logger, lines_lost, set_level
from phasesync.adapters.telemetry.metrics import Metrics
from phasesync.core.chores import (
    BACK_UP_EVERY,
    CHECK_SCHEMA_EVERY,
    CLEAR_QUEUE_EVERY,
    EXPIRE_LEASES_EVERY,
    FOLLOW_ROOT_KEYS_EVERY,
    HOURLY,
    NOTIFY_EVERY,
    REAP_EVERY,
    TAKE_OVER_EVERY,
    Chore,
    DaemonRole,
)
from phasesync.core.sync_claim import Claim
from phasesync.daemon.arenas import share_arenas
from phasesync.daemon.hardening import harden
from phasesync.daemon.health import STUCK_AFTER, ChoreProgress, HealthState, Heartbeat, SchemaWatch
from phasesync.daemon.http import LISTEN_PATIENCE, HealthServer, RetryingListener
from phasesync.daemon.last_resort import LastResort
from phasesync.daemon.metrics import DaemonMetrics
from phasesync.daemon.periodic import PeriodicChores
from phasesync.daemon.poller import Poller
from phasesync.daemon.reload import apply_reload
from phasesync.daemon.shutdown import STOP_BEYOND_DRAIN, shut_down
from phasesync.daemon.signals import Command, CommandQueue, Signals
from phasesync.daemon.systemd import Notifier
from phasesync.errors import (
    DestinationUnavailableError,
    PhasesyncError,
    SchemaMismatchError,
    StoreUnavailableError,
    ThrottledError,
)
from phasesync.host_files import out_of_descriptors, shortage
from phasesync.ports.runtime import EventSink
from phasesync.settings.load import LoadedSettings
from phasesync.settings.model import Settings

if TYPE_CHECKING:
    from phasesync.daemon.build import Components
    from phasesync.store.migrate import SchemaStatus

_TICK_S: Final = 0.5
_KMS_CANNOT_ANSWER: Final = (DestinationUnavailableError, ThrottledError)
"""Before the daemon works it calls AWS for one thing: the root key, if AWS KMS has it."""

Build = Callable[[Callable[[], Settings], EventSink, Metrics], "Components"]
"""Builds what the daemon works with, from a function that returns the settings in effect: `build_components`."""


def run_daemon(
    *,
    loaded: LoadedSettings,
    reload: Callable[[], LoadedSettings],
    schema_status: "Callable[[], SchemaStatus]",
    build: Build,
    events: EventSink,
    metrics: Metrics,
) -> int:
    """
    Work until SIGTERM or SIGINT. For the main thread, after `configure_logging`.

    Args:
        loaded: the settings.
        reload: reads them again, at SIGHUP.
        schema_status: checks the schema until the database is opened. StoreUnavailableError: wait for the database.
        build: is called once the schema is right. StoreUnavailableError, SchemaMismatchError, and errors of AWS KMS
            that pass: wait again.
        events: takes what happens.
        metrics: of this process.

    Returns:
        The exit code: 0 after a stop. The process itself ends soon after a signal, even if a thread hangs.

    Raises:
        PhasesyncError: what prevents the start, such as a wrong root key; or what ends the work, such as another
            installation's database in the place of ours.
    """
    share_arenas()
    problems = harden()
    loaded = replace(loaded, warnings=(*loaded.warnings, *problems))
    commands = CommandQueue()
    service = Service(
        loaded=loaded,
        reload=reload,
        schema_status=schema_status,
        build=build,
        events=events,
        metrics=metrics,
        commands=commands,
    )

    try:
        with Signals(commands, stop_within=lambda: service.stop_within.total_seconds()):
            return service.run()
    finally:
        flush_log()  # What is printed afterwards, such as why the start failed, has to come last.


class Service:
    """One daemon, from its start to its end."""

    def __init__(
        self,
        *,
        loaded: LoadedSettings,
        reload: Callable[[], LoadedSettings],
        schema_status: "Callable[[], SchemaStatus]",
        build: Build,
        events: EventSink,
        metrics: Metrics,
        commands: CommandQueue,
        exit_now: Callable[[int], object] = os._exit,
        listen_patience: timedelta = LISTEN_PATIENCE,
    ) -> None:
        """
        Args:
            commands: what to do: stop, or reload.
            exit_now: ends the process if threads do not end.
            listen_patience: how long to try an address that is not available.

        The others are those of `run_daemon`.
        """
        self.settings: Settings = loaded.settings
        """Those in effect now."""
        self._warnings = loaded.warnings
        self._load_again = reload
        self._schema_status = schema_status
        self._build = build
        self._events = events
        self._commands = commands
        self._exit_now = exit_now
        self._log = get_logger("phasesync.daemon")
        self._notifier = Notifier()
        self._state = HealthState()
        self._counted = metrics
        self._metrics = DaemonMetrics(metrics, self._state, per_sync=lambda: self.settings.metrics.per_sync)
        self.http = HealthServer(
            host=self.settings.http.host,
            port=self.settings.http.port,
            health=self._state.health,
            ready=self._state.ready,
            metrics=self._metrics.page,
        )
        self._listener = RetryingListener(self.http, stands_by=self._stands_by, patience=listen_patience)
        self._state.listen_problem = lambda: self._listener.problem
        self._state.lines_lost = lines_lost
        self._schema_watch = SchemaWatch(self._state, check=lambda: self._schema_status(), events=events)
        self._ready_sent = False
        self._ready = False
        self._healthy = True
        self._beating = threading.Lock()
        self._signed_off = False
        self._working = False
        """The work begins, or has begun: a stop that comes from now on may have to let calls end."""

    @property
    def stop_within(self) -> timedelta:
        """How long a stop may take that begins now. Nothing is in hand before the daemon works."""
        drain = timedelta(seconds=self.settings.daemon.drain_s) if self._working else timedelta(0)
        return drain + STOP_BEYOND_DRAIN

    def run(self) -> int:
        """Start, work, stop; see `run_daemon`."""
        self._listener.start()
        try:
            address = self.http.address if self._listener.problem is None else None
            self._log.info("phasesync starts", version=__version__, pid=os.getpid(), listening=address)
            self._warn(self._warnings)
            components = self._start()
            if components is not None:
                self._work(components)
        finally:
            self._begin_to_stop()
            self._listener.stop()
            self._notifier.close()
        self._log.info("phasesync has stopped")
        if (fatal := self._fatal) is not None:
            raise fatal
        return 0

    def _start(self) -> "Components | None":
        """Wait until the components can be built; return None if a stop comes first."""
        while self._fatal is None:
            if self._schema_watch.check_at_start():
                try:
                    components = self._build(lambda: self.settings, self._events, self._counted)
                except (StoreUnavailableError, SchemaMismatchError, *_KMS_CANNOT_ANSWER) as error:
                    asked = isinstance(error, _KMS_CANNOT_ANSWER)
                    self._state.kms_problem = (error.code or "no answer") if asked else None
                    self._schema_watch.report(Chore.START, error)
                else:
                    self._state.kms_problem = None
                    self._working = True
                    if self._commands.wait(0) is Command.STOP:
                        components.application.close()
                        return None
                    # From now on the opened database: a new connection for each check would cost more.
                    self._schema_status = components.application.schema
                    self._warn(components.application.warnings)
                    return components
            self._notifier.status(self._state.status_line())
            match self._commands.wait(CHECK_SCHEMA_EVERY.total_seconds()):
                case Command.STOP:
                    return None
                case Command.RELOAD:
                    self._reload(None)
        return None

    def _work(self, components: "Components") -> None:
        chores = PeriodicChores(ended=self._metrics.round_ended)
        self._metrics.work_begins(components)
        self._add_chores(chores, components)
        if components.queue is not None:
            scheduler = components.scheduler
            components.queue.start(lambda: self._state.schema_is_current and scheduler.may_claim)
        self._state.heartbeat = lambda: self._heartbeat(chores, components)
        chores.start()
        scheduler = components.scheduler
        poller = Poller(
            self._with_schema(scheduler.poll),
            due_in=lambda: scheduler.due_in,
            busy=lambda: scheduler.busy,
            watch=components.watch,
        )
        poller.start()
        self._supervise(chores)
        poller.stop()
        self._stop(chores, components)

    def _add_chores(self, chores: PeriodicChores, components: "Components") -> None:
        """Add every chore. Polls do nothing before the first heartbeat brings a role."""
        scheduler = components.scheduler

        def beat() -> bool:
            with self._beating:
                # A heartbeat after the sign-off would sign on again.
                return self._signed_off or scheduler.beat()

        def take_over() -> bool:
            # Also after a failed heartbeat: a database that can be written again is noticed at once.
            works = scheduler.role is DaemonRole.ACTIVE and scheduler.heartbeat_failure is None
            return works or beat()

        with_schema = self._with_schema
        second, minute = timedelta(seconds=1), timedelta(minutes=1)
        chores.add(Chore.BEAT, beat, every=timedelta(seconds=self.settings.daemon.claim_ttl_s) / 3)
        chores.add(Chore.TAKE_OVER, take_over, every=TAKE_OVER_EVERY)
        chores.add(Chore.POLL, with_schema(scheduler.poll), every=self._poll_every())
        chores.add(Chore.SCHEMA, self._schema_watch.check, every=CHECK_SCHEMA_EVERY, first_in=CHECK_SCHEMA_EVERY)
        chores.add(Chore.REAP, with_schema(scheduler.free_expired_claims), every=REAP_EVERY)
        if components.queue is not None:
            chores.add(Chore.QUEUE, with_schema(scheduler.clear_queue), every=CLEAR_QUEUE_EVERY)
        chores.add(
            Chore.ROOT_KEYS, with_schema(scheduler.follow_root_keys), every=FOLLOW_ROOT_KEYS_EVERY, first_in=second
        )
        chores.add(Chore.SWEEP, with_schema(scheduler.sweep), every=self._sweep_every(), first_in=second)
        chores.add(Chore.LEASES, with_schema(scheduler.expire_leases), every=EXPIRE_LEASES_EVERY)
        chores.add(Chore.NOTIFY, with_schema(scheduler.notify), every=NOTIFY_EVERY, first_in=second)
        chores.add(Chore.BACKUP, with_schema(scheduler.back_up), every=BACK_UP_EVERY, first_in=second)
        chores.add(Chore.REAP_USERS, with_schema(scheduler.remove_orphan_users), every=HOURLY, first_in=2 * minute)
        chores.add(Chore.AUDIT, with_schema(scheduler.note_audit_head), every=HOURLY, first_in=second)
        chores.add(Chore.HOUSEKEEPING, with_schema(scheduler.prune), every=HOURLY, first_in=minute)

    def _with_schema(self, work: Callable[[], bool]) -> Callable[[], bool]:
        return lambda: not self._state.schema_is_current or work()

    def _supervise(self, chores: PeriodicChores) -> None:
        """Return when the work has to end. Until then notify systemd of how the chores go, and reload."""
        watchdog_every = self._notifier.watchdog_every
        tick_s = _TICK_S if watchdog_every is None else min(_TICK_S, watchdog_every.total_seconds() / 2)
        fed = float("-inf")
        last_resort = LastResort(exit_now=self._exit_now)
        last_resort.start()
        try:
            while self._fatal is None and (command := self._commands.wait(tick_s)) is not Command.STOP:
                last_resort.pulse()
                try:
                    if command is Command.RELOAD:
                        self._reload(chores)
                    chores.correct_clock_jumps()
                    self._state.out_of_descriptors = out_of_descriptors()
                    healthy = self._report_changes()
                    self._notifier.status(self._state.status_line())
                except Exception as error:
                    if shortage(error) is None:
                        raise
                    continue  # The next tick comes soon, and what the host lacks may be there again.
                if watchdog_every is None or not healthy:
                    continue
                if time.monotonic() - fed >= watchdog_every.total_seconds() - tick_s:
                    fed = time.monotonic()
                    self._notifier.watchdog()
        finally:
            last_resort.stop()

    def _stop(self, chores: PeriodicChores, components: "Components") -> None:
        self._begin_to_stop()
        self._log.info("stopping", runs_under_way=len(components.dispatcher.running()))

        def sign_off(unfinished: list[Claim]) -> None:
            with self._beating:
                self._signed_off = True
                components.scheduler.sign_off(unfinished)

        drain = timedelta(seconds=self.settings.daemon.drain_s)
        result = shut_down(components, drain=drain, stop_chores=chores.stop, sign_off=sign_off)
        if not result.clean:
            self._log.warning(
                "stopped with work unfinished", runs_under_way=result.unfinished, signed_off=result.signed_off
            )
            flush_log()
            fatal = self._fatal
            # A thread that hangs would keep the interpreter alive.
            self._exit_now(0 if fatal is None else fatal.exit_code)

    def _begin_to_stop(self) -> None:
        if not self._state.stopping:
            self._state.stopping = True
            self._notifier.stopping()

    @property
    def _fatal(self) -> PhasesyncError | None:
        """The error that ends the daemon; None if there is none."""
        return self._schema_watch.fatal or self._listener.fatal

    def _stands_by(self) -> bool:
        heartbeat = self._state.heartbeat
        return heartbeat is not None and heartbeat().role is DaemonRole.STANDBY

    def _heartbeat(self, chores: PeriodicChores, components: "Components") -> Heartbeat:
        aws = self.settings.aws
        # Twice the longest time that one call may take by the settings, if that is more.
        longest_call = timedelta(seconds=aws.max_attempts * (aws.connect_timeout_s + aws.read_timeout_s))

        def progress_of(chore: Chore) -> ChoreProgress:
            return ChoreProgress(
                every=chores.every(chore),
                ended=timedelta(seconds=chores.age(chore)),
                succeeded=timedelta(seconds=chores.success_age(chore)),
            )

        return Heartbeat(
            role=components.scheduler.role,
            heartbeat_failure=components.scheduler.heartbeat_failure,
            beat=progress_of(Chore.BEAT),
            poll=progress_of(Chore.POLL),
            leases=progress_of(Chore.LEASES),
            loads=[dispatcher.load() for dispatcher in components.dispatchers],
            stuck_after=max(STUCK_AFTER, 2 * longest_call),
        )

    def _report_changes(self) -> bool:
        """Log changes of health and readiness, notify systemd when first ready; return whether healthy."""
        health, ready = self._state.health(), self._state.ready()
        if health.ok is not self._healthy:
            self._healthy = health.ok
            log = self._log.info if health.ok else self._log.error
            log("health changed", ok=health.ok, **health.detail)
        if ready.ok and not self._ready_sent:
            self._ready_sent = self._ready = True
            self._notifier.ready(self._state.status_line())
        elif self._ready_sent and ready.ok is not self._ready:
            self._ready = ready.ok
            log = self._log.info if ready.ok else self._log.warning
            log("readiness changed", ok=ready.ok, **ready.detail)
        return health.ok

    def _reload(self, chores: PeriodicChores | None) -> None:
        if self._ready_sent:
            self._notifier.reloading()
        try:
            loaded = self._load_again()
        except PhasesyncError as error:
            # Messages about settings never repeat a value.
            self._log.error("settings not reloaded; the former ones stay", reason=error.message)
        else:
            result = apply_reload(self.settings, loaded.settings)
            self.settings = result.settings
            set_level(self.settings.log.level)
            if chores is not None and "daemon.poll_interval_ms" in result.applied:
                chores.set_every(Chore.POLL, self._poll_every())
            if chores is not None and "daemon.sweep_interval_s" in result.applied:
                chores.set_every(Chore.SWEEP, self._sweep_every())
            self._warn(loaded.warnings)
            self._log.info("settings reloaded", applied=list(result.applied), needs_restart=list(result.needs_restart))
        if self._ready_sent:
            self._notifier.ready(self._state.status_line())

    def _warn(self, warnings: tuple[str, ...]) -> None:
        for warning in warnings:
            self._log.warning(warning)

    def _poll_every(self) -> timedelta:
        return timedelta(milliseconds=self.settings.daemon.poll_interval_ms)

    def _sweep_every(self) -> timedelta:
        return timedelta(seconds=self.settings.daemon.sweep_interval_s)
