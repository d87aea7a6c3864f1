"""
Events: what happened, as frozen values.

No event carries a value, a key name or a remote name, except the message of `ChoreFailed`, which is the message of an
error. The code that shows events decides whether that message may be shown.
"""

from dataclasses import dataclass
from datetime import datetime

from phasesync.core.chores import Chore
from phasesync.core.lease import Cause, LeaseStatus
from phasesync.core.notification_message import Condition, Step
from phasesync.core.run import Outcome
from phasesync.core.sync import SyncStatus, Trigger


@dataclass(frozen=True, kw_only=True)
class RunFinished:
    """
    A run ended.

    Attributes:
        revision: revision of the sync's environment that was read, None if nothing was read.
        counts: action -> number of changes.
        error: class name of the error, None if there was none.
        code: the destination's error code, None if there is none.
        window: that changes wait for a maintenance window, or that a manual run crossed a closed one; None otherwise.
        found_drift: the run found that others changed an object, and no sweep had found it before.
        lag_ms: time from the commit of the oldest edit that this run applied until AWS reported it as current; None if
            it applied no edit.
    """

    sync: str
    run_id: str
    trigger: Trigger
    outcome: Outcome
    status: SyncStatus
    revision: int | None
    duration_ms: int
    aws_calls: int
    versions_written: int
    counts: dict[str, int]
    error: str | None
    code: str | None
    next_attempt_at: datetime | None
    window: str | None = None
    found_drift: bool = False
    lag_ms: int | None = None


@dataclass(frozen=True, kw_only=True)
class ClaimExpired:
    """A claim ended without a result: its holder died or stopped responding. `sync` is the name of the sync."""

    sync: str


@dataclass(frozen=True, kw_only=True)
class ClaimLost:
    """A process stopped work on a sync because another process has the claim now."""

    sync_id: str


@dataclass(frozen=True, kw_only=True)
class SyncUnreadable:
    """A sync was halted because its configuration or journal does not authenticate."""

    sync_id: str
    run_id: str
    trigger: Trigger
    error: str


@dataclass(frozen=True, kw_only=True)
class RoleChanged:
    """This daemon became active, or a standby."""

    role: str


@dataclass(frozen=True, kw_only=True)
class ClockJumped:
    """
    The database's clock was set back; stored instants that were in the future were moved back by as much.

    Attributes:
        back_s: by how many seconds, at least.
        leases: how many leases had their end moved.
    """

    back_s: float
    leases: int


@dataclass(frozen=True, kw_only=True)
class SchemaWaiting:
    """The daemon waits for another schema of the database. `command` provides it."""

    found: str | None
    expected: str
    command: str


@dataclass(frozen=True, kw_only=True)
class RunsPruned:
    """Housekeeping deleted old runs, and leases that ended long ago."""

    count: int
    leases: int = 0


@dataclass(frozen=True, kw_only=True)
class RetentionHeld:
    """
    Housekeeping deletes and empties nothing for `core.chores.HOLD_RETENTION`: the clock may have gone forward.

    Attributes:
        gap_s: seconds that went by without housekeeping; None: there was none in this database yet.
    """

    gap_s: float | None


@dataclass(frozen=True, kw_only=True)
class AuditHeadNoted:
    """
    Where the chain of the audit log ends: kept in the log of the daemon, it proves later that no tail was cut off.

    Attributes:
        head: `NUMBER:DIGEST`; None: the head was altered or removed outside phasesync.
        command: what finds out more.
    """

    head: str | None
    command: str = "phasesync audit verify"


@dataclass(frozen=True, kw_only=True)
class AuditEmptied:
    """
    Housekeeping emptied old rows of the audit log.

    Attributes:
        emptied: how many rows.
        dropped: how many empty rows at the beginning were deleted.
    """

    emptied: int
    dropped: int


@dataclass(frozen=True, kw_only=True)
class QueueCleared:
    """Entries of daemons that died or froze were removed from the queue of due syncs."""

    count: int


@dataclass(frozen=True, kw_only=True)
class DatabaseCompared:
    """
    The database was compared with AWS, since its server was started anew or it was brought there: is it an older copy?

    Attributes:
        places: how many accounts and Regions the journal has objects at.
        objects: how many were compared.
        unanswered: how many places gave no answer; nothing is written there until they do.
        older: AWS has writes of ours that the journal does not know.
    """

    places: int
    objects: int
    unanswered: int
    older: bool


@dataclass(frozen=True, kw_only=True)
class SweepFinished:
    """
    The objects of an account and Region were checked by listing them.

    Attributes:
        full: all objects were listed; else those that changed lately.
        objects: how many were compared, or skipped because we had just changed them.
        suspects: how many a run has to check.
        syncs: how many syncs were checked or had their next check deferred.
        calls: how many lists it took.
    """

    account: str
    region: str
    full: bool
    objects: int
    suspects: int
    syncs: int
    calls: int
    duration_ms: int


@dataclass(frozen=True, kw_only=True)
class SweepDenied:
    """A credential may not list, so each object is observed by itself. `hint` names the line of the policy."""

    account: str
    region: str
    credential: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class IncrementalSweepUnavailable:
    """
    An endpoint does not list what changed newest first, so that only lists of everything find drift.

    Attributes:
        reason: refused, unordered (it answers in another order) or undated (entries have no LastChangedDate).
    """

    account: str
    region: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DriftMissedByIncrementalSweep:
    """
    A list of everything found suspects that the lists of changes before it did not show.

    Attributes:
        listed: objects that differ, but whose LastChangedDate is older than what the incremental sweeps have read.
        unlisted: objects that are not listed: they lost our tag or are gone, which no list of changes shows.
    """

    account: str
    region: str
    listed: int
    unlisted: int


@dataclass(frozen=True, kw_only=True)
class LeaseRevoked:
    """
    A lease was revoked, or could not be.

    Attributes:
        dynamic: name of the dynamic secret.
        status: of the lease afterwards.
        cause: why it was to be revoked.
        error: class name of the error, None if there was none.
        code: AWS's error code, None if there is none.
        failures: attempts that failed so far.
        late_ms: time from its expiry to its end, None if it was revoked for another cause or has not ended.
        retry_at: when it is tried again, None if it has ended.
    """

    dynamic: str
    lease_id: str
    status: LeaseStatus
    cause: Cause
    error: str | None
    code: str | None
    failures: int
    aws_calls: int
    late_ms: int | None
    retry_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class LeaseEndMoved:
    """A lease was not revoked at the end in its row: the tags of its user have a later end, so the row is older."""

    dynamic: str
    lease_id: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class LeaseUnreadable:
    """A lease cannot be revoked because its row does not authenticate."""

    lease_id: str


@dataclass(frozen=True, kw_only=True)
class OrphanUsersRemoved:
    """
    The users under our IAM paths were compared with the leases.

    Attributes:
        account: 12 digits.
        orphans: how many carry our tag and belong to no live lease.
        removed: how many of these were removed.
    """

    account: str
    orphans: int
    removed: int


@dataclass(frozen=True, kw_only=True)
class MessageSent:
    """
    A message of a notification was sent.

    Attributes:
        notification: its name.
        channel: the kind of its channel.
        condition: None for a test.
        subjects: about how many syncs or leases it is.
        attempts: how often it was tried, this time included.
        age_ms: from the making of the message to this attempt.
        remark: what was not as asked although it was sent; None if there is nothing to say.
    """

    notification: str
    channel: str
    message_id: str
    step: Step
    condition: Condition | None
    subjects: int
    attempts: int
    age_ms: int
    remark: str | None = None


@dataclass(frozen=True, kw_only=True)
class MessageFailed:
    """
    A message of a notification could not be sent.

    Attributes:
        error: class name of the error.
        code: the receiver's code, None if there is none.
        retry_in_s: seconds until it is tried again; None: it is given up.

    The others are those of `MessageSent`.
    """

    notification: str
    channel: str
    message_id: str
    step: Step
    condition: Condition | None
    attempts: int
    error: str
    code: str | None
    retry_in_s: float | None


@dataclass(frozen=True, kw_only=True)
class NotificationUnreadable:
    """A notification is used for nothing, since its row was altered outside phasesync. `reason` names it."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class BackupMade:
    """
    A scheduled backup is complete, and was proved.

    Attributes:
        place: where it is.
        size: bytes.
        rows: how many rows it holds.
        removed: how many older ones were removed.
    """

    place: str
    size: int
    rows: int
    removed: int
    duration_ms: int


@dataclass(frozen=True, kw_only=True)
class OldBackupsNotRemoved:
    """
    A scheduled backup was made, and older ones could not be removed; it is tried again after the next one.

    Attributes:
        place: where they are.
        error: class name of the error.
        code: AWS's error code, None if there is none.
        message: of the error, with what helps: places and codes.
    """

    place: str
    error: str
    code: str | None
    message: str


@dataclass(frozen=True, kw_only=True)
class BackupFailed:
    """
    A scheduled backup could not be made; it is tried again.

    Attributes:
        place: where it was to be.
        error: class name of the error.
        code: AWS's error code, None if there is none.
        message: of the error, with what helps: places and codes.
    """

    place: str
    error: str
    code: str | None
    message: str


@dataclass(frozen=True, kw_only=True)
class ChoreFailed:
    """A periodic duty of the daemon failed; it is tried again."""

    chore: Chore
    error: str
    message: str


Event = (
    RunFinished
    | ClaimExpired
    | ClaimLost
    | SyncUnreadable
    | RoleChanged
    | ClockJumped
    | SchemaWaiting
    | RunsPruned
    | RetentionHeld
    | AuditHeadNoted
    | AuditEmptied
    | QueueCleared
    | DatabaseCompared
    | SweepFinished
    | SweepDenied
    | IncrementalSweepUnavailable
    | DriftMissedByIncrementalSweep
    | LeaseRevoked
    | LeaseEndMoved
    | LeaseUnreadable
    | OrphanUsersRemoved
    | MessageSent
    | MessageFailed
    | NotificationUnreadable
    | BackupMade
    | OldBackupsNotRemoved
    | BackupFailed
    | ChoreFailed
)
