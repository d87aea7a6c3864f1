"""What is wanted at a destination, what was observed there, and what the journal knows of it, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import IntEnum, StrEnum

from phasesync.core.model import SecretValue, ValueType

CURRENT = "AWSCURRENT"
PREVIOUS = "AWSPREVIOUS"
PENDING = "AWSPENDING"

TAG_INSTANCE = "phasesync:instance"
TAG_SYNC = "phasesync:sync"
TAG_DELETION = "phasesync:last-deletion"
"""Set before we delete an object: the token of the generation that the deletion took."""


@dataclass(frozen=True, kw_only=True)
class Payload:
    """
    The exact bytes to write and their keyed digests.

    Attributes:
        value: text becomes a SecretString, binary a SecretBinary.
        fingerprint: keyed digest of the bytes and their type.
        keys: key name -> keyed digest of that key's value.
        sizes: key name -> bytes that the key takes in the payload.
        empty: keys with an empty value: an empty text, or a JSON document that is empty or null.
        empty_by_reference: the keys of these that have a reference in the store.
    """

    value: SecretValue = field(repr=False)
    fingerprint: str
    keys: Mapping[str, str] = field(repr=False)
    sizes: Mapping[str, int] = field(repr=False)
    empty: frozenset[str] = field(default=frozenset(), repr=False)
    empty_by_reference: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def binary(self) -> bool:
        """Whether it is written as a SecretBinary."""
        return self.value.type is ValueType.BINARY


@dataclass(frozen=True, kw_only=True)
class Desired:
    """
    One remote object as it should be. None means that the dimension is left alone.

    Attributes:
        tags: all tags that it must carry, our owner marks included.
        unwanted_tags: tags that we wrote once and no longer want (tag mode replace-own).
        replicas: Region -> key ARN there, or AWS_MANAGED_KEY.
        resource_policy: canonical JSON.
    """

    remote_name: str
    payload: Payload
    description: str | None
    kms_key: str | None
    tags: Mapping[str, str]
    unwanted_tags: tuple[str, ...] = ()
    replicas: Mapping[str, str] | None = None
    resource_policy: str | None = None


class ReplicaStatus(StrEnum):
    """State of a copy in another Region (API reference, ReplicationStatusType)."""

    IN_SYNC = "InSync"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A copy of a remote object in another Region. `name_taken`: it failed because another secret has its name."""

    status: ReplicaStatus
    kms_key: str | None
    name_taken: bool = False


class CrossAccountStatus(StrEnum):
    """State of replication to another account (API reference, CrossAccountReplicaEntry and CrossAccountPrimary)."""

    IN_SYNC = "InSync"
    IN_PROGRESS = "InProgress"
    PENDING = "Pending"
    FAILED = "Failed"
    DETACHED = "Detached"
    """The other side stopped it; this side has not."""
    UNKNOWN = "in an unknown state"


@dataclass(frozen=True, kw_only=True)
class CrossAccountLink:
    """
    The other end of a replication between two accounts.

    Attributes:
        arn: of the primary, or of the copy; None if AWS does not name it.
        role_arn: the role that replicates to the copy, None if the writer of the primary does.
    """

    arn: str | None
    status: CrossAccountStatus
    role_arn: str | None = None


@dataclass(frozen=True, kw_only=True)
class Observed:
    """
    One remote object as DescribeSecret reports it. If it is absent, None takes its place.

    Attributes:
        versions: version id -> its staging labels; versions without labels are not reported.
        kms_key: as AWS names it; None means the AWS-managed key.
        deleted_at: set while a deletion is scheduled.
        primary_region: Region of the primary if this is a replica or has replicas, else None.
        owning_service: set when an AWS service manages it.
        external_type: set when it is a managed external secret: the partner, as AWS spells it.
        cross_account_primary: set when it is a copy of a secret of another account, in the same Region.
        cross_account_copies: its copies in other accounts; lists do not show them, nor such a primary.
        last_changed_at: when anything of it was changed last, None if AWS does not report it.
    """

    arn: str
    name: str
    versions: Mapping[str, frozenset[str]]
    description: str
    kms_key: str | None
    tags: Mapping[str, str]
    deleted_at: datetime | None
    rotation_enabled: bool
    owning_service: str | None
    primary_region: str | None
    external_type: str | None = None
    cross_account_primary: CrossAccountLink | None = None
    cross_account_copies: tuple[CrossAccountLink, ...] = ()
    replicas: Mapping[str, Replica] = field(default_factory=dict)
    last_read_on: date | None = None
    last_changed_at: datetime | None = None
    resource_policy: str | None = None

    @property
    def current_version(self) -> str | None:
        """Id of the version that readers get, None if there is none."""
        return next((version for version, labels in self.versions.items() if CURRENT in labels), None)


class Action(StrEnum):
    """One step of a plan."""

    CREATE = "create"
    PUT = "put"
    RETAG = "retag"
    REKEY = "rekey"
    SET_DESCRIPTION = "set-description"
    REPLICATE = "replicate"
    SET_POLICY = "set-policy"
    RESTORE = "restore"
    DELETE = "delete"
    NOOP = "noop"
    CONFLICT = "conflict"
    REFUSE = "refuse"


@dataclass(frozen=True, kw_only=True)
class Intent:
    """
    The journalled decision to write: made before the call, cleared when the result is known.

    Attributes:
        action: create, put, rekey or restore.
        generation: number of the write.
        token: becomes AWS's version id.
        fingerprint: of the payload that the token was last sent with; None for a restore.
        payloads: how many different payloads the token may have been sent with.
        keys: key name -> keyed digest of its value, of the payload that the token was last sent with.
        binary: whether the token was sent with a SecretBinary; None for a restore, or for payloads of both kinds.
        empty: keys of that payload with an empty value; None if not known.
        approved: a person approved this write.
    """

    action: Action
    generation: int
    token: str
    fingerprint: str | None
    payloads: int
    made_at: datetime
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    binary: bool | None = None
    empty: tuple[str, ...] | None = field(default=None, repr=False)
    approved: bool = False


class KeyContent(IntEnum):
    """What a key of a payload holds; to go down is a loss."""

    NONE = 0
    """There is no such key."""
    EMPTY = 1
    FULL = 2


@dataclass(frozen=True, kw_only=True)
class KeyStep:
    """A write that added, removed, filled or emptied keys: when, and what each of these keys held before."""

    at: datetime
    former: Mapping[str, KeyContent] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """
    When a remote object was created and deleted.

    Attributes:
        created_at: None if long ago, or not known.
        deleted_at: when we had AWS schedule its deletion, None if it exists.
        leaving: it exists, and is to be deleted.
    """

    created_at: datetime | None = None
    deleted_at: datetime | None = None
    leaving: bool = False


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """
    What is known of one remote object of a sync.

    Attributes:
        id: None until it is stored.
        arn: None until AWS reported it.
        version_id: the version that we wrote last; None if never written.
        generation: number of the newest settled write or deletion; 0 if there is none.
        fingerprint: of the payload written last; None if never written, or not known which of two it was.
        keys: key name -> keyed digest of its value, of the payload written last.
        binary: whether the payload written last is a SecretBinary; None if not known.
        empty: keys of that payload with an empty value; None if not known (see `losses.py`).
        steps: writes that added, removed, filled or emptied keys, oldest first; since the last one that was approved.
        created_at: when we made it; None if not known.
        tags_written: tags that we put there.
        former_tags: tags that it had when it was adopted, None if we made it.
        replicas_written: Regions that we had it copied to; no other copy is ever removed.
        metadata: dimension (description, key, tags, replicas, policy) -> digest of what was wanted when it was last
            in step; distinguishes a change outside from a change of the sync.
        policy_as_stored: digest of the resource policy as AWS returned it after we wrote it; AWS may word it anew.
        intent: an open intent, None if the last write is settled.
        touched_at: when we last called AWS to change it; lists lag behind.
        versions_at: when versions were written within the last 24 h, oldest first; the version budget counts them.
        enforced_at: when drift was repaired within the last 24 h, oldest first.
        unwanted_since: when its key was first missing from the store, None while it is wanted.
        deletion_at: when we had AWS schedule its deletion, None if we did not.
        deletion_approved: a person approved that deletion.
        revisions: environment id -> the newest revision that a run which stored this entry had read. If the environment
            has an older revision now, someone restored an older row.
        sync_version: the newest version of the sync that such a run used; None if stored before this was recorded.
    """

    id: str | None
    sync_id: str
    remote_name: str
    account: str
    region: str
    arn: str | None = None
    version_id: str | None = None
    generation: int = 0
    fingerprint: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    binary: bool | None = None
    empty: tuple[str, ...] | None = field(default=None, repr=False)
    steps: tuple[KeyStep, ...] = field(default=(), repr=False)
    created_at: datetime | None = None
    tags_written: Mapping[str, str] = field(default_factory=dict)
    former_tags: Mapping[str, str] | None = None
    replicas_written: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    policy_as_stored: str | None = None
    intent: Intent | None = None
    touched_at: datetime | None = None
    versions_at: tuple[datetime, ...] = ()
    enforced_at: tuple[datetime, ...] = ()
    unwanted_since: datetime | None = None
    deletion_at: datetime | None = None
    deletion_approved: bool = False
    revisions: Mapping[str, int] = field(default_factory=dict)
    sync_version: int | None = None

    @property
    def written_before(self) -> bool:
        """Whether a write of ours is known to have landed."""
        return self.version_id is not None


@dataclass(frozen=True, kw_only=True)
class WriteResult:
    """
    Answer to a create or a put.

    Attributes:
        version_id: as AWS reports it.
        current: whether readers now get this version, None if the answer does not say.
    """

    arn: str
    version_id: str
    current: bool | None


@dataclass(frozen=True)
class ResourceExists:
    """
    Answer to a create or a put that wrote nothing: the name exists, or the token was used with another payload.

    For a put it means that a write with this token and another payload has landed.
    """


@dataclass(frozen=True, kw_only=True)
class RemoteListing:
    """One entry of a list of remote objects."""

    name: str
    arn: str
    description: str
    ours: bool
    deleted_at: datetime | None
    owning_service: str | None
    external_type: str | None = None


@dataclass(frozen=True, kw_only=True)
class ChangesPage:
    """
    One page of a list of remote objects, the last changed first; it may be empty.

    Attributes:
        answered_at: when the service answered, by its own clock; None if it does not say.
    """

    entries: tuple[Observed, ...]
    answered_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class CallerIdentity:
    """The identity that AWS reports for a credential."""

    account: str
    arn: str
