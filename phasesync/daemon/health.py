"""
Health, readiness and the status line of a daemon, and the watch on the database and its schema that they rely on.

Health says whether a restart would help: chores do not finish, or a thread is stuck in a run. Readiness says whether
the daemon does its work, or stands by for it: in addition its role holds, and the database can be read and written. A
database that is down or full, and AWS, make nothing unhealthy: a restart helps against none of these.

Answers must not query the database: they come at once from what the chores observed. docs/operations.md has the table
of conditions; a test meets each of them with a real daemon.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from phasesync.core.chores import Chore, DaemonRole, Load
from phasesync.core.events import ChoreFailed, SchemaWaiting
from phasesync.daemon.http import ProbeResult
from phasesync.errors import (
    AnotherDatabaseError,
    KeyUnavailableError,
    PhasesyncError,
    RetiredDatabaseError,
    StoreUnavailableError,
)
from phasesync.ports.runtime import EventSink

if TYPE_CHECKING:
    from phasesync.store.migrate import SchemaStatus

STALLED_AFTER: Final = timedelta(seconds=30)
"""Rounds come every few seconds or more often, and what they wait for (a lock, a connection) gives up after 15 s."""
STUCK_AFTER: Final = timedelta(minutes=2)
"""
How long a run may make no progress. Every call of AWS is progress. One call with all of its attempts and pauses takes
less than a minute, and waiting for a database or an identity has similar bounds.
"""
OUT_OF_DESCRIPTORS: Final = (
    "no file descriptor is left: raise the limit (LimitNOFILE in the systemd unit, or ulimit -n), or lower "
    "daemon.workers"
)
FULL_AFTER: Final = timedelta(seconds=60)
"""From then on the status line says that every worker is busy and none has ended."""


@dataclass(frozen=True, kw_only=True)
class ChoreProgress:
    """
    How a periodic chore goes that must not stop.

    Attributes:
        every: its rhythm.
        ended: time since a round last ended, with or without success.
        succeeded: time since a round last succeeded.
    """

    every: timedelta
    ended: timedelta
    succeeded: timedelta

    @property
    def limit(self) -> timedelta:
        """The longest time that is normal for either."""
        return max(STALLED_AFTER, 3 * self.every)


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """
    Signs of life of a daemon at work.

    Attributes:
        role: what the daemon does; None until it is known, and again once no heartbeat has succeeded for the life of a
            role.
        heartbeat_failure: why the newest heartbeat failed; None if it succeeded. A heartbeat is a write.
        beat, poll, leases: the chores that must not stop.
        loads: one for each dispatcher.
        stuck_after: how long a piece of work may make no progress.
    """

    role: DaemonRole | None
    beat: ChoreProgress
    poll: ChoreProgress
    leases: ChoreProgress
    heartbeat_failure: PhasesyncError | None = None
    loads: Sequence[Load] = ()
    stuck_after: timedelta = STUCK_AFTER

    @property
    def chores(self) -> tuple[tuple[str, ChoreProgress], ...]:
        """The chores that must not stop, with their names for people."""
        return ("heartbeats", self.beat), ("polls", self.poll), ("expiries of leases", self.leases)

    @property
    def stuck(self) -> int:
        """How many threads have made no progress for too long."""
        return sum(quiet > self.stuck_after for load in self.loads for quiet in load.quiet)

    @property
    def full_for(self) -> timedelta:
        """How long all threads of a dispatcher have been busy without one of them finishing; 0 if one is free."""
        return max((load.full_for for load in self.loads), default=timedelta(0))


class HealthState:
    """Facts that the service collects, and what follows from them. Few threads write it, many read it."""

    def __init__(self) -> None:
        self.database_reachable: bool | None = None
        """None before the first check."""
        self.database_problem = ""
        """Why the database was not reachable at the last check, such as that its file was replaced."""
        self.schema: SchemaStatus | None = None
        """As of the last check that reached the database."""
        self.heartbeat: Callable[[], Heartbeat] | None = None
        """None until the daemon works."""
        self.lines_lost: Callable[[], int] = lambda: 0
        """Returns how many lines of the log were lost because their reader did not take them."""
        self.listen_problem: Callable[[], str | None] = lambda: None
        """Returns why the health server does not listen; None if it does."""
        self.kms_problem: str | None = None
        """Why AWS KMS does not open the root key, for which the start waits; None if it does not wait for that."""
        self.out_of_descriptors = False
        """Whether this process, or its host, can open no further file."""
        self.stopping = False

    @property
    def schema_is_current(self) -> bool:
        """Whether the schema matched this release at the last check."""
        return self.schema is not None and self.schema.is_current

    def health(self) -> ProbeResult:
        """Return whether a restart would help. A daemon that waits for its database is healthy."""
        heartbeat = self._heartbeat()
        detail: dict[str, object] = {"state": self._state(heartbeat)}
        if heartbeat is not None:
            detail |= {
                "last_heartbeat_s": _seconds(heartbeat.beat.succeeded),
                "last_poll_s": _seconds(heartbeat.poll.succeeded),
                "workers_busy": sum(len(load.quiet) for load in heartbeat.loads),
                "workers_stuck": heartbeat.stuck,
            }
            if heartbeat.full_for > timedelta(0):
                detail["workers_full_for_s"] = _seconds(heartbeat.full_for)
        if lost := self.lines_lost():
            detail["log_lines_lost"] = lost
        reason = self._reason_to_restart(heartbeat)
        return ProbeResult(ok=reason is None, detail=detail if reason is None else {**detail, "reason": reason})

    def ready(self) -> ProbeResult:
        """Return whether the daemon works or stands by, and otherwise what it waits for."""
        heartbeat = self._heartbeat()
        obstacle = next(self._obstacles(heartbeat), None)
        if obstacle is None and heartbeat is not None and heartbeat.role is not None:
            return ProbeResult(ok=True, detail={"role": heartbeat.role.value})
        detail: dict[str, object] = {"reason": obstacle or "starting"}
        if not self.stopping and self.database_reachable and self.schema is not None and not self.schema.is_current:
            detail |= {
                "found": _found(self.schema),
                "expected": self.schema.expected,
                "command": schema_command(self.schema),
            }
        return ProbeResult(ok=False, detail=detail)

    def status_line(self) -> str:
        """Return one line that says what the daemon does or waits for."""
        state = self._state(self._heartbeat())
        problem = self.listen_problem()
        return state if problem is None or self.stopping else f"{state}; health is not served: {problem}"

    def _heartbeat(self) -> Heartbeat | None:
        return None if self.heartbeat is None else self.heartbeat()

    def _state(self, heartbeat: Heartbeat | None) -> str:
        obstacle = next(self._obstacles(heartbeat), None)
        if obstacle is not None:
            return obstacle
        if heartbeat is None or heartbeat.role is None:
            return "starting"
        if heartbeat.full_for > FULL_AFTER:
            full_for = _whole_seconds(heartbeat.full_for)
            return f"{heartbeat.role.value}; every worker is busy and none has ended for {full_for} s"
        return heartbeat.role.value

    def _reason_to_restart(self, heartbeat: Heartbeat | None) -> str | None:
        """Return what a restart would help against; None if nothing is wrong of that kind."""
        if heartbeat is None or self.stopping:
            return None
        for name, progress in heartbeat.chores:
            if progress.ended > progress.limit:
                return f"{name} have stalled"
        if heartbeat.stuck:
            workers = "1 worker is" if heartbeat.stuck == 1 else f"{heartbeat.stuck} workers are"
            return f"{workers} stuck: no progress for more than {_whole_seconds(heartbeat.stuck_after)} s"
        return None

    def _obstacles(self, heartbeat: Heartbeat | None) -> Iterator[str]:
        """Yield what keeps the daemon from its work, the most basic obstacle first."""
        if self.stopping:
            yield "stopping"
        if self.database_reachable is None:
            yield "starting"
        if self.database_reachable is False:
            why = f": {self.database_problem}" if self.database_problem else ""
            yield f"the database cannot be reached{why}"
        if self.database_reachable and self.schema is not None and not self.schema.is_current:
            yield f"waiting for the database schema: {schema_command(self.schema)}"
        elif self.kms_problem is not None and self.database_reachable:
            yield f"waiting for AWS KMS, which has the root key: {self.kms_problem}"
        if (reason := self._reason_to_restart(heartbeat)) is not None:
            yield reason
        if self.out_of_descriptors:
            yield OUT_OF_DESCRIPTORS
        if heartbeat is not None:
            yield from _obstacles_at_work(heartbeat)


def _obstacles_at_work(heartbeat: Heartbeat) -> Iterator[str]:
    if (failure := heartbeat.heartbeat_failure) is not None:
        yield f"the database cannot be written{f' ({failure.code})' if failure.code else f': {failure.message}'}"
    if heartbeat.role is None and heartbeat.beat.succeeded > heartbeat.beat.every:
        yield f"the role has expired: the last heartbeat succeeded {_whole_seconds(heartbeat.beat.succeeded)} s ago"
    for name, progress in heartbeat.chores:
        if progress.succeeded > progress.limit:
            yield f"{name} have not succeeded for {_whole_seconds(progress.succeeded)} s"
    failing_for = max((load.failing_for for load in heartbeat.loads), default=timedelta(0))
    if failing_for > STALLED_AFTER:
        yield f"no result of a run could be recorded for {_whole_seconds(failing_for)} s"


def _found(schema: "SchemaStatus") -> str | None:
    """Return what the database has: its revision, and that the queue cannot be used if the settings ask for one."""
    return schema.current if schema.queue_fix is None else f"{schema.current}, without a queue of this release"


def schema_command(schema: "SchemaStatus") -> str:
    """Return the command that brings schema and release together."""
    if schema.current is None:
        return "phasesync init"
    if schema.queue_fix is not None and schema.fix == schema.queue_fix:
        return schema.queue_fix
    # Revisions are numbered with leading zeros.
    return "phasesync db migrate" if schema.current < schema.expected else "upgrade phasesync"


def _seconds(duration: timedelta) -> float:
    return round(duration.total_seconds(), 3)


def _whole_seconds(duration: timedelta) -> int:
    return round(duration.total_seconds())


class SchemaWatch:
    """Checks the database and its schema, updates the health state, and reports each change once. For one thread."""

    def __init__(self, state: HealthState, *, check: "Callable[[], SchemaStatus]", events: EventSink) -> None:
        """
        Args:
            state: gets the results.
            check: asks the database.
            events: takes changes.
        """
        self._check = check
        self._state = state
        self._events = events
        self._reported: str | None = None
        self.fatal: PhasesyncError | None = None
        """What ends the daemon: another installation's database took the place of ours, or ours is retired."""

    def check_at_start(self) -> bool:
        """
        Check while the daemon waits; return whether it can work. The database may be down for now.

        Raises:
            PhasesyncError: waiting does not help.
        """
        try:
            self._update(self._check())
        except StoreUnavailableError as error:
            self._unreachable(Chore.START, error)
        return self._state.schema_is_current and self._state.database_reachable is True

    def check(self) -> bool:
        """
        Check while the daemon works; return whether the database answered.

        Every error may pass, except one that ends the daemon: see `fatal`.
        """
        try:
            self._update(self._check())
        except PhasesyncError as error:
            if isinstance(error, (AnotherDatabaseError, KeyUnavailableError, RetiredDatabaseError)):
                self.fatal = error
            self._unreachable(Chore.SCHEMA, error)
            return False
        return True

    def report(self, chore: Chore, error: PhasesyncError) -> None:
        """Report a failure, once until something else is reported."""
        name = type(error).__name__
        if self._reported != name:
            self._reported = name
            self._events.emit(ChoreFailed(chore=chore, error=name, message=error.message))

    def _unreachable(self, chore: Chore, error: PhasesyncError) -> None:
        self._state.database_reachable = False
        self._state.database_problem = error.message
        self.report(chore, error)

    def _update(self, schema: "SchemaStatus") -> None:
        self._state.schema = schema
        self._state.database_reachable = True
        if schema.is_current:
            self._reported = None
            return
        command = schema_command(schema)
        if self._reported != (mismatch := f"{schema.current} {command}"):
            self._reported = mismatch
            found = _found(schema)
            self._events.emit(SchemaWaiting(found=found, expected=schema.expected, command=command))
