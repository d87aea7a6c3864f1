"""
Waits for a turn before a call of AWS: one token bucket for each account, Region and rate group, shared by the process.

Turns go round by customer (a sync), not by call, so that one with hundreds of calls does not starve those with one.
Waiting is bounded and ends with the daemon. Must not call AWS, and must not ask the database: it is told how many
processes share the quotas.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from phasesync.adapters.aws.rate_limits import RATE_GROUPS, RateGroup
from phasesync.core.token_bucket import Bucket, Rate, due_in, full_bucket, refill, slow, spend
from phasesync.errors import InterruptedRunError, ThrottledError

PATIENCE: Final = timedelta(seconds=10)
"""How long a call waits for its turn, at most."""
MAX_BUCKETS: Final = 1024

Place = tuple[str, str, str]
"""Account, Region and rate group."""


class _Gate:
    """A bucket and who waits at it. Everything under the lock of `RateLimiter`."""

    def __init__(self, quota: float, bucket: Bucket) -> None:
        self.quota = quota
        self.bucket = bucket
        self.lines: OrderedDict[str, deque[threading.Condition]] = OrderedDict()
        """Customer -> its waiting calls. The first customer's first call is next."""

    @property
    def first(self) -> threading.Condition | None:
        """Whose turn it is; None = nobody waits."""
        return next(iter(self.lines.values()))[0] if self.lines else None

    def due_in(self, processes: int, now: float) -> float:
        """Return the seconds until there is a token, 0 = now."""
        rate = Rate(quota=self.quota, processes=processes)
        self.bucket = refill(self.bucket, rate, now)
        return due_in(self.bucket, rate)

    def leave(self, tenant: str, call: threading.Condition, *, served: bool) -> None:
        """Take a call out of its line and wake who is next. A customer that was served goes to the end."""
        line = self.lines[tenant]
        line.remove(call)
        if not line:
            del self.lines[tenant]
        elif served:
            self.lines.move_to_end(tenant)
        self.wake_next()

    def wake_next(self) -> None:
        """Have the next one look at the bucket."""
        if (following := self.first) is not None:
            following.notify()


def _nothing() -> None:
    """Nobody watches the progress of calls."""


class Slot:
    """The leave to make one call now."""

    def __init__(self, slow_down: Callable[[float], None], taken_at: float) -> None:
        self._slow_down = slow_down
        self._taken_at = taken_at

    def throttled(self) -> None:
        """Say that AWS asked for fewer calls: the bucket halves its pace, and recovers within a minute."""
        self._slow_down(self._taken_at)


class RateLimiter:
    """The calls a second of every account that this process reaches. Safe to share between threads."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        patience: timedelta = PATIENCE,
        groups: Sequence[RateGroup] = RATE_GROUPS,
        max_buckets: int = MAX_BUCKETS,
    ) -> None:
        """
        Args:
            monotonic: returns seconds that never jump.
            patience: how long a call waits at most. Below the life of a claim without renewal, so that no call goes out
                long after it was permitted.
            groups: the quotas.
            max_buckets: buckets kept; the one used least recently goes first, unless somebody waits at it.
        """
        self._monotonic = monotonic
        self._patience = patience
        self._groups = {action: group for group in groups for action in group.actions}
        self._max_buckets = max_buckets
        self._lock = threading.Lock()
        self._gates: OrderedDict[Place, _Gate] = OrderedDict()
        self._processes = 1
        self._stopped = False
        self.progress: Callable[[], None] = _nothing
        """Called, in the thread that calls AWS, whenever a call asks for its turn and when it gets it."""

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        with self._lock:
            return sum(len(line) for gate in self._gates.values() for line in gate.lines.values())

    def share_among(self, processes: int) -> None:
        """Say how many processes call AWS, this one included; each takes its part of every quota."""
        with self._lock:
            self._processes = max(1, processes)
            for gate in self._gates.values():
                gate.wake_next()

    def stop(self) -> None:
        """Wait no more: whoever waits gives up. Calls whose turn is now still go out, so that a run can end well."""
        with self._lock:
            self._stopped = True
            for gate in self._gates.values():
                for line in gate.lines.values():
                    for call in line:
                        call.notify()

    def take(self, action: str, *, account: str, region: str, tenant: str, patience: timedelta | None = None) -> Slot:
        """
        Wait for the turn to make one call.

        Args:
            action: IAM action of the call, one of the table.
            account: of the caller: AWS throttles who calls, not whose object it is (User Guide, quotas).
            region: where the call goes.
            tenant: for whom; customers take turns.
            patience: None = that of the quotas.

        Raises:
            ThrottledError: the turn did not come in time; nothing was called.
            InterruptedRunError: this process stops.
        """
        self.progress()
        group = self._groups[action]
        patience = self._patience if patience is None else patience
        with self._lock:
            gate = self._gate((account, group.region or region, group.name), group)
            taken_at = self._wait(gate, action, tenant, patience)
            gate.bucket = spend(gate.bucket)
        self.progress()
        return Slot(lambda called_at: self._slow(gate, called_at), taken_at)

    def _wait(self, gate: _Gate, action: str, tenant: str, patience: timedelta) -> float:
        """Return the time at which there is a token for this call."""
        began = now = self._monotonic()
        wait_s = gate.due_in(self._processes, now)
        if wait_s == 0 and gate.first is None:
            return now
        call = threading.Condition(self._lock)
        gate.lines.setdefault(tenant, deque()).append(call)
        served = False
        try:
            while True:
                left_s = patience.total_seconds() - (now - began)
                if self._stopped:
                    raise InterruptedRunError("phasesync was told to stop")
                if left_s <= 0:  # Also where the turn has come late, in a process that was frozen.
                    raise _no_turn(action, patience)
                if gate.first is call and wait_s == 0:
                    served = True
                    return now
                call.wait(min(wait_s, left_s) if gate.first is call else left_s)
                now = self._monotonic()
                wait_s = gate.due_in(self._processes, now)
        finally:
            gate.leave(tenant, call, served=served)

    def _gate(self, place: Place, group: RateGroup) -> _Gate:
        gate = self._gates.get(place)
        if gate is None:
            rate = Rate(quota=group.per_second, processes=self._processes)
            gate = self._gates[place] = _Gate(group.per_second, full_bucket(rate, self._monotonic()))
        self._gates.move_to_end(place)
        if (surplus := len(self._gates) - self._max_buckets) > 0:
            idle = [known for known, one in self._gates.items() if not one.lines and one is not gate]
            for known in idle[:surplus]:
                del self._gates[known]
        return gate

    def _slow(self, gate: _Gate, called_at: float) -> None:
        with self._lock:
            now = self._monotonic()
            gate.due_in(self._processes, now)
            gate.bucket = slow(gate.bucket, now, called_at=called_at)


class Tenant:
    """One customer's turns within one run: once its patience was in vain, the run's other calls wait no more."""

    def __init__(self, rate_limiter: RateLimiter, key: str) -> None:
        """
        Args:
            rate_limiter: of this process.
            key: names the customer, such as a sync's id.
        """
        self._rate_limiter = rate_limiter
        self._key = key
        self._patience: timedelta | None = None

    def take(self, action: str, *, account: str, region: str) -> Slot:
        """Wait for the turn to make one call. ThrottledError, InterruptedRunError."""
        try:
            return self._rate_limiter.take(
                action, account=account, region=region, tenant=self._key, patience=self._patience
            )
        except ThrottledError:
            self._patience = timedelta(0)
            raise


def _no_turn(action: str, patience: timedelta) -> ThrottledError:
    if not patience:
        return ThrottledError(f"no call of {action} is left of the quota just now", retry_after=PATIENCE)
    return ThrottledError(
        f"waited {patience.total_seconds():.0f} s for a call of {action}: the quota is used up", retry_after=PATIENCE
    )
