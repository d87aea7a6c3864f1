"""
The clean end of a daemon in bounded time: claim no more, let calls in hand end, release unfinished claims, sign off.

Every step that may hang has a thread and a time limit of its own. Must not end the process; that is the caller's.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from phasesync.core.sync_claim import Claim

if TYPE_CHECKING:
    from phasesync.daemon.build import Components

STOP_BEYOND_DRAIN: Final = timedelta(seconds=1.5)
"""How long a stop may take beyond `daemon.drain_s`. Then the process ends, whatever hangs."""

_MARGIN_S: Final = 0.3
"""Kept for the end of the process itself."""

_TRACES_WITHIN_S: Final = 2.0
"""How long the last spans may take: a collector that does not answer must not make each stop a slow one."""


@dataclass(frozen=True, kw_only=True)
class ShutdownResult:
    """
    How the shutdown went.

    Attributes:
        unfinished: number of runs with released claims and threads that still hang in a call, plus the other
            dispatchers with such threads.
        signed_off: a standby need not wait for our claims and our heartbeat to expire.
    """

    unfinished: int
    signed_off: bool

    @property
    def clean(self) -> bool:
        """Whether no thread is left behind."""
        return self.unfinished == 0 and self.signed_off


def shut_down(
    components: "Components",
    *,
    drain: timedelta,
    stop_chores: Callable[[], None],
    sign_off: Callable[[list[Claim]], None],
) -> ShutdownResult:
    """
    End the work of a daemon.

    Args:
        components: what works.
        drain: how long calls in hand may take.
        stop_chores: ends the periodic chores. Heartbeats go on until the calls in hand have ended: they renew claims.
        sign_off: releases claims and signs off.
    """
    began = time.monotonic()
    drain_s = drain.total_seconds()
    _run_within(1.0, components.scheduler.stop)
    components.keeper.stop()

    def time_left() -> timedelta:
        return timedelta(seconds=max(0.0, began + drain_s - time.monotonic()))

    dispatchers = (*components.dispatchers, components.message_dispatcher)
    drained, *others_drained = [dispatcher.drain(time_left()) for dispatcher in dispatchers]
    unfinished = [] if drained else list(components.dispatcher.running())
    _run_within(_MARGIN_S, stop_chores)
    latest = began + drain_s + STOP_BEYOND_DRAIN.total_seconds() - _MARGIN_S
    signed_off = _run_within(max(_MARGIN_S, latest - time.monotonic()), lambda: sign_off(unfinished))
    if components.tracer is not None:
        components.tracer.close(min(_TRACES_WITHIN_S, latest - time.monotonic()))
    result = ShutdownResult(unfinished=len(unfinished) + others_drained.count(False), signed_off=signed_off)
    if result.clean:
        _run_within(_MARGIN_S, components.application.close)
    return result


def _run_within(seconds: float, work: Callable[[], None]) -> bool:
    """Do work in a thread of its own; return whether it succeeded in time. It may go on after that."""
    outcome: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def run() -> None:
        succeeded = False
        try:
            work()
            succeeded = True
        finally:
            outcome.put(succeeded)

    threading.Thread(target=run, name="shutdown", daemon=True).start()
    try:
        return outcome.get(timeout=seconds)
    except queue.Empty:
        return False
