"""
Revokes a lease: its issuer removes what exists of it, and the result is stored.

The caller holds the lease's claim. A failure is stored with a pause, after which it is tried again until it succeeds.
That nothing is found under one name, at one moment or in one account does not end a lease: the user is searched for by
its key and its tags, in the account in which the lease was issued, and again some minutes later.
Must not touch any other account. What a revocation means for what comes next is at the end.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from phasesync.core.events import LeaseEndMoved, LeaseRevoked
from phasesync.core.lease import (
    Cause,
    Lease,
    LeaseSpec,
    LeaseStatus,
    apply_renewals,
    begin_revoke,
    deletion_sent,
    expired,
    missing,
    revoke_failed,
    revoked,
)
from phasesync.core.lease_claim import Entry, LeaseClaim, LeaseEvent, LeaseRecord
from phasesync.core.lease_users import is_made_for, renewal_of
from phasesync.core.schedule import pause_of_lease
from phasesync.core.times import instant_text
from phasesync.engine.context import Context
from phasesync.engine.defects import error_of
from phasesync.engine.error_hints import LeaseNames, hint_of
from phasesync.errors import (
    AccountMismatchError,
    ClaimLostError,
    DestinationUnavailableError,
    HostUnavailableError,
    IllegalTransitionError,
    InternalError,
    InterruptedRunError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PhasesyncError,
    StoreUnavailableError,
)
from phasesync.ports.issuer import LeaseIssuer, RevokeOutcome
from phasesync.store.leases import LeaseStore


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """
    The result of revoking a lease.

    Attributes:
        lease: as it is now.
        error: why it is not over. None if it is over, if nothing of it was found, which does not count yet, or if it
            was renewed and lives on.
        dropped: its row was altered and was deleted; what it had made is unknown.
    """

    lease: Lease
    error: PhasesyncError | None
    dropped: bool = False


class LeaseRevoker:
    """Revokes claimed leases. Safe to share between threads."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def revoke(
        self,
        claim: LeaseClaim,
        lease: Lease,
        *,
        cause: Cause,
        reason: str,
        actor: str,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> Revocation:
        """
        Revoke a claimed lease; the claim is released in any case.

        Args:
            claim: of the lease.
            lease: as it was claimed.
            cause: why.
            reason: the cause, for the operator.
            actor: who revokes it, for the lease's log.
            checkpoint: called before every call; raises if this process may not go on.

        Raises:
            ClaimLostError: another process works on it.
            InterruptedRunError: raised by `checkpoint`; the lease is still due.
            StoreUnavailableError: nothing could be stored; what was not removed will be removed later.
        """
        try:
            return self._revoke(claim, lease, cause, reason, actor, checkpoint)
        except BaseException:
            # Including Ctrl-C. If the claim cannot be released, it expires by itself.
            with suppress(PhasesyncError):
                self._context.leases.release(claim)
            raise

    def expire(self, claim: LeaseClaim, *, actor: str) -> Lease:
        """Store that a claimed lease has expired at AWS; the claim is released. ClaimLostError."""
        lease = self._context.leases.save(claim, expired, entry=Entry(event=LeaseEvent.EXPIRED, actor=actor), done=True)
        self._report(lease, None, calls=0)
        return lease

    def _revoke(
        self, claim: LeaseClaim, lease: Lease, cause: Cause, reason: str, actor: str, checkpoint: Callable[[], None]
    ) -> Revocation:
        nothing_called = lease.status is LeaseStatus.REQUESTED

        def begin(stored: Lease, now: datetime) -> Lease:
            return begin_revoke(stored, cause, reason, now)

        entry = Entry(event=LeaseEvent.REVOKED, actor=actor, detail=reason) if nothing_called else None
        begun = self._context.leases.save(claim, begin, entry=entry, done=nothing_called)
        if not begun.live:
            self._report(begun, None, calls=0)
            return Revocation(lease=begun, error=None)

        issuer: LeaseIssuer | None = None
        attempt = _Attempt(self._context.leases, claim, begun, checkpoint)
        try:
            attempt.checkpoint()
            issuer = self._issuer_of(begun)
            outcome = self._remove(issuer, attempt, heed_renewals=cause is Cause.EXPIRY)
        except (ClaimLostError, InterruptedRunError, StoreUnavailableError):
            raise
        except PhasesyncError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  A defect must not leave a user behind unnoticed.
            failure = error_of(error)
        else:
            if isinstance(outcome, Lease):
                self._context.leases.release(claim)
                self._context.events.emit(
                    LeaseEndMoved(dynamic=outcome.dynamic, lease_id=outcome.id, expires_at=outcome.expires_at)
                )
                return Revocation(lease=outcome, error=None)
            ended = self._store_outcome(claim, outcome, actor, deleted=begun.deletion_sent)
            self._report(ended, None, calls=issuer.calls)
            return Revocation(lease=ended, error=None)
        failure.hint = hint_of(failure, LeaseNames(self._context.store.credentials, begun))
        left = self._store_failure(claim, begun, failure, actor)
        self._report(left, failure, calls=0 if issuer is None else issuer.calls)
        return Revocation(lease=left, error=failure)

    def _remove(self, issuer: LeaseIssuer, attempt: "_Attempt", *, heed_renewals: bool) -> RevokeOutcome | Lease:
        """
        Remove what exists of a lease. Return the outcome, or the lease if it was renewed and lives on.

        Args:
            issuer: removes it.
            attempt: the lease and its claim.
            heed_renewals: the lease expired according to its row: later renewals that its user's tags name count more.
        """
        lease = attempt.lease
        heed = heed_renewals and lease.was_issued and not lease.final
        outcome = self._remove_named(issuer, attempt, lease.spec, proven=lease.was_issued, heed_renewals=heed)
        if outcome not in (RevokeOutcome.MISSING, RevokeOutcome.FOREIGN) or name_was_taken(lease, outcome):
            return outcome
        # The identity may have changed together with its keys: ask again, with the keys that found nothing.
        require_same_account(
            self._context.store.credentials.get_by_id(lease.credential_id).name, lease, issuer.account_now()
        )
        others: set[str] = set()

        def is_of_another(name: str) -> bool:
            if not others:  # Read only if a user is found; mostly none is.
                others.update(other.spec.name for other in self._context.leases.list_leases())
                others.discard(lease.spec.name)
            return name in others

        elsewhere = issuer.find(lease.spec, access_key_id=lease.access_key_id, known=is_of_another)
        if elsewhere is None:
            return outcome
        spec = replace(lease.spec, name=elsewhere.name)
        return self._remove_named(issuer, attempt, spec, proven=elsewhere.proven, heed_renewals=heed)

    def _remove_named(
        self, issuer: LeaseIssuer, attempt: "_Attempt", spec: LeaseSpec, *, proven: bool, heed_renewals: bool
    ) -> RevokeOutcome | Lease:
        """Remove what exists under one name; see `_remove`."""
        if heed_renewals:
            with suppress(PermissionDeniedError):  # Without the permission to read tags, the row decides.
                tags = issuer.tags_of(spec)
                if tags is None:
                    return RevokeOutcome.MISSING
                renewal = renewal_of(tags) if is_made_for(tags, spec.tags) else None
                if renewal is not None and renewal.number > attempt.lease.renewals:
                    lives_on = self._context.leases.save(
                        attempt.claim,
                        lambda stored, now: apply_renewals(stored, renewal.number, renewal.end, now),
                        entry=_renewed_since,
                    )
                    if lives_on.status is LeaseStatus.ACTIVE:
                        return lives_on
        key_id = attempt.lease.access_key_id
        return issuer.revoke(
            spec, access_key_id=key_id, proven=proven, checkpoint=attempt.checkpoint, ending=attempt.before_deletion
        )

    def _issuer_of(self, lease: Lease) -> LeaseIssuer:
        credential = self._context.store.credentials.get_by_id(lease.credential_id)
        issuer = self._context.issuers.open(lease.issuer, credential, tenant=lease.dynamic_id)
        require_same_account(credential.name, lease, issuer.account_id())
        return issuer

    def _store_outcome(self, claim: LeaseClaim, outcome: RevokeOutcome, actor: str, *, deleted: bool) -> Lease:
        before: list[Lease] = []

        def step(stored: Lease, now: datetime) -> Lease:
            before.append(stored)
            over = outcome is RevokeOutcome.REMOVED or name_was_taken(stored, outcome)
            return revoked(stored, now) if over else missing(stored, now, deleted=deleted)

        def entry(ended: Lease) -> Entry | None:
            if not ended.live:
                event = LeaseEvent.EXPIRED if ended.status is LeaseStatus.EXPIRED else LeaseEvent.REVOKED
                detail = "; ".join(part for part in (ended.reason, _OVER_DETAILS[outcome]) if part)
                return Entry(event=event, actor=actor, detail=detail or None)
            if before[-1].missing_since is not None or not ended.was_issued:
                return None  # Logged already; or the key was never issued, so that it is no news that nothing exists.
            return Entry(event=LeaseEvent.MISSING, actor=actor, detail=_MISSING_DETAILS[outcome])

        return self._context.leases.save(claim, step, entry=entry, done=True)

    def _store_failure(self, claim: LeaseClaim, lease: Lease, error: PhasesyncError, actor: str) -> Lease:
        pause = pause_of_lease(error, failures=lease.failures + 1, spread=self._context.random())
        # A failure that repeats is one entry of the log.
        is_new = lease.error != error.message
        unknown = isinstance(error, OutcomeUnknownError | InternalError | HostUnavailableError)
        entry = Entry(event=LeaseEvent.REVOKE_FAILED, actor=actor, detail=error.message) if is_new else None
        return self._context.leases.save(
            claim,
            lambda stored, now: revoke_failed(stored, error.message, pause, now, unknown=unknown),
            entry=entry,
            done=True,
        )

    def _report(self, lease: Lease, error: PhasesyncError | None, *, calls: int) -> None:
        over_at = lease.ended_at if lease.status is LeaseStatus.EXPIRED else None
        self._context.events.emit(
            LeaseRevoked(
                dynamic=lease.dynamic,
                lease_id=lease.id,
                status=lease.status,
                cause=lease.cause or Cause.EXPIRY,
                error=None if error is None else type(error).__name__,
                code=None if error is None else error.code,
                failures=lease.failures,
                aws_calls=calls,
                late_ms=None if over_at is None else round((over_at - lease.expires_at).total_seconds() * 1000),
                retry_at=lease.retry_at,
            )
        )


@dataclass(frozen=True)
class _Attempt:
    """One attempt to revoke a lease. `allowed`: raises if this process may not go on."""

    leases: LeaseStore
    claim: LeaseClaim
    lease: Lease
    allowed: Callable[[], None]

    def checkpoint(self) -> None:
        """Check, before a call, that it may be made; keep the claim."""
        self.allowed()
        self.leases.extend(self.claim)

    def before_deletion(self) -> None:
        """Check the same before the call that deletes the user, and store that this call is made."""
        self.checkpoint()
        self.leases.save(self.claim, lambda stored, _: deletion_sent(stored))


def require_same_account(credential: str, lease: Lease, account: str) -> None:
    """Refuse an account in which a lease was not issued: its user is not there. AccountMismatchError."""
    if lease.account is not None and account != lease.account:
        raise AccountMismatchError(
            f"the credential {credential} now leads to account {account}, and the lease {lease.id} is in "
            f"{lease.account}",
            hint=f"correct the credential: phasesync credentials update {credential} --help",
        )


def name_was_taken(lease: Lease, outcome: RevokeOutcome) -> bool:
    """Return whether the user of a lease cannot have been created: another user had the name."""
    return outcome is RevokeOutcome.FOREIGN and not lease.was_issued


def _renewed_since(lease: Lease) -> Entry | None:
    if lease.status is not LeaseStatus.ACTIVE:
        return None
    detail = f"its user says until {lease.expires_at:%Y-%m-%d %H:%M:%S} UTC: this database is older than its renewal"
    return Entry(event=LeaseEvent.RENEWED, actor="phasesync", detail=detail)


_OVER_DETAILS: Final = {
    RevokeOutcome.REMOVED: None,
    RevokeOutcome.MISSING: "there was nothing of it any more",
    RevokeOutcome.FOREIGN: "the user of that name was not made for it, and was left alone",
}
_MISSING_DETAILS: Final = {
    RevokeOutcome.MISSING: "IAM does not find its user, its key or its tags; that is looked at again before it counts",
    RevokeOutcome.FOREIGN: (
        "the user of this name was not made for the lease and is left alone; its own is looked for again"
    ),
}


def not_found_yet(lease: Lease) -> PhasesyncError:
    """Return the error for a lease that does not count as revoked yet, although IAM does not find its user."""
    return DestinationUnavailableError(
        f"IAM does not find the user of the lease {lease.id}, nor its key or its tags. It counts as revoked once that "
        "has been so for some minutes, and its key may work until then; the daemon looks again, first at "
        f"{instant_or_now(lease.retry_at)}",
        hint=f"phasesync leases show {lease.id}; without a daemon, repeat: phasesync leases revoke {lease.id}",
    )


def failure_of(revocation: Revocation) -> PhasesyncError | None:
    """Return why a lease is not revoked yet; None if it is."""
    if revocation.error is None and revocation.lease.live:
        return not_found_yet(revocation.lease)
    return revocation.error


def removal_blocker(revocation: Revocation) -> PhasesyncError | None:
    """Return why what a lease hangs on cannot be removed yet; None if it can."""
    lease, error = revocation.lease, revocation.error
    if revocation.dropped:
        return None
    if error is not None:
        error.message = f"the lease {lease.id} could not be revoked, so nothing else is removed: {error.message}"
        return error
    if lease.live and lease.was_issued:
        return not_found_yet(lease)
    if lease.live:
        return IllegalTransitionError(
            f"the key of the lease {lease.id} was never shown, and a request for it may still reach AWS: nothing "
            "else is removed until no such request can arrive any more",
            hint=f"repeat it in a few minutes; phasesync leases show {lease.id}",
        )
    return None


@dataclass(frozen=True, kw_only=True)
class LeasesByEnd:
    """
    Leases by how they end.

    Attributes:
        users: those that can be revoked.
        sessions: sessions of roles, which only end by themselves.
    """

    users: tuple[Lease, ...]
    sessions: tuple[Lease, ...]

    @property
    def last_session_end(self) -> datetime:
        """When the last session ends. There has to be one."""
        return max(lease.expires_at for lease in self.sessions)

    @property
    def credentials_asked(self) -> tuple[str, ...]:
        """Ids of the credentials that AWS was asked with. A lease without an account was never made there."""
        return tuple(dict.fromkeys(lease.credential_id for lease in self.users if lease.account is not None))


def by_end(leases: Iterable[Lease], is_revocable: Callable[[Lease], bool]) -> LeasesByEnd:
    """Return leases by how they end, in their order."""
    leases = list(leases)
    return LeasesByEnd(
        users=tuple(lease for lease in leases if is_revocable(lease)),
        sessions=tuple(lease for lease in leases if not is_revocable(lease)),
    )


def leases_on_credential(leases: LeaseStore, credential: str, dynamics: Sequence[str]) -> list[Lease]:
    """
    Return the live leases to revoke before a credential and its dynamic secrets are removed.

    Args:
        leases: the store.
        credential: name of the credential.
        dynamics: names of its dynamic secrets. Leases of theirs may be of a credential that they had before.
    """
    by_id = {lease.id: lease for lease in leases.list_leases(credential=credential)}
    for dynamic in dynamics:
        for lease in leases.list_leases(dynamic=dynamic):
            by_id.setdefault(lease.id, lease)
    return list(by_id.values())


def is_shared(log: Iterable[LeaseRecord]) -> bool:
    """Return whether a kept lease was issued again, so that others have its key."""
    return any(entry.event is LeaseEvent.GIVEN_AGAIN for entry in log)


def instant_or_now(moment: datetime | None) -> str:
    """Return an instant as a sentence names it; None is now."""
    return "now" if moment is None else instant_text(moment)
