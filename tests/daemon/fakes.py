"""A database, a fleet of daemons and some work, as the service sees them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from phasesync.core.daemons import Load, MemberRole
from phasesync.core.events import Event
from phasesync.core.status import Trigger
from phasesync.core.sync_state import Claim
from phasesync.daemon.parts import Current, Parts
from phasesync.errors import PhasesyncError, StoreUnavailableError


@dataclass(frozen=True)
class FakeSchema:
    current: str | None = "0002"
    expected: str = "0002"

    @property
    def is_current(self) -> bool:
        return self.current == self.expected


def a_claim(sync_id: str = "sync-1") -> Claim:
    return Claim(sync_id=sync_id, owner="daemon-1", fence=1, trigger=Trigger.CHANGE, actor="daemon")


@dataclass
class World:
    """What outlives the daemon, and switches that make it misbehave."""

    look_every: timedelta = timedelta(milliseconds=20)
    schema: FakeSchema = field(default_factory=FakeSchema)
    down: bool = False
    role_to_give: MemberRole = MemberRole.ACTIVE
    build_errors: list[PhasesyncError] = field(default_factory=list)
    live: frozenset[str] = frozenset()

    events: list[Event] = field(default_factory=list)
    members: set[str] = field(default_factory=set)
    claims: list[Claim] = field(default_factory=list)
    polls: int = 0
    polls_before_role: int = 0
    reaped: int = 0
    looks: int = 0
    poll_error: Exception | None = None
    may_write: bool = True
    closed: bool = False
    role: MemberRole | None = None
    heartbeat_failure: PhasesyncError | None = None
    may_be_written: bool = True
    polls_succeed: bool = True
    load: Load = field(default_factory=lambda: Load(threads=8))
    current: Current | None = None
    _gate: threading.Event = field(default_factory=threading.Event)
    look_error: PhasesyncError | None = None
    hang_in_poll: bool = False
    hang_in_leave: bool = False
    hang_in_work: bool = False

    def let_go(self) -> None:
        """End whatever hangs."""
        self._gate.set()

    # what bootstrap gives

    def look(self) -> FakeSchema:
        self.looks += 1
        if self.look_error is not None:
            raise self.look_error
        if self.down:
            raise StoreUnavailableError
        return self.schema

    def build(self, current: Current) -> Parts:
        if self.build_errors:
            raise self.build_errors.pop(0)
        self.current = current
        return Parts(scheduler=self, keeper=Keeper(self), dispatcher=Work(self), close=self.close, live=self.live)

    def close(self) -> None:
        self.closed = True

    def emit(self, event: Event) -> None:
        self.events.append(event)

    # rounds

    def poll(self) -> bool:
        if self.hang_in_poll:
            self._gate.wait()
        if self.poll_error:
            raise self.poll_error
        self.polls += 1
        self.polls_before_role += self.role is None
        return self.polls_succeed

    def beat(self) -> bool:
        if not self.may_be_written:
            self.heartbeat_failure = StoreUnavailableError("the disk is full", code="SQLITE_FULL")
            return False
        self.heartbeat_failure = None
        self.role = self.role_to_give
        self.members.add("daemon-1")
        return True

    def reap(self) -> bool:
        self.reaped += 1
        return True

    def sweep(self) -> bool:
        return True

    def expire_leases(self) -> bool:
        return True

    def reap_users(self) -> bool:
        return True

    def keep_house(self) -> bool:
        return True

    def stop(self) -> None:
        if self.hang_in_poll:
            self._gate.wait()

    def leave(self, unfinished: list[Claim]) -> None:
        if self.hang_in_leave:
            self._gate.wait()
        for claim in unfinished:
            self.claims.remove(claim)
        self.members.discard("daemon-1")


@dataclass
class Keeper:
    world: World

    def stop(self) -> None:
        self.world.may_write = False


@dataclass
class Work:
    """Runs end as soon as they may not write any more, unless they hang."""

    world: World

    def running(self) -> Sequence[Claim]:
        return list(self.world.claims)

    def load(self) -> Load:
        return self.world.load

    def drain(self, timeout: timedelta) -> bool:
        if self.world.hang_in_work and self.world.claims:
            return self.world._gate.wait(timeout.total_seconds())
        if not self.world.may_write:
            self.world.claims.clear()
        return not self.world.claims
