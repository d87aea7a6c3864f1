"""
Leases whose secret key is kept: of those that ask at once one makes it, the others get the same one.

A kept key is issued again only after AWS was asked with it: its user may have been deleted meanwhile, or revoked
after the backup that this database comes from. Where AWS cannot be reached it is issued as it is: without AWS it is
of no use anyway, and it is good as soon as AWS answers again.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

from phasesync.core import lease as life
from phasesync.core.dynamic import DynamicSecret
from phasesync.core.lease import Lease
from phasesync.engine.issuing import KNOWN_WITHIN, Issued
from phasesync.errors import (
    ClaimHeldError,
    DestinationError,
    IllegalTransitionError,
    PermissionDeniedError,
    PhasesyncError,
)
from phasesync.ports import Clock, CredentialStore, DynamicStore, Given, LeaseIssuer, LeaseIssuers, LeaseStore

PATIENCE: Final = timedelta(minutes=3)
"""How long a process waits for another one that makes what it wants; longer than a lease takes."""
_POLL_S: Final = 0.25
_ASK_AGAIN_S: Final = 1.0


class LeaseKeeper:
    """Issues kept leases."""

    def __init__(
        self,
        *,
        dynamics: DynamicStore,
        leases: LeaseStore,
        credentials: CredentialStore,
        issuers: LeaseIssuers,
        clock: Clock,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            dynamics: the recipes.
            leases: keeps what is issued.
            credentials: what it is issued with.
            issuers: know whether a key is good.
            clock: measures patience.
            sleep: waits for so many seconds.
        """
        self._dynamics = dynamics
        self._leases = leases
        self._credentials = credentials
        self._issuers = issuers
        self._clock = clock
        self._sleep = sleep

    def give(
        self, name: str, *, actor: str, make: Callable[[], Issued], revoke: Callable[[str], object]
    ) -> tuple[Issued, bool]:
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
        deadline = self._clock.monotonic() + PATIENCE.total_seconds()
        while True:
            dynamic = self._dynamics.get(name)
            again = self._again(dynamic, actor, revoke)
            if again is not None:
                return again, True
            try:
                return make(), False
            except ClaimHeldError:
                if self._clock.monotonic() >= deadline:
                    raise
            self._sleep(_POLL_S)

    def _again(self, dynamic: DynamicSecret, actor: str, revoke: Callable[[str], object]) -> Issued | None:
        """Return a kept lease that is good; None = there is none."""
        while (kept := self._leases.kept(dynamic)) is not None:
            known = self._is_good(kept)
            if known is False:
                self._replace(kept.lease, revoke)
                continue
            given = self._leases.give_again(dynamic, actor=actor)
            if given is not None and given.lease.id == kept.lease.id:
                return Issued(lease=given.lease, dynamic=dynamic, outputs=given.outputs, known=known or None)
        return None

    def _is_good(self, kept: Given) -> bool | None:
        """Return whether a kept key is still good; None = nobody could say."""
        lease = kept.lease
        credential = self._credentials.get_by_id(lease.credential_id)
        issuer = self._issuers.open(lease.issuer, credential, customer=lease.dynamic_id)
        deadline = self._clock.monotonic() + KNOWN_WITHIN.total_seconds()
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
            may_come = not lease.key_known and self._is_young(lease) and self._clock.monotonic() < deadline
            if asked_again and not may_come:
                return False
            asked_again = True
            self._sleep(_ASK_AGAIN_S)

    def _has_key(self, issuer: LeaseIssuer, lease: Lease) -> bool:
        """Return whether IAM has the key; where we may not ask, what STS says stands."""
        try:
            return lease.access_key_id is not None and issuer.has_key(lease.order, lease.access_key_id)
        except PermissionDeniedError:
            return False

    def _is_young(self, lease: Lease) -> bool:
        return lease.issued_at is not None and self._clock.now() - lease.issued_at < KNOWN_WITHIN

    def _replace(self, lease: Lease, revoke: Callable[[str], object]) -> None:
        """Note that the key of a lease is dead, and revoke what may be left; one process does."""
        reason = "AWS does not know its key any more"
        try:
            self._leases.change(lease.id, lambda one, now: life.replace_dead(one, reason, now))
        except IllegalTransitionError:
            return  # Another process was faster.
        with suppress(PhasesyncError):  # The daemon goes on with it.
            revoke(lease.id)
