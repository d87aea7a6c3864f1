"""
A receiver of notifications, as a team's own: it takes messages over HTTP, fails when it is told to, and forgets none.

A message that comes again has the id that it had: it counts once. For each object in a condition there has to be one
first message and one that it has recovered, in turns, over all daemons. A digest names some objects and counts others.
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
        reported: notification and condition -> how often an object was reported to be in it.
        wrong: what breaks the rule of one first and one recovered, as lines.
        open: objects whose recovery has not arrived.
    """

    ids: frozenset[str]
    again: int
    reported: Mapping[str, int]
    wrong: tuple[str, ...]
    open: int


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
    topics: dict[str, _Topic] = {}
    for each in arrived:
        if messages.setdefault(each.id, each.message) is each.message:
            topic = f"{each.message['notification']} {each.message['condition']}"
            topics.setdefault(topic, _Topic(topic)).take(each.message)
    return Account(
        ids=frozenset(messages),
        again=sum(count - 1 for count in taken.values()),
        reported={name: topic.first for name, topic in sorted(topics.items())},
        wrong=tuple(line for topic in topics.values() for line in topic.wrong),
        open=sum(topic.first - topic.recovered for topic in topics.values()),
    )


class _Topic:
    """The messages of one notification about one condition."""

    def __init__(self, name: str) -> None:
        self.first = self.recovered = 0
        self.wrong: list[str] = []
        self._name = name
        self._may_be_over = name.endswith(f" {Condition.DRIFT}")
        """Drift that the same run repaired is reported once, and has no recovery."""
        self._active: set[str] = set()
        self._unnamed_first = self._unnamed_recovered = 0

    def take(self, message: Mapping[str, Any]) -> None:
        """Count one message."""
        step, more = message["step"], int(message["more"])
        names = [str(subject["name"]) for subject in message["subjects"]]
        for name in names:
            if step == Step.FIRST:
                self._begin(name)
            else:
                self._go_on(name, step)
        if step == Step.FIRST:
            self.first += len(names) + more
            self._unnamed_first += more
        elif step == Step.RECOVERED:
            self.recovered += len(names) + more
            self._unnamed_recovered += more

    def _begin(self, name: str) -> None:
        if name in self._active and not self._may_be_over:
            if not self._unnamed_recovered:
                self.wrong.append(f"{self._name} {name}: a second first message")
            self._unnamed_recovered = max(0, self._unnamed_recovered - 1)
        self._active.add(name)

    def _go_on(self, name: str, step: str) -> None:
        if name in self._active:
            if step == Step.RECOVERED:
                self._active.remove(name)
            return
        if not self._unnamed_first:
            self.wrong.append(f"{self._name} {name}: {step} without a first message")
        elif step == Step.RECOVERED:
            self._unnamed_first -= 1
