"""
Looks at the database and its schema, notes what it saw, and tells changes once.

How the daemon is doing, in the words of health, readiness and systemd's status line.

Health says whether a restart would help: rounds do not come to an end, or a thread is stuck in a run. Readiness says
whether the daemon does its work, or stands by for it: in addition its role holds, and the database can be read and
written. A database that is down or full, and AWS, make nothing unhealthy: a restart helps against none of these.

Must not ask the database: answers come at once from what the rounds have found. docs/operations.md has the table of
conditions; a test meets each of them with a real daemon.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from phasesync.core.daemons import Load, MemberRole
from phasesync.core.events import ChoreFailed, SchemaWaiting
from phasesync.daemon.http import Report
from phasesync.daemon.parts import Schema
from phasesync.errors import AnotherDatabaseError, KeyUnavailableError, PhasesyncError, StoreUnavailableError
from phasesync.ports.runtime import EventSink

STALLED_AFTER: Final = timedelta(seconds=30)
"""Rounds come every few seconds or more often, and what they wait for (a lock, a connection) gives up after 15 s."""
STUCK_AFTER: Final = timedelta(minutes=2)
"""
How long a run may make no progress: it makes some with every call of AWS. One call with all of its attempts and pauses
takes less than a minute, and waiting for a database or an identity is bounded likewise.
"""
FULL_AFTER: Final = timedelta(seconds=60)
"""From then on the status line says that every worker is busy and none comes to an end."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """
    A chore that has to go on.

    Attributes:
        every: its rhythm.
        ended: how long ago a round of it last came to an end, with or without success.
        succeeded: how long ago one last succeeded.
    """

    every: timedelta
    ended: timedelta
    succeeded: timedelta

    @property
    def limit(self) -> timedelta:
        """How long ago either may be."""
        return max(STALLED_AFTER, 3 * self.every)


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """
    Signs of life of a daemon at work.

    Attributes:
        role: what it does; None until it is known, and once no heartbeat has succeeded for as long as a role is good.
        heartbeat_failure: how the newest heartbeat failed, None where it did not. A heartbeat is a write.
        beat, poll, leases: rounds.
        loads: of the threads that do the work.
        stuck_after: how long a piece of work may make no progress.
    """

    role: MemberRole | None
    beat: Round
    poll: Round
    leases: Round
    heartbeat_failure: PhasesyncError | None = None
    loads: Sequence[Load] = ()
    stuck_after: timedelta = STUCK_AFTER

    @property
    def rounds(self) -> tuple[tuple[str, Round], ...]:
        """What has to go on, with its name."""
        return ("heartbeats", self.beat), ("polls", self.poll), ("expiries of leases", self.leases)

    @property
    def stuck(self) -> int:
        """How many threads have made no progress for too long."""
        return sum(quiet > self.stuck_after for load in self.loads for quiet in load.quiet)

    @property
    def full_for(self) -> timedelta:
        """How long every thread of a kind has been busy without one of them coming to an end; 0 = one is free."""
        return max((load.full_for for load in self.loads), default=timedelta(0))


class Condition:
    """Facts that the service notes, and what follows from them. Written by few threads, read by many."""

    def __init__(self) -> None:
        self.database_reachable: bool | None = None
        """None = not asked yet."""
        self.database_problem = ""
        """Why the database was not reachable when it was last asked, such as that its file was replaced."""
        self.schema: Schema | None = None
        """What was last seen."""
        self.pulse: Callable[[], Heartbeat] | None = None
        """None until the daemon works."""
        self.lines_lost: Callable[[], int] = lambda: 0
        """How many lines of the log were lost, since nobody took them."""
        self.not_listening: Callable[[], str | None] = lambda: None
        """Why nobody can ask for health and readiness; None = the address is ours."""
        self.stopping = False

    def health(self) -> Report:
        """Report whether a restart would help; a daemon that waits for its database is healthy."""
        pulse = None if self.pulse is None else self.pulse()
        detail: dict[str, object] = {"state": self._words(pulse)}
        if pulse is not None:
            detail |= {
                "last_heartbeat_s": _seconds(pulse.beat.succeeded),
                "last_poll_s": _seconds(pulse.poll.succeeded),
                "workers_busy": sum(len(load.quiet) for load in pulse.loads),
                "workers_stuck": pulse.stuck,
            }
            if pulse.full_for > timedelta(0):
                detail["workers_full_for_s"] = _seconds(pulse.full_for)
        if lost := self.lines_lost():
            detail["log_lines_lost"] = lost
        reason = self._restart_helps(pulse)
        return Report(ok=reason is None, detail=detail if reason is None else {**detail, "reason": reason})

    def ready(self) -> Report:
        """Report whether the daemon works or stands by, and otherwise what it waits for."""
        pulse = None if self.pulse is None else self.pulse()
        obstacle = next(self._obstacles(pulse), None)
        if obstacle is None and pulse is not None and pulse.role is not None:
            return Report(ok=True, detail={"role": pulse.role.value})
        detail: dict[str, object] = {"reason": obstacle or "starting"}
        if not self.stopping and self.database_reachable and self.schema is not None and not self.can_work:
            detail |= {
                "found": self.schema.current,
                "expected": self.schema.expected,
                "command": command_for(self.schema),
            }
        return Report(ok=False, detail=detail)

    @property
    def can_work(self) -> bool:
        """Whether the schema was right when it was last seen."""
        return self.schema is not None and self.schema.is_current

    def words(self) -> str:
        """Return one line that says what the daemon does or waits for."""
        words = self._words(None if self.pulse is None else self.pulse())
        problem = self.not_listening()
        return words if problem is None or self.stopping else f"{words}; health is not served: {problem}"

    def _words(self, pulse: Heartbeat | None) -> str:
        obstacle = next(self._obstacles(pulse), None)
        if obstacle is not None:
            return obstacle
        if pulse is None or pulse.role is None:
            return "starting"
        if pulse.full_for > FULL_AFTER:
            return f"{pulse.role.value}; every worker is busy and none has ended for {_whole(pulse.full_for)} s"
        return pulse.role.value

    def _restart_helps(self, pulse: Heartbeat | None) -> str | None:
        """Return what a restart would help against, None = nothing is wrong of that kind."""
        if pulse is None or self.stopping:
            return None
        for what, one in pulse.rounds:
            if one.ended > one.limit:
                return f"{what} have stalled"
        if pulse.stuck:
            counted = "1 worker is" if pulse.stuck == 1 else f"{pulse.stuck} workers are"
            return f"{counted} stuck: no progress for more than {_whole(pulse.stuck_after)} s"
        return None

    def _obstacles(self, pulse: Heartbeat | None) -> Iterator[str]:
        """Yield what keeps the daemon from its work, the first things first."""
        if self.stopping:
            yield "stopping"
        if self.database_reachable is None:
            yield "starting"
        if self.database_reachable is False:
            why = f": {self.database_problem}" if self.database_problem else ""
            yield f"the database cannot be reached{why}"
        if self.database_reachable and self.schema is not None and not self.can_work:
            yield f"waiting for the database schema: {command_for(self.schema)}"
        if (stuck := self._restart_helps(pulse)) is not None:
            yield stuck
        if pulse is None:
            return
        if (failure := pulse.heartbeat_failure) is not None:
            yield f"the database cannot be written{f' ({failure.code})' if failure.code else f': {failure.message}'}"
        if pulse.role is None and pulse.beat.succeeded > pulse.beat.every:
            yield f"the role has expired: the last heartbeat succeeded {_whole(pulse.beat.succeeded)} s ago"
        for what, one in pulse.rounds:
            if one.succeeded > one.limit:
                yield f"{what} have not succeeded for {_whole(one.succeeded)} s"
        if (failing_for := max((load.failing_for for load in pulse.loads), default=timedelta(0))) > STALLED_AFTER:
            yield f"no result of a run could be recorded for {_whole(failing_for)} s"


def command_for(schema: Schema) -> str:
    """Return what brings schema and release together."""
    if schema.current is None:
        return "phasesync init"
    # Revisions are numbered with leading zeros.
    return "phasesync db migrate" if schema.current < schema.expected else "upgrade phasesync"


def _seconds(duration: timedelta) -> float:
    return round(duration.total_seconds(), 3)


def _whole(duration: timedelta) -> int:
    return round(duration.total_seconds())


class SchemaWatch:
    """Keeps the facts about the database in a condition. For one thread at a time."""

    def __init__(self, look: Callable[[], Schema], condition: Condition, events: EventSink) -> None:
        """
        Args:
            look: asks the database.
            condition: gets what was seen.
            events: takes what changed.
        """
        self._look = look
        self._condition = condition
        self._events = events
        self._told: str | None = None
        self.fatal: PhasesyncError | None = None
        """What ends the daemon: the database is now one that it has no business with."""

    def see_at_start(self) -> bool:
        """Return whether the schema is right; False where the database is down. PhasesyncError: waiting is no use."""
        try:
            self._note(self._look())
        except StoreUnavailableError as error:
            self._unreachable("start", error)
        return self._condition.can_work and self._condition.database_reachable is True

    def see(self) -> None:
        """Look again while the daemon works; what went wrong may pass, but for another installation's database."""
        try:
            self._note(self._look())
        except PhasesyncError as error:
            if isinstance(error, (AnotherDatabaseError, KeyUnavailableError)):
                self.fatal = error
            self._unreachable("schema", error)

    def tell(self, chore: str, error: PhasesyncError) -> None:
        """Tell a failure, once until something else is told."""
        name = type(error).__name__
        if self._told != name:
            self._told = name
            self._events.emit(ChoreFailed(chore=chore, error=name, message=error.message))

    def _unreachable(self, chore: str, error: PhasesyncError) -> None:
        self._condition.database_reachable = False
        self._condition.database_problem = error.message
        self.tell(chore, error)

    def _note(self, schema: Schema) -> None:
        self._condition.schema = schema
        self._condition.database_reachable = True
        if schema.is_current:
            self._told = None
            return
        command = command_for(schema)
        if self._told != (told := f"{schema.current} {command}"):
            self._told = told
            self._events.emit(SchemaWaiting(found=schema.current, expected=schema.expected, command=command))
