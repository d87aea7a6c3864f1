"""
Injected faults: refused, late, lost or garbled answers, by operation and by count.

    faults.fail("PutSecretValue")                               the connection drops before it is carried out
    faults.fail("PutSecretValue", when="after")                 it is carried out, the answer is lost
    faults.fail("DescribeSecret", Answer("InternalServiceError", status=500), times=3)
    faults.fail("CreateSecret", garbled(), when="after")
    faults.slow("*", 0.05, times=None)                          latency
    faults.slow("PutSecretValue", 20, when="after")             carried out, answered after the client's time-out

Seconds here are real: clients wait by their own clocks.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from phasesync.emulator.request import Operation

When = Literal["before", "after"]


@dataclass(frozen=True)
class Answer:
    """What to answer in place of AWS."""

    code: str | None
    """AWS's error code; None if the connection ends without an answer."""
    message: str = "injected"
    status: int = 400
    raw: bytes | None = None
    """A body to send as it is, with `status`; `code` and `message` count for nothing then."""
    cut: bool = False
    """The connection ends in the middle of the body."""


Handler = Callable[[Operation], Answer | None]

DROP: Final = Answer(code=None)
"""The connection ends without an answer."""


def garbled(body: bytes = b'{"ARN": "arn:aws:secretsm', *, cut: bool = False) -> Answer:
    """
    Return a malformed answer of status 200.

    Args:
        body: what is sent; the default is half a JSON object, `b"{}"` one that lacks everything.
        cut: the head promises more than is sent.
    """
    return Answer("garbled", status=200, raw=body, cut=cut)


@dataclass
class _Fault:
    operation: str
    when: When
    nth: int
    times: int | None
    act: Handler
    requests: int = 0


class Faults:
    """The faults that a test has asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self.stopped = threading.Event()
        """Ends all waiting, when the server ends."""

    def fail(
        self, operation: str, answer: Answer = DROP, *, when: When = "before", nth: int = 1, times: int | None = 1
    ) -> None:
        """
        Let requests for an operation fail.

        Args:
            operation: such as `PutSecretValue`; `*` = all.
            answer: the wrong answer; the default drops the connection.
            when: before = AWS never sees the request; after = it is carried out, and its answer is replaced.
            nth: the first request that fails, counted from now on.
            times: how many in a row fail; None means all from then on. The SDK makes three attempts by itself.
        """
        self.do(operation, lambda _: answer, when=when, nth=nth, times=times)

    def slow(
        self, operation: str, seconds: float, *, when: When = "before", nth: int = 1, times: int | None = 1
    ) -> None:
        """Let requests wait, before they are carried out or after it; arguments as for `fail`."""

        def wait(_: Operation) -> None:
            self.stopped.wait(seconds)

        self.do(operation, wait, when=when, nth=nth, times=times)

    def do(self, operation: str, act: Handler, *, when: When = "before", nth: int = 1, times: int | None = 1) -> None:
        """
        Run something at a request: kill a process, wait for an event, write as an outsider.

        It gets the operation. What it returns replaces AWS's answer, unless it is None. Other arguments as for `fail`.
        """
        with self._lock:
            self._faults.append(_Fault(operation, when, nth, times, act))

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def due(self, operation: str) -> tuple[list[Handler], list[Handler]]:
        """Count one request against the faults; return what is due before and after it."""
        due: dict[When, list[Handler]] = {"before": [], "after": []}
        with self._lock:
            for fault in self._faults:
                if fault.operation in ("*", operation):
                    fault.requests += 1
                    last = None if fault.times is None else fault.nth + fault.times
                    if fault.nth <= fault.requests and (last is None or fault.requests < last):
                        due[fault.when].append(fault.act)
        return due["before"], due["after"]
