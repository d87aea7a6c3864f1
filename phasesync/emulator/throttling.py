"""
Request rates: a token bucket per account of the caller, Region and group of operations.

Source: User Guide, quotas, "Secrets Manager quotas" (figures and which operations share one), and "applied to the
caller's account" for calls across accounts. The burst is one second's worth; AWS publishes none. Code and text:
API reference, common errors, ThrottlingException; public error texts say "Rate exceeded".
"""

import threading
from collections.abc import Mapping
from typing import Final

from phasesync.emulator.clock import EmulatorClock
from phasesync.emulator.errors import AwsError

_SHARED: Final[Mapping[str, tuple[float, str]]] = {
    "write": (
        50,
        "PutSecretValue UpdateSecret UpdateSecretVersionStage ReplicateSecretToRegions "
        "RemoveRegionsFromReplication StopReplicationToReplica",
    ),
    "create": (50, "CreateSecret"),
    "delete": (50, "DeleteSecret"),
    "restore": (50, "RestoreSecret"),
    "tag": (50, "TagResource UntagResource"),
    "policy": (50, "PutResourcePolicy GetResourcePolicy DeleteResourcePolicy ValidateResourcePolicy"),
    "rotate": (50, "RotateSecret CancelRotateSecret"),
    "versions": (50, "ListSecretVersionIds"),
    "password": (50, "GetRandomPassword"),
    "list": (100, "ListSecrets"),
    "batch": (100, "BatchGetSecretValue"),
    "get": (10_000, "GetSecretValue"),
    "describe": (40_000, "DescribeSecret"),
}
GROUP_OF: Final[Mapping[str, str]] = {
    operation: group for group, (_, operations) in _SHARED.items() for operation in operations.split()
}
"""Operation -> group."""


class Throttling:
    """The buckets."""

    def __init__(self, clock: EmulatorClock, *, enabled: bool = True) -> None:
        """
        Args:
            clock: what the buckets refill by.
            enabled: whether anything is throttled; may be changed.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._levels: dict[tuple[str, str, str], tuple[float, float]] = {}
        self.enabled = enabled
        self.rates: dict[str, float] = {group: rate for group, (rate, _) in _SHARED.items()}
        """Group -> requests per second; may be changed."""

    def check(self, account: str, region: str, operation: str) -> None:
        """Count a request: ThrottlingException when its bucket is empty."""
        group = GROUP_OF.get(operation)
        if not self.enabled or group is None:
            return
        rate, now = self.rates[group], self._clock.monotonic()
        most = max(1.0, rate)
        with self._lock:
            level, at = self._levels.get((account, region, group), (most, now))
            level = min(most, level + (now - at) * rate)
            enough = level >= 1
            self._levels[account, region, group] = (level - enough, now)
        if not enough:
            raise AwsError("ThrottlingException", "Rate exceeded")

    def refill(self) -> None:
        """Fill all buckets and take AWS's figures again."""
        with self._lock:
            self._levels.clear()
            self.rates = {group: rate for group, (rate, _) in _SHARED.items()}
