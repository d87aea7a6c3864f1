"""What an operator sets on a sync, as a frozen value, and the words it is said in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum


class Layout(StrEnum):
    """How an environment becomes remote objects."""

    JSON = "json"
    """One remote object that holds all keys."""
    PER_KEY = "per-key"
    """One remote object for each key."""


class TagMode(StrEnum):
    """What happens to tags other than our owner marks."""

    NEVER = "never"
    UPSERT = "upsert"
    """Tags of the sync are added or changed, others are left alone."""
    REPLACE_OWN = "replace-own"
    """As upsert; tags that we wrote once and no longer want are removed."""


class OnDrift(StrEnum):
    """What a run does with a remote object that somebody else changed."""

    ENFORCE = "enforce"
    """Write the wanted state again."""
    HOLD = "hold"
    """Write nothing until somebody approves."""


class OnRemove(StrEnum):
    """What happens to a remote object that the sync no longer wants."""

    RETAIN = "retain"
    DELETE = "delete"
    """Schedule its deletion, a grace after its key was removed from the store."""


class Adopt(StrEnum):
    """An operator's consent to take over a foreign remote object. In every case the store's value is written."""

    OVERWRITE = "overwrite"
    """Nothing of what is there is kept."""
    PREFER_STORE = "prefer-store"
    """What is there was imported first; where both had a key, the store's value won."""
    PREFER_AWS = "prefer-aws"
    """What is there was imported first; where both had a key, AWS's value won."""


AWS_MANAGED_KEY = "default"
"""Value of `SyncConfig.kms_key` that asks for the AWS-managed key; None leaves the key alone."""


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """
    What an operator set on a sync. None = not set: that dimension is left alone.

    Attributes:
        remote_name: name of the AWS secret (layout json), None for other layouts.
        name_template: names of the AWS secrets (layout per-key), with {app}, {env}, {path} and {key}; None for others.
        kms_key: key ARN, AWS_MANAGED_KEY or None.
        replicas: Region -> key ARN there, or AWS_MANAGED_KEY; empty = none are wanted, None = left alone.
        resource_policy: canonical JSON of the resource policy, None = left alone.
        interval: time between drift checks.
        recovery_days: recovery window of deletions, 7 to 30 days.
        grace: how long a key has to be gone from the store before its object is deleted.
        shrink_limit_percent: a change may drop at most this share of a payload's keys unattended ...
        shrink_limit_keys: ... or fewer keys than this.
        delete_limit_percent: a run may delete at most this share of a sync's objects unattended ...
        delete_limit_objects: ... or fewer objects than this.
        guard_window: these limits are also for all that was dropped and deleted within this time.
    """

    layout: Layout = Layout.JSON
    remote_name: str | None = None
    name_template: str | None = None
    kms_key: str | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    tag_mode: TagMode = TagMode.UPSERT
    replicas: Mapping[str, str] | None = None
    resource_policy: str | None = None
    on_drift: OnDrift = OnDrift.ENFORCE
    on_remove: OnRemove = OnRemove.RETAIN
    recovery_days: int = 30
    grace: timedelta = timedelta(hours=1)
    interval: timedelta = timedelta(minutes=5)
    shrink_limit_percent: int = 50
    shrink_limit_keys: int = 2
    delete_limit_percent: int = 20
    delete_limit_objects: int = 3
    guard_window: timedelta = timedelta(hours=24)

    @property
    def names(self) -> str:
        """The remote name, or the template that makes remote names."""
        return self.remote_name or self.name_template or ""
