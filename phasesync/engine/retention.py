"""
Deletes old runs, leases and messages of notifications, and empties old rows of the audit log, in small steps, so that
nobody waits for it for long.

On SQLite one write runs at a time. A step is short, and a pause of the same length follows it, in which others write.
A log with millions of old runs thus takes minutes, and goes on where it was after a stop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from phasesync.core.audit import AuditKind
from phasesync.core.events import AuditEmptied
from phasesync.engine.context import Context

if TYPE_CHECKING:
    from phasesync.store.audit import AuditStore

BATCH: Final = 500
"""Rows in one transaction: on SQLite about 20 ms."""
_REQUESTS: Final = 100
"""Requests that lapse in one transaction."""
_SHORTEST_PAUSE: Final = timedelta(milliseconds=20)


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """How many runs and leases were deleted."""

    runs: int
    leases: int


def end_requests(context: Context, *, older_than: timedelta, stopped: Callable[[], bool]) -> None:
    """
    Erase what requests for changes proposed that have lapsed, and delete those that ended longer ago than this.

    Args:
        context: its store has the requests.
        older_than: age since the end of a request.
        stopped: returns whether to end before the next step.
    """
    requests = context.store.change_requests
    while not stopped() and requests.lapse(limit=_REQUESTS) == _REQUESTS:
        pass
    requests.prune(older_than=older_than)


def prune(
    context: Context,
    *,
    older_than: timedelta,
    with_leases: bool,
    pause: Callable[[timedelta], object],
    stopped: Callable[[], bool],
) -> Pruned:
    """
    Delete the runs, ended leases, sent messages and ended alerts older than this; the newest run of each sync stays.

    Args:
        context: its store has the runs and the leases.
        older_than: age since the end of a run or a lease.
        with_leases: delete leases too.
        pause: waits between two steps.
        stopped: returns whether to end before the next step.
    """
    clock = context.clock
    runs = leases = 0
    after: str | None = None
    while not stopped():
        began = clock.monotonic()
        step = context.store.runs.prune_runs(older_than=older_than, limit=BATCH, after=after)
        runs, after = runs + step.count, step.next
        if after is None:
            break
        pause(max(_SHORTEST_PAUSE, timedelta(seconds=clock.monotonic() - began)))
    while with_leases and not stopped():
        count = context.leases.prune(older_than=older_than, limit=BATCH)
        leases += count
        if count < BATCH:
            break
        pause(_SHORTEST_PAUSE)
    while not stopped() and context.store.outbox.prune(older_than=older_than, limit=BATCH) >= BATCH:
        pause(_SHORTEST_PAUSE)
    return Pruned(runs=runs, leases=leases)


def empty_audit(
    audit: "AuditStore",
    kept: Mapping[AuditKind, timedelta],
    *,
    pause: Callable[[timedelta], object],
    stopped: Callable[[], bool],
) -> AuditEmptied:
    """
    Empty the rows of the audit log that are older than their kind is kept, and delete the empty ones at the beginning.

    What was emptied is a row of the log itself.

    Args:
        audit: the audit log.
        kept: kind -> how long its rows are kept; a kind that is missing is kept for ever.
        pause: waits between two steps.
        stopped: returns whether to end before the next step.
    """
    counts: dict[str, int] = {}
    for kind, older_than in kept.items():
        after: int | None = 0
        while after is not None and not stopped():
            count, after = audit.empty(kind, older_than=older_than, after=after, limit=BATCH)
            counts[kind.value] = counts.get(kind.value, 0) + count
            pause(_SHORTEST_PAUSE)
    dropped = 0
    while not stopped() and (count := audit.drop_empty(limit=BATCH)):
        dropped += count
        pause(_SHORTEST_PAUSE)
    emptied = sum(counts.values())
    if emptied:
        audit.add("audit.empty", "audit", kind=AuditKind.CHANGE, details={"emptied": counts, "dropped": dropped})
    return AuditEmptied(emptied=emptied, dropped=dropped)
