"""A call that would change something at AWS: what a dry run shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PlannedCall:
    """
    A call that a command would make.

    Attributes:
        action: for AWS secrets the word of a plan, such as `retag` or `delete`; for IAM and STS the IAM action.
        target: name of the AWS secret, user or role that the call changes.
        details: what it would set, as JSON takes it; never a value of a secret.
    """

    action: str
    target: str
    details: Mapping[str, object] = field(default_factory=dict)
