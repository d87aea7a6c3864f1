"""
The daemon's life: wait for the database and its schema, work in rounds, reload, and end cleanly.

The main thread owns signals and does nothing that takes long while the daemon works. Must not know what a round does,
nor name a concrete class of an adapter that holds data: bootstrap builds the parts.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from phasesync import __version__
from phasesync.adapters.telemetry.logging import flush_log, get_logger, lines_lost, set_level
from phasesync.core.daemons import MemberRole
from phasesync.core.sync_state import Claim
from phasesync.daemon.hardening import harden
from phasesync.daemon.health import STUCK_AFTER, Condition, Heartbeat, Round, SchemaWatch
from phasesync.daemon.http import PATIENCE, HealthServer, Listening
from phasesync.daemon.parts import Build, Parts, Schema
from phasesync.daemon.periodic import PeriodicChores
from phasesync.daemon.reload import take_over
from phasesync.daemon.shutdown import STOP_BEYOND_DRAIN, end_work
from phasesync.daemon.signals import Command, CommandQueue, Signals
from phasesync.daemon.systemd import Notifier
from phasesync.errors import PhasesyncError, SchemaMismatchError, StoreUnavailableError
from phasesync.ports.runtime import EventSink
from phasesync.settings.load import LoadedSettings
from phasesync.settings.model import Settings

LOOK_EVERY: Final = timedelta(seconds=2)
"""How often the database and its schema are looked at, while waiting and while working."""
TAKE_OVER_EVERY: Final = timedelta(milliseconds=500)
"""
How often a standby asks whether it is its turn, and a heartbeat that failed is repeated: a clean stop is followed at
once, and a database that can be written again is noticed at once.
"""
SWEEP_EVERY: Final = timedelta(seconds=10)
"""How often it is asked which checks are due soon: `engine.sweep.ROUND`."""
EXPIRE_EVERY: Final = timedelta(seconds=1)
"""How often it is asked which leases are due: `engine.expiry.ROUND`."""

_TICK_S: Final = 0.5
_LIVE: Final = frozenset({"log.level", "daemon.poll_interval_ms", "daemon.drain_s"})
"""Settings that the service itself takes over at once; the parts name theirs."""


def run_daemon(
    *,
    loaded: LoadedSettings,
    reload: Callable[[], LoadedSettings],
    look: Callable[[], Schema],
    build: Build,
    events: EventSink,
) -> int:
    """
    Work until SIGTERM or SIGINT. For the main thread; logging has been set up (`configure_logging`).

    Args:
        loaded: the settings.
        reload: reads them again, at SIGHUP.
        look: tells how the database's schema stands. StoreUnavailableError: wait for it.
        build: makes the working parts once the schema is right. StoreUnavailableError, SchemaMismatchError: wait again.
        events: takes what happened.

    Returns:
        The exit code: 0 after a stop. The process itself ends soon after a signal, even if a thread hangs.

    Raises:
        PhasesyncError: what stands in the way of the start: an address in use, a wrong root key; and what ends the
            work: another installation's database in the place of ours.
    """
    problems = harden()
    loaded = replace(loaded, warnings=(*loaded.warnings, *problems))
    inbox = CommandQueue()
    service = Service(loaded=loaded, reload=reload, look=look, build=build, events=events, inbox=inbox)

    def stop_within() -> float:
        return service.settings.daemon.drain_s + STOP_BEYOND_DRAIN.total_seconds()

    try:
        with Signals(inbox, stop_within=stop_within):
            return service.run()
    finally:
        flush_log()  # What is printed after it, such as why the start failed, is to come last.


class Service:
    """One daemon, from its start to its end."""

    def __init__(
        self,
        *,
        loaded: LoadedSettings,
        reload: Callable[[], LoadedSettings],
        look: Callable[[], Schema],
        build: Build,
        events: EventSink,
        inbox: CommandQueue,
        exit_now: Callable[[int], object] = os._exit,
        listen_patience: timedelta = PATIENCE,
    ) -> None:
        """
        Args:
            inbox: what it is asked to do.
            listen_patience: how long an address that is not to be had is tried.
            exit_now: ends the process when threads do not end.

        The others are those of `run_daemon`.
        """
        self.settings: Settings = loaded.settings
        """What is in effect now."""
        self._warnings = loaded.warnings
        self._read_again = reload
        self._build = build
        self._inbox = inbox
        self._exit_now = exit_now
        self._log = get_logger("phasesync.daemon")
        self._notifier = Notifier()
        self._condition = Condition()
        self.http = HealthServer(
            host=self.settings.http.host,
            port=self.settings.http.port,
            health=self._condition.health,
            ready=self._condition.ready,
        )
        self._listening = Listening(self.http, stands_by=self._stands_by, patience=listen_patience)
        self._condition.not_listening = lambda: self._listening.problem
        self._lookout = SchemaWatch(look, self._condition, events)
        self._condition.lines_lost = lines_lost
        self._told_ready = False
        self._ready = False
        self._healthy = True
        self._live = _LIVE
        self._beating = threading.Lock()
        self._left = False

    def run(self) -> int:
        """Start, work, stop; see `run_daemon`."""
        self._listening.start()
        try:
            listening = self.http.address if self._listening.problem is None else None
            self._log.info("phasesync starts", version=__version__, pid=os.getpid(), listening=listening)
            for warning in self._warnings:
                self._log.warning(warning)
            parts = self._start()
            if parts is not None:
                self._work(parts)
        finally:
            self._begin_to_stop()
            self._listening.stop()
        self._log.info("phasesync has stopped")
        if (fatal := self._fatal) is not None:
            raise fatal
        return 0

    @property
    def _fatal(self) -> PhasesyncError | None:
        """What ends the daemon; None = nothing does."""
        return self._lookout.fatal or self._listening.fatal

    def _stands_by(self) -> bool:
        pulse = self._condition.pulse
        return pulse is not None and pulse().role is MemberRole.STANDBY

    def _start(self) -> Parts | None:
        """Wait until the parts can be built; None when the end came first."""
        while self._fatal is None:
            if self._lookout.see_at_start():
                try:
                    parts = self._build(lambda: self.settings)
                except (StoreUnavailableError, SchemaMismatchError) as error:
                    self._lookout.tell("start", error)
                else:
                    self._live = _LIVE | parts.live
                    for warning in parts.warnings:
                        self._log.warning(warning)
                    return parts
            self._notifier.status(self._condition.words())
            match self._inbox.wait(LOOK_EVERY.total_seconds()):
                case Command.STOP:
                    return None
                case Command.RELOAD:
                    self._reload(None)
        return None

    def _work(self, parts: Parts) -> None:
        rounds = PeriodicChores()
        beat_every = timedelta(seconds=self.settings.daemon.claim_ttl_s) / 3
        self._add_rounds(rounds, parts, beat_every)
        self._condition.pulse = lambda: self._pulse(rounds, parts)
        rounds.start()
        self._watch(rounds)
        self._stop(rounds, parts)

    def _pulse(self, rounds: PeriodicChores, parts: Parts) -> Heartbeat:
        aws = self.settings.aws
        # Twice what one call may take at most by the settings, where that is more.
        longest_call = timedelta(seconds=aws.max_attempts * (aws.connect_timeout_s + aws.read_timeout_s))

        def of(name: str) -> Round:
            return Round(
                every=rounds.every(name),
                ended=timedelta(seconds=rounds.age(name)),
                succeeded=timedelta(seconds=rounds.success_age(name)),
            )

        return Heartbeat(
            role=parts.scheduler.role,
            heartbeat_failure=parts.scheduler.heartbeat_failure,
            beat=of("beat"),
            poll=of("poll"),
            leases=of("leases"),
            loads=[one.load() for one in (parts.dispatcher, *parts.also_draining)],
            stuck_after=max(STUCK_AFTER, 2 * longest_call),
        )

    def _add_rounds(self, rounds: PeriodicChores, parts: Parts, beat_every: timedelta) -> None:
        """Polls do nothing before the first heartbeat has brought a role."""
        scheduler = parts.scheduler

        def beat() -> bool:
            with self._beating:
                # A beat after the sign-off would sign on again.
                return self._left or scheduler.beat()

        def take_over() -> bool:
            # Likewise after a heartbeat that failed: a database that can be written again is noticed at once.
            at_work = scheduler.role is MemberRole.ACTIVE and scheduler.heartbeat_failure is None
            return at_work or beat()

        def while_schema_is_right(work: Callable[[], bool]) -> Callable[[], bool]:
            return lambda: not self._condition.can_work or work()

        rounds.add("beat", beat, every=beat_every)
        rounds.add("take-over", take_over, every=TAKE_OVER_EVERY)
        rounds.add("poll", while_schema_is_right(scheduler.poll), every=self._poll_every())
        rounds.add("schema", self._lookout.see, every=LOOK_EVERY, first_in=LOOK_EVERY)
        rounds.add("reap", while_schema_is_right(scheduler.reap), every=timedelta(seconds=1))
        rounds.add("sweep", while_schema_is_right(scheduler.sweep), every=SWEEP_EVERY, first_in=timedelta(seconds=1))
        rounds.add("leases", while_schema_is_right(scheduler.expire_leases), every=EXPIRE_EVERY)
        rounds.add(
            "reap-users",
            while_schema_is_right(scheduler.reap_users),
            every=timedelta(hours=1),
            first_in=timedelta(minutes=2),
        )
        rounds.add(
            "housekeeping",
            while_schema_is_right(scheduler.keep_house),
            every=timedelta(hours=1),
            first_in=timedelta(minutes=1),
        )

    def _watch(self, rounds: PeriodicChores) -> None:
        """Return when the work has to end; until then tell systemd how the rounds go, and reload."""
        every = self._notifier.watchdog_every
        tick_s = _TICK_S if every is None else min(_TICK_S, every.total_seconds() / 2)
        fed = float("-inf")
        while self._fatal is None and (word := self._inbox.wait(tick_s)) is not Command.STOP:
            if word is Command.RELOAD:
                self._reload(rounds)
            rounds.keep_time()
            healthy = self._tell_changes()
            self._notifier.status(self._condition.words())
            if every is not None and healthy and time.monotonic() - fed >= every.total_seconds() - tick_s:
                fed = time.monotonic()
                self._notifier.watchdog()

    def _tell_changes(self) -> bool:
        """Log when health or readiness has changed, and tell systemd of the first readiness; return whether healthy."""
        health, ready = self._condition.health(), self._condition.ready()
        if health.ok is not self._healthy:
            self._healthy = health.ok
            tell = self._log.info if health.ok else self._log.error
            tell("health changed", ok=health.ok, **health.detail)
        if ready.ok and not self._told_ready:
            self._told_ready = self._ready = True
            self._notifier.ready(self._condition.words())
        elif self._told_ready and ready.ok is not self._ready:
            self._ready = ready.ok
            tell = self._log.info if ready.ok else self._log.warning
            tell("readiness changed", ok=ready.ok, **ready.detail)
        return health.ok

    def _stop(self, rounds: PeriodicChores, parts: Parts) -> None:
        self._begin_to_stop()
        self._log.info("stopping", runs_under_way=len(parts.dispatcher.running()))

        def leave(unfinished: list[Claim]) -> None:
            with self._beating:
                self._left = True
                parts.scheduler.leave(unfinished)

        drain = timedelta(seconds=self.settings.daemon.drain_s)
        ended = end_work(parts, drain=drain, stop_rounds=rounds.stop, leave=leave)
        if not ended.clean:
            self._log.warning(
                "stopped with work unfinished", runs_under_way=ended.unfinished, signed_off=ended.signed_off
            )
            flush_log()
            fatal = self._fatal
            # A thread that hangs would keep the interpreter from ending.
            self._exit_now(0 if fatal is None else fatal.exit_code)

    def _begin_to_stop(self) -> None:
        if not self._condition.stopping:
            self._condition.stopping = True
            self._notifier.stopping()

    def _reload(self, rounds: PeriodicChores | None) -> None:
        if self._told_ready:
            self._notifier.reloading()
        try:
            loaded = self._read_again()
        except PhasesyncError as error:
            # Messages about settings never repeat a value.
            self._log.error("settings not reloaded; the former ones stay", reason=error.message)
        else:
            reloaded = take_over(self.settings, loaded.settings, live=self._live)
            self.settings = reloaded.settings
            set_level(self.settings.log.level)
            if rounds is not None and "daemon.poll_interval_ms" in reloaded.applied:
                rounds.set_every("poll", self._poll_every())
            for warning in loaded.warnings:
                self._log.warning(warning)
            self._log.info(
                "settings reloaded", applied=list(reloaded.applied), needs_restart=list(reloaded.needs_restart)
            )
        if self._told_ready:
            self._notifier.ready(self._condition.words())

    def _poll_every(self) -> timedelta:
        return timedelta(milliseconds=self.settings.daemon.poll_interval_ms)
