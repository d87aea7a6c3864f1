"""
A sync, as frozen values: its configuration, its state, and the words for both.

The objects that it writes at AWS are in `remote.py`. Which status follows from the state is in `sync_status.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final


class Layout(StrEnum):
    """How an environment becomes remote objects."""

    JSON = "json"
    """One remote object that holds all keys."""
    PER_KEY = "per-key"
    """One remote object for each key."""


class TagMode(StrEnum):
    """What happens to tags other than our owner tags."""

    NEVER = "never"
    UPSERT = "upsert"
    """Tags of the sync are added or changed; others are left alone."""
    REPLACE_OWN = "replace-own"
    """As upsert; tags that we wrote once and no longer want are removed."""


class OnDrift(StrEnum):
    """What a run does with a remote object that someone else changed."""

    ENFORCE = "enforce"
    """Write the wanted state again."""
    HOLD = "hold"
    """Write nothing until an operator approves."""


class OnRemove(StrEnum):
    """What happens to a remote object that the sync no longer wants."""

    RETAIN = "retain"
    DELETE = "delete"
    """Schedule its deletion, a grace period after its key was removed from the store."""


class Adopt(StrEnum):
    """An operator's consent to take over a foreign remote object. In every case the store's value is written."""

    OVERWRITE = "overwrite"
    """The former value is not kept."""
    PREFER_STORE = "prefer-store"
    """The former value was imported first. If both had a key, the value of the store won."""
    PREFER_AWS = "prefer-aws"
    """The former value was imported first. If both had a key, the value of AWS won."""


AWS_MANAGED_KEY = "default"
"""Value of `SyncConfig.kms_key` that asks for the AWS-managed key; None leaves the key alone."""


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """
    The configuration of a sync. None means that the dimension is left alone.

    Attributes:
        remote_name: name of the AWS secret (layout json), None for other layouts.
        name_template: template of the names (layout per-key), with {app}, {env}, {path} and {key}; None for others.
        kms_key: key ARN, AWS_MANAGED_KEY or None.
        replicas: Region -> key ARN there, or AWS_MANAGED_KEY; empty: none are wanted; None: they are left alone.
        resource_policy: canonical JSON of the resource policy; None means left alone.
        interval: time between drift checks.
        recovery_days: recovery window of deletions, 7 to 30 days.
        grace: time between the removal of a key from the store and the deletion of its object.
        shrink_limit_percent: a change may drop at most this share of a payload's keys unattended ...
        shrink_limit_keys: ... or fewer keys than this.
        delete_limit_percent: a run may delete at most this share of a sync's objects unattended ...
        delete_limit_objects: ... or fewer objects than this.
        guard_window: these limits also apply to everything that was dropped and deleted within this time.
        windows: canonical texts of its maintenance windows (`core.windows`).
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
    windows: tuple[str, ...] = ()

    @property
    def names(self) -> str:
        """The remote name, or the template of remote names."""
        return self.remote_name or self.name_template or ""


class SyncStatus(StrEnum):
    """Status of a sync."""

    PENDING = "pending"
    """A newer revision is not applied yet."""
    RUNNING = "running"
    IN_SYNC = "in-sync"
    HELD = "held"
    """Waits for an approval."""
    HALTED = "halted"
    """Waits for a fix by a person."""
    FAILING = "failing"
    """Tried again automatically."""
    PAUSED = "paused"
    INCOMPLETE = "incomplete"
    """Its credential has no role yet."""


@dataclass(frozen=True, kw_only=True)
class SyncFilter:
    """
    Which syncs to list. What is None or empty restricts nothing.

    Attributes:
        statuses: those with one of these statuses.
        app: name of an app: those of its environments.
        credential: name of a credential: those that use it.
        environment_id: those that read this environment, as their own or by a reference.
    """

    statuses: frozenset[SyncStatus] = frozenset()
    app: str | None = None
    credential: str | None = None
    environment_id: str | None = None


ALL_SYNCS: Final = SyncFilter()


class Trigger(StrEnum):
    """Why a run was started."""

    CHANGE = "change"
    """An environment that it reads has a new revision, or its configuration changed."""
    DRIFT = "drift"
    """A check found that someone else changed a remote object."""
    SCHEDULE = "schedule"
    """Its interval has passed."""
    MANUAL = "manual"
    RETRY = "retry"
    RESUME = "resume"


@dataclass(frozen=True, kw_only=True)
class Paused:
    """Who paused a sync, when and why. `until` is None if it lasts until an operator resumes it."""

    by: str
    at: datetime
    reason: str
    until: datetime | None


@dataclass(frozen=True, kw_only=True)
class Sync:
    """
    One environment and path -> one destination, with its current state.

    Attributes:
        version: grows with every change of the configuration.
        account: the AWS account it writes to, None until pinned.
        adopt: a consent that the next run carries out, None if there is none.
        adopt_versions: remote name -> version that the operator saw when consenting. After an import, any other version
            is not overwritten. A consent to overwrite is for these names, and for every name if there are none. An
            object that did not exist then has no entry.
        approved_digest: digest of the held changes that an operator approved, None if there is none.
        reads: environment id -> revision that the newest run read (-1 = never read).
        source_revision: revision of its environment now.
        applied_revision: revision of its environment that the newest successful run applied; None means never.
        settled_status: status that the newest run left; `status_of` derives the status from it and the rest.
        status_reason: one line for the operator, None if there is no reason to report.
        failures: failed runs in a row; sets the pause before the next run.
        retry_at: earliest time of the next run that an edit or a check may cause; None means at once.
        next_due_at: when the next check is due, None if no check is due by time.
        running: whether a claim is valid now.
        app_windows: canonical texts of the maintenance windows of its app.
    """

    id: str
    name: str
    environment_id: str
    app: str
    environment: str
    path: str
    credential_id: str
    credential: str
    destination_kind: str
    region: str
    version: int
    config: SyncConfig
    account: str | None
    adopt: Adopt | None
    adopt_versions: Mapping[str, str] = field(default_factory=dict)
    approved_digest: str | None
    paused: Paused | None
    reads: Mapping[str, int]
    source_revision: int
    applied_revision: int | None
    settled_status: SyncStatus
    status_reason: str | None
    failures: int
    retry_at: datetime | None
    next_due_at: datetime | None
    requested: Trigger | None
    running: bool
    pending: bool
    last_run_id: str | None
    created_at: datetime
    app_windows: tuple[str, ...] = ()

    @property
    def environment_label(self) -> str:
        """`app/environment`, as the command line writes it."""
        return f"{self.app}/{self.environment}"


@dataclass(frozen=True, kw_only=True)
class SyncDraft:
    """What an operator says of a new sync."""

    name: str
    app: str
    environment: str
    path: str
    credential: str
    destination_kind: str
    region: str
    config: SyncConfig
    account: str | None
    adopt: Adopt | None
    adopt_versions: Mapping[str, str] = field(default_factory=dict)
