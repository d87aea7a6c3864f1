"""
Issues leases that were requested, and reuses leases with a kept secret key.

A lease is stored before anything is called, and undone at once if it cannot be issued. The daemon finds what was not
undone by the lease's row.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from phasesync.core import lease as lease_states
from phasesync.core.dynamic import DynamicSecret
from phasesync.core.lease import Cause, Lease
from phasesync.core.lease_claim import Entry, KeptLease, LeaseClaim, LeaseEvent, Outputs
from phasesync.core.model import SecretValue
from phasesync.core.times import duration_text
from phasesync.engine.context import Context
from phasesync.engine.leases.revocation import LeaseRevoker
from phasesync.errors import (
    ClaimHeldError,
    ClaimLostError,
    DestinationError,
    IllegalTransitionError,
    PermissionDeniedError,
    PhasesyncError,
)
from phasesync.ports.issuer import IssuedCredentials, LeaseIssuer, PartialIssue

KNOWN_WITHIN: Final = timedelta(seconds=30)
"""How long a new key is waited for until AWS knows it; that takes a few seconds."""
_FIRST_PROBE_S: Final = 0.5
_LONGEST_PROBE_S: Final = 4.0


@dataclass(frozen=True, kw_only=True)
class IssuedLease:
    """
    An issued lease with its credentials.

    Attributes:
        outputs: output of the issuer -> value.
        known: whether AWS knows the key already; None if AWS was not asked.
    """

    lease: Lease
    dynamic: DynamicSecret
    outputs: Mapping[str, SecretValue] = field(repr=False)
    known: bool | None

    @property
    def credentials(self) -> dict[str, SecretValue]:
        """Key -> value, under the names that the dynamic secret defines."""
        return {key: self.outputs[output] for output, key in self.dynamic.config.keys.items() if output in self.outputs}


class LeaseIssuance:
    """Issues leases under their claims."""

    def __init__(self, context: Context, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """
        Args:
            context: stores, AWS, time and events.
            sleep: waits for so many seconds.
        """
        self._context = context
        self._sleep = sleep
        self._revoker = LeaseRevoker(context)

    def issue(
        self,
        dynamic: DynamicSecret,
        issuer: LeaseIssuer,
        claim: LeaseClaim,
        lease: Lease,
        account: str,
        *,
        actor: str,
        keep: bool,
        probe_for: timedelta | None,
    ) -> IssuedLease:
        """
        Issue a lease that was requested.

        Args:
            dynamic: its definition.
            issuer: issues the credentials.
            claim: of the lease; it is released in any case.
            lease: as it was requested.
            account: that the issuer's credential leads to.
            actor: who asked.
            keep: store the secret key with the lease.
            probe_for: how long to wait until AWS knows the new key; None means that AWS is not asked.

        Raises:
            DestinationError, StoreUnavailableError: what was created until then has been revoked, or will be.
        """
        partial = PartialIssue()
        issued: IssuedCredentials | None = None

        def checkpoint() -> None:
            self._context.leases.extend(claim)

        try:
            lease = self._context.leases.save(claim, lambda stored, now: lease_states.begin_issue(stored, account, now))
            issued = credentials = issuer.issue(lease.spec, checkpoint=checkpoint, partial=partial)
            known = (
                None
                if probe_for is None
                else self._wait_until_known(issuer, credentials.outputs, probe_for, checkpoint)
            )
            lease = self._context.leases.save(
                claim,
                lambda stored, now: lease_states.issued(
                    stored,
                    now,
                    principal=credentials.principal,
                    access_key_id=credentials.access_key_id,
                    ends_at=credentials.ends_at,
                    kept=keep,
                    known=known is True,
                ),
                entry=Entry(event=LeaseEvent.ISSUED, actor=actor, detail=f"for {duration_text(lease.spec.ttl)}"),
                keep=credentials.outputs if keep else None,
                done=True,
            )
        except BaseException as error:
            # Including Ctrl-C: the key has not been shown yet, so it is not missed.
            self._undo(claim, lease, issuer, issued, partial, error, actor)
            raise
        return IssuedLease(lease=lease, dynamic=dynamic, outputs=credentials.outputs, known=known)

    def _wait_until_known(
        self, issuer: LeaseIssuer, outputs: Outputs, patience: timedelta, checkpoint: Callable[[], None]
    ) -> bool:
        """Return whether AWS knew a new key in time: changes of IAM reach all of AWS within some seconds."""
        deadline = self._context.clock.monotonic() + patience.total_seconds()
        pause_s = _FIRST_PROBE_S
        while True:
            checkpoint()
            try:
                if issuer.is_known(outputs):
                    return True
            except DestinationError:
                return False  # The lease is good; the result says that AWS does not know the key yet.
            left_s = deadline - self._context.clock.monotonic()
            if left_s <= 0:
                return False
            self._sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LONGEST_PROBE_S)

    def _undo(
        self,
        claim: LeaseClaim,
        lease: Lease,
        issuer: LeaseIssuer,
        issued: IssuedCredentials | None,
        partial: PartialIssue,
        error: BaseException,
        actor: str,
    ) -> None:
        """Revoke what exists of a lease that could not be issued. Raises nothing of its own."""
        why = error.message if isinstance(error, PhasesyncError) else type(error).__name__
        reason = "it could not be issued"
        failed = Entry(event=LeaseEvent.ISSUE_FAILED, actor=actor, detail=why)

        def begin(stored: Lease, now: datetime) -> Lease:
            revoking = lease_states.begin_revoke(stored, Cause.FAILURE, reason, now)
            return revoking if partial.possible or not revoking.live else lease_states.revoked(revoking, now)

        def revoke(held: LeaseClaim) -> bool:
            """Return whether something of it may be left."""
            begun = self._context.leases.save(held, begin, entry=failed, done=not partial.possible)
            if not begun.live:
                return False
            return self._revoker.revoke(held, begun, cause=Cause.FAILURE, reason=reason, actor=actor).lease.live

        try:
            try:
                left = revoke(claim)
            except ClaimLostError:
                # It was stored as issued, only the answer was lost. A key that is kept must not outlive its user.
                left = revoke(self._context.leases.claim(lease.id, self._context.owner).claim)
        except PhasesyncError:
            # Nothing can be stored. At least the key has to go; the daemon finds the rest by the lease's row.
            left = partial.possible
            with suppress(PhasesyncError):
                if partial.possible:
                    key_id = None if issued is None else issued.access_key_id
                    issuer.revoke(lease.spec, access_key_id=key_id, proven=issued is not None, checkpoint=lambda: None)
        if left and isinstance(error, PhasesyncError):
            error.message += f"; the daemon revokes what there may be of the lease {lease.id}"


PATIENCE: Final = timedelta(minutes=3)
"""How long a process waits for another one that issues the lease it wants; issuing takes less."""
_POLL_S: Final = 0.25
_ASK_AGAIN_S: Final = 1.0


class KeptLeases:
    """
    Reuses leases with a kept secret key: if several processes ask at once, one issues it, and all get the same.

    A kept key is reused only after AWS was asked with it: its user may have been deleted meanwhile, or revoked after
    the backup that this database comes from. If AWS cannot be reached, the key is returned as it is: without AWS it is
    of no use anyway, and it is good as soon as AWS answers again.
    """

    def __init__(self, context: Context, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """
        Args:
            context: stores, AWS, time and events.
            sleep: waits for so many seconds.
        """
        self._context = context
        self._sleep = sleep

    def reuse_or_issue(
        self, name: str, *, actor: str, issue: Callable[[], IssuedLease], revoke: Callable[[str], object]
    ) -> tuple[IssuedLease, bool]:
        """
        Return a kept lease that is good, and whether it existed before. Issue one if there is none.

        Args:
            name: of the dynamic secret.
            actor: who asks.
            issue: issues one. ClaimHeldError if another process is issuing one, or has just issued it.
            revoke: revokes a lease if its key is dead.

        Raises:
            ClaimHeldError: another process has been issuing one for too long.
            Whatever `issue` raises.
        """
        deadline = self._context.clock.monotonic() + PATIENCE.total_seconds()
        while True:
            dynamic = self._context.store.dynamics.get(name)
            reused = self._reuse(dynamic, actor, revoke)
            if reused is not None:
                return reused, True
            try:
                return issue(), False
            except ClaimHeldError:
                if self._context.clock.monotonic() >= deadline:
                    raise
            self._sleep(_POLL_S)

    def _reuse(self, dynamic: DynamicSecret, actor: str, revoke: Callable[[str], object]) -> IssuedLease | None:
        """Return a kept lease that is good; None if there is none."""
        while (kept := self._context.leases.kept(dynamic)) is not None:
            known = self.is_good(kept)
            if known is False:
                self._replace(kept.lease, revoke)
                continue
            reused = self._context.leases.reuse(dynamic, actor=actor)
            if reused is not None and reused.lease.id == kept.lease.id:
                return IssuedLease(lease=reused.lease, dynamic=dynamic, outputs=reused.outputs, known=known or None)
        return None

    def is_good(self, kept: KeptLease) -> bool | None:
        """Return whether a kept key is still good; None if AWS does not say."""
        lease = kept.lease
        credential = self._context.store.credentials.get_by_id(lease.credential_id)
        issuer = self._context.issuers.open(lease.issuer, credential, tenant=lease.dynamic_id)
        deadline = self._context.clock.monotonic() + KNOWN_WITHIN.total_seconds()
        asked_again = False
        while True:
            try:
                if issuer.is_known(kept.outputs):
                    return True
                if self._has_key(issuer, lease):
                    return None  # STS does not know it yet, or is asked in a place that does not know it yet.
            except DestinationError:
                return None
            # Neither STS nor IAM knows it. A key that was never known may take some seconds; for others, ask twice.
            may_come = not lease.key_known and self._is_young(lease) and self._context.clock.monotonic() < deadline
            if asked_again and not may_come:
                return False
            asked_again = True
            self._sleep(_ASK_AGAIN_S)

    def _has_key(self, issuer: LeaseIssuer, lease: Lease) -> bool:
        """Return whether IAM has the key. Without the permission to ask, the answer of STS counts."""
        try:
            return lease.access_key_id is not None and issuer.has_key(lease.spec, lease.access_key_id)
        except PermissionDeniedError:
            return False

    def _is_young(self, lease: Lease) -> bool:
        return lease.issued_at is not None and self._context.clock.now() - lease.issued_at < KNOWN_WITHIN

    def _replace(self, lease: Lease, revoke: Callable[[str], object]) -> None:
        """Store that the key of a lease is dead, and revoke what may be left. One process does it."""
        reason = "AWS does not know its key any more"
        try:
            self._context.leases.change(lease.id, lambda stored, now: lease_states.replace_dead(stored, reason, now))
        except IllegalTransitionError:
            return  # Another process was faster.
        with suppress(PhasesyncError):  # The daemon continues.
            revoke(lease.id)
