"""
Makes a lease that was asked for: noted before anything is called, and undone at once where it cannot be handed out.

Whatever is not undone is the daemon's, which finds it by the lease's row.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from phasesync.core import lease as life
from phasesync.core.durations import duration_text
from phasesync.core.dynamic import DynamicSecret
from phasesync.core.lease import Cause, Lease
from phasesync.core.model import SecretValue
from phasesync.engine.taking_back import LeaseEnder
from phasesync.errors import ClaimLostError, DestinationError, PhasesyncError
from phasesync.ports import Clock, Entry, Footprint, LeaseClaim, LeaseEvent, LeaseIssuer, LeaseStore, Made, Outputs

KNOWN_WITHIN: Final = timedelta(seconds=30)
"""How long a new key is waited for until AWS knows it; that takes a few seconds."""
_FIRST_PROBE_S: Final = 0.5
_LONGEST_PROBE_S: Final = 4.0


@dataclass(frozen=True, kw_only=True)
class Issued:
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


class LeaseMaker:
    """Makes leases under their claims."""

    def __init__(
        self,
        *,
        leases: LeaseStore,
        ender: LeaseEnder,
        clock: Clock,
        owner: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            leases: keeps what is issued.
            ender: takes back what could not be.
            clock: measures patience.
            owner: names this process in claims.
            sleep: waits for so many seconds.
        """
        self._leases = leases
        self._ender = ender
        self._clock = clock
        self._owner = owner
        self._sleep = sleep

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
    ) -> Issued:
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
        footprint = Footprint()
        made: Made | None = None

        def leave() -> None:
            self._leases.extend(claim)

        try:
            lease = self._leases.save(claim, lambda one, now: life.begin(one, account, now))
            made = made_now = issuer.issue(lease.order, leave=leave, footprint=footprint)
            known = None if probe_for is None else self._wait_until_known(issuer, made.outputs, probe_for, leave)
            lease = self._leases.save(
                claim,
                lambda one, now: life.issued(
                    one,
                    now,
                    principal=made_now.principal,
                    access_key_id=made_now.access_key_id,
                    ends_at=made_now.ends_at,
                    kept=keep,
                    known=known is True,
                ),
                entry=Entry(event=LeaseEvent.ISSUED, actor=actor, detail=f"for {duration_text(lease.order.ttl)}"),
                keep=made.outputs if keep else None,
                done=True,
            )
        except BaseException as error:
            # Ctrl-C among them: nobody has seen the key yet, so that nobody would miss it.
            self._undo(claim, lease, issuer, made, footprint, error, actor)
            raise
        return Issued(lease=lease, dynamic=dynamic, outputs=made.outputs, known=known)

    def _wait_until_known(
        self, issuer: LeaseIssuer, outputs: Outputs, patience: timedelta, leave: Callable[[], None]
    ) -> bool:
        """Return whether AWS came to know a new key in time: IAM tells its changes to all of AWS in some seconds."""
        deadline = self._clock.monotonic() + patience.total_seconds()
        pause_s = _FIRST_PROBE_S
        while True:
            leave()
            try:
                if issuer.is_known(outputs):
                    return True
            except DestinationError:
                return False  # The lease is good; that nobody could be asked is told with it.
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                return False
            self._sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LONGEST_PROBE_S)

    def _undo(
        self,
        claim: LeaseClaim,
        lease: Lease,
        issuer: LeaseIssuer,
        made: Made | None,
        footprint: Footprint,
        error: BaseException,
        actor: str,
    ) -> None:
        """Take back what there is of a lease that could not be handed out. Raises nothing of its own."""
        why = error.message if isinstance(error, PhasesyncError) else type(error).__name__
        reason = "it could not be issued"
        failed = Entry(event=LeaseEvent.ISSUE_FAILED, actor=actor, detail=why)

        def begin(one: Lease, now: datetime) -> Lease:
            back = life.take_back(one, Cause.FAILURE, reason, now)
            return back if footprint.possible or not back.live else life.gone(back, now)

        def take_back(held: LeaseClaim) -> bool:
            """Return whether something of it may be left."""
            begun = self._leases.save(held, begin, entry=failed, done=not footprint.possible)
            if not begun.live:
                return False
            return self._ender.end(held, begun, cause=Cause.FAILURE, reason=reason, actor=actor).lease.live

        try:
            try:
                left = take_back(claim)
            except ClaimLostError:
                # It was noted as issued, only nobody heard of that. A key that is kept must not outlive its user.
                left = take_back(self._leases.claim(lease.id, self._owner).claim)
        except PhasesyncError:
            # Nothing can be noted. The key at least has to go; the daemon finds the rest by the lease's row.
            left = footprint.possible
            with suppress(PhasesyncError):
                if footprint.possible:
                    key_id = None if made is None else made.access_key_id
                    issuer.revoke(lease.order, access_key_id=key_id, proven=made is not None, leave=lambda: None)
        if left and isinstance(error, PhasesyncError):
            error.message += f"; the daemon revokes what there may be of the lease {lease.id}"
