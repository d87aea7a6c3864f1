"""
A receiver of notifications, as a team's own: it takes messages over HTTP, fails when it is told to, and forgets none.

A message that comes again has the id that it had: it counts once. For each object in a condition there has to be one
first message and one that it has recovered, in turns, over all daemons.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from phasesync.core.notification_message import Step
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
        messages: different ones.
        again: arrivals of a message that had arrived and been taken before.
        by_condition: condition -> objects that were reported, each time that they were.
        wrong: what breaks the rule of one first and one recovered, as lines.
    """

    messages: int
    again: int
    by_condition: Mapping[str, int]
    wrong: tuple[str, ...]
    open: tuple[str, ...]
    """Objects whose recovery has not arrived."""


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
            self.arrived.append(Arrived(at=time.time(), message=json.loads(body), taken=not self._fails))
        if self._fails:
            return _REFUSED if refused else None
        return Reply(204)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.close()


def account_of(arrived: list[Arrived]) -> Account:
    """Count what arrived."""
    taken: Counter[str] = Counter(each.id for each in arrived if each.taken)
    first_of = {each.id: each for each in reversed(arrived)}
    by_condition: Counter[str] = Counter()
    wrong: list[str] = []
    active: dict[tuple[str, str, str], bool] = {}
    for each in sorted(first_of.values(), key=lambda each: str(each.message["at"])):
        message = each.message
        for subject in message["subjects"]:
            who = (str(message["notification"]), str(message["condition"]), str(subject["name"]))
            match message["step"]:
                case Step.FIRST:
                    by_condition[who[1]] += 1
                    if active.get(who):
                        wrong.append(f"{' '.join(who)}: a second first message")
                    active[who] = True
                case Step.RECOVERED:
                    if not active.get(who):
                        wrong.append(f"{' '.join(who)}: recovered without a first message")
                    active[who] = False
                case _ if not active.get(who):
                    wrong.append(f"{' '.join(who)}: {message['step']} without a first message")
    return Account(
        messages=len(first_of),
        again=sum(count - 1 for count in taken.values()),
        by_condition=dict(sorted(by_condition.items())),
        wrong=tuple(wrong),
        open=tuple(" ".join(who) for who, on in active.items() if on),
    )
