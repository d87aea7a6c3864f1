"""A database, a fleet of daemons and some work, for the service. They stand in for `daemon.build.Components`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from phasesync.core.chores import DaemonRole, Load
from phasesync.core.events import Event
from phasesync.core.notification_message import Condition
from phasesync.core.sync import SyncStatus, Trigger
from phasesync.core.sync_claim import Claim
from phasesync.errors import PhasesyncError, StoreUnavailableError
from phasesync.ports.runtime import EventSink
from phasesync.settings.model import Settings

if TYPE_CHECKING:
    # Not at run time: processes of tests start sooner without the database.
    from phasesync.adapters.telemetry.metrics import Metrics
    from phasesync.daemon.build import Components
    from phasesync.store.figures import Figures
    from phasesync.store.migrate import SchemaStatus


@dataclass(frozen=True)
class FakeSchema:
    """A `SchemaStatus`."""

    current: str | None = "0002"
    expected: str = "0002"
    queue_fix: str | None = None

    @property
    def is_current(self) -> bool:
        return self.current == self.expected


def a_claim(sync_id: str = "sync-1") -> Claim:
    return Claim(sync_id=sync_id, owner="daemon-1", fence=1, trigger=Trigger.CHANGE, actor="daemon", data_key_id="key")


def a_figure() -> Figures:
    """Figures of an empty installation."""
    from phasesync.store.alerts import AlertCounts
    from phasesync.store.figures import Figures

    return Figures(
        at=datetime.now(UTC),
        host_ahead=timedelta(0),
        syncs=dict.fromkeys(SyncStatus, 0),
        longest={},
        behind=0,
        behind_since=None,
        versions_left=30,
        waiting_for_budget=0,
        leases={"active": 0},
        overdue=0,
        overdue_since=None,
        claims=0,
        daemons=dict.fromkeys(DaemonRole, 0),
        restored=False,
        alerts=AlertCounts(open=dict.fromkeys(Condition, 0), pending=0, oldest_pending=None),
    )


@dataclass
class World:
    """What outlives the daemon, and switches that make it misbehave."""

    check_every: timedelta = timedelta(milliseconds=20)
    schema: FakeSchema = field(default_factory=FakeSchema)
    down: bool = False
    role_to_give: DaemonRole = DaemonRole.ACTIVE
    build_errors: list[PhasesyncError] = field(default_factory=list)

    events: list[Event] = field(default_factory=list)
    members: set[str] = field(default_factory=set)
    claims: list[Claim] = field(default_factory=list)
    polls: int = 0
    polls_before_role: int = 0
    reaped: int = 0
    checks: int = 0
    poll_error: Exception | None = None
    may_write: bool = True
    closed: bool = False
    role: DaemonRole | None = None
    heartbeat_failure: PhasesyncError | None = None
    may_be_written: bool = True
    polls_succeed: bool = True
    load: Load = field(default_factory=lambda: Load(threads=8))
    current: Callable[[], Settings] | None = None
    _gate: threading.Event = field(default_factory=threading.Event)
    check_error: PhasesyncError | None = None
    hang_in_poll: bool = False
    hang_in_sign_off: bool = False
    hang_in_work: bool = False
    each_asked: Callable[[bool], object] = lambda _: None

    def let_go(self) -> None:
        """End whatever hangs."""
        self._gate.set()

    # what the service is given

    def schema_status(self) -> SchemaStatus:
        self.checks += 1
        if self.check_error is not None:
            raise self.check_error
        if self.down:
            raise StoreUnavailableError
        return cast("SchemaStatus", self.schema)

    def build(self, current: Callable[[], Settings], events: EventSink, metrics: Metrics) -> Components:
        if self.build_errors:
            raise self.build_errors.pop(0)
        self.current = current
        return cast("Components", FakeComponents(self))

    def emit(self, event: Event) -> None:
        self.events.append(event)

    # chores

    due_in: timedelta | None = None
    busy: bool = False

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

    def free_expired_claims(self) -> bool:
        self.reaped += 1
        return True

    def sweep(self) -> bool:
        return True

    def expire_leases(self) -> bool:
        return True

    def follow_root_keys(self) -> bool:
        return True

    def back_up(self) -> bool:
        return True

    def note_audit_head(self) -> bool:
        return True

    def notify(self) -> bool:
        return True

    def remove_orphan_users(self) -> bool:
        return True

    def prune(self) -> bool:
        return True

    def stop(self) -> None:
        if self.hang_in_poll:
            self._gate.wait()

    def sign_off(self, unfinished: list[Claim]) -> None:
        if self.hang_in_sign_off:
            self._gate.wait()
        for claim in unfinished:
            self.claims.remove(claim)
        self.members.discard("daemon-1")


class FakeComponents:
    def __init__(self, world: World) -> None:
        self.application = FakeApplication(world)
        self.scheduler = world
        self.keeper = FakeKeeper(world)
        self.dispatcher = FakeDispatcher(world)
        self.dispatchers: tuple[Any, ...] = (self.dispatcher,)
        self.message_dispatcher = IdleDispatcher()
        self.queue = None
        self.tracer = None
        self.key_ids = lambda: {"root": "root-1"}
        self.watch = FakeWatch()

    def read_figures(self, each: bool) -> Figures:
        self.application.world.each_asked(each)
        if self.application.world.down:
            raise StoreUnavailableError
        return a_figure()


class FakeWatch:
    """Nothing wakes the daemon but a time or a stop."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def wake(self) -> None:
        self._woken.set()

    def wait(self, timeout: timedelta) -> None:
        self._woken.wait(timeout.total_seconds())

    def close(self) -> None:
        pass


@dataclass
class FakeApplication:
    world: World
    warnings: tuple[str, ...] = ()

    def schema(self) -> SchemaStatus:
        return self.world.schema_status()

    def close(self) -> None:
        self.world.closed = True


@dataclass
class FakeKeeper:
    world: World

    def stop(self) -> None:
        self.world.may_write = False


class IdleDispatcher:
    """Has nothing to do."""

    def drain(self, timeout: timedelta) -> bool:
        return True


@dataclass
class FakeDispatcher:
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
