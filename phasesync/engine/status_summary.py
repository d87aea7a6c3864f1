"""Decides what counts as trouble in `phasesync status`: which syncs, which leases, and a log that has grown."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from phasesync.core.credential import CredentialStatus
from phasesync.core.lease import Lease, LeaseStatus, is_due
from phasesync.core.sync import Sync, SyncStatus
from phasesync.core.sync_status import status_of

LARGE_LOG_BYTES: Final = 64 * 1024 * 1024
"""SQLite's log is shortened to less than this, unless a reader holds it open."""

NEEDS_NOTHING: Final = frozenset({SyncStatus.IN_SYNC, SyncStatus.PAUSED, SyncStatus.RUNNING, SyncStatus.PENDING})
"""Statuses of syncs that need no attention."""


@dataclass(frozen=True, kw_only=True)
class SyncAttention:
    """A sync that needs attention."""

    name: str
    status: SyncStatus
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class StatusSummary:
    """
    How an installation stands.

    Attributes:
        restored: the database is older than AWS, or was just restored.
        daemons: the daemons that are alive, as they registered themselves.
        syncs: status -> number of syncs.
        needs_attention: syncs that do not get well by themselves, or have not yet.
        leases: status -> number of live leases.
        not_revoked: leases with a failed revocation; their keys may still work.
        overdue: leases past their end that no daemon revokes, because none is running.
        log_bytes: size of SQLite's log; 0 if there is none.
    """

    restored: bool
    daemons: tuple[Mapping[str, object], ...]
    syncs: Mapping[str, int]
    needs_attention: tuple[SyncAttention, ...]
    leases: Mapping[str, int]
    not_revoked: tuple[Lease, ...]
    overdue: tuple[Lease, ...]
    log_bytes: int

    @property
    def log_is_large(self) -> bool:
        """Whether the log is larger than it gets unless a reader holds it open."""
        return self.log_bytes > LARGE_LOG_BYTES


def summarise_status(
    *,
    syncs: Sequence[Sync],
    credentials: Mapping[str, CredentialStatus],
    leases: Sequence[Lease],
    daemons: Sequence[Mapping[str, object]],
    is_revocable: Callable[[Lease], bool],
    restored: bool,
    now: datetime,
    log_bytes: int,
) -> StatusSummary:
    """
    Return how an installation stands.

    Args:
        syncs: all of them.
        credentials: id of a credential -> its status.
        leases: the live ones.
        daemons: those that are alive.
        is_revocable: returns whether a lease can be revoked; sessions of roles only end by themselves.
        restored: whether the database is older than AWS.
        now: the time of the check.
        log_bytes: size of SQLite's log.
    """
    statuses = [(sync, status_of(sync, credentials[sync.credential_id])) for sync in syncs]
    return StatusSummary(
        restored=restored,
        daemons=tuple(daemons),
        syncs=_counts(status for _, status in statuses),
        needs_attention=tuple(
            SyncAttention(name=sync.name, status=status, reason=sync.status_reason)
            for sync, status in statuses
            if status not in NEEDS_NOTHING
        ),
        leases=_counts(lease.status for lease in leases),
        not_revoked=tuple(lease for lease in leases if lease.error is not None),
        overdue=() if daemons else tuple(lease for lease in leases if _is_overdue(lease, now, restored, is_revocable)),
        log_bytes=log_bytes,
    )


def _counts(words: Iterable[StrEnum]) -> dict[str, int]:
    return dict(sorted(Counter(map(str, words)).items()))


def _is_overdue(lease: Lease, now: datetime, restored: bool, is_revocable: Callable[[Lease], bool]) -> bool:
    """Return whether a daemon would revoke an active lease now."""
    return (
        lease.error is None
        and lease.status is LeaseStatus.ACTIVE
        and is_due(lease, now, restored=restored)
        and is_revocable(lease)
    )
