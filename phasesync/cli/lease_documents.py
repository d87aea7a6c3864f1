"""The JSON documents of dynamic secrets and leases; see `documents.py`."""

from datetime import datetime
from typing import TYPE_CHECKING

from phasesync.cli.documents import Document, ahead, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phasesync.core.dynamic import DynamicSecret
    from phasesync.core.lease import Lease
    from phasesync.core.lease_claim import LeaseRecord
    from phasesync.engine.leases.orphan_users import OrphanUser
    from phasesync.engine.leases.preview import IssuePreview


def dynamic_document(dynamic: "DynamicSecret") -> Document:
    """Return a dynamic secret as `dynamic list` and `show` print it."""
    config = dynamic.config
    return {
        "name": dynamic.name,
        "env": dynamic.environment_label,
        "path": dynamic.path,
        "credential": dynamic.credential,
        "issuer": dynamic.issuer,
        "default_ttl_s": seconds(config.default_ttl),
        "max_ttl_s": seconds(config.max_ttl),
        "max_leases": config.max_leases,
        "live_leases": dynamic.live,
        "keys": dict(config.keys),
        "user_template": config.user_template,
        "iam_path": config.iam_path,
        "policy_arns": list(config.policy_arns),
        "groups": list(config.groups),
        "permission_boundary": config.permission_boundary,
        "inline_policy": config.inline_policy,
        "tags": dict(config.tags),
        "role_arn": config.role_arn,
        "session_policy": config.session_policy,
        "created_at": dynamic.created_at,
        "error": dynamic.error,
    }


def lease_document(lease: "Lease") -> Document:
    """Return a lease as `leases list` and `issue` print it."""
    return {
        "id": lease.id,
        "dynamic": lease.dynamic,
        "status": str(lease.status),
        "issued_at": lease.issued_at,
        "expires_at": lease.expires_at,
        "max_expires_at": lease.max_expires_at,
        "principal": lease.principal,
    }


def lease_details(lease: "Lease", log: "Sequence[LeaseRecord]", *, now: datetime) -> Document:
    """Return a lease with its details and its log, as `leases show` prints it."""
    return lease_document(lease) | {
        "issuer": lease.issuer,
        "name": lease.spec.name,
        "account": lease.account,
        "requested_at": lease.requested_at,
        "ended_at": lease.ended_at,
        "cause": None if lease.cause is None else str(lease.cause),
        "reason": lease.reason,
        "error": lease.error,
        "failures": lease.failures,
        "retry_at": ahead(lease.retry_at, now),
        "missing_since": lease.missing_since,
        "kept": lease.kept,
        "log": [
            {"at": record.at, "event": str(record.event), "actor": record.actor, "detail": record.detail}
            for record in log
        ],
    }


def issue_preview_document(preview: "IssuePreview") -> Document:
    """Return what issuing a lease would do, as a dry run prints it: the names of the variables, never a value."""
    spec = preview.spec
    return {
        "dynamic": preview.dynamic.name,
        "issuer": preview.dynamic.issuer,
        "account": preview.account,
        "ttl_s": seconds(preview.ttl),
        "name": None if spec is None else spec.name,
        "iam_path": None if spec is None else spec.iam_path,
        "keys": sorted(preview.dynamic.config.keys.values()),
        "reused": None if preview.reused is None else preview.reused.id,
        "replaced": None if preview.replaced is None else preview.replaced.id,
    }


def orphan_document(orphan: "OrphanUser") -> Document:
    """Return an orphan user as `leases reap` prints it."""
    return {
        "user": orphan.user.name,
        "arn": orphan.user.arn,
        "account": orphan.account,
        "credential": orphan.credential,
        "lease": orphan.lease_id,
        "max_expires_at": orphan.max_expires_at,
        "fate": str(orphan.verdict),
        "why": _WHY_ORPHAN[str(orphan.verdict)],
    }


_WHY_ORPHAN = {
    "left-over": "its lease has ended",
    "overdue": "no lease of this database, and its time is over",
    "unknown": "no lease of this database; left alone until the end that its tag names",
}
