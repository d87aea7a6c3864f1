"""
The table: which calls of AWS share a quota of calls a second, and how many it allows.

Data only. Figures are AWS's own; how much of them we use is `core/rates.py`'s.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class RateGroup:
    """
    Calls that AWS counts together.

    Attributes:
        name: unique.
        per_second: calls a second that AWS allows an account.
        actions: IAM actions of the calls.
        region: where the service counts them, for services that know no Regions (IAM); None = in each Region apart.
    """

    name: str
    per_second: int
    actions: tuple[str, ...]
    region: str | None = None


def _secrets_manager(name: str, per_second: int, *operations: str) -> RateGroup:
    return RateGroup(
        name=f"secretsmanager:{name}",
        per_second=per_second,
        actions=tuple(f"secretsmanager:{operation}" for operation in operations),
    )


SECRETS_MANAGER: Final = (
    _secrets_manager(
        "write",
        50,
        "PutSecretValue",
        "UpdateSecret",
        "UpdateSecretVersionStage",
        "ReplicateSecretToRegions",
        "RemoveRegionsFromReplication",
        "StopReplicationToReplica",
    ),
    _secrets_manager("create", 50, "CreateSecret"),
    _secrets_manager("delete", 50, "DeleteSecret"),
    _secrets_manager("restore", 50, "RestoreSecret"),
    _secrets_manager("tag", 50, "TagResource", "UntagResource"),
    _secrets_manager(
        "policy", 50, "GetResourcePolicy", "PutResourcePolicy", "DeleteResourcePolicy", "ValidateResourcePolicy"
    ),
    _secrets_manager("rotate", 50, "RotateSecret", "CancelRotateSecret"),
    _secrets_manager("versions", 50, "ListSecretVersionIds"),
    _secrets_manager("password", 50, "GetRandomPassword"),
    _secrets_manager("list", 100, "ListSecrets"),
    _secrets_manager("read-many", 100, "BatchGetSecretValue"),
    _secrets_manager("read", 10_000, "GetSecretValue"),
    _secrets_manager("describe", 40_000, "DescribeSecret"),
)
"""Secrets Manager: calls a second of an account in a Region, none adjustable, throttled in the caller's account
(User Guide, "AWS Secrets Manager quotas")."""

RATE_GROUPS: Final = SECRETS_MANAGER
"""Every group that is known."""
