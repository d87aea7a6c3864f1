"""
Makes each call of AWS wait for a slot: one token bucket per account, Region and rate group, shared by the process.

Slots are given to tenants (syncs) in rotation, so that a tenant with hundreds of calls does not starve the others. A
wait is bounded, and ends when the daemon stops. Must not call AWS, and must not ask the database: the caller reports
how many processes share the quotas.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from phasesync.adapters.aws.rate_limits import RATE_GROUPS, RateGroup
from phasesync.core.token_bucket import USED, Bucket, Rate, due_in, full_bucket, refill, slow, spend
from phasesync.errors import InterruptedRunError, ThrottledError

MAX_WAIT: Final = timedelta(seconds=10)
"""How long a call waits for its slot, at most."""
MAX_BUCKETS: Final = 1024
_A_WAIT_S: Final = 0.001

BucketKey = tuple[str, str, str]
"""Account, Region and rate group."""


class _WaitingBucket:
    """A token bucket and the calls that wait for it. Used under the lock of `RateLimiter` only."""

    def __init__(self, quota: float, used: float, bucket: Bucket) -> None:
        self.quota = quota
        self.used = used
        self.bucket = bucket
        self.queues: OrderedDict[str, deque[threading.Condition]] = OrderedDict()
        """Tenant -> its waiting calls. The first call of the first tenant is next."""

    @property
    def first(self) -> threading.Condition | None:
        """The call that is next; None if no call waits."""
        return next(iter(self.queues.values()))[0] if self.queues else None

    def due_in(self, processes: int, now: float) -> float:
        """Return the seconds until there is a token, 0 = now."""
        rate = Rate(quota=self.quota, processes=processes, used=self.used)
        self.bucket = refill(self.bucket, rate, now)
        return due_in(self.bucket, rate)

    def dequeue(self, tenant: str, call: threading.Condition, *, served: bool) -> None:
        """Remove a call from its queue and wake the next one. A tenant that was served moves to the end."""
        queue = self.queues[tenant]
        queue.remove(call)
        if not queue:
            del self.queues[tenant]
        elif served:
            self.queues.move_to_end(tenant)
        self.wake_next()

    def wake_next(self) -> None:
        """Wake the next call, so that it checks the bucket."""
        if (following := self.first) is not None:
            following.notify()


def _ignore() -> None:
    """The default for `RateLimiter.progress`."""


def _ignore_wait(_group: str, _seconds: float) -> None:
    """The default for `RateLimiter.waited`."""


class Slot:
    """The right to make one call now."""

    def __init__(self, slow_down: Callable[[float], None], taken_at: float) -> None:
        self._slow_down = slow_down
        self._taken_at = taken_at

    def throttled(self) -> None:
        """Report that AWS throttled the call: the bucket halves its rate, and recovers within a minute."""
        self._slow_down(self._taken_at)


class RateLimiter:
    """Limits the calls per second to every account that this process reaches. Safe to share between threads."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        max_wait: timedelta = MAX_WAIT,
        groups: Sequence[RateGroup] = RATE_GROUPS,
        used: float = USED,
        max_buckets: int = MAX_BUCKETS,
    ) -> None:
        """
        Args:
            monotonic: returns seconds that never jump.
            max_wait: how long a call waits at most. Below the life of a claim without renewal, so that no call goes out
                long after it was permitted.
            groups: the quotas.
            used: share of every quota that all processes together use.
            max_buckets: buckets kept; the least recently used goes first, unless a call waits for it.
        """
        self._monotonic = monotonic
        self._max_wait = max_wait
        self._used = used
        self._groups = {action: group for group in groups for action in group.actions}
        self._max_buckets = max_buckets
        self._lock = threading.Lock()
        self._buckets: OrderedDict[BucketKey, _WaitingBucket] = OrderedDict()
        self._processes = 1
        self._stopped = False
        self.progress: Callable[[], None] = _ignore
        """Called, in the thread that calls AWS, whenever a call asks for its slot and when it gets it."""
        self.waited: Callable[[str, float], None] = _ignore_wait
        """Called, with the name of the rate group and the seconds, when a call has waited for its slot, or in vain."""

    @property
    def waiting(self) -> int:
        """How many calls wait for their slot."""
        with self._lock:
            return sum(len(queue) for bucket in self._buckets.values() for queue in bucket.queues.values())

    def share_among(self, processes: int) -> None:
        """Set how many processes call AWS, this one included; each uses its share of every quota."""
        with self._lock:
            self._processes = max(1, processes)
            for bucket in self._buckets.values():
                bucket.wake_next()

    def stop(self) -> None:
        """End every wait with an error. Calls that need no wait still go out, so that a run can end well."""
        with self._lock:
            self._stopped = True
            for bucket in self._buckets.values():
                for queue in bucket.queues.values():
                    for call in queue:
                        call.notify()

    def take(self, action: str, *, account: str, region: str, tenant: str, max_wait: timedelta | None = None) -> Slot:
        """
        Wait for the slot of one call.

        Args:
            action: IAM action of the call, one of the table.
            account: of the caller: AWS throttles the caller, not the owner of the object (User Guide, quotas).
            region: where the call goes.
            tenant: for whom; tenants are served in rotation.
            max_wait: None means the limit of the rate limiter.

        Raises:
            ThrottledError: there was no slot in time; nothing was called.
            InterruptedRunError: this process stops.
        """
        self.progress()
        group = self._groups[action]
        max_wait = self._max_wait if max_wait is None else max_wait
        began = self._monotonic()
        try:
            with self._lock:
                bucket = self._bucket((account, group.region or region, group.name), group)
                taken_at = self._wait(bucket, action, tenant, max_wait)
                bucket.bucket = spend(bucket.bucket)
        finally:
            # Without a wait this is the time for the lock.
            if (waited_s := self._monotonic() - began) >= _A_WAIT_S:
                self.waited(group.name, waited_s)
        self.progress()
        return Slot(lambda called_at: self._slow(bucket, called_at), taken_at)

    def _wait(self, bucket: _WaitingBucket, action: str, tenant: str, max_wait: timedelta) -> float:
        """Return the time at which there is a token for this call."""
        began = now = self._monotonic()
        wait_s = bucket.due_in(self._processes, now)
        if wait_s == 0 and bucket.first is None:
            return now
        call = threading.Condition(self._lock)
        bucket.queues.setdefault(tenant, deque()).append(call)
        served = False
        try:
            while True:
                left_s = max_wait.total_seconds() - (now - began)
                if self._stopped:
                    raise InterruptedRunError("phasesync was asked to stop")
                if left_s <= 0:  # Also if the slot came too late, in a process that was frozen.
                    raise _no_slot(action, max_wait)
                if bucket.first is call and wait_s == 0:
                    served = True
                    return now
                call.wait(min(wait_s, left_s) if bucket.first is call else left_s)
                now = self._monotonic()
                wait_s = bucket.due_in(self._processes, now)
        finally:
            bucket.dequeue(tenant, call, served=served)

    def _bucket(self, key: BucketKey, group: RateGroup) -> _WaitingBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            rate = Rate(quota=group.per_second, processes=self._processes, used=self._used)
            bucket = _WaitingBucket(group.per_second, self._used, full_bucket(rate, self._monotonic()))
            self._buckets[key] = bucket
        self._buckets.move_to_end(key)
        if (surplus := len(self._buckets) - self._max_buckets) > 0:
            idle = [known for known, other in self._buckets.items() if not other.queues and other is not bucket]
            for known in idle[:surplus]:
                del self._buckets[known]
        return bucket

    def _slow(self, bucket: _WaitingBucket, called_at: float) -> None:
        with self._lock:
            now = self._monotonic()
            bucket.due_in(self._processes, now)
            bucket.bucket = slow(bucket.bucket, now, called_at=called_at)


class Tenant:
    """The slots of one tenant within one run: after one wait was in vain, its further calls do not wait any more."""

    def __init__(self, rate_limiter: RateLimiter, key: str) -> None:
        """
        Args:
            rate_limiter: of this process.
            key: names the tenant, such as the id of a sync.
        """
        self._rate_limiter = rate_limiter
        self._key = key
        self._max_wait: timedelta | None = None

    def take(self, action: str, *, account: str, region: str) -> Slot:
        """Wait for the slot of one call. ThrottledError, InterruptedRunError."""
        try:
            return self._rate_limiter.take(
                action, account=account, region=region, tenant=self._key, max_wait=self._max_wait
            )
        except ThrottledError:
            self._max_wait = timedelta(0)
            raise


def _no_slot(action: str, max_wait: timedelta) -> ThrottledError:
    if not max_wait:
        return ThrottledError(f"no call of {action} is left of the quota just now", retry_after=MAX_WAIT)
    return ThrottledError(
        f"waited {max_wait.total_seconds():.0f} s for a call of {action}: the quota is used up", retry_after=MAX_WAIT
    )
