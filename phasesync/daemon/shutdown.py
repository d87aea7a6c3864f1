"""
The clean end of a daemon's work, in bounded time: claim no more, let calls in hand end, give back the rest, sign off.

Every step that may hang has a thread and a time of its own. Must not end the process; that is the caller's.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from phasesync.core.sync_state import Claim
from phasesync.daemon.parts import Parts

STOP_BEYOND_DRAIN: Final = timedelta(seconds=1.5)
"""What a stop may take beyond `daemon.drain_s`; then the process ends whatever hangs."""

_MARGIN_S: Final = 0.3
"""Kept for the end of the process itself."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """
    How the work ended.

    Attributes:
        unfinished: runs that were given back while their threads still hang in a call, and dispatchers of other work
            with such threads.
        signed_off: a standby need not wait for our claims and our heartbeat to expire.
    """

    unfinished: int
    signed_off: bool

    @property
    def clean(self) -> bool:
        """Whether no thread is left behind."""
        return self.unfinished == 0 and self.signed_off


def end_work(
    parts: Parts, *, drain: timedelta, stop_rounds: Callable[[], None], leave: Callable[[list[Claim]], None]
) -> Ended:
    """
    End the work of a daemon.

    Args:
        parts: what works.
        drain: how long calls in hand may take.
        stop_rounds: ends the rounds. Heartbeats go on until the calls in hand have ended: they renew their claims.
        leave: gives claims back and signs off.
    """
    began = time.monotonic()
    drain_s = drain.total_seconds()
    within(1.0, parts.scheduler.stop)
    parts.keeper.stop()

    def left() -> timedelta:
        return timedelta(seconds=max(0.0, began + drain_s - time.monotonic()))

    drained, *others = [one.drain(left()) for one in (parts.dispatcher, *parts.also_draining)]
    unfinished = [] if drained else list(parts.dispatcher.running())
    within(_MARGIN_S, stop_rounds)
    latest = began + drain_s + STOP_BEYOND_DRAIN.total_seconds() - _MARGIN_S
    signed_off = within(max(_MARGIN_S, latest - time.monotonic()), lambda: leave(unfinished))
    ended = Ended(unfinished=len(unfinished) + others.count(False), signed_off=signed_off)
    if ended.clean:
        within(_MARGIN_S, parts.close)
    return ended


def within(seconds: float, work: Callable[[], None]) -> bool:
    """Do something in a thread of its own; return whether it came to a good end in time. It may go on after that."""
    outcome: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def run() -> None:
        good = False
        try:
            work()
            good = True
        finally:
            outcome.put(good)

    threading.Thread(target=run, name="ending", daemon=True).start()
    try:
        return outcome.get(timeout=seconds)
    except queue.Empty:
        return False
