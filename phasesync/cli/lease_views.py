"""
The documents that commands print of dynamic secrets and leases: field names that scripts rely on. No secret key.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from phasesync.cli.views import ahead, seconds
from phasesync.core.dynamic import DynamicSecret
from phasesync.core.lease import Lease

if TYPE_CHECKING:
    from phasesync.ports import LeaseRecord

Document = dict[str, Any]


def dynamic_document(dynamic: DynamicSecret) -> Document:
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


def lease_document(lease: Lease) -> Document:
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


def lease_details(lease: Lease, log: "Sequence[LeaseRecord]", *, now: datetime) -> Document:
    """Return a lease with what became of it, as `leases show` prints it."""
    return lease_document(lease) | {
        "issuer": lease.issuer,
        "name": lease.order.name,
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
