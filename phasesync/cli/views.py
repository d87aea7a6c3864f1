"""
The documents that commands print: field names and words that scripts rely on. Values in, dictionaries out.

Shows no value, no secret access key and no payload.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from phasesync.core.change import Change, KeyDiff
from phasesync.core.credential import Credential, CredentialStatus
from phasesync.core.guard import Held, Rule
from phasesync.core.remote import Action
from phasesync.core.run import ChangeResult, Run
from phasesync.core.standing import status_of
from phasesync.core.sync import Sync
from phasesync.engine.hints import hint_of
from phasesync.engine.operations import PlanReport
from phasesync.errors import OwnershipConflictError, RestoredDatabaseError

Document = dict[str, Any]


def sync_document(sync: Sync, credential: CredentialStatus) -> Document:
    """Return a sync as `syncs list` and `show` print it."""
    return {
        "name": sync.name,
        "env": sync.environment_label,
        "path": sync.path,
        "destination": {
            "kind": sync.destination_kind,
            "account": sync.account,
            "region": sync.region,
            "credential": sync.credential,
            "remote_name": sync.config.remote_name,
            "name_template": sync.config.name_template,
            "layout": str(sync.config.layout),
        },
        "status": str(status_of(sync, credential)),
        "status_reason": sync.status_reason,
        "paused": None
        if sync.paused is None
        else {
            "by": sync.paused.by,
            "at": sync.paused.at,
            "reason": sync.paused.reason,
            "until": sync.paused.until,
        },
        "revisions": {"source": sync.source_revision, "applied": sync.applied_revision},
        "last_run": sync.last_run_id,
        "next_due_at": sync.next_due_at,
    }


def sync_details(
    sync: Sync, credential: CredentialStatus, *, last_synced_at: datetime | None, now: datetime
) -> Document:
    """Return a sync with what was set on it and when it was last in sync, as `syncs show` prints it."""
    config = sync.config
    return sync_document(sync, credential) | {
        "kms_key": config.kms_key,
        "description": config.description,
        "tags": dict(config.tags),
        "tag_mode": str(config.tag_mode),
        "replicas": None if config.replicas is None else dict(config.replicas),
        "resource_policy": config.resource_policy,
        "on_drift": str(config.on_drift),
        "on_remove": str(config.on_remove),
        "grace_s": seconds(config.grace),
        "recovery_days": config.recovery_days,
        "interval_s": seconds(config.interval),
        "shrink_limit_percent": config.shrink_limit_percent,
        "shrink_limit_keys": config.shrink_limit_keys,
        "delete_limit_percent": config.delete_limit_percent,
        "delete_limit_objects": config.delete_limit_objects,
        "guard_window_s": seconds(config.guard_window),
        "adopt": None if sync.adopt is None else str(sync.adopt),
        "failures": sync.failures,
        "retry_at": ahead(sync.retry_at, now),
        "last_synced_at": last_synced_at,
        "created_at": sync.created_at,
    }


def seconds(duration: timedelta) -> int | float:
    """Return a duration in seconds, as a whole number where it is one."""
    exact = duration.total_seconds()
    return int(exact) if exact.is_integer() else exact


def ahead(moment: datetime | None, now: datetime) -> datetime | None:
    """Return an instant that is still to come; None for one that has passed, which says nothing any more."""
    return moment if moment is not None and moment > now else None


def plan_document(report: PlanReport) -> Document:
    """Return a plan as `syncs plan` prints it."""
    guarded = report.guarded
    held = {id(one.change): one for one in guarded.held}
    delayed = {id(one.change): one.until for one in guarded.delayed}
    return {
        "sync": report.sync.name,
        "digest": guarded.digest if guarded.held else None,
        "held": sorted({one.change.remote_name for one in guarded.held}),
        "changes": [
            _planned(
                change,
                _hint(change, held.get(id(change)), report.sync),
                held.get(id(change)),
                delayed.get(id(change)),
                report.versions_24h,
            )
            for change in report.plan.changes
        ],
        "problems": [
            {"remote_name": name, "class": type(error).__name__, "message": error.message, "hint": error.hint}
            for name, error in sorted(report.problems.items())
        ],
        "estimate": {"calls": report.estimate.calls, "writes": report.estimate.writes},
    }


def has_changes(report: PlanReport) -> bool:
    """Return whether a plan has anything but noops."""
    return any(change.action is not Action.NOOP for change in report.plan.changes)


def run_document(run: Run) -> Document:
    """Return a run as `runs list` and `show` print it."""
    return {
        "id": run.id,
        "sync": run.sync,
        "trigger": str(run.trigger),
        "actor": run.actor,
        "attempt": run.attempt,
        "outcome": str(run.outcome),
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "duration_ms": round((run.ended_at - run.started_at).total_seconds() * 1000),
        "revisions": dict(run.revisions),
        "counts": dict(run.counts),
        "aws_calls": run.aws_calls,
        "versions_written": run.versions_written,
        "error": None
        if run.error is None
        else {
            "class": run.error.cls,
            "code": run.error.code,
            "message": run.error.message,
            "request_id": run.error.request_id,
            "hint": run.error.hint,
        },
        "next_attempt_at": run.next_attempt_at,
        "changes": [_made(change) for change in run.changes],
    }


def credential_document(credential: Credential) -> Document:
    """Return a credential as `credentials list` and `show` print it; of the access key id the last four characters."""
    return {
        "name": credential.name,
        "type": str(credential.type),
        "region": credential.region,
        "account": credential.account,
        "role_arn": credential.role_arn,
        "external_id": credential.external_id,
        "source": credential.source_name,
        "access_key_id": credential.access_key_id[-4:] if credential.access_key_id else None,
        "status": str(credential.status),
        "created_at": credential.created_at,
        "verified_at": credential.verified_at,
        "used_by": list(credential.used_by),
    }


def _hint(change: Change, held: Held | None, sync: Sync) -> str | None:
    """Return what fixes a change that is not ours to make, or that no approval releases; None for every other."""
    if held is not None and held.rule is Rule.RESTORED:
        return RestoredDatabaseError.default_hint
    if change.action not in (Action.CONFLICT, Action.REFUSE):
        return None
    return hint_of(OwnershipConflictError(change.reason, hint=change.hint), sync)


def _planned(
    change: Change, hint: str | None, held: Held | None, until: datetime | None, versions_24h: Mapping[str, int]
) -> Document:
    reason = change.reason if held is None else held.reason
    if until is not None:
        reason += f"; version budget used up, next write after {until:%Y-%m-%d %H:%M:%S} UTC"
    return {
        "action": str(change.action),
        "remote_name": change.remote_name,
        "reason": reason,
        "hint": hint,
        "held": held is not None,
        "delayed_until": until,
        "keys": _keys(change.keys),
        "bytes": change.payload_bytes,
        "versions_used_24h": versions_24h.get(change.remote_name, 0),
    }


def _keys(keys: KeyDiff) -> Document:
    return {
        "added": list(keys.added),
        "changed": list(keys.changed),
        "removed": list(keys.removed),
        "emptied": list(keys.emptied),
    }


def _made(change: ChangeResult) -> Document:
    return {
        "action": change.action,
        "remote_name": change.remote_name,
        "outcome": str(change.outcome),
        "version_id": change.version_id,
        "reason": change.reason,
        "keys": _keys(change.keys),
    }
