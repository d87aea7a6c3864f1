"""
The states of a lease. Pure: the store saves the leases that these functions return, with the database's time.

    requested ──▶ issuing ──▶ active ◀─▶ revoking ──▶ revoked | expired
        │            │           │        ▲   │
        │            └───────────┼────────┘   ▼
        │                        │        revoke-failed    tried again until it succeeds
        └──▶ revoked             └──▶ expired              sessions of roles end by themselves

`requested`: nothing was called. `issuing`: this state is saved before the first call, so something may exist at AWS. A
process that finds an unclaimed lease in this state revokes what exists. A lease returns from `revoking` to `active`
only if it had expired by its row, and the tags of its user show a later renewal: the row is an older copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from phasesync.errors import IllegalTransitionError


class LeaseStatus(StrEnum):
    """State of a lease."""

    REQUESTED = "requested"
    ISSUING = "issuing"
    ACTIVE = "active"
    REVOKING = "revoking"
    REVOKE_FAILED = "revoke-failed"
    """Revoking failed; it is tried again automatically."""
    REVOKED = "revoked"
    EXPIRED = "expired"


class Cause(StrEnum):
    """Why a lease is revoked."""

    EXPIRY = "expiry"
    REQUEST = "request"
    FAILURE = "failure"
    """It could not be issued, or the process that issued it died."""


ENDED: Final = (LeaseStatus.REVOKED, LeaseStatus.EXPIRED)
"""Leases that leave nothing at AWS. All others are live."""

TRANSITIONS: Final[Mapping[LeaseStatus, tuple[LeaseStatus, ...]]] = {
    LeaseStatus.REQUESTED: (LeaseStatus.ISSUING, LeaseStatus.REVOKED),
    LeaseStatus.ISSUING: (LeaseStatus.ACTIVE, LeaseStatus.REVOKING),
    LeaseStatus.ACTIVE: (LeaseStatus.ACTIVE, LeaseStatus.REVOKING, LeaseStatus.EXPIRED),
    LeaseStatus.REVOKING: (
        LeaseStatus.ACTIVE,
        LeaseStatus.REVOKING,
        LeaseStatus.REVOKE_FAILED,
        LeaseStatus.REVOKED,
        LeaseStatus.EXPIRED,
    ),
    LeaseStatus.REVOKE_FAILED: (LeaseStatus.REVOKING,),
    LeaseStatus.REVOKED: (),
    LeaseStatus.EXPIRED: (),
}
"""Status -> the statuses that may follow."""

CLOCK_AHEAD: Final = timedelta(hours=1)
"""A lease requested further in the future than this was requested by a clock that has been set back since."""

ARRIVES_WITHIN: Final = timedelta(minutes=10)
"""
How long after its signing a request may still reach AWS: 5 minutes (IAM User Guide, signing requests), and as much
again for a clock that is ahead. A user that is missing may still be created until then.
"""

RECHECK_AFTER: Final = timedelta(minutes=1)
GONE_AFTER: Final = timedelta(minutes=5)
"""
If AWS finds nothing of a lease, it is checked again after the first of these. It has ended if nothing is found after
the second. IAM is eventually consistent (IAM User Guide, troubleshooting), and gives no figure.
"""


@dataclass(frozen=True, kw_only=True)
class LeaseSpec:
    """
    What a lease consists of, as it was when it was requested: enough to issue it and to revoke it.

    Attributes:
        name: of the user or session.
        ttl: the requested time to live.
        groups: names of groups.
        tags: all tags of the user, our marks included.
    """

    name: str
    ttl: timedelta
    iam_path: str | None = None
    policy_arns: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    permission_boundary: str | None = None
    inline_policy: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    role_arn: str | None = None
    session_policy: str | None = None


@dataclass(frozen=True, kw_only=True)
class Lease:
    """
    One issued set of short-lived credentials, without the secret ones.

    Attributes:
        dynamic: name of the dynamic secret.
        issuer: kind of its issuer.
        credential_id: of the credential that issues and revokes it.
        expires_at: when it is revoked; renewal moves it.
        max_expires_at: renewal never moves the end beyond this.
        account: where it is, None until the first call was about to be made.
        principal: its ARN, None until it was issued.
        access_key_id: None if it is not known.
        issuing_at: when the first call was about to be made.
        issued_at: when it was issued; None means never.
        retry_at: while it is being revoked: the earliest time of the next attempt; None means at once.
        failures: failed attempts to revoke it.
        cause: why it is, or was, revoked.
        reason: the same for the operator.
        error: why the last attempt failed, None if it did not.
        kept: its secret key is kept, encrypted.
        missing_since: since when every check found nothing of it at AWS; None if it was not checked, or found.
        renewals: how often it was renewed.
        deletion_sent: the last call for it was to delete its user, and its result is not known.
        final: its end is decided: a later renewal in the tags of its user no longer counts.
        for_keep: it is being issued in order to be kept; other requests for a kept lease wait for it.
        key_known: AWS accepted its key once.
        replaced: AWS no longer accepts its key, and another lease takes its place: it does not count for the cap.
    """

    id: str
    dynamic_id: str
    dynamic: str
    issuer: str
    credential_id: str
    status: LeaseStatus
    spec: LeaseSpec
    requested_at: datetime
    expires_at: datetime
    max_expires_at: datetime
    account: str | None = None
    principal: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    issuing_at: datetime | None = None
    issued_at: datetime | None = None
    ended_at: datetime | None = None
    retry_at: datetime | None = None
    failures: int = 0
    cause: Cause | None = None
    reason: str | None = None
    error: str | None = None
    kept: bool = False
    missing_since: datetime | None = None
    renewals: int = 0
    deletion_sent: bool = False
    final: bool = False
    for_keep: bool = False
    key_known: bool = False
    replaced: bool = False

    @property
    def live(self) -> bool:
        """Whether something of it exists, or may exist, at AWS."""
        return self.status not in ENDED

    @property
    def is_readable(self) -> bool:
        """Whether its row still has its spec, which always has our owner tags; not if someone altered the row."""
        return bool(self.spec.tags)

    @property
    def was_issued(self) -> bool:
        """Whether the object at AWS that has its name is known to be made for it."""
        return self.issued_at is not None


def begin_issue(lease: Lease, account: str, now: datetime) -> Lease:
    """Return the lease that is about to be issued in an account."""
    return _to(lease, LeaseStatus.ISSUING, account=account, issuing_at=now)


def issued(
    lease: Lease,
    now: datetime,
    *,
    principal: str,
    access_key_id: str,
    ends_at: datetime | None = None,
    kept: bool = False,
    known: bool = False,
) -> Lease:
    """
    Return the lease that was issued.

    Args:
        lease: being issued.
        now: the time.
        principal: its ARN.
        access_key_id: its access key.
        ends_at: when it ends by itself at AWS; None means never.
        kept: its secret key is stored with it.
        known: AWS accepts the key already.
    """
    _require(lease, LeaseStatus.ISSUING, "be issued")
    changes: dict[str, Any] = {} if ends_at is None else {"expires_at": ends_at, "max_expires_at": ends_at}
    return _to(
        lease,
        LeaseStatus.ACTIVE,
        principal=principal,
        access_key_id=access_key_id,
        issued_at=now,
        kept=kept,
        key_known=known,
        **changes,
    )


def renew(lease: Lease, ttl: timedelta, now: datetime) -> Lease:
    """
    Return the lease with its end moved to `ttl` from now.

    Raises:
        IllegalTransitionError: it is not active, it has expired already, or that is beyond its maximum.
    """
    if lease.status is not LeaseStatus.ACTIVE or now >= lease.expires_at:
        how = "has expired" if lease.status is LeaseStatus.ACTIVE else f"is {lease.status}"
        raise IllegalTransitionError(
            f"the lease {lease.id} {how}: only an active one is renewed",
            hint=f"phasesync leases issue {lease.dynamic}",
        )
    if now + ttl > lease.max_expires_at:
        left = max(0, (lease.max_expires_at - now) // timedelta(seconds=1))
        raise IllegalTransitionError(
            f"the lease {lease.id} ends at {lease.max_expires_at:%Y-%m-%d %H:%M:%S} UTC at the latest, "
            f"{left} s from now",
            hint=f"renew it with a --ttl of at most {left}s, or issue another: phasesync leases issue {lease.dynamic}",
        )
    return _to(lease, LeaseStatus.ACTIVE, expires_at=now + ttl)


def prolong(lease: Lease, ttl: timedelta, now: datetime) -> Lease:
    """
    Return the lease with its end moved to `ttl` from now, at most to its maximum; its end never becomes earlier.

    IllegalTransitionError: it is not active, or has expired already.
    """
    end = min(max(now + ttl, lease.expires_at), lease.max_expires_at)
    return renew(lease, end - now, now)


def renewed(lease: Lease, number: int, end: datetime) -> Lease:
    """Return the lease with the new end of `renew` or `prolong`, once that end is in the tags of its user."""
    _require(lease, LeaseStatus.ACTIVE, "be renewed")
    return _to(lease, LeaseStatus.ACTIVE, expires_at=end, renewals=number)


def apply_renewals(lease: Lease, number: int, end: datetime, now: datetime) -> Lease:
    """
    Return a lease that has expired by its row, before anything of it is removed.

    If the tags of its user have a renewal that the row does not have, the row is from an older copy of the database:
    the lease stays active until that end. Otherwise its end is decided.

    Args:
        lease: being revoked.
        number: of the last renewal, from the tags of its user.
        end: of the lease since then.
        now: the time.
    """
    _require(lease, LeaseStatus.REVOKING, "have been renewed")
    end = min(end, lease.max_expires_at)
    if lease.final or lease.cause is not Cause.EXPIRY or number <= lease.renewals or end <= now:
        return _to(lease, LeaseStatus.REVOKING, final=True)
    none = {"cause": None, "reason": None, "error": None, "retry_at": None, "missing_since": None}
    return _to(lease, LeaseStatus.ACTIVE, expires_at=end, renewals=number, **none)


def begin_revoke(lease: Lease, cause: Cause, reason: str, now: datetime) -> Lease:
    """
    Return the lease that is being revoked. A lease that nothing was called for has ended at once.

    The first cause stays: a lease that expired is not reported as revoked on request later.
    """
    if lease.status is LeaseStatus.REQUESTED:
        return _to(lease, LeaseStatus.REVOKED, cause=cause, reason=reason, ended_at=now)
    final = lease.final or cause is not Cause.EXPIRY
    if lease.cause is not None:
        cause, reason = lease.cause, lease.reason or reason
    return _to(lease, LeaseStatus.REVOKING, cause=cause, reason=reason, retry_at=None, final=final)


def replace_dead(lease: Lease, reason: str, now: datetime) -> Lease:
    """Return the lease that is being revoked because AWS no longer accepts its key; another takes its place."""
    _require(lease, LeaseStatus.ACTIVE, "be replaced")
    return replace(begin_revoke(lease, Cause.REQUEST, reason, now), replaced=True)


def revoked(lease: Lease, now: datetime) -> Lease:
    """Return the lease that has nothing left at AWS."""
    status = LeaseStatus.EXPIRED if lease.cause is Cause.EXPIRY else LeaseStatus.REVOKED
    return _to(
        lease, status, ended_at=now, retry_at=None, error=None, kept=False, missing_since=None, deletion_sent=False
    )


def deletion_sent(lease: Lease) -> Lease:
    """Return the lease before its user is deleted: if the user is missing afterwards, the deletion succeeded."""
    return _to(lease, LeaseStatus.REVOKING, deletion_sent=True)


def missing(lease: Lease, now: datetime, *, deleted: bool = False) -> Lease:
    """
    Return the lease of which nothing was found at AWS; it is checked again before that counts.

    IAM may fail to find a user for a moment. And if the lease is not known to have been issued, a request that was sent
    for it may still arrive.

    Args:
        lease: being revoked.
        now: the time.
        deleted: an earlier attempt sent the deletion of its user and got no answer.
    """
    if lease.status in (LeaseStatus.ACTIVE, LeaseStatus.REVOKE_FAILED):
        raise IllegalTransitionError(f"the lease {lease.id} is {lease.status} and cannot be missing")
    if lease.issuing_at is None or deleted:
        return revoked(lease, now)  # Nothing was called for it; or its user existed, and its deletion was sent.
    since = lease.missing_since
    if since is None or since > now:  # Recorded by a clock that was set back since.
        since = now
    again, until = since + RECHECK_AFTER, since + GONE_AFTER
    if not lease.was_issued:
        # No one has its key: check once more when no request can arrive any more.
        again = until = max(until, lease.issuing_at + ARRIVES_WITHIN)
    if until <= now:
        return revoked(lease, now)
    return _to(
        lease,
        LeaseStatus.REVOKING,
        missing_since=since,
        retry_at=again if now < again else until,
        error=None,
        deletion_sent=False,
    )


def revoke_failed(lease: Lease, message: str, pause: timedelta, now: datetime, *, unknown: bool = False) -> Lease:
    """
    Return the lease that could not be revoked; it is tried again after a pause.

    Args:
        lease: being revoked.
        message: why.
        pause: until it is tried again.
        now: the time.
        unknown: the failed call may have been carried out.
    """
    return _to(
        lease,
        LeaseStatus.REVOKE_FAILED,
        failures=lease.failures + 1,
        retry_at=now + pause,
        error=message,
        missing_since=None,
        deletion_sent=lease.deletion_sent and unknown,
    )


def expired(lease: Lease, now: datetime) -> Lease:
    """Return the lease that ended by itself at AWS. A lease that is being revoked does not end this way."""
    _require(lease, LeaseStatus.ACTIVE, "expire")
    return _to(lease, LeaseStatus.EXPIRED, cause=Cause.EXPIRY, ended_at=now, kept=False)


def abandoned(lease: Lease, reason: str, now: datetime) -> Lease:
    """Return the lease that is given up because it cannot be revoked: at AWS it ends by itself."""
    _require(lease, LeaseStatus.ACTIVE, "be given up")
    return replace(lease, status=LeaseStatus.REVOKED, cause=Cause.REQUEST, reason=reason, ended_at=now, kept=False)


def is_due(lease: Lease, now: datetime, *, restored: bool = False) -> bool:
    """
    Return whether a daemon has to act on a lease that no process works on.

    Args:
        lease: the lease.
        now: the time.
        restored: the database may be older than AWS, and the lease may have been renewed since: it is left alone until
            its maximum, beyond which no renewal can have moved its end.
    """
    if lease.status in ENDED:
        return False
    if lease.status is LeaseStatus.ACTIVE:
        end = lease.max_expires_at if restored else min(lease.expires_at, lease.max_expires_at)
        # Its age is not known, and by the clock as it is now it might live for years.
        return end <= now or lease.requested_at > now + CLOCK_AHEAD
    return lease.retry_at is None or lease.retry_at <= now


def shifted_back(lease: Lease, by: timedelta) -> Lease:
    """
    Return the lease with its instants moved back, as if the clock had been behind by this much from the start.

    It then lives no longer than requested although the clock was set back. The end of a session is not moved: AWS sets
    it, whatever our clock says.
    """
    ours = ["requested_at", "issuing_at", "issued_at", "retry_at"]
    if lease.spec.role_arn is None or not lease.was_issued:
        ours += ["expires_at", "max_expires_at"]
    moved = {name: getattr(lease, name) - by for name in ours if getattr(lease, name) is not None}
    return replace(lease, **moved)


def is_reusable(lease: Lease, now: datetime) -> bool:
    """Return whether a lease has a kept secret key, and at least half of its time left to be issued once more."""
    return lease.kept and lease.status is LeaseStatus.ACTIVE and lease.expires_at - now >= lease.spec.ttl / 2


def _require(lease: Lease, status: LeaseStatus, action: str) -> None:
    if lease.status is not status:
        raise IllegalTransitionError(f"the lease {lease.id} is {lease.status} and cannot {action}")


def _to(lease: Lease, status: LeaseStatus, **changes: Any) -> Lease:
    if status not in TRANSITIONS[lease.status]:
        raise IllegalTransitionError(f"the lease {lease.id} is {lease.status} and cannot become {status}")
    return replace(lease, status=status, **changes)
