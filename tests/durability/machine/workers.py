"""
Workers that meet with mishaps: one run each, by a process of its own, that dies, freezes or is cut off at any step.

A frozen worker is a thread that waits for its turn; only one thread ever moves.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar, cast

from phasesync.core.credential import Credential
from phasesync.core.events import Event
from phasesync.core.model import EnvironmentSnapshot
from phasesync.core.remote import Observed
from phasesync.core.run import Run
from phasesync.core.sync import Trigger
from phasesync.core.sync_claim import Claim, SyncState
from phasesync.engine.claims import ClaimKeeper
from phasesync.engine.reconcile import Reconciler
from phasesync.errors import (
    DestinationRejectedError,
    DestinationUnavailableError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PhasesyncError,
    StoreUnavailableError,
    ThrottledError,
)
from phasesync.store import Store
from phasesync.store.secrets import SecretStore, SnapshotReader
from phasesync.store.sync_states import SyncStateStore
from tests.fakes.destination import FakeDestination, FakeDestinations
from tests.support.context import context_of, watched
from tests.support.stores import ACTOR, EXPIRED

if TYPE_CHECKING:
    from tests.durability.machine.stage import Commit, Stage

T = TypeVar("T")

TTL: Final = timedelta(seconds=15)
READS: Final = frozenset({"observe", "resource_policy", "sweep", "sweep_newest", "list_names", "read_value"})
_JOURNAL: Final = frozenset({"save_entry", "finish"})


class Fault(StrEnum):
    """What can happen to a run."""

    KILL = "kill"
    FREEZE = "freeze"
    STOP = "stop"
    """It is asked to end (SIGTERM)."""
    DOWN = "down"
    THROTTLED = "throttled"
    DENIED = "denied"
    REJECTED = "rejected"
    LOST = "lost"
    """AWS does what was asked, and the answer is lost."""
    LATE = "late"
    """No answer comes, and the request reaches AWS later."""
    STORE = "store"
    """The database is away for one statement."""


_REFUSALS: Final[Mapping[Fault, Callable[[], PhasesyncError]]] = {
    Fault.DOWN: lambda: DestinationUnavailableError("no connection"),
    Fault.THROTTLED: lambda: ThrottledError("slower"),
    Fault.DENIED: lambda: PermissionDeniedError("denied", action="secretsmanager:PutSecretValue"),
    Fault.REJECTED: lambda: DestinationRejectedError("rejected", code="InvalidParameterException"),
}


@dataclass(frozen=True)
class Mishap:
    """A fault, at the first step from this number on that it can happen at."""

    step: int
    fault: Fault


@dataclass(frozen=True, kw_only=True)
class Late:
    """A request that is still on its way."""

    worker: "Worker"
    call: str
    act: Callable[[], object] = field(repr=False)
    told: Mapping[str, Observed | None] = field(repr=False)


class Killed(BaseException):
    """The process died here."""


class Worker:
    """One run of one sync. It is started once; a frozen one is thawed."""

    def __init__(self, stage: "Stage", sync: str, trigger: Trigger, mishaps: Iterable[Mishap] = ()) -> None:
        self.stage = stage
        self.sync = sync
        self.state: SyncState | None = None
        self.commit: Commit | None = None
        self.told: dict[str, Observed | None] = {}
        self.run: Run | None = None
        self.escaped: BaseException | None = None
        self.steps: list[str] = []
        self.frozen = False
        self.ended = False
        self.lost = False
        self.stopped = False
        self.deleted: list[str] = []
        self.store_failed = False
        self._in_hand: tuple[str, int] | None = None
        self._mishaps = list(mishaps)
        self._doomed = False
        self.trigger = trigger
        self._main, self._mine = threading.Semaphore(0), threading.Semaphore(0)
        self._keeper = ClaimKeeper(context_of(stage.store, clock=stage.clock, ttl=TTL))
        self.number = stage.next_number()

    def start(self) -> "Worker":
        """Run until it ends or freezes."""
        claim = self.stage.store.claims.claim(
            self.stage.sync_id(self.sync), f"daemon-{self.number}", trigger=self.trigger, actor=ACTOR, ttl=EXPIRED
        )
        if any(mishap.fault is Fault.FREEZE for mishap in self._mishaps):
            threading.Thread(target=self._in_thread, args=(claim,), daemon=True).start()
            self._main.acquire()
        else:
            self._go(claim)
        return self

    def thaw(self) -> None:
        """Let a frozen worker go on until it ends or freezes again."""
        if self.lost or self.stopped or self.stage.is_paused(self.sync):
            self._forbid()
        self.frozen = False
        self._mine.release()
        self._main.acquire()

    def stop(self) -> None:
        """Ask a frozen worker to end."""
        self.stopped = True
        self._keeper.stop()

    def kill(self) -> None:
        """End a frozen worker on the spot."""
        self._doomed = True
        self.thaw()

    # --- inside of the run

    def _in_thread(self, claim: Claim) -> None:
        try:
            self._go(claim)
        finally:
            self._main.release()

    def _go(self, claim: Claim) -> None:
        try:
            self.run = self._reconciler().reconcile(claim, self._keeper.hold(claim))
        except Killed:
            pass  # A process that died leaves nothing behind but what it had written.
        except BaseException as error:
            self.escaped = error
        finally:
            self.ended = True
            told = (
                "died" if self.run is None else f"{self.run.outcome} {self.run.error.message if self.run.error else ''}"
            )
            self.stage.chronicle.append(f"worker {self.number} of {self.sync}: {told}")
            self.stage.judge.after_run(self)

    def _reconciler(self) -> Reconciler:
        stage = self.stage
        return Reconciler(
            context_of(watched_by(self), destinations=WatchedDestinations(self), clock=stage.clock, events=self)
        )

    def emit(self, event: Event) -> None:
        """Port `EventSink`."""

    def reach(self, when: str, what: str) -> None:
        """Go past one step."""
        self.steps.append(f"{when} {what}")
        for mishap in list(self._mishaps):
            if len(self.steps) > mishap.step and self._can_happen(mishap.fault, when, what):
                self._mishaps.remove(mishap)
                self.stage.chronicle.append(f"worker {self.number} of {self.sync}: {mishap.fault} {when} {what}")
                self._happen(mishap.fault)

    def _can_happen(self, fault: Fault, when: str, what: str) -> bool:
        match fault:
            case Fault.KILL | Fault.FREEZE | Fault.STOP:
                return True
            case Fault.STORE:
                return what in _JOURNAL
            case Fault.LOST:
                return when == "after" and what not in READS | _JOURNAL
            case Fault.LATE:
                return False  # asked for by `takes_late`
            case _:
                return when == "before" and what not in _JOURNAL

    def _happen(self, fault: Fault) -> None:
        match fault:
            case Fault.KILL:
                raise Killed
            case Fault.FREEZE:
                self.frozen = True
                self._main.release()
                self._mine.acquire()
                if self._doomed:
                    raise Killed
            case Fault.STOP:
                self.stop()
                self._forbid()
            case Fault.STORE:
                self.store_failed = True
                raise StoreUnavailableError("the database is away")
            case Fault.LOST:
                raise OutcomeUnknownError("no answer")
            case _:
                raise _REFUSALS[fault]()

    def _forbid(self) -> None:
        """From here on only the call in hand may still go out; taking tags off follows putting them on at once."""
        when, _, what = self.steps[-1].partition(" ")
        allowed = 1 + (what == "update_metadata") if when == "before" else int(what == "update_metadata")
        self._in_hand = (what, allowed)

    def about_to_write(self, call: str) -> None:
        """Note a call that changes something; the judge is informed if it must not go out any more."""
        if self._in_hand is None:
            return
        what, allowed = self._in_hand
        self._in_hand = (what, allowed - 1)
        if call != what or allowed <= 0:
            self.stage.judge.blame(f"{call} by a worker that had lost its claim, was paused or asked to stop")

    def takes_late(self, call: str) -> bool:
        """Whether this request is one that comes late."""
        found = next((one for one in self._mishaps if one.fault is Fault.LATE and len(self.steps) > one.step), None)
        if found is None or call in READS:
            return False
        self._mishaps.remove(found)
        self.stage.chronicle.append(f"worker {self.number} of {self.sync}: {call} comes late")
        return True


def watched_by(worker: Worker) -> Store:
    """The database, with steps, and with what the worker read of its sync and of the source."""
    store = worker.stage.store

    class WatchedStates(SyncStateStore):
        def load(self, claim: Claim) -> SyncState:
            worker.state = state = store.sync_states.load(claim)
            return state

    class WatchedSecrets(SecretStore):
        @contextmanager
        def snapshot(self) -> Iterator[SnapshotReader]:
            with store.secrets.snapshot() as reader:
                yield cast(SnapshotReader, WatchedReader(worker, reader))

    copy = watched(store, worker.reach)
    copy.sync_states = WatchedStates(store.database, store.keys)
    copy.secrets = WatchedSecrets(store.database, store.keys)
    return copy


class WatchedReader:
    """The source, with what the worker read."""

    def __init__(self, worker: Worker, reader: SnapshotReader) -> None:
        self._worker = worker
        self._reader = reader

    def load(self, names: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], EnvironmentSnapshot]:
        loaded = self._reader.load(names)
        for environment in loaded.values():
            self._worker.commit = self._worker.stage.timeline[environment.revision]
        return loaded


class WatchedDestinations(FakeDestinations):
    """Opens destinations that count each call as a step of one worker."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.stage.remote, instance_id=worker.stage.store.instance_id)
        self.worker = worker

    def open(
        self, kind: str, credential: Credential, region: str, *, tenant: str = "", fresh: bool = False
    ) -> FakeDestination:
        super().open(kind, credential, region)
        return WatchedDestination(self, self._account_of(credential), region)


class WatchedDestination(FakeDestination):
    """One account and Region, for one run of one worker."""

    def __init__(self, owner: WatchedDestinations, account: str, region: str) -> None:
        super().__init__(owner, account, region)
        self._worker = owner.worker

    def observe(self, remote_name: str) -> Observed | None:
        found = super().observe(remote_name)
        self._worker.told[remote_name] = found
        return found

    def _call(self, name: str, act: Callable[[], T]) -> T:
        worker, stage = self._worker, self._worker.stage
        self._calls += 1
        worker.reach("before", name)
        if name in READS:
            answer = act()
        else:
            worker.about_to_write(name)
            if worker.takes_late(name):
                stage.on_the_way.append(Late(worker=worker, call=name, act=act, told=dict(worker.told)))
                raise OutcomeUnknownError("no answer")
            with stage.remote.asked_by(worker, dict(worker.told)):
                answer = act()
        worker.reach("after", name)
        return answer
