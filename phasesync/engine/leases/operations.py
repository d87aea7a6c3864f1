"""What an operator may ask of leases: issue, renew, revoke. How one is made is in `issuing.py`."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from phasesync.core import lease as lease_states
from phasesync.core.dynamic import DynamicSecret, lease_spec_of
from phasesync.core.iam_users import check_user_template, render_user_name, user_owner_tags
from phasesync.core.lease import Cause, Lease, LeaseSpec
from phasesync.core.lease_claim import ClaimedLease, Entry, LeaseEvent, MakeOrder, Step
from phasesync.core.times import duration_text
from phasesync.engine.context import Context
from phasesync.engine.hints import LeaseNames, hints_for
from phasesync.engine.leases.issuance import KNOWN_WITHIN, IssuedLease, LeaseIssuance, LeaseKeeper
from phasesync.engine.leases.revocation import LeaseRevoker, Revocation
from phasesync.engine.pinned_account import require_account
from phasesync.errors import (
    CiphertextError,
    ClaimHeldError,
    IllegalTransitionError,
    InvalidInputError,
    PermissionDeniedError,
    PhasesyncError,
    StalePlanError,
)

ATTEMPTS = 20
"""So often a dynamic secret is read again that was changed between reading it and asking for a lease of it."""

PATIENCE = timedelta(seconds=30)
"""How long a command waits for a lease that another process is at work on."""

_POLL = 0.1
_LOOK_AGAIN_S = (1.0, 2.0, 4.0)
"""Before each further look for a user that IAM does not find."""


class LeaseOperations:
    """The operator's side of leases."""

    def __init__(
        self, context: Context, *, random_text: Callable[[], str], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """
        Args:
            context: stores, AWS, time and events.
            random_text: returns what stands for {{random}} in names, new each time; nobody can guess it.
            sleep: waits for so many seconds.
        """
        self._context = context
        self._random_text = random_text
        self._sleep = sleep
        self._maker = LeaseIssuance(context, sleep=sleep)
        self._keeper = LeaseKeeper(context, sleep=sleep)
        self._ender = LeaseRevoker(context)

    # --- issuing

    def issue(
        self,
        name: str,
        *,
        ttl: timedelta | None = None,
        actor: str,
        keep: bool = False,
        once: bool = False,
        probe_for: timedelta | None = KNOWN_WITHIN,
    ) -> IssuedLease:
        """
        Issue a lease.

        Args:
            name: of the dynamic secret.
            ttl: how long it lives; None = the dynamic secret's default.
            actor: who asked.
            keep: store the secret key with the lease, encrypted, so that it can be handed out again.
            once: only where none that is kept may be issued again, and nobody else issues one; ClaimHeldError.
            probe_for: how long to wait until AWS knows the new key; None = do not ask.

        Raises:
            NotFoundError, InvalidInputError, IllegalTransitionError: the name, the life, the cap on live leases.
            AccountMismatchError: the credential leads to another account than the pinned one.
            DestinationError: AWS refused or was not reached; what was made until then has been taken back, or will be.
        """
        left = ATTEMPTS
        while True:
            left -= 1
            dynamic = self._context.store.dynamics.get(name)
            lives = self._life(dynamic, ttl)
            with hints_for(dynamic):
                credential = self._context.store.credentials.get_by_id(dynamic.credential_id)
                issuer = self._context.issuers.open(dynamic.issuer, credential, tenant=dynamic.id)
                account = require_account(credential, issuer.account_id())
                try:
                    claim, lease = self._context.leases.request(
                        dynamic, self._orders(dynamic, lives), ttl=lives, owner=self._context.owner, for_keep=once
                    )
                except StalePlanError:
                    # It was changed since we read it; the account is known by now, so the next look is a short one.
                    if left:
                        continue
                    raise
                return self._maker.make(
                    dynamic, issuer, claim, lease, account, actor=actor, keep=keep, probe_for=probe_for
                )

    def issue_kept(
        self, name: str, *, actor: str, probe_for: timedelta | None = KNOWN_WITHIN
    ) -> tuple[IssuedLease, bool]:
        """
        Return a kept lease that has half of its life left, and whose key AWS knows; issue one where there is none.

        However many ask at once, one is issued. The second value says whether it was there before. Raises as `issue`
        does; ClaimHeldError where another process has been issuing one for minutes.
        """
        return self._keeper.give(
            name,
            actor=actor,
            make=lambda: self.issue(name, actor=actor, keep=True, once=True, probe_for=probe_for),
            revoke=lambda lease_id: self.revoke(lease_id, actor=actor),
        )

    def _orders(self, dynamic: DynamicSecret, ttl: timedelta) -> MakeOrder:
        words = {"app": dynamic.app, "env": dynamic.environment, "name": dynamic.name}
        check_user_template(dynamic.config.user_template, words)  # App and environment may have longer names by now.

        def make(lease_id: str, max_expires_at: datetime) -> LeaseSpec:
            ours = user_owner_tags(
                self._context.instance_id, dynamic_id=dynamic.id, lease_id=lease_id, max_expires_at=max_expires_at
            )
            name = render_user_name(dynamic.config.user_template, words, self._random_text)
            return lease_spec_of(dynamic.config, name=name, ttl=ttl, marks=ours)

        return make

    def _life(self, dynamic: DynamicSecret, ttl: timedelta | None) -> timedelta:
        if ttl is None:
            return dynamic.config.default_ttl
        self._check_life(dynamic.issuer, ttl)
        if ttl > dynamic.config.max_ttl:
            raise InvalidInputError(
                f"{duration_text(ttl)} is longer than leases of {dynamic.name} may live: "
                f"{duration_text(dynamic.config.max_ttl)}",
                hint=f"a shorter --ttl, or phasesync dynamic update {dynamic.name} --max-ttl {duration_text(ttl)}",
            )
        return ttl

    def _check_life(self, kind: str, ttl: timedelta) -> None:
        shortest = self._context.issuers.traits(kind).shortest_ttl
        if ttl < shortest:
            raise InvalidInputError(
                f"{duration_text(ttl)} is too short: leases of {kind} live {duration_text(shortest)} at least"
            )

    # --- renewing, revoking

    def renew(self, lease_id: str, ttl: timedelta, *, actor: str, patience: timedelta = PATIENCE) -> Lease:
        """
        Move the end of a lease to `ttl` from now; its user says so first.

        Args:
            lease_id: of the lease.
            ttl: how long it lives from now on.
            actor: who asked.
            patience: how long to wait while another process is at work on it.

        Raises:
            NotFoundError, InvalidInputError: the lease, the life.
            IllegalTransitionError: it is not active, that is beyond its maximum, or it ends by itself.
            ClaimHeldError: another process is at work on it.
            DestinationError: AWS refused or was not reached. The lease ends when it would have, or at its new end.
        """
        lease = self._context.leases.get(lease_id)
        if not self._context.issuers.traits(lease.issuer).takes_back:
            raise IllegalTransitionError(
                f"the lease {lease_id} is a session of a role, which AWS ends by itself and prolongs for nobody",
                hint=f"phasesync leases issue {lease.dynamic}",
            )
        self._check_life(lease.issuer, ttl)
        return self._renew(lease_id, lambda one, now: lease_states.renew(one, ttl, now), actor, patience)

    def prolong(self, lease_id: str, ttl: timedelta, *, actor: str) -> Lease:
        """Move the end of a lease to `ttl` from now, or to its maximum where that is nearer. Raises as `renew` does."""
        return self._renew(lease_id, lambda one, now: lease_states.prolong(one, ttl, now), actor, PATIENCE)

    def _renew(self, lease_id: str, step: Step, actor: str, patience: timedelta) -> Lease:
        """
        Take a step that moves the end of a lease. Its user says the new end before the row does.

        So a row that is put back from a copy is known by that: see `LeaseRevoker`. The claim keeps the daemon away; it
        might find the former end over meanwhile.
        """
        claimed = self._claim(lease_id, patience)
        try:
            ends: list[datetime] = []

            def decide(one: Lease, now: datetime) -> Lease:
                ends[:] = [step(one, now).expires_at]
                return one

            lease, told = self._context.leases.save(claimed.claim, decide), f"until {_moment(ends[0])}"
            try:
                with hints_for(LeaseNames(self._context.store.credentials, lease)):
                    number = self._tell_end(lease, ends[0], lambda: self._context.leases.extend(claimed.claim))
            except PermissionDeniedError as error:
                # A policy from before this was asked for: the row alone says it then, as it did.
                number, told = lease.renewals, f"{told}; its user was not told: {error.message}"
            entry = Entry(event=LeaseEvent.RENEWED, actor=actor, detail=told)
            return self._context.leases.save(
                claimed.claim, lambda one, _: lease_states.renewed(one, number, ends[0]), entry=entry, done=True
            )
        except BaseException:
            # Ctrl-C among them. The claim ends by itself where it cannot be given back.
            with suppress(PhasesyncError):
                self._context.leases.release(claimed.claim)
            raise

    def _tell_end(self, lease: Lease, end: datetime, checkpoint: Callable[[], None]) -> int:
        """Have the user of a lease say its new end; return which renewal that is."""
        credential = self._context.store.credentials.get_by_id(lease.credential_id)
        issuer = self._context.issuers.open(lease.issuer, credential, tenant=lease.dynamic_id)
        require_account(credential, issuer.account_id(), lease.account)
        return issuer.renew(lease.spec, end, number=lease.renewals + 1, checkpoint=checkpoint)

    def begin_revoking(self, lease_id: str, *, actor: str) -> None:
        """Note that a lease is to be taken back, so that a daemon does it if nobody else does. Nothing is called."""
        with suppress(IllegalTransitionError):  # It has ended.
            self._context.leases.change(lease_id, lambda one, now: lease_states.begin_revoke(one, *_by(actor), now))

    def revoke(
        self, lease_id: str, *, actor: str, patience: timedelta = PATIENCE, look_again: bool = False
    ) -> Revocation:
        """
        Take a lease back now, whatever its pauses say; one that has ended already stays as it is.

        Args:
            lease_id: of the lease.
            actor: who asked.
            patience: how long to wait while another process is at work on it.
            look_again: look for a user that IAM does not find a few times, for some seconds, before the daemon does.

        Raises:
            NotFoundError, ClaimHeldError: the lease.
            IllegalTransitionError: it ends by itself, and only so.
        """
        lease = self._context.leases.get(lease_id)
        if not lease.live:
            return Revocation(lease=lease, error=None)
        if not self._context.issuers.traits(lease.issuer).takes_back and lease.was_issued:
            raise IllegalTransitionError(
                f"the lease {lease_id} is a session of a role: AWS ends it at {_moment(lease.expires_at)}, and nobody "
                "can end it before",
                hint="to end all sessions of that role at once, revoke its active sessions in the IAM console, or "
                "attach a policy to the role that denies everything where aws:TokenIssueTime is before now",
            )
        done = self._revoke_once(lease_id, actor, patience)
        for pause_s in _LOOK_AGAIN_S if look_again else ():
            if done.lease.missing_since is None or not done.lease.live or not done.lease.was_issued:
                break
            self._sleep(pause_s)
            done = self._revoke_once(lease_id, actor, patience)
        return done

    def _revoke_once(self, lease_id: str, actor: str, patience: timedelta) -> Revocation:
        claimed = self._claim(lease_id, patience)
        if claimed.lease is None or not claimed.lease.live:
            self._context.leases.release(claimed.claim)
            return Revocation(lease=self._context.leases.get(lease_id), error=None)
        cause, reason = _by(actor)
        return self._ender.end(claimed.claim, claimed.lease, cause=cause, reason=reason, actor=actor)

    def revoke_all(self, leases: Sequence[Lease], *, actor: str) -> list[Revocation]:
        """
        Take several leases back, and let go of those that only end by themselves; what fails is in the results.

        For what is removed together with its leases. One whose row was altered is dropped: the reaper finds what it
        made. ClaimHeldError where another process keeps one of them.
        """
        results = []
        for lease in leases:
            try:
                self._context.leases.get(lease.id)
            except CiphertextError as error:
                # Nothing that it says is believed; what it made is removed once the end is over that its tag names.
                self._context.leases.drop_altered(lease.id)
                results.append(Revocation(lease=lease, error=error, dropped=True))
                continue
            if self._context.issuers.traits(lease.issuer).takes_back or not lease.was_issued:
                results.append(self.revoke(lease.id, actor=actor))
                continue
            results.append(Revocation(lease=self._let_go(lease, actor), error=None))
        return results

    def _let_go(self, lease: Lease, actor: str) -> Lease:
        reason = f"let go by {actor}; AWS ends it by itself"
        entry = Entry(event=LeaseEvent.REVOKED, actor=actor, detail=reason)
        try:
            return self._context.leases.change(
                lease.id, lambda one, now: lease_states.abandoned(one, reason, now), entry=entry
            )
        except IllegalTransitionError:
            return self._context.leases.get(lease.id)  # Its time was over meanwhile.

    def _claim(self, lease_id: str, patience: timedelta) -> ClaimedLease:
        deadline = self._context.clock.monotonic() + patience.total_seconds()
        while True:
            try:
                return self._context.leases.claim(lease_id, self._context.owner)
            except ClaimHeldError:
                if self._context.clock.monotonic() >= deadline:
                    raise
            self._sleep(_POLL)


def _by(actor: str) -> tuple[Cause, str]:
    return Cause.REQUEST, f"revoked by {actor}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
