"""The nouns of the store and of a sync, as frozen values. What happens at AWS is in `remote.py`."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NoReturn

from phasesync.core.status import Outcome, SyncStatus, Trigger


class ValueType(StrEnum):
    """How the bytes of a secret value are to be read."""

    TEXT = "text"
    """UTF-8 text."""
    JSON = "json"
    """A JSON document, embedded as JSON in layout `json`."""
    BINARY = "binary"
    """Any bytes."""


class SecretValue:
    """
    A plaintext that hides itself: repr, str, format, pickle and JSON never show it.

    `reveal` and `reveal_text` are the only ways out and have few, named call sites.
    """

    __slots__ = ("_data", "type")

    def __init__(self, data: bytes | str, type: ValueType = ValueType.TEXT) -> None:
        """
        Args:
            data: the bytes, or text that is kept as UTF-8.
            type: how they are to be read.
        """
        self._data = data.encode("utf-8") if isinstance(data, str) else data
        self.type = type

    def reveal(self) -> bytes:
        """Return the plaintext bytes."""
        return self._data

    def reveal_text(self) -> str:
        """Return the plaintext as text; UnicodeDecodeError where it is none."""
        return self._data.decode("utf-8")

    def __len__(self) -> int:
        return len(self._data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretValue):
            return NotImplemented
        return self.type == other.type and hmac.compare_digest(self._data, other._data)

    def __hash__(self) -> int:
        raise TypeError("a secret value is not hashable: its hash would tell it")

    def __repr__(self) -> str:
        return "SecretValue(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret value cannot be pickled")


@dataclass(frozen=True, kw_only=True)
class App:
    """A named set of environments."""

    id: str
    name: str
    description: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Environment:
    """
    One environment of an app.

    Attributes:
        revision: grows by one with every committed edit; 0 = never edited.
        keys: how many secrets it has now, in all folders.
    """

    id: str
    app_id: str
    app: str
    name: str
    revision: int
    keys: int
    created_at: datetime

    @property
    def label(self) -> str:
        """`app/environment`, as the command line writes it."""
        return f"{self.app}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class SecretVersion:
    """One committed state of a secret key. `value` is None where the key was unset."""

    path: str
    key: str
    version: int
    value: SecretValue | None = field(repr=False)
    comment: str = field(repr=False)
    changed_at: datetime
    changed_by: str
    origin: str
    """What made it: set, unset, import, rollback, generate."""

    @property
    def type(self) -> ValueType | None:
        """Type of the value, None where the key was unset."""
        return None if self.value is None else self.value.type


@dataclass(frozen=True, kw_only=True)
class EnvironmentSnapshot:
    """
    All secrets of one environment at one revision.

    Attributes:
        secrets: (path, key) -> value.
    """

    environment_id: str
    app: str
    name: str
    revision: int
    secrets: Mapping[tuple[str, str], SecretValue] = field(repr=False)


# --- credentials


class CredentialType(StrEnum):
    """How a credential authenticates to AWS."""

    ASSUME_ROLE = "assume-role"
    ACCESS_KEY = "access-key"
    AMBIENT = "ambient"
    """The default chain of the AWS SDK: instance role, web identity, environment, profile."""


class CredentialStatus(StrEnum):
    """What is known of a credential."""

    INCOMPLETE = "incomplete"
    """assume-role without a role ARN: the External ID exists, the role does not yet."""
    UNVERIFIED = "unverified"
    VERIFIED = "verified"
    REJECTED = "rejected"


@dataclass(frozen=True, kw_only=True)
class Credential:
    """
    How we authenticate to AWS.

    Attributes:
        version: grows with every change; part of the key under which clients and sessions are cached.
        account: the pinned 12-digit AWS account, None until something has pinned it.
        source_id: id of the credential whose identity assumes the role; None = the default chain.
        external_id: None for a role without one, and for other types.
        used_by: names of the syncs that use it.
    """

    id: str
    name: str
    type: CredentialType
    region: str
    version: int
    status: CredentialStatus
    account: str | None
    role_arn: str | None
    external_id: str | None = field(repr=False)
    source_id: str | None
    source_name: str | None = None
    access_key_id: str | None = field(repr=False)
    secret_access_key: SecretValue | None = field(repr=False)
    created_at: datetime
    verified_at: datetime | None
    used_by: tuple[str, ...] = ()


# --- syncs


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

    @property
    def names(self) -> str:
        """The remote name, or the template that makes remote names."""
        return self.remote_name or self.name_template or ""


@dataclass(frozen=True, kw_only=True)
class Paused:
    """Who paused a sync, when and why. `until` None = until somebody resumes it."""

    by: str
    at: datetime
    reason: str
    until: datetime | None


@dataclass(frozen=True, kw_only=True)
class Sync:
    """
    One environment and path -> one destination, with what is known of it now.

    Attributes:
        version: grows with every change of the configuration.
        account: the AWS account it writes to, None until pinned.
        adopt: a consent that the next run carries out, None when there is none.
        adopt_versions: remote name -> version that the operator saw (and imported) when consenting; another one is not
            written over. A name that is missing stands for an object that did not exist then.
        approved_digest: digest of held changes that somebody approved, None when there is none.
        reads: environment id -> revision that the newest run read (-1 = never read).
        source_revision: revision of its environment now.
        applied_revision: revision of its environment that the newest successful run applied, None = never.
        settled_status: status that the newest run left behind; `status` is derived from it and the rest.
        status_reason: one line for the operator, None when nothing is to be said.
        failures: failed runs in a row; drives the pause before the next.
        retry_at: earliest time of the next run that an edit or a check may cause, None = at once.
        next_due_at: when the next check is due, None = nothing is due by time.
        running: whether a claim is good now.
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

    @property
    def environment_label(self) -> str:
        """`app/environment`, as the command line writes it."""
        return f"{self.app}/{self.environment}"


# --- runs


@dataclass(frozen=True, kw_only=True)
class RunError:
    """Why a run did not do all it should. `cls` is the name of a class in `errors.py`."""

    cls: str
    code: str | None
    message: str
    request_id: str | None
    hint: str | None


@dataclass(frozen=True, kw_only=True)
class ChangeResult:
    """What became of one change of a plan. `version_id` is set where a version was written."""

    action: str
    remote_name: str
    outcome: Outcome
    reason: str
    version_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """
    One attempt to reconcile a sync.

    Attributes:
        attempt: 1 for the first, one more for each that follows a failure.
        revisions: `app/environment` -> revision that was read.
        counts: action -> number of changes.
        next_attempt_at: when a failed run is tried again, None = not by itself.
        ended_at: None while it is under way (never stored so).
    """

    id: str
    sync_id: str
    sync: str
    trigger: Trigger
    actor: str
    attempt: int
    outcome: Outcome
    started_at: datetime
    ended_at: datetime
    revisions: Mapping[str, int]
    counts: Mapping[str, int]
    aws_calls: int
    versions_written: int
    error: RunError | None
    next_attempt_at: datetime | None
    changes: tuple[ChangeResult, ...]
