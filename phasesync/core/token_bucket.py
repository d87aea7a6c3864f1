"""
Token buckets: how many calls a second may go out, and when the next one may.

Time is an argument: seconds of a clock that never jumps. Knows neither who waits nor what is called.
"""

from dataclasses import dataclass, replace
from typing import Final

USED: Final = 0.8
"""How much of a quota is spent; the rest is left to everybody else in the account."""
SLOWEST: Final = 0.1
"""Throttling slows a bucket down to this part of its pace, and no further."""
RECOVERY_S: Final = 60.0
"""Seconds from a standstill to the full pace; a bucket that was halved is back in half of it."""

_ROUNDING: Final = 1e-6
"""A token that lacks no more than this is there: the next one comes that much later."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """
    What one process may spend of a quota.

    Attributes:
        quota: calls a second that the service allows everybody together.
        processes: how many of ours share them, from 1.
    """

    quota: float
    processes: int = 1

    @property
    def pace(self) -> float:
        """Calls a second in the long run."""
        return self.quota * USED / self.processes

    @property
    def burst(self) -> float:
        """
        Most calls at once, at least one: what `pace` leaves of the quota, so that no second sees more calls than the
        quota allows.
        """
        return max(1.0, self.quota * (1 - USED) / self.processes)


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """
    A token bucket as it stood at `at`.

    Attributes:
        tokens: calls that may go out.
        speed: part of the pace at which it fills, `SLOWEST` to 1; grows back to 1 by itself.
        at: when this was so.
        slowed_at: when it was slowed last.
    """

    tokens: float
    speed: float = 1.0
    at: float
    slowed_at: float = float("-inf")


def full_bucket(rate: Rate, now: float) -> Bucket:
    """Return a bucket that nobody has used yet."""
    return Bucket(tokens=rate.burst, at=now)


def refill(bucket: Bucket, rate: Rate, now: float) -> Bucket:
    """Return the bucket as it stands now. A rate that became lower takes what no longer fits."""
    elapsed = max(0.0, now - bucket.at)
    grown = min(1.0, bucket.speed + elapsed / RECOVERY_S)
    recovering = (grown - bucket.speed) * RECOVERY_S
    filled = rate.pace * (recovering * (bucket.speed + grown) / 2 + (elapsed - recovering))
    most = max(1.0, min(rate.burst, rate.pace * grown))
    return replace(bucket, tokens=min(most, bucket.tokens + filled), speed=grown, at=max(bucket.at, now))


def spend(bucket: Bucket) -> Bucket:
    """Take one token of a bucket that has one."""
    return replace(bucket, tokens=bucket.tokens - 1)


def due_in(bucket: Bucket, rate: Rate) -> float:
    """Return the seconds until there is a token, 0 = now. At most: a bucket that recovers has it sooner."""
    missing = 1 - bucket.tokens
    return 0.0 if missing <= _ROUNDING else missing / (rate.pace * bucket.speed)


def slow(bucket: Bucket, now: float, *, called_at: float) -> Bucket:
    """
    Halve the pace, because the service asked for fewer calls.

    Args:
        bucket: as it stands now.
        now: the time.
        called_at: when the call went out that was refused. Calls that were on their way when the bucket was slowed say
            nothing of its new pace and do not slow it again.
    """
    if called_at <= bucket.slowed_at:
        return bucket
    return replace(bucket, tokens=min(0.0, bucket.tokens), speed=max(SLOWEST, bucket.speed / 2), slowed_at=now)
