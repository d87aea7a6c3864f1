"""Decides what counts as trouble in `phasesync status`: which syncs, which leases, and a log that has grown."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from phasesync.core.change_request import ChangeRequest
from phasesync.core.credential import CredentialStatus
from phasesync.core.lease import Lease, LeaseStatus, is_due
from phasesync.core.sync import Sync, SyncStatus
from phasesync.core.sync_status import status_of

LARGE_LOG_BYTES: Final = 64 * 1024 * 1024
"""SQLite's log is shortened to less than this, unless a reader holds it open."""

NEEDS_ATTENTION: Final = frozenset({SyncStatus.HELD, SyncStatus.HALTED, SyncStatus.FAILING, SyncStatus.INCOMPLETE})
"""Statuses of syncs that do not get well by themselves, or have not yet."""

ATTENTION_SHOWN: Final = 50
"""Syncs that are listed; the number of all of them follows from the counts."""


@dataclass(frozen=True, kw_only=True)
class SyncAttention:
    """A sync that needs attention."""

    name: str
    status: SyncStatus
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class EditedObject:
    """
    An object that somebody changed by hand.

    Attributes:
        project: the document that owns it.
        source: where that document was read from, as `diff -f` takes it.
        change: `edited` or `removed`.
    """

    kind: str
    name: str
    project: str
    source: str
    change: str


@dataclass(frozen=True, kw_only=True)
class StatusSummary:
    """
    How an installation stands.

    Attributes:
        restored: the database is older than AWS, or was just restored.
        daemons: the daemons that are alive, as they registered themselves.
        syncs: status -> number of syncs.
        windowed: how many syncs have changes that wait for a maintenance window.
        next_opens_at: when the first of them may go on; None if none waits.
        needs_attention: the first syncs, by name, that do not get well by themselves, or have not yet.
        needs_attention_more: how many more there are.
        leases: status -> number of live leases.
        not_revoked: leases with a failed revocation; their keys may still work.
        overdue: leases past their end that no daemon revokes, because none is running.
        drift_from_code: objects that somebody changed by hand since the document that owns them was applied.
        log_bytes: size of SQLite's log; 0 if there is none.
        requests: changes of protected environments that wait for a person.
    """

    restored: bool
    daemons: tuple[Mapping[str, object], ...]
    syncs: Mapping[str, int]
    windowed: int
    next_opens_at: datetime | None
    needs_attention: tuple[SyncAttention, ...]
    needs_attention_more: int
    leases: Mapping[str, int]
    not_revoked: tuple[Lease, ...]
    overdue: tuple[Lease, ...]
    drift_from_code: tuple[EditedObject, ...]
    log_bytes: int
    requests: tuple[ChangeRequest, ...] = ()

    @property
    def log_is_large(self) -> bool:
        """Whether the log is larger than it gets unless a reader holds it open."""
        return self.log_bytes > LARGE_LOG_BYTES


def summarise_status(
    *,
    syncs: Mapping[SyncStatus, int],
    attention: Sequence[Sync],
    credentials: Mapping[str, CredentialStatus],
    leases: Sequence[Lease],
    daemons: Sequence[Mapping[str, object]],
    is_revocable: Callable[[Lease], bool],
    restored: bool,
    now: datetime,
    edited: Sequence[EditedObject] = (),
    log_bytes: int,
    requests: Sequence[ChangeRequest] = (),
    windowed: int = 0,
    next_opens_at: datetime | None = None,
) -> StatusSummary:
    """
    Return how an installation stands.

    Args:
        syncs: status -> number of syncs.
        attention: the first syncs with one of `NEEDS_ATTENTION`.
        credentials: id of a credential -> its status.
        leases: the live ones.
        daemons: those that are alive.
        is_revocable: returns whether a lease can be revoked; sessions of roles only end by themselves.
        restored: whether the database is older than AWS.
        now: the time of the check.
        edited: objects that somebody changed by hand since the document that owns them was applied.
        log_bytes: size of SQLite's log.
        requests: changes of protected environments that wait for a person.
        windowed: how many syncs wait for a maintenance window.
        next_opens_at: when the first of them may go on.
    """
    needing = sum(count for status, count in syncs.items() if status in NEEDS_ATTENTION)
    return StatusSummary(
        restored=restored,
        daemons=tuple(daemons),
        windowed=windowed,
        next_opens_at=next_opens_at,
        syncs={str(status): count for status, count in sorted(syncs.items())},
        needs_attention=tuple(
            SyncAttention(
                name=sync.name, status=status_of(sync, credentials[sync.credential_id]), reason=sync.status_reason
            )
            for sync in attention
        ),
        needs_attention_more=max(0, needing - len(attention)),
        leases=_counts(lease.status for lease in leases),
        not_revoked=tuple(lease for lease in leases if lease.error is not None),
        overdue=() if daemons else tuple(lease for lease in leases if _is_overdue(lease, now, restored, is_revocable)),
        drift_from_code=tuple(edited),
        log_bytes=log_bytes,
        requests=tuple(requests),
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
