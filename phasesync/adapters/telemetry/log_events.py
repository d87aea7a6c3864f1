"""
One log line for each event of the core.

Shows names of syncs and dynamic secrets, ids of leases, words and numbers. Never a value, a key name or a remote name:
so the messages of errors, which may name keys and remote objects, are shown only if the daemon's own chores met the
database.
"""

from typing import Final

from structlog.stdlib import BoundLogger

from phasesync.adapters.telemetry.logging import get_logger
from phasesync.core.chores import Chore
from phasesync.core.events import (
    AuditEmptied,
    AuditHeadNoted,
    BackupFailed,
    BackupMade,
    ChoreFailed,
    ClaimExpired,
    ClaimLost,
    ClockJumped,
    DatabaseCompared,
    DriftMissedByIncrementalSweep,
    Event,
    IncrementalSweepUnavailable,
    LeaseEndMoved,
    LeaseRevoked,
    LeaseUnreadable,
    MessageFailed,
    MessageSent,
    NotificationUnreadable,
    OldBackupsNotRemoved,
    OrphanUsersRemoved,
    QueueCleared,
    RetentionHeld,
    RoleChanged,
    RunFinished,
    RunsPruned,
    SchemaWaiting,
    SweepDenied,
    SweepFinished,
    SyncUnreadable,
)
from phasesync.core.lease import ENDED
from phasesync.core.run import Outcome
from phasesync.core.sync import SyncStatus

_TELLING_ERRORS: Final = frozenset(
    {
        "StoreUnavailableError",
        "SchemaMismatchError",
        "SettingsError",
        "AnotherDatabaseError",
        "EnvironmentStoreError",
        "KeyUnavailableError",
    }
)
"""Classes with messages about the database or the settings: they hold places, codes and ids of root keys."""
_CHORES: Final = frozenset(
    {
        Chore.START,
        Chore.SCHEMA,
        Chore.CLOCK,
        Chore.RENEWAL,
        Chore.HEARTBEAT,
        Chore.POLL,
        Chore.REAP,
        Chore.ROOT_KEYS,
        Chore.SWEEP,
        Chore.LEASES,
        Chore.REAP_USERS,
        Chore.HOUSEKEEPING,
        Chore.NOTIFY,
        Chore.BACKUP,
        Chore.RELEASE,
        Chore.SIGN_OFF,
    }
)
"""What the daemon does without reading secrets. Not `Chore.RECONCILE`: an error that ends a run may name keys."""

_CALM: Final = frozenset({Outcome.UNCHANGED, Outcome.APPLIED})


class LogEvents:
    """An EventSink that writes log lines. Set logging up first: `configure_logging`."""

    def __init__(self, log: BoundLogger | None = None) -> None:
        """
        Args:
            log: None means the logger `phasesync`.
        """
        self._log = log or get_logger()

    def emit(self, event: Event) -> None:
        """Write one line."""
        match event:
            case RunFinished():
                self._run(event)
            case ClaimExpired():
                self._log.warning("claim expired", sync=event.sync)
            case ClaimLost():
                self._log.warning("claim lost", sync_id=event.sync_id)
            case SyncUnreadable():
                self._log.error(
                    "sync halted: it cannot be read", sync_id=event.sync_id, run=event.run_id, error=event.error
                )
            case RoleChanged():
                self._log.info("role changed", role=str(event.role))
            case ClockJumped():
                self._log.warning(
                    "the database's clock was set back; what lay ahead was moved",
                    back_s=event.back_s,
                    leases=event.leases,
                )
            case DatabaseCompared():
                log = self._log.warning if event.older or event.unanswered else self._log.info
                log(
                    "the database is older than AWS: nothing is written"
                    if event.older
                    else "compared with AWS, since the database was brought here or its server was started anew",
                    places=event.places,
                    objects=event.objects,
                    unanswered=event.unanswered,
                )
            case SchemaWaiting():
                self._log.warning(
                    "waiting for the database schema",
                    found=event.found,
                    expected=event.expected,
                    command=event.command,
                )
            case RunsPruned() | RetentionHeld() | QueueCleared() | AuditHeadNoted() | AuditEmptied():
                self._of_housekeeping(event)
            case SweepFinished() | SweepDenied() | IncrementalSweepUnavailable() | DriftMissedByIncrementalSweep():
                self._of_sweeps(event)
            case LeaseRevoked() | LeaseEndMoved() | LeaseUnreadable() | OrphanUsersRemoved():
                self._of_leases(event)
            case MessageSent() | MessageFailed() | NotificationUnreadable():
                self._of_notifications(event)
            case BackupMade() | OldBackupsNotRemoved() | BackupFailed():
                self._of_backups(event)
            case ChoreFailed():
                self._chore(event)

    def _of_housekeeping(
        self, event: RunsPruned | RetentionHeld | QueueCleared | AuditHeadNoted | AuditEmptied
    ) -> None:
        match event:
            case RunsPruned():
                self._log.info("old runs deleted", count=event.count, leases=event.leases)
            case RetentionHeld(gap_s=None):
                self._log.info("old rows are kept for a day: the first housekeeping of this database")
            case RetentionHeld():
                self._log.warning(
                    "old rows are kept for a day: no housekeeping was done for long, or the clock went forward",
                    gap_s=round(event.gap_s or 0),
                )
            case QueueCleared():
                self._log.info("entries of dead daemons removed from the queue", count=event.count)
            case AuditHeadNoted(head=None):
                self._log.error("the head of the audit log was altered or removed", command=event.command)
            case AuditHeadNoted():
                self._log.info("head of the audit log", head=event.head)
            case AuditEmptied():
                self._log.info("old rows of the audit log emptied", emptied=event.emptied, dropped=event.dropped)

    def _of_leases(self, event: LeaseRevoked | LeaseEndMoved | LeaseUnreadable | OrphanUsersRemoved) -> None:
        match event:
            case LeaseRevoked():
                self._lease(event)
            case LeaseEndMoved():
                self._log.warning(
                    "lease was renewed: this database is older than its renewal",
                    dynamic=event.dynamic,
                    lease=event.lease_id,
                    expires_at=event.expires_at.isoformat(timespec="seconds"),
                )
            case LeaseUnreadable():
                self._log.error("lease not taken back: it cannot be read", lease=event.lease_id)
            case OrphanUsersRemoved():
                log = self._log.warning if event.orphans else self._log.info
                log("users reaped", account=event.account, strays=event.orphans, removed=event.removed)

    def _of_sweeps(
        self, event: SweepFinished | SweepDenied | IncrementalSweepUnavailable | DriftMissedByIncrementalSweep
    ) -> None:
        match event:
            case SweepFinished():
                self._sweep(event)
            case SweepDenied():
                self._log.warning(
                    "drift is asked one by one: the credential may not list",
                    account=event.account,
                    region=event.region,
                    credential=event.credential,
                    hint=event.hint,
                )
            case IncrementalSweepUnavailable():
                self._log.warning(
                    "only full sweeps: AWS does not list what changed newest first",
                    account=event.account,
                    region=event.region,
                    reason=event.reason,
                )
            case DriftMissedByIncrementalSweep():
                self._log.warning(
                    "drift missed by the incremental sweep",
                    account=event.account,
                    region=event.region,
                    listed=event.listed,
                    unlisted=event.unlisted,
                )

    def _of_backups(self, event: BackupMade | OldBackupsNotRemoved | BackupFailed) -> None:
        if isinstance(event, BackupMade):
            self._log.info(
                "backup made",
                place=event.place,
                bytes=event.size,
                rows=event.rows,
                removed=event.removed,
                duration_ms=event.duration_ms,
            )
            return
        fields = {"place": event.place, "error": event.error, "code": event.code, "message": event.message}
        fields = {name: value for name, value in fields.items() if value is not None}
        if isinstance(event, BackupFailed):
            self._log.error("backup failed", **fields)
        else:
            self._log.warning("old backups not removed", **fields)

    def _of_notifications(self, event: MessageSent | MessageFailed | NotificationUnreadable) -> None:
        if isinstance(event, NotificationUnreadable):
            self._log.error("notification not used: it was altered outside phasesync", reason=event.reason)
            return
        fields: dict[str, object] = {
            "notification": event.notification,
            "channel": event.channel,
            "message": event.message_id,
            "step": event.step.value,
            "condition": None if event.condition is None else event.condition.value,
            "attempts": event.attempts,
        }
        if isinstance(event, MessageSent):
            fields |= {"subjects": event.subjects, "age_ms": event.age_ms, "remark": event.remark}
            log, text = (self._log.info if event.remark is None else self._log.warning), "message sent"
        else:
            fields |= {"error": event.error, "code": event.code, "retry_in_s": event.retry_in_s}
            given_up = event.retry_in_s is None
            log = self._log.error if given_up else self._log.warning
            text = "message given up: it could not be sent" if given_up else "message not sent"
        log(text, **{name: value for name, value in fields.items() if value is not None})

    def _run(self, run: RunFinished) -> None:
        next_attempt = run.next_attempt_at
        fields = {
            "sync": run.sync,
            "run": run.run_id,
            "trigger": run.trigger.value,
            "outcome": run.outcome.value,
            "status": run.status.value,
            "revision": run.revision,
            "duration_ms": run.duration_ms,
            "aws_calls": run.aws_calls,
            "versions_written": run.versions_written,
            "counts": dict(run.counts),
            "error": run.error,
            "code": run.code,
            "next_attempt_at": next_attempt.isoformat(timespec="seconds") if next_attempt else None,
            "window": run.window,
        }
        line_fields = {name: value for name, value in fields.items() if value is not None and value != {}}
        if run.outcome in _CALM:
            self._log.info("run finished", **line_fields)
        elif run.outcome is Outcome.FAILED and run.status is SyncStatus.HALTED:
            self._log.error("run finished", **line_fields)
        else:
            self._log.warning("run finished", **line_fields)

    def _lease(self, lease: LeaseRevoked) -> None:
        fields = {
            "dynamic": lease.dynamic,
            "lease": lease.lease_id,
            "status": lease.status.value,
            "cause": lease.cause.value,
            "error": lease.error,
            "code": lease.code,
            "failures": lease.failures or None,
            "aws_calls": lease.aws_calls,
            "late_ms": lease.late_ms,
            "retry_at": lease.retry_at.isoformat(timespec="seconds") if lease.retry_at else None,
        }
        line_fields = {name: value for name, value in fields.items() if value is not None}
        if lease.error is not None:
            self._log.error("lease not taken back", **line_fields)
        elif lease.status in ENDED:
            self._log.info("lease taken back", **line_fields)
        else:
            self._log.info("nothing of the lease was found; it is looked at again", **line_fields)

    def _sweep(self, sweep: SweepFinished) -> None:
        # Incremental sweeps come every half minute: they are reported where they find something.
        log = self._log.info if sweep.full and sweep.calls else self._log.debug
        if sweep.suspects:
            log = self._log.warning
        log(
            "sweep finished",
            account=sweep.account,
            region=sweep.region,
            full=sweep.full,
            objects=sweep.objects,
            suspects=sweep.suspects,
            syncs=sweep.syncs,
            aws_calls=sweep.calls,
            duration_ms=sweep.duration_ms,
        )

    def _chore(self, failed: ChoreFailed) -> None:
        # What fails at the start is the database, or the root key at AWS KMS.
        telling = failed.error in _TELLING_ERRORS or failed.chore is Chore.START
        if failed.chore in _CHORES and telling:
            self._log.warning("chore failed", chore=failed.chore.value, error=failed.error, message=failed.message)
        else:
            self._log.warning("chore failed", chore=failed.chore.value, error=failed.error)
