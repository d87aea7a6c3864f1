"""
Takes a lease back: has its issuer remove what there is of it, and notes what came of that.

Whoever does it holds the lease's claim. What fails is noted with a pause after which it is tried again, until it holds.
That nothing is found under one name, at one moment or in one account ends no lease: it is looked for by its key and its
tags, under the account that it was made in, and again some minutes later.
Must not touch another account than the one that the lease was made in.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from phasesync.core.events import LeaseEndMoved, LeaseRevoked
from phasesync.core.iam_users import is_made_for, renewal_of
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
from phasesync.core.lease_claim import Entry, LeaseClaim, LeaseEvent
from phasesync.core.schedule import pause_of_lease
from phasesync.engine.context import Context
from phasesync.engine.defects import internal_error
from phasesync.engine.hints import LeaseNames, hint_of
from phasesync.errors import (
    AccountMismatchError,
    ClaimLostError,
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
    What came of taking a lease back.

    Attributes:
        lease: as it is now.
        error: why it is not over, None where it is, or where nothing of it was found, which does not count yet, or
            where it was renewed and lives on.
        dropped: its row was altered, and is gone; nobody knows what it had made.
    """

    lease: Lease
    error: PhasesyncError | None
    dropped: bool = False


class LeaseRevoker:
    """Ends leases. Safe to share between threads."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def end(
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
        Take a claimed lease back; the claim is given back in any case.

        Args:
            claim: of the lease.
            lease: as it was claimed.
            cause: why.
            reason: the same for the operator.
            actor: who does it, for the lease's log.
            checkpoint: asked before every call; raises when this process may not go on.

        Raises:
            ClaimLostError: somebody else is at it.
            InterruptedRunError: of `permit`; the lease is as due as it was.
            StoreUnavailableError: nothing could be noted; whatever was not removed will be.
        """
        try:
            return self._end(claim, lease, cause, reason, actor, checkpoint)
        except BaseException:
            # Ctrl-C among them. The claim ends by itself where it cannot be given back.
            with suppress(PhasesyncError):
                self._context.leases.release(claim)
            raise

    def let_lapse(self, claim: LeaseClaim, *, actor: str) -> Lease:
        """Note that a claimed lease has ended by itself at AWS; the claim is given back. ClaimLostError."""
        lease = self._context.leases.save(claim, expired, entry=Entry(event=LeaseEvent.EXPIRED, actor=actor), done=True)
        self._tell(lease, None, calls=0)
        return lease

    def _end(
        self, claim: LeaseClaim, lease: Lease, cause: Cause, reason: str, actor: str, checkpoint: Callable[[], None]
    ) -> Revocation:
        nothing_called = lease.status is LeaseStatus.REQUESTED

        def begin(one: Lease, now: datetime) -> Lease:
            return begin_revoke(one, cause, reason, now)

        entry = Entry(event=LeaseEvent.REVOKED, actor=actor, detail=reason) if nothing_called else None
        begun = self._context.leases.save(claim, begin, entry=entry, done=nothing_called)
        if not begun.live:
            self._tell(begun, None, calls=0)
            return Revocation(lease=begun, error=None)

        issuer: LeaseIssuer | None = None
        work = _Work(self._context.leases, claim, begun, checkpoint)
        try:
            work.checkpoint()
            issuer = self._issuer_of(begun)
            found = self._remove(issuer, work, heed_renewals=cause is Cause.EXPIRY)
        except (ClaimLostError, InterruptedRunError, StoreUnavailableError):
            raise
        except PhasesyncError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  A defect must not leave a user behind that nobody hears of.
            failure = internal_error(error)
        else:
            if isinstance(found, Lease):
                self._context.leases.release(claim)
                self._context.events.emit(
                    LeaseEndMoved(dynamic=found.dynamic, lease_id=found.id, expires_at=found.expires_at)
                )
                return Revocation(lease=found, error=None)
            ended = self._note(claim, found, actor, deleted=begun.deletion_sent)
            self._tell(ended, None, calls=issuer.calls)
            return Revocation(lease=ended, error=None)
        failure.hint = hint_of(failure, LeaseNames(self._context.store.credentials, begun))
        left = self._note_failure(claim, begun, failure, actor)
        self._tell(left, failure, calls=0 if issuer is None else issuer.calls)
        return Revocation(lease=left, error=failure)

    def _remove(self, issuer: LeaseIssuer, work: "_Work", *, heed_renewals: bool) -> RevokeOutcome | Lease:
        """
        Remove what there is of a lease; return what there was, or the lease that lives on since it was renewed.

        Args:
            issuer: removes it.
            work: on the lease.
            heed_renewals: its time is over by its row alone: what its user says of later renewals counts more.
        """
        lease = work.lease
        heed = heed_renewals and lease.was_issued and not lease.final
        found = self._remove_named(issuer, work, lease.spec, proven=lease.was_issued, heed_renewals=heed)
        if found not in (RevokeOutcome.MISSING, RevokeOutcome.THEIRS) or _name_was_taken(lease, found):
            return found
        # The identity may have changed with the keys beneath it: asked anew, with the keys that found nothing.
        _require_same_account(
            self._context.store.credentials.get_by_id(lease.credential_id).name, lease, issuer.account_now()
        )
        others: set[str] = set()

        def is_of_another(name: str) -> bool:
            if not others:  # Read where there is somebody to be told from others; most often nobody is found.
                others.update(one.spec.name for one in self._context.leases.list_leases())
                others.discard(lease.spec.name)
            return name in others

        elsewhere = issuer.find(lease.spec, access_key_id=lease.access_key_id, known=is_of_another)
        if elsewhere is None:
            return found
        spec = replace(lease.spec, name=elsewhere.name)
        return self._remove_named(issuer, work, spec, proven=elsewhere.proven, heed_renewals=heed)

    def _remove_named(
        self, issuer: LeaseIssuer, work: "_Work", spec: LeaseSpec, *, proven: bool, heed_renewals: bool
    ) -> RevokeOutcome | Lease:
        """The same under one name."""
        if heed_renewals:
            with suppress(PermissionDeniedError):  # Who may not look takes it back as its row says.
                tags = issuer.tags_of(spec)
                if tags is None:
                    return RevokeOutcome.MISSING
                renewal = renewal_of(tags) if is_made_for(tags, spec.tags) else None
                if renewal is not None and renewal.number > work.lease.renewals:
                    lives_on = self._context.leases.save(
                        work.claim,
                        lambda one, now: apply_renewals(one, renewal.number, renewal.end, now),
                        entry=_renewed_since,
                    )
                    if lives_on.status is LeaseStatus.ACTIVE:
                        return lives_on
        key_id = work.lease.access_key_id
        return issuer.revoke(spec, access_key_id=key_id, proven=proven, checkpoint=work.checkpoint, ending=work.end)

    def _issuer_of(self, lease: Lease) -> LeaseIssuer:
        credential = self._context.store.credentials.get_by_id(lease.credential_id)
        issuer = self._context.issuers.open(lease.issuer, credential, tenant=lease.dynamic_id)
        _require_same_account(credential.name, lease, issuer.account_id())
        return issuer

    def _note(self, claim: LeaseClaim, found: RevokeOutcome, actor: str, *, deleted: bool) -> Lease:
        before: list[Lease] = []

        def step(one: Lease, now: datetime) -> Lease:
            before.append(one)
            over = found is RevokeOutcome.REMOVED or _name_was_taken(one, found)
            return revoked(one, now) if over else missing(one, now, deleted=deleted)

        def entry(ended: Lease) -> Entry | None:
            if not ended.live:
                event = LeaseEvent.EXPIRED if ended.status is LeaseStatus.EXPIRED else LeaseEvent.REVOKED
                told = "; ".join(part for part in (ended.reason, _FOUND[found]) if part)
                return Entry(event=event, actor=actor, detail=told or None)
            if before[-1].missing_since is not None or not ended.was_issued:
                return None  # Told already; or nobody has its key, and it is no news that there is nothing.
            return Entry(event=LeaseEvent.MISSING, actor=actor, detail=_NOT_FOUND[found])

        return self._context.leases.save(claim, step, entry=entry, done=True)

    def _note_failure(self, claim: LeaseClaim, lease: Lease, error: PhasesyncError, actor: str) -> Lease:
        pause = pause_of_lease(error, failures=lease.failures + 1, spread=self._context.random())
        # The same failure, time after time, is one entry of the log.
        told = lease.error != error.message
        unknown = isinstance(error, OutcomeUnknownError | InternalError)
        entry = Entry(event=LeaseEvent.REVOKE_FAILED, actor=actor, detail=error.message) if told else None
        return self._context.leases.save(
            claim,
            lambda one, now: revoke_failed(one, error.message, pause, now, unknown=unknown),
            entry=entry,
            done=True,
        )

    def _tell(self, lease: Lease, error: PhasesyncError | None, *, calls: int) -> None:
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
class _Work:
    """One attempt to revoke a lease. `allowed`: raises where this process may not go on."""

    leases: LeaseStore
    claim: LeaseClaim
    lease: Lease
    allowed: Callable[[], None]

    def checkpoint(self) -> None:
        """Make sure, before a call, that it may be made."""
        self.allowed()
        self.leases.extend(self.claim)

    def end(self) -> None:
        """The same before the call that deletes the user; notes that it is about to be made."""
        self.checkpoint()
        self.leases.save(self.claim, lambda one, _: deletion_sent(one))


def _require_same_account(credential: str, lease: Lease, account: str) -> None:
    if lease.account is not None and account != lease.account:
        raise AccountMismatchError(
            f"the credential {credential} now leads to account {account}, and the lease {lease.id} is in "
            f"{lease.account}",
            hint=f"correct the credential: phasesync credentials update {credential} --help",
        )


def _name_was_taken(lease: Lease, found: RevokeOutcome) -> bool:
    """Return whether the user of a lease cannot have been made: its name was another's."""
    return found is RevokeOutcome.THEIRS and not lease.was_issued


def _renewed_since(lease: Lease) -> Entry | None:
    if lease.status is not LeaseStatus.ACTIVE:
        return None
    detail = f"its user says until {lease.expires_at:%Y-%m-%d %H:%M:%S} UTC: this database is older than its renewal"
    return Entry(event=LeaseEvent.RENEWED, actor="phasesync", detail=detail)


_FOUND: Final = {
    RevokeOutcome.REMOVED: None,
    RevokeOutcome.MISSING: "there was nothing of it any more",
    RevokeOutcome.THEIRS: "the user of that name was not made for it, and was left alone",
}
_NOT_FOUND: Final = {
    RevokeOutcome.MISSING: "IAM does not find its user, its key or its tags; that is looked at again before it counts",
    RevokeOutcome.THEIRS: (
        "the user of this name was not made for the lease and is left alone; its own is looked for again"
    ),
}
