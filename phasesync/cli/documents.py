"""
The JSON documents that commands print, one function per noun: field names and words that scripts rely on.

Values in, dictionaries out. A document shows no secret value unless one was asked for, and never a secret access key or
a payload.
"""

import base64
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from phasesync.core.model import App, Environment, SecretValue, SecretVersion, ValueType
from phasesync.errors import OwnershipConflictError, StaleDatabaseError

# Every command imports this module for its own documents. A noun's module is imported with the command that shows it.
if TYPE_CHECKING:
    from phasesync.core.audit import AuditRow, Verification
    from phasesync.core.change import Change, KeyDiff
    from phasesync.core.change_request import ChangeRequest
    from phasesync.core.credential import Credential, CredentialStatus
    from phasesync.core.notification import Notification, Sent
    from phasesync.core.planning.explain import ObjectExplanation
    from phasesync.core.planning.guard import HeldChange
    from phasesync.core.project.compare import Applied
    from phasesync.core.remote import RemoteListing
    from phasesync.core.run import ChangeResult, Run
    from phasesync.core.sync import Sync
    from phasesync.core.sync_windows import WindowState
    from phasesync.engine.explanation import Explanation
    from phasesync.engine.iam_policies import RoleSetup
    from phasesync.engine.import_values import ImportResult
    from phasesync.engine.status_summary import StatusSummary
    from phasesync.engine.sync_operations import PlanReport


def app_document(app: App) -> dict[str, object]:
    """Return an app as `apps list` prints it."""
    return {
        "name": app.name,
        "description": app.description,
        "windows": list(app.windows),
        "created_at": app.created_at,
    }


def owner_document(owner: "Applied | None") -> dict[str, object]:
    """Return which project document owns an object, as a member of what `show` prints."""
    return {"owner": None if owner is None else {"project": owner.project, "file": owner.file}}


def environment_document(environment: Environment) -> dict[str, object]:
    """Return an environment as `envs list` prints it."""
    return {
        "env": environment.label,
        "app": environment.app,
        "name": environment.name,
        "revision": environment.revision,
        "keys": environment.keys,
        "approvers": environment.approvers,
        "created_at": environment.created_at,
    }


def secret_document(secret: SecretVersion) -> dict[str, object]:
    """Return one version of a secret, without its value. `type` is null if the key was unset."""
    return {
        "key": secret.key,
        "path": secret.path,
        "type": secret.type,
        "version": secret.version,
        "comment": secret.comment,
        "changed_at": secret.changed_at,
        "changed_by": secret.changed_by,
        "origin": secret.origin,
        "approved_by": secret.approved_by,
    }


def value_document(value: SecretValue) -> dict[str, object]:
    """Return a value for JSON: as text, or as base64 if it is binary."""
    if value.type is ValueType.BINARY:
        return {"value": base64.b64encode(value.reveal()).decode("ascii"), "encoding": "base64"}
    return {"value": value.reveal_text(), "encoding": "text"}


Document = dict[str, Any]


def window_document(window: "WindowState | None") -> Document | None:
    """Return how the maintenance windows of a sync stand; null if it has none."""
    if window is None:
        return None
    return {"closed": window.closed, "opens_at": window.opens_at, "text": window.text}


def sync_document(sync: "Sync", credential: "CredentialStatus", window: "WindowState | None") -> Document:
    """Return a sync as `syncs list` and `show` print it."""
    from phasesync.core.sync_status import status_of

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
        "window": window_document(window),
    }


def sync_details(
    sync: "Sync",
    credential: "CredentialStatus",
    *,
    window: "WindowState | None",
    last_synced_at: datetime | None,
    now: datetime,
) -> Document:
    """Return a sync with its settings and when it was last in sync, as `syncs show` prints it."""
    config = sync.config
    return sync_document(sync, credential, window) | {
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
        "windows": list(config.windows),
        "app_windows": list(sync.app_windows),
        "adopt": None if sync.adopt is None else str(sync.adopt),
        "failures": sync.failures,
        "retry_at": ahead(sync.retry_at, now),
        "last_synced_at": last_synced_at,
        "created_at": sync.created_at,
    }


def seconds(duration: timedelta) -> int | float:
    """Return a duration in seconds, as a whole number if it is one."""
    exact = duration.total_seconds()
    return int(exact) if exact.is_integer() else exact


def ahead(moment: datetime | None, now: datetime) -> datetime | None:
    """Return an instant that is still to come; None if it has passed."""
    return moment if moment is not None and moment > now else None


def plan_document(report: "PlanReport") -> Document:
    """Return a plan as `syncs plan` prints it."""
    guarded = report.guarded
    held_by_change = {id(held.change): held for held in guarded.held}
    delayed_until = {id(delayed.change): delayed.until for delayed in guarded.delayed}
    return {
        "sync": report.sync.name,
        "digest": guarded.digest if guarded.held else None,
        "held": sorted({held.change.remote_name for held in guarded.held}),
        "changes": [
            _planned(
                change,
                _hint(change, held_by_change.get(id(change)), report.sync),
                held_by_change.get(id(change)),
                delayed_until.get(id(change)),
                report.versions_24h,
            )
            for change in report.plan.changes
        ],
        "problems": [
            {"remote_name": name, "class": type(error).__name__, "message": error.message, "hint": error.hint}
            for name, error in sorted(report.problems.items())
        ],
        "estimate": {"calls": report.estimate.calls, "writes": report.estimate.writes},
        "window": window_document(report.window),
    }


def has_changes(report: "PlanReport") -> bool:
    """Return whether a plan has anything but noops."""
    from phasesync.core.remote import Action

    return any(change.action is not Action.NOOP for change in report.plan.changes)


def audit_document(row: "AuditRow", *, details: bool) -> Document:
    """Return a row of the audit log. `details`: with what is stored encrypted, names of keys among them."""
    entry = row.entry
    document: Document = {
        "number": row.number,
        "at": row.at,
        "kind": row.kind,
        "actor": None if entry is None else entry.actor,
        "source": row.source or None,
        "action": None if entry is None else entry.action,
        "object": None if entry is None else entry.object,
        "outcome": None if entry is None else entry.outcome,
        "before": None if entry is None else entry.before,
        "after": None if entry is None else entry.after,
        "error": None if entry is None else entry.details.get("error"),
        "altered": row.altered,
        "head": str(row.head),
    }
    return document | ({"details": None if entry is None else dict(entry.details)} if details else {})


def verification_document(verified: "Verification") -> Document:
    """Return what a verification of the audit log found out."""
    return {
        "verified": not verified.findings,
        "rows": verified.rows,
        "emptied": verified.emptied,
        "first": verified.first,
        "head": None if verified.head is None else str(verified.head),
        "findings": [
            {
                "tampering": finding.tampering,
                "first": finding.first,
                "last": finding.last,
                "message": finding.message,
            }
            for finding in verified.findings
        ],
        "notes": list(verified.notes),
    }


def run_document(run: "Run") -> Document:
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
        "waits_for": run.waits_for,
        "changes": [_change_result(change) for change in run.changes],
    }


def approval_document(request: "ChangeRequest") -> Document:
    """Return an approved change as `runs show` prints it: who asked, and who approved."""
    return {
        "asked_by": request.asked_by,
        "approved_by": [approval.by for approval in request.approvals],
        "digest": request.digest,
        "env": request.label,
        "changes": list(request.changes),
    }


def waiting_document(request: "ChangeRequest") -> Document:
    """Return a change that waits for an approval, as `status`, `syncs show` and `syncs why` print it."""
    return {
        "digest": request.digest,
        "env": request.label,
        "changes": list(request.changes),
        "asked_by": request.asked_by,
        "expires_at": request.expires_at,
        "command": request.next_command,
    }


def notification_document(notification: "Notification", sent: "Sent") -> Document:
    """
    Return a notification as `notifications list` and `show` print it: never a secret part of its channel.

    `error` says why a row that was altered is not used; then the members of its channel and its rules are null.
    """
    channel, rules = notification.channel, notification.rules
    return {
        "name": notification.name,
        "channel": None if channel is None else channel.kind,
        "to": None if channel is None else channel.shown,
        "signed": getattr(channel, "signing_secret", None) is not None,
        "on": None if rules is None else list(rules.words),
        "app": notification.app,
        "after_s": None if rules is None or rules.after is None else seconds(rules.after),
        "remind_after_s": None if rules is None else seconds(rules.remind_after),
        "quiet": None if rules is None else list(rules.quiet),
        "created_at": notification.created_at,
        "sent_at": sent.sent_at,
        "pending": sent.pending,
        "last_error": sent.code or sent.error,
        "last_error_class": sent.error,
        "next_attempt_at": sent.next_at,
        "error": notification.error,
    }


def credential_document(credential: "Credential") -> Document:
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
        "used_by_count": credential.used_by_count,
    }


def _hint(change: "Change", held: "HeldChange | None", sync: "Sync") -> str | None:
    """Return what fixes a change that is not ours to make, or that no approval releases; None for any other."""
    from phasesync.core.planning.guard import GuardRule
    from phasesync.core.remote import Action
    from phasesync.engine.error_hints import hint_of

    if held is not None and held.rule is GuardRule.RESTORED:
        return StaleDatabaseError.default_hint
    if change.action not in (Action.CONFLICT, Action.REFUSE):
        return None
    return hint_of(OwnershipConflictError(change.reason, hint=change.hint), sync)


def _planned(
    change: "Change",
    hint: str | None,
    held: "HeldChange | None",
    until: datetime | None,
    versions_24h: Mapping[str, int],
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


def _keys(keys: "KeyDiff") -> Document:
    return {
        "added": list(keys.added),
        "changed": list(keys.changed),
        "removed": list(keys.removed),
        "emptied": list(keys.emptied),
    }


def _change_result(change: "ChangeResult") -> Document:
    return {
        "action": change.action,
        "remote_name": change.remote_name,
        "outcome": str(change.outcome),
        "version_id": change.version_id,
        "reason": change.reason,
        "keys": _keys(change.keys),
    }


def role_setup_document(setup: "RoleSetup") -> Document:
    """Return what creates the role of a credential; what `jq` takes out is ready for `aws iam`."""
    return {
        "trust_policy": setup.trust,
        "policy": setup.policy,
        "commands": list(setup.commands),
        "notes": list(setup.notes),
    }


def listed_secret_document(secret: "RemoteListing") -> Document:
    """Return an AWS secret as `aws list-secrets` prints it."""
    return {
        "name": secret.name,
        "ours": secret.ours,
        "owning_service": secret.owning_service,
        "type": secret.external_type,
        "deleted_at": secret.deleted_at,
        "description": secret.description,
        "arn": secret.arn,
    }


def import_document(imported: "ImportResult") -> Document:
    """Return the result of an import, by key, as `syncs adopt` and `syncs add` print it."""
    return {
        "added": list(imported.added),
        "changed": list(imported.changed),
        "kept": list(imported.kept),
        "revision": imported.revision,
    }


def held_document(held: "HeldChange") -> dict[str, str]:
    """Return a held change as `syncs approve` prints it."""
    return {
        "action": str(held.change.action),
        "remote_name": held.change.remote_name,
        "rule": str(held.rule),
        "reason": held.reason,
    }


def explanation_document(explanation: "Explanation") -> dict[str, Any]:
    """Return an explanation as `syncs why -o json` prints it."""
    sync, run, problem = explanation.sync, explanation.last_run, explanation.problem
    return {
        "sync": sync.name,
        "status": str(explanation.status),
        "reasons": list(explanation.reasons),
        "account": sync.account,
        "credential": {"name": sync.credential, "status": str(explanation.credential)},
        "pending": sync.pending,
        "failures": sync.failures,
        "retry_at": sync.retry_at,
        "next_due_at": sync.next_due_at,
        "window": window_document(explanation.window),
        "last_run": None
        if run is None
        else {
            "id": run.id,
            "outcome": str(run.outcome),
            "ended_at": run.ended_at,
            "error": None
            if run.error is None
            else {"class": run.error.cls, "message": run.error.message, "hint": run.error.hint},
        },
        "problem": None
        if problem is None
        else {"class": problem.cls, "message": problem.message, "hint": problem.hint},
        "waiting_for_approval": [waiting_document(request) for request in explanation.requests],
        "objects": [_explained_object(remote) for remote in explanation.objects],
    }


def _explained_object(remote: "ObjectExplanation") -> dict[str, Any]:
    return {
        "remote_name": remote.remote_name,
        "reported": remote.reported,
        "ownership": remote.ownership,
        "evidence": list(remote.evidence),
        "row": remote.row,
        "decision": remote.decision,
        "reason": remote.reason,
        "held": remote.held,
        "held_reason": remote.held_reason,
        "delayed_until": remote.delayed_until,
        "budget": {
            "used_24h": remote.budget.used_24h,
            "left": remote.budget.left,
            "next_at": remote.budget.next_at,
        },
        "differs": dict(remote.differs),
        "grace_until": remote.grace_until,
        "warning": remote.warning,
        "repaired_24h": remote.repaired_24h,
        "contested": remote.contested,
    }


def status_document(summary: "StatusSummary") -> Document:
    """Return how everything stands, as `status` prints it."""
    return {
        "restored": summary.restored,
        "daemons": [dict(daemon) for daemon in summary.daemons],
        "syncs": summary.syncs,
        "waiting_for_window": {"syncs": summary.windowed, "next_opens_at": summary.next_opens_at},
        "needs_attention": [
            {"sync": sync.name, "status": str(sync.status), "reason": sync.reason} for sync in summary.needs_attention
        ],
        "needs_attention_more": summary.needs_attention_more,
        "waiting_for_approval": [waiting_document(request) for request in summary.requests],
        "leases": summary.leases,
        "leases_not_revoked": [
            {
                "lease": lease.id,
                "dynamic": lease.dynamic,
                "failures": lease.failures,
                "retry_at": lease.retry_at,
                "reason": lease.error,
            }
            for lease in summary.not_revoked
        ],
        "leases_overdue": [
            {"lease": lease.id, "dynamic": lease.dynamic, "expires_at": lease.expires_at} for lease in summary.overdue
        ],
        "drift_from_code": [
            {
                "kind": edited.kind,
                "name": edited.name,
                "change": edited.change,
                "owner": edited.project,
                "source": edited.source,
            }
            for edited in summary.drift_from_code
        ],
        "database_log_bytes": summary.log_bytes,
    }
