"""
Makes a lease that was asked for: noted before anything is called, and undone at once where it cannot be handed out.

Whatever is not undone is the daemon's, which finds it by the lease's row.

Leases whose secret key is kept: of those that ask at once one makes it, the others get the same one.

A kept key is issued again only after AWS was asked with it: its user may have been deleted meanwhile, or revoked
after the backup that this database comes from. Where AWS cannot be reached it is issued as it is: without AWS it is
of no use anyway, and it is good as soon as AWS answers again.
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
    A lease with what is handed out with it.

    Attributes:
        outputs: output of the issuer -> value.
        known: AWS knows the key already; None = nobody asked.
    """

    lease: Lease
    dynamic: DynamicSecret
    outputs: Mapping[str, SecretValue] = field(repr=False)
    known: bool | None

    @property
    def credentials(self) -> dict[str, SecretValue]:
        """Key -> value, under the names that the dynamic secret gives them."""
        return {key: self.outputs[output] for output, key in self.dynamic.config.keys.items() if output in self.outputs}


class LeaseIssuance:
    """Makes leases under their claims."""

    def __init__(self, context: Context, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """
        Args:
            context: stores, AWS, time and events.
            sleep: waits for so many seconds.
        """
        self._context = context
        self._sleep = sleep
        self._ender = LeaseRevoker(context)

    def make(
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
        Make a lease that was requested, and hand it out.

        Args:
            dynamic: its recipe.
            issuer: who makes it.
            claim: of the lease; it is given back in any case.
            lease: as it was requested.
            account: where it is made.
            actor: who asked.
            keep: store the secret key with the lease.
            probe_for: how long to wait until AWS knows the new key; None = do not ask.

        Raises:
            DestinationError, StoreUnavailableError: what was made until then has been taken back, or will be.
        """
        partial = PartialIssue()
        made: IssuedCredentials | None = None

        def checkpoint() -> None:
            self._context.leases.extend(claim)

        try:
            lease = self._context.leases.save(claim, lambda one, now: lease_states.begin_issue(one, account, now))
            made = made_now = issuer.issue(lease.spec, checkpoint=checkpoint, partial=partial)
            known = None if probe_for is None else self._wait_until_known(issuer, made.outputs, probe_for, checkpoint)
            lease = self._context.leases.save(
                claim,
                lambda one, now: lease_states.issued(
                    one,
                    now,
                    principal=made_now.principal,
                    access_key_id=made_now.access_key_id,
                    ends_at=made_now.ends_at,
                    kept=keep,
                    known=known is True,
                ),
                entry=Entry(event=LeaseEvent.ISSUED, actor=actor, detail=f"for {duration_text(lease.spec.ttl)}"),
                keep=made.outputs if keep else None,
                done=True,
            )
        except BaseException as error:
            # Ctrl-C among them: nobody has seen the key yet, so that nobody would miss it.
            self._undo(claim, lease, issuer, made, partial, error, actor)
            raise
        return IssuedLease(lease=lease, dynamic=dynamic, outputs=made.outputs, known=known)

    def _wait_until_known(
        self, issuer: LeaseIssuer, outputs: Outputs, patience: timedelta, checkpoint: Callable[[], None]
    ) -> bool:
        """Return whether AWS came to know a new key in time: IAM tells its changes to all of AWS in some seconds."""
        deadline = self._context.clock.monotonic() + patience.total_seconds()
        pause_s = _FIRST_PROBE_S
        while True:
            checkpoint()
            try:
                if issuer.is_known(outputs):
                    return True
            except DestinationError:
                return False  # The lease is good; that nobody could be asked is told with it.
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
        made: IssuedCredentials | None,
        partial: PartialIssue,
        error: BaseException,
        actor: str,
    ) -> None:
        """Take back what there is of a lease that could not be handed out. Raises nothing of its own."""
        why = error.message if isinstance(error, PhasesyncError) else type(error).__name__
        reason = "it could not be issued"
        failed = Entry(event=LeaseEvent.ISSUE_FAILED, actor=actor, detail=why)

        def begin(one: Lease, now: datetime) -> Lease:
            back = lease_states.begin_revoke(one, Cause.FAILURE, reason, now)
            return back if partial.possible or not back.live else lease_states.revoked(back, now)

        def take_back(held: LeaseClaim) -> bool:
            """Return whether something of it may be left."""
            begun = self._context.leases.save(held, begin, entry=failed, done=not partial.possible)
            if not begun.live:
                return False
            return self._ender.end(held, begun, cause=Cause.FAILURE, reason=reason, actor=actor).lease.live

        try:
            try:
                left = take_back(claim)
            except ClaimLostError:
                # It was noted as issued, only nobody heard of that. A key that is kept must not outlive its user.
                left = take_back(self._context.leases.claim(lease.id, self._context.owner).claim)
        except PhasesyncError:
            # Nothing can be noted. The key at least has to go; the daemon finds the rest by the lease's row.
            left = partial.possible
            with suppress(PhasesyncError):
                if partial.possible:
                    key_id = None if made is None else made.access_key_id
                    issuer.revoke(lease.spec, access_key_id=key_id, proven=made is not None, checkpoint=lambda: None)
        if left and isinstance(error, PhasesyncError):
            error.message += f"; the daemon revokes what there may be of the lease {lease.id}"


PATIENCE: Final = timedelta(minutes=3)
"""How long a process waits for another one that makes what it wants; longer than a lease takes."""
_POLL_S: Final = 0.25
_ASK_AGAIN_S: Final = 1.0


class LeaseKeeper:
    """Issues kept leases."""

    def __init__(self, context: Context, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """
        Args:
            context: stores, AWS, time and events.
            sleep: waits for so many seconds.
        """
        self._context = context
        self._sleep = sleep

    def give(
        self, name: str, *, actor: str, make: Callable[[], IssuedLease], revoke: Callable[[str], object]
    ) -> tuple[IssuedLease, bool]:
        """
        Return a kept lease that is good, and whether it was there before; make one where there is none.

        Args:
            name: of the dynamic secret.
            actor: who asks.
            make: makes one; ClaimHeldError where another process makes one at this moment, or has just made it.
            revoke: revokes a lease whose key is dead.

        Raises:
            ClaimHeldError: another process has been making one for too long.
            Whatever `make` raises.
        """
        deadline = self._context.clock.monotonic() + PATIENCE.total_seconds()
        while True:
            dynamic = self._context.store.dynamics.get(name)
            again = self._again(dynamic, actor, revoke)
            if again is not None:
                return again, True
            try:
                return make(), False
            except ClaimHeldError:
                if self._context.clock.monotonic() >= deadline:
                    raise
            self._sleep(_POLL_S)

    def _again(self, dynamic: DynamicSecret, actor: str, revoke: Callable[[str], object]) -> IssuedLease | None:
        """Return a kept lease that is good; None = there is none."""
        while (kept := self._context.leases.kept(dynamic)) is not None:
            known = self._is_good(kept)
            if known is False:
                self._replace(kept.lease, revoke)
                continue
            given = self._context.leases.reuse(dynamic, actor=actor)
            if given is not None and given.lease.id == kept.lease.id:
                return IssuedLease(lease=given.lease, dynamic=dynamic, outputs=given.outputs, known=known or None)
        return None

    def _is_good(self, kept: KeptLease) -> bool | None:
        """Return whether a kept key is still good; None = nobody could say."""
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
                    return None  # STS does not know it yet, or is not asked where it would be known.
            except DestinationError:
                return None
            # Neither STS nor IAM knows it. One that was never known may take some seconds; of others it is said twice.
            may_come = not lease.key_known and self._is_young(lease) and self._context.clock.monotonic() < deadline
            if asked_again and not may_come:
                return False
            asked_again = True
            self._sleep(_ASK_AGAIN_S)

    def _has_key(self, issuer: LeaseIssuer, lease: Lease) -> bool:
        """Return whether IAM has the key; where we may not ask, what STS says stands."""
        try:
            return lease.access_key_id is not None and issuer.has_key(lease.spec, lease.access_key_id)
        except PermissionDeniedError:
            return False

    def _is_young(self, lease: Lease) -> bool:
        return lease.issued_at is not None and self._context.clock.now() - lease.issued_at < KNOWN_WITHIN

    def _replace(self, lease: Lease, revoke: Callable[[str], object]) -> None:
        """Note that the key of a lease is dead, and revoke what may be left; one process does."""
        reason = "AWS does not know its key any more"
        try:
            self._context.leases.change(lease.id, lambda one, now: lease_states.replace_dead(one, reason, now))
        except IllegalTransitionError:
            return  # Another process was faster.
        with suppress(PhasesyncError):  # The daemon goes on with it.
            revoke(lease.id)
