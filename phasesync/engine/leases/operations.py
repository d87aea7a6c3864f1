"""What an operator does with leases: issue, renew, revoke."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from phasesync.core import lease as lease_states
from phasesync.core.credential import require_account
from phasesync.core.dynamic import DynamicSecret, lease_spec_of
from phasesync.core.lease import Cause, Lease, LeaseSpec
from phasesync.core.lease_claim import ClaimedLease, Entry, LeaseEvent, MakeOrder, Step
from phasesync.core.lease_users import check_user_template, render_user_name, user_owner_tags
from phasesync.core.times import duration_text
from phasesync.engine.claims import PATIENCE, wait_for_claim
from phasesync.engine.context import Context
from phasesync.engine.error_hints import LeaseNames, hints_for
from phasesync.engine.leases.issuance import KNOWN_WITHIN, IssuedLease, KeptLeases, LeaseIssuance
from phasesync.engine.leases.revocation import LeaseRevoker, Revocation
from phasesync.errors import (
    CiphertextError,
    IllegalTransitionError,
    InvalidInputError,
    PermissionDeniedError,
    PhasesyncError,
    StalePlanError,
)

ATTEMPTS = 20
"""How often a dynamic secret is read again if it was changed between reading it and requesting a lease of it."""

_LOOK_AGAIN_S = (1.0, 2.0, 4.0)
"""Pauses before each further search for a user that IAM does not find."""


class LeaseOperations:
    """The operator's commands on leases."""

    def __init__(
        self, context: Context, *, random_text: Callable[[], str], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """
        Args:
            context: stores, AWS, time and events.
            random_text: returns the text for {{random}} in names: new each time, and impossible to guess.
            sleep: waits for so many seconds.
        """
        self._context = context
        self._random_text = random_text
        self._sleep = sleep
        self._issuance = LeaseIssuance(context, sleep=sleep)
        self._kept = KeptLeases(context, sleep=sleep)
        self._revoker = LeaseRevoker(context)

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
            ttl: its lifetime; None means the dynamic secret's default.
            actor: who asked.
            keep: store the secret key with the lease, encrypted, so that the lease can be reused.
            once: only if no kept lease can be reused and no other process issues one; ClaimHeldError otherwise.
            probe_for: how long to wait until AWS knows the new key; None means that AWS is not asked.

        Raises:
            NotFoundError, InvalidInputError, IllegalTransitionError: the name, the lifetime, the limit of live leases.
            AccountMismatchError: the credential leads to another account than the pinned one.
            DestinationError: AWS refused or was not reached; what was created until then has been revoked, or will be.
        """
        left = ATTEMPTS
        while True:
            left -= 1
            dynamic = self._context.store.dynamics.get(name)
            lifetime = lifetime_of(self._context, dynamic, ttl)
            with hints_for(dynamic):
                credential = self._context.store.credentials.get_by_id(dynamic.credential_id)
                issuer = self._context.issuers.open(dynamic.issuer, credential, tenant=dynamic.id)
                account = require_account(credential, issuer.account_id())
                try:
                    claim, lease = self._context.leases.request(
                        dynamic,
                        spec_maker(self._context, dynamic, lifetime, self._random_text),
                        ttl=lifetime,
                        owner=self._context.owner,
                        for_keep=once,
                    )
                except StalePlanError:
                    # It was changed since it was read. The account is known now, so the next attempt is shorter.
                    if left:
                        continue
                    raise
                return self._issuance.issue(
                    dynamic, issuer, claim, lease, account, actor=actor, keep=keep, probe_for=probe_for
                )

    def issue_kept(
        self, name: str, *, actor: str, probe_for: timedelta | None = KNOWN_WITHIN
    ) -> tuple[IssuedLease, bool]:
        """
        Return a kept lease with a key that AWS knows and half of its lifetime left; issue one if there is none.

        However many ask at once, one is issued. The second value says whether it existed before. Raises as `issue`
        does; ClaimHeldError if another process has been issuing one for minutes.
        """
        return self._kept.reuse_or_issue(
            name,
            actor=actor,
            issue=lambda: self.issue(name, actor=actor, keep=True, once=True, probe_for=probe_for),
            revoke=lambda lease_id: self.revoke(lease_id, actor=actor),
        )

    # --- renewing, revoking

    def renew(self, lease_id: str, ttl: timedelta, *, actor: str, patience: timedelta = PATIENCE) -> Lease:
        """
        Move the end of a lease to `ttl` from now. Its user's tags are updated first.

        Args:
            lease_id: of the lease.
            ttl: its lifetime from now on.
            actor: who asked.
            patience: how long to wait if another process works on it.

        Raises:
            NotFoundError, InvalidInputError: the lease, the lifetime.
            IllegalTransitionError: it is not active, the end is beyond its maximum, or it ends by itself.
            ClaimHeldError: another process works on it.
            DestinationError: AWS refused or was not reached. The lease ends at its former end, or at its new one.
        """
        check_renewable(self._context, self._context.leases.get(lease_id), ttl)
        return self._renew(lease_id, lambda lease, now: lease_states.renew(lease, ttl, now), actor, patience)

    def prolong(self, lease_id: str, ttl: timedelta, *, actor: str) -> Lease:
        """Move the end of a lease to `ttl` from now, or to its maximum if that is earlier. Raises as `renew` does."""
        return self._renew(lease_id, lambda lease, now: lease_states.prolong(lease, ttl, now), actor, PATIENCE)

    def _renew(self, lease_id: str, step: Step, actor: str, patience: timedelta) -> Lease:
        """
        Apply a step that moves the end of a lease. Its user's tags name the new end before the row does.

        So a row that was rolled back is recognised: see `LeaseRevoker`. The claim keeps the daemon away, which might
        revoke the lease at its former end meanwhile.
        """
        claimed = self._claim(lease_id, patience)
        try:
            ends: list[datetime] = []

            def decide(stored: Lease, now: datetime) -> Lease:
                ends[:] = [step(stored, now).expires_at]
                return stored

            lease, detail = self._context.leases.save(claimed.claim, decide), f"until {_moment(ends[0])}"
            try:
                with hints_for(LeaseNames(self._context.store.credentials, lease)):
                    number = self._tag_new_end(lease, ends[0], lambda: self._context.leases.extend(claimed.claim))
            except PermissionDeniedError as error:
                # An older policy lacks this action: then only the row names the new end.
                number, detail = lease.renewals, f"{detail}; the tag of its user was not changed: {error.message}"
            entry = Entry(event=LeaseEvent.RENEWED, actor=actor, detail=detail)
            return self._context.leases.save(
                claimed.claim, lambda stored, _: lease_states.renewed(stored, number, ends[0]), entry=entry, done=True
            )
        except BaseException:
            # Including Ctrl-C. If the claim cannot be released, it expires by itself.
            with suppress(PhasesyncError):
                self._context.leases.release(claimed.claim)
            raise

    def _tag_new_end(self, lease: Lease, end: datetime, checkpoint: Callable[[], None]) -> int:
        """Write the new end to the tags of the lease's user; return the number of the renewal."""
        credential = self._context.store.credentials.get_by_id(lease.credential_id)
        issuer = self._context.issuers.open(lease.issuer, credential, tenant=lease.dynamic_id)
        require_account(credential, issuer.account_id(), lease.account)
        return issuer.renew(lease.spec, end, number=lease.renewals + 1, checkpoint=checkpoint)

    def begin_revoking(self, lease_id: str, *, actor: str) -> None:
        """Store that a lease has to be revoked, so that a daemon does it if this process does not. Calls nothing."""
        with suppress(IllegalTransitionError):  # It has ended.
            self._context.leases.change(lease_id, lambda lease, now: lease_states.begin_revoke(lease, *_by(actor), now))

    def revoke(
        self, lease_id: str, *, actor: str, patience: timedelta = PATIENCE, look_again: bool = False
    ) -> Revocation:
        """
        Revoke a lease now, regardless of its pauses. A lease that has ended already stays as it is.

        Args:
            lease_id: of the lease.
            actor: who asked.
            patience: how long to wait if another process works on it.
            look_again: if IAM does not find the user, search a few times, for some seconds, before the daemon does.

        Raises:
            NotFoundError, ClaimHeldError: the lease.
            IllegalTransitionError: it ends by itself, and only so.
        """
        lease = self._context.leases.get(lease_id)
        if not lease.live:
            return Revocation(lease=lease, error=None)
        check_revocable(self._context, lease)
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
        return self._revoker.revoke(claimed.claim, claimed.lease, cause=cause, reason=reason, actor=actor)

    def revoke_all(self, leases: Sequence[Lease], *, actor: str) -> list[Revocation]:
        """
        Revoke several leases, and abandon those that only end by themselves. Failures are in the results.

        For the removal of something together with its leases. A lease with an altered row is dropped: the search for
        orphan users finds what it created. ClaimHeldError if another process keeps one of them.
        """
        results = []
        for lease in leases:
            try:
                self._context.leases.get(lease.id)
            except CiphertextError as error:
                # Its row is not trusted. What it created is removed after the end that its tag names.
                self._context.leases.drop_altered(lease.id)
                results.append(Revocation(lease=lease, error=error, dropped=True))
                continue
            if self._context.issuers.traits(lease.issuer).revocable or not lease.was_issued:
                results.append(self.revoke(lease.id, actor=actor))
                continue
            results.append(Revocation(lease=self._abandon(lease, actor), error=None))
        return results

    def _abandon(self, lease: Lease, actor: str) -> Lease:
        reason = f"let go by {actor}; AWS ends it by itself"
        entry = Entry(event=LeaseEvent.REVOKED, actor=actor, detail=reason)
        try:
            return self._context.leases.change(
                lease.id, lambda lease, now: lease_states.abandoned(lease, reason, now), entry=entry
            )
        except IllegalTransitionError:
            return self._context.leases.get(lease.id)  # It expired meanwhile.

    def _claim(self, lease_id: str, patience: timedelta) -> ClaimedLease:
        return wait_for_claim(
            self._context,
            lambda: self._context.leases.claim(lease_id, self._context.owner),
            patience=patience,
            sleep=self._sleep,
        )


def spec_maker(context: Context, dynamic: DynamicSecret, ttl: timedelta, random_text: Callable[[], str]) -> MakeOrder:
    """Return what makes the spec of a lease from its id. InvalidInputError: its names became too long meanwhile."""
    words = {"app": dynamic.app, "env": dynamic.environment, "name": dynamic.name}
    check_user_template(dynamic.config.user_template, words)  # App and environment may have longer names now.

    def spec_of(lease_id: str, max_expires_at: datetime) -> LeaseSpec:
        marks = user_owner_tags(
            context.instance_id, dynamic_id=dynamic.id, lease_id=lease_id, max_expires_at=max_expires_at
        )
        name = render_user_name(dynamic.config.user_template, words, random_text)
        return lease_spec_of(dynamic.config, name=name, ttl=ttl, marks=marks)

    return spec_of


def lifetime_of(context: Context, dynamic: DynamicSecret, ttl: timedelta | None) -> timedelta:
    """Return how long a lease lives; None is the dynamic secret's default. InvalidInputError: too short or too long."""
    if ttl is None:
        return dynamic.config.default_ttl
    _check_ttl(context, dynamic.issuer, ttl)
    if ttl > dynamic.config.max_ttl:
        raise InvalidInputError(
            f"{duration_text(ttl)} is longer than leases of {dynamic.name} may live: "
            f"{duration_text(dynamic.config.max_ttl)}",
            hint=f"a shorter --ttl, or phasesync dynamic update {dynamic.name} --max-ttl {duration_text(ttl)}",
        )
    return ttl


def check_renewable(context: Context, lease: Lease, ttl: timedelta) -> None:
    """Refuse to renew a session, which AWS never prolongs, or with a TTL that is too short. OperatorError."""
    if not context.issuers.traits(lease.issuer).revocable:
        raise IllegalTransitionError(
            f"the lease {lease.id} is a session of a role, which AWS ends by itself and never prolongs",
            hint=f"phasesync leases issue {lease.dynamic}",
        )
    _check_ttl(context, lease.issuer, ttl)


def check_revocable(context: Context, lease: Lease) -> None:
    """Refuse to revoke a session of a role, which only ends by itself. IllegalTransitionError."""
    if not context.issuers.traits(lease.issuer).revocable and lease.was_issued:
        raise IllegalTransitionError(
            f"the lease {lease.id} is a session of a role: AWS ends it at {_moment(lease.expires_at)}, and it "
            "cannot be ended before",
            hint="to end all sessions of that role at once, revoke its active sessions in the IAM console, or "
            "attach a policy to the role that denies everything where aws:TokenIssueTime is before now",
        )


def _check_ttl(context: Context, kind: str, ttl: timedelta) -> None:
    shortest = context.issuers.traits(kind).shortest_ttl
    if ttl < shortest:
        raise InvalidInputError(
            f"{duration_text(ttl)} is too short: leases of {kind} live {duration_text(shortest)} at least"
        )


def _by(actor: str) -> tuple[Cause, str]:
    return Cause.REQUEST, f"revoked by {actor}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
