"""What every operation works with: state, rights, KMS keys, durations, quotas, request rates."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from phasesync.emulator.access import Access
from phasesync.emulator.clock import EmulatorClock
from phasesync.emulator.errors import AwsError, invalid_parameter, marked_for_deletion, not_found
from phasesync.emulator.kms import Keys
from phasesync.emulator.moto_state import MotoState
from phasesync.emulator.request import Call

Result = dict[str, Any]
Operate = Callable[["Context", Call], Result]


@dataclass
class Timing:
    """How long things take, by the emulator's clock; AWS gives no figures except for the list. All may be changed."""

    list_lag: timedelta = timedelta()
    """ListSecrets "might not reflect changes from the last five minutes" (API reference, ListSecrets)."""
    lags_evenly: bool = True
    """All secrets lag by `list_lag` in lists; else each by a share of it that its ARN decides."""
    dates_every: timedelta = timedelta()
    """To what LastChangedDate is rounded down: a whole second makes ties in lists. AWS shows milliseconds."""
    force_delete_takes: timedelta = timedelta()
    """ "There might be a short delay before the secret is permanently deleted" (API reference, DeleteSecret)."""
    replication_takes: timedelta = timedelta()
    """Until a replica is InSync."""
    new_key_takes: timedelta = timedelta()
    """Until AWS knows a new access key (IAM User Guide, "Changes that I make are not always immediately visible")."""
    new_user_takes: timedelta = timedelta()
    """Until IAM finds a new user (as above; public: terraform-provider-aws waits for two minutes)."""


@dataclass
class Limits:
    """Hard quotas (User Guide, quotas; of users: IAM User Guide, quotas). Waiting restores none; all may be changed."""

    secrets: int = 500_000
    """Per account and Region."""
    versions: int = 100
    """Per secret."""
    labels: int = 20
    """Over all versions of a secret."""
    tags: int = 50
    """Per secret (General Reference, tag naming limits)."""
    users: int = 5_000
    """IAM users of an account."""
    user_policies: int = 10
    """Managed policies of a user; AWS raises it to 20 at most."""
    user_groups: int = 10
    """Groups that a user is in."""
    user_keys: int = 2
    """Access keys of a user."""
    user_inline_characters: int = 2_048
    """Of all inline policies of a user together, white space not counted."""
    user_tags: int = 50
    """Per user."""
    iam_page: int = 1_000
    """Entries on a page of IAM, however many were asked for: it "might return fewer" (API reference, ListUsers)."""


# --- Request rates: a token bucket per account of the caller, Region and group of operations
#
# User Guide, quotas, "Secrets Manager quotas" (figures and which operations share one), and "applied to the caller's
# account" for calls across accounts. The burst is one second's worth; AWS publishes none. Code and text: API reference,
# common errors, ThrottlingException; public error texts say "Rate exceeded".

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
    """Token buckets for requests to Secrets Manager."""

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


@dataclass
class Context:
    """What every operation of Secrets Manager and IAM works with."""

    state: MotoState
    access: Access
    keys: Keys
    timing: Timing = field(default_factory=Timing)
    limits: Limits = field(default_factory=Limits)
    sorting: Literal["done", "refused", "ignored"] = "done"
    """How ListSecrets treats SortBy: an older endpoint may refuse it, or answer in an order of its own."""
    lists: dict[str, list[Any]] = field(default_factory=dict, repr=False)
    """What the first page of a list found, for its later pages; see `secret_reads.py`."""

    def secret(self, call: Call, *, writes: bool = True, marked: bool = False) -> Any:
        """
        Return the secret that a call is about.

        Args:
            call: the call.
            writes: it changes the secret, so that a replica is refused: InvalidParameterException, "Operation not
                permitted on a replica secret" (public: cloud-nuke issue 435; User Guide, replicas are read-only).
            marked: accept a secret that is scheduled for deletion; otherwise InvalidRequestException (API
                reference, InvalidRequestException, first cause).
        """
        secret = self.state.find(call.account, call.region, call.secret_id)
        if secret is None:
            raise not_found()
        if writes and self.state.is_replica(secret):
            raise invalid_parameter(
                "Operation not permitted on a replica secret. Call must be made in primary secret's region."
            )
        if not marked and self.state.extras(secret).gone_at is not None:
            raise marked_for_deletion()
        return secret
