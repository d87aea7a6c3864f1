"""
A receiver of notifications, as a team's own: it takes messages over HTTP, fails when it is told to, and forgets none.

A message that comes again has the id that it had: it counts once. For each object in a condition there has to be one
first message and then one that it has recovered, in turns, over all daemons. An object recovers once from everything
that was wrong with it. A digest names some objects and counts others.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from phasesync.core.notification_message import Condition, Step
from phasesync.emulator.http import LoopbackServer, Reply

_DRIFT: Final = Condition.DRIFT.value
_REFUSED: Final = Reply(503)


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """One request that arrived. `taken`: the sender was told so; otherwise it got an error, or no answer."""

    at: float
    message: Mapping[str, Any]
    taken: bool

    @property
    def id(self) -> str:
        """Of the message."""
        return str(self.message["id"])


@dataclass(frozen=True, kw_only=True)
class Account:
    """
    What arrived, counted.

    Attributes:
        ids: of the different messages.
        again: arrivals of a message that had arrived and been taken before.
        reported: how often an object was reported to be in a condition.
        wrong: what breaks the rule of one first and one recovered, as lines.
        open: objects whose recovery has not arrived.
    """

    ids: frozenset[str]
    again: int
    reported: int
    wrong: tuple[str, ...]
    open: tuple[str, ...]


class Receiver:
    """The receiver, in threads of this process."""

    def __init__(self) -> None:
        self.arrived: list[Arrived] = []
        self._guard = threading.Lock()
        self._fails = False
        self._server = LoopbackServer(self._take)
        self.url = f"{self._server.url}/phasesync"

    def fail(self, on: bool) -> None:
        """Refuse every other message from now on, and take the others without an answer."""
        self._fails = on

    def account(self) -> Account:
        """Return what arrived so far."""
        with self._guard:
            arrived = list(self.arrived)
        return account_of(arrived)

    def _take(self, _method: str, _path: str, _headers: Mapping[str, str], body: bytes) -> Reply | None:
        with self._guard:
            refused = self._fails and len(self.arrived) % 2 == 0
            self.arrived.append(Arrived(at=time.time(), message=json.loads(body)["data"], taken=not self._fails))
        if self._fails:
            return _REFUSED if refused else None
        return Reply(204)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.close()


def account_of(arrived: Iterable[Arrived]) -> Account:
    """Count what arrived, in its order."""
    taken: Counter[str] = Counter(each.id for each in arrived if each.taken)
    messages: dict[str, Mapping[str, Any]] = {}
    told: dict[str, _Told] = {}
    for each in arrived:
        if messages.setdefault(each.id, each.message) is each.message:
            name = str(each.message["notification"])
            told.setdefault(name, _Told(name)).take(each.message)
    return Account(
        ids=frozenset(messages),
        again=sum(count - 1 for count in taken.values()),
        reported=sum(each.first for each in told.values()),
        wrong=tuple(line for each in told.values() for line in each.wrong),
        open=tuple(line for each in told.values() for line in each.open),
    )


class _Told:
    """What one notification has said."""

    def __init__(self, name: str) -> None:
        self.first = 0
        """How often an object was reported to be in a condition."""
        self.wrong: list[str] = []
        self._name = name
        self._active: set[tuple[str, str]] = set()
        """Condition and object."""
        self._unnamed_first = self._unnamed_recovered = 0

    @property
    def open(self) -> list[str]:
        """Objects whose recovery did not arrive; drift that the same run repaired is reported once, without one."""
        left = [f"{self._name} {name}: {condition}" for condition, name in sorted(self._active) if condition != _DRIFT]
        return left[self._unnamed_recovered :]

    def take(self, message: Mapping[str, Any]) -> None:
        """Count one message."""
        condition, step, more = str(message["condition"]), message["step"], int(message["more"])
        names = [str(subject["name"]) for subject in message["subjects"]]
        for name in names:
            if step == Step.FIRST:
                self._begin(condition, name)
            elif step == Step.RECOVERED:
                self._recover(name)
            elif (condition, name) not in self._active and not self._unnamed_first:
                self.wrong.append(f"{self._name} {name}: {condition} {step} without a first message")
        if step == Step.FIRST:
            self.first += len(names) + more
            self._unnamed_first += more
        elif step == Step.RECOVERED:
            self._unnamed_recovered += more

    def _begin(self, condition: str, name: str) -> None:
        if (condition, name) in self._active and condition != _DRIFT:
            if not self._unnamed_recovered:
                self.wrong.append(f"{self._name} {name}: {condition} a second time without a recovery")
            self._unnamed_recovered = max(0, self._unnamed_recovered - 1)
        self._active.add((condition, name))

    def _recover(self, name: str) -> None:
        over = {each for each in self._active if each[1] == name}
        self._active -= over
        if over:
            return
        if not self._unnamed_first:
            self.wrong.append(f"{self._name} {name}: recovered without a first message")
        self._unnamed_first = max(0, self._unnamed_first - 1)
