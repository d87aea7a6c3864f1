"""
A token bucket: how many calls per second are allowed, and when the next one is. Pure.

Time is an argument: seconds of a monotonic clock. It knows neither the waiting callers nor the calls.
"""

from dataclasses import dataclass, replace
from typing import Final

USED: Final = 0.8
"""Share of a quota that phasesync uses unless it is set; the rest is for other clients of the account."""
_BURST: Final = 0.2
"""Seconds of the pace that may go out at once where a quota may be used up or exceeded."""
SLOWEST: Final = 0.1
"""Throttling slows a bucket down to this share of its pace at most."""
RECOVERY_S: Final = 60.0
"""Seconds from no pace to the full pace; a bucket at half of its pace recovers in half of this time."""

_ROUNDING: Final = 1e-6
"""A token that lacks no more than this counts as present: the next one comes that much later."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """
    The share of a quota that one process may use.

    Attributes:
        quota: calls per second that the service allows an account.
        processes: how many of our processes share them, from 1.
        used: the share of the quota that they may use together. More than 1 is for endpoints with other limits.
    """

    quota: float
    processes: int = 1
    used: float = USED

    @property
    def pace(self) -> float:
        """Calls per second in the long run."""
        return self.quota * self.used / self.processes

    @property
    def burst(self) -> float:
        """
        How many calls may go out at once, at least one: the part of the quota that `pace` does not use, so that no
        second has more calls than the quota.
        """
        unused = self.quota * (1 - self.used) if self.used <= 1 else self.quota * self.used * _BURST
        return max(1.0, unused / self.processes)


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """
    A token bucket in its state at one time.

    Attributes:
        tokens: calls that may go out.
        speed: share of the pace at which it fills, `SLOWEST` to 1; recovers to 1 by itself.
        at: the time of this state.
        slowed_at: when it was slowed last.
    """

    tokens: float
    speed: float = 1.0
    at: float
    slowed_at: float = float("-inf")


def full_bucket(rate: Rate, now: float) -> Bucket:
    """Return a new bucket, which is full."""
    return Bucket(tokens=rate.burst, at=now)


def refill(bucket: Bucket, rate: Rate, now: float) -> Bucket:
    """Return the bucket as it is now. If the rate became lower, surplus tokens are dropped."""
    elapsed = max(0.0, now - bucket.at)
    grown = min(1.0, bucket.speed + elapsed / RECOVERY_S)
    recovering = (grown - bucket.speed) * RECOVERY_S
    filled = rate.pace * (recovering * (bucket.speed + grown) / 2 + (elapsed - recovering))
    most = max(1.0, min(rate.burst, rate.pace * grown))
    return replace(bucket, tokens=min(most, bucket.tokens + filled), speed=grown, at=max(bucket.at, now))


def spend(bucket: Bucket) -> Bucket:
    """Return a bucket that has a token, without that token."""
    return replace(bucket, tokens=bucket.tokens - 1)


def due_in(bucket: Bucket, rate: Rate) -> float:
    """Return the seconds until the next token, 0 = now. A bucket that recovers has it sooner."""
    missing = 1 - bucket.tokens
    return 0.0 if missing <= _ROUNDING else missing / (rate.pace * bucket.speed)


def slow(bucket: Bucket, now: float, *, called_at: float) -> Bucket:
    """
    Return the bucket at half of its speed, because the service asked for fewer calls.

    Args:
        bucket: as it is now.
        now: the time.
        called_at: when the refused call was sent. Calls that were sent before the bucket was slowed do not slow it
            again: their refusal was not caused by its new pace.
    """
    if called_at <= bucket.slowed_at:
        return bucket
    return replace(bucket, tokens=min(0.0, bucket.tokens), speed=max(SLOWEST, bucket.speed / 2), slowed_at=now)
