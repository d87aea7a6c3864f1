"""
What goes wrong, when, and for how long: a plan that a seed decides, and how each fault begins and ends.

    plan = make_plan(seed, seconds=1350, replicas=["replica-1", "replica-2"])
    Faults(plan, scene, print).carry_out(seconds since the begin)     again and again

Every fault ends before the plan does. Two may overlap, but not on one replica. The first replica of PostgreSQL is never
started anew, and of the others one lives from two fifths of the time on: what grows slowly shows only in long lives.
"""

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from queue import Empty, SimpleQueue
from typing import Final

from bench.endpoint import Endpoint
from bench.replicas import Replicas
from bench.webhook import Receiver
from bench.workload import CREDENTIALS, GUARDED, KEYS, MISTAKEN, SECOND_KEY_ID, Workload
from phasesync.bootstrap import Application
from phasesync.core.sync import SyncFilter, SyncStatus
from phasesync.errors import PhasesyncError
from tests.support.postgres import PostgresServer

FIRST_AT_S: Final = 15.0
EVERY_S: Final = 32.0
"""Mean time from the begin of one fault to that of the next."""
PAUSE_S: Final = 20.0
"""A replica is left alone for this long after it was dealt with."""
_TICK_S: Final = 0.2
_SETTLED: Final = 0.4
"""Share of the time after which one more replica is never started anew."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault: what, when (seconds from the begin), for how long, and which replica; "" for those of no replica."""

    kind: str
    at: float
    lasts: float
    replica: str = ""

    def __str__(self) -> str:
        """Return it as a line of the log."""
        return f"{self.kind}{f' {self.replica}' if self.replica else ''}, for {self.lasts:.0f} s"


@dataclass(kw_only=True)
class Scene:
    """Everything that faults are done to."""

    replicas: Replicas
    endpoint: Endpoint
    workload: Workload
    receiver: Receiver
    application: Application
    server: PostgresServer | None
    lock: sqlite3.Connection | None = None
    orders: SimpleQueue[Callable[["Scene"], object]] = field(default_factory=SimpleQueue)
    """What the operator has to do; it may take as long as the database or AWS is away."""


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """How a kind of fault begins and ends, and how many seconds it lasts, from and to."""

    lasts: tuple[float, float]
    begin: Callable[[Scene, str], object]
    end: Callable[[Scene, str], object]
    of_replica: bool = False
    restarts: bool = False


def _nothing(_scene: Scene, _replica: str) -> None:
    """Leave things as they are."""


def _stop_database(scene: Scene, _: str) -> None:
    if scene.server is not None:
        scene.server.halt()
        return
    connection = sqlite3.connect(
        str(scene.application.store.database.engine.url.database),
        timeout=30,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("BEGIN IMMEDIATE")
    scene.lock = connection


def _start_database(scene: Scene, _: str) -> None:
    if scene.server is not None:
        scene.server.resume()
    if scene.lock is not None:
        scene.lock.close()
        scene.lock = None


def _know_credentials(scene: Scene, _: str) -> None:
    """AWS knows the key again; the operator tests it soon, which wakes what had failed for its sake."""
    scene.endpoint.refuse(None)
    scene.orders.put(test_credentials)


def test_credentials(scene: Scene) -> None:
    """Test every credential, as an operator does who has fixed it; a failure shows in the syncs that use it."""
    for name in CREDENTIALS:
        with suppress(PhasesyncError):
            scene.application.credential_operations.test(name)


def _drop_keys(scene: Scene) -> None:
    """Drop most keys of an environment, which the guard holds until an operator has looked at it; first put them in."""
    sync = scene.workload.syncs[GUARDED]
    scene.workload.insist(scene.application, sync, {f"KEY_{number}": f"{len(sync.history)}" for number in range(KEYS)})
    scene.workload.insist(scene.application, sync, {f"KEY_{number}": None for number in range(1, KEYS)})


def _edit_mistaken(scene: Scene, text: str) -> None:
    sync = scene.workload.syncs[MISTAKEN]
    scene.workload.insist(scene.application, sync, {"KEY_0": f"{text} {len(sync.history)}"})


KINDS: Final[dict[str, _Kind]] = {
    "requests fail (dropped before or after, 500, throttled, garbled)": _Kind(
        lasts=(30, 60),
        begin=lambda scene, _: scene.endpoint.fail(0.15),
        end=lambda scene, _: scene.endpoint.fail(0.0),
    ),
    "AWS throttles most requests": _Kind(
        lasts=(20, 40),
        begin=lambda scene, _: scene.endpoint.throttle(0.7),
        end=lambda scene, _: scene.endpoint.throttle(0.0),
    ),
    "AWS refuses a credential": _Kind(
        lasts=(30, 60), begin=lambda scene, _: scene.endpoint.refuse(SECOND_KEY_ID), end=_know_credentials
    ),
    "AWS hangs up on every request": _Kind(
        lasts=(20, 45),
        begin=lambda scene, _: scene.endpoint.hang_up(True),
        end=lambda scene, _: scene.endpoint.hang_up(False),
    ),
    "AWS does not answer": _Kind(
        lasts=(10, 25),
        begin=lambda scene, _: scene.endpoint.silence(True),
        end=lambda scene, _: scene.endpoint.silence(False),
    ),
    "the database is stopped, or locked": _Kind(lasts=(12, 30), begin=_stop_database, end=_start_database),
    "kill -9 of": _Kind(
        lasts=(1, 6),
        begin=lambda scene, replica: scene.replicas.kill(replica),
        end=lambda scene, replica: scene.replicas.start(replica),
        of_replica=True,
        restarts=True,
    ),
    "SIGTERM of": _Kind(
        lasts=(1, 3),
        begin=lambda scene, replica: scene.replicas.stop(replica),
        end=lambda scene, replica: scene.replicas.start(replica),
        of_replica=True,
        restarts=True,
    ),
    "SIGSTOP of": _Kind(
        lasts=(5, 35),
        begin=lambda scene, replica: scene.replicas.freeze(replica),
        end=lambda scene, replica: scene.replicas.thaw(replica),
        of_replica=True,
    ),
    "AWS denies the deletion of users": _Kind(
        lasts=(60, 100),
        begin=lambda scene, _: scene.endpoint.deny("iam:DeleteUser"),
        end=lambda scene, _: scene.endpoint.deny(None),
    ),
    "an edit drops most keys": _Kind(lasts=(40, 80), begin=lambda scene, _: scene.orders.put(_drop_keys), end=_nothing),
    "a reference leads nowhere": _Kind(
        lasts=(40, 80),
        begin=lambda scene, _: scene.orders.put(partial(_edit_mistaken, text="${NOT_THERE}")),
        end=lambda scene, _: scene.orders.put(partial(_edit_mistaken, text="found again")),
    ),
    "the receiver of notifications fails": _Kind(
        lasts=(20, 50),
        begin=lambda scene, _: scene.receiver.fail(True),
        end=lambda scene, _: scene.receiver.fail(False),
    ),
}


def make_plan(seed: int, *, seconds: float, replicas: Sequence[str]) -> list[Fault]:
    """
    Return the faults of a soak, in order.

    Args:
        seed: decides everything.
        seconds: all of them are over by then.
        replicas: names; see the module for which of them are started anew.
    """
    dice = random.Random(f"{seed}-faults")
    scale = min(1.0, max(0.1, seconds / 480))
    restarted = {
        name: seconds if number == len(replicas) - 1 else seconds * _SETTLED
        for number, name in enumerate(replicas)
        if len(replicas) < 3 or number > 0
    }
    free = dict.fromkeys([*replicas, ""], 0.0)
    busy: dict[str, float] = {}
    plan: list[Fault] = []
    at = FIRST_AT_S * scale
    for kind in cycle(_shuffled(dice)):
        if at > seconds * 0.95:
            return plan
        what = KINDS[kind]
        lasts = dice.uniform(*what.lasts) * scale
        candidates = [""]
        if what.of_replica:
            candidates = [
                name
                for name in replicas
                if free[name] <= at and (not what.restarts or restarted.get(name, 0.0) > at + lasts)
            ]
        if candidates and busy.get(kind, 0.0) <= at and at + lasts < seconds:
            replica = dice.choice(candidates)
            plan.append(Fault(kind=kind, at=at, lasts=lasts, replica=replica))
            free[replica] = at + lasts + PAUSE_S * scale
            busy[kind] = at + lasts
        at += dice.uniform(0.6, 1.4) * EVERY_S * scale
    return plan


def _shuffled(dice: random.Random) -> list[str]:
    kinds = list(KINDS)
    order: list[str] = []
    for _ in range(40):  # each kind once before the next round
        dice.shuffle(kinds)
        order += kinds
    return order


class Faults:
    """Carries out a plan in the calling thread."""

    def __init__(self, plan: Sequence[Fault], scene: Scene, tell: Callable[[str], object]) -> None:
        self._scene = scene
        self._tell = tell
        begins = [(fault.at, 0, fault) for fault in plan]
        ends = [(fault.at + fault.lasts, 1, fault) for fault in plan]
        self._steps = sorted(begins + ends, key=lambda step: step[:2])

    def carry_out(self, now: float) -> float | None:
        """Begin and end what is due at a time; return when the next one is, None if there is none."""
        while self._steps and self._steps[0][0] <= now:
            _, ends, fault = self._steps.pop(0)
            kind = KINDS[fault.kind]
            if ends:
                kind.end(self._scene, fault.replica)
            else:
                self._tell(str(fault))
                kind.begin(self._scene, fault.replica)
        return self._steps[0][0] if self._steps else None


# --- what an operator does where something waits for a person


def approve_held(scene: Scene) -> list[str]:
    """Approve whatever is held, as an operator who has looked at it; return the syncs."""
    approved = []
    held = SyncFilter(statuses=frozenset({SyncStatus.HELD}))
    for name in scene.application.store.syncs.names_of(held):
        with suppress(
            PhasesyncError
        ):  # It has changed since, or AWS does not answer: it stays held, and is seen again.
            digest = scene.application.operations.plan(name).guarded.digest
            if digest is not None:
                scene.application.operations.approve(name, digest, actor="bench")
                approved.append(name)
    return approved


class Operator:
    """Does what is ordered, and looks after what is held now and then, in a thread of its own."""

    def __init__(self, scene: Scene, *, every_s: float) -> None:
        self.approved = 0
        self._scene = scene
        self._every_s = every_s

    def work(self, ended: threading.Event) -> None:
        """Carry out orders, and approve what is held, again and again, until the event comes and no order waits."""
        next_look = time.monotonic() + self._every_s
        while not (ended.is_set() and self._scene.orders.empty()):
            try:
                self._scene.orders.get(timeout=_TICK_S)(self._scene)
            except Empty:
                if time.monotonic() > next_look:
                    next_look = time.monotonic() + self._every_s
                    with suppress(PhasesyncError):  # The database is away: the next look finds the same.
                        self.approved += len(approve_held(self._scene))
