"""Decides what a revocation means for what comes next: whether the lease is over, and the error if it is not."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from phasesync.core.lease import Lease
from phasesync.core.lease_claim import LeaseEvent, LeaseRecord
from phasesync.core.times import instant_text
from phasesync.engine.leases.revocation import Revocation
from phasesync.errors import DestinationUnavailableError, IllegalTransitionError, PhasesyncError
from phasesync.store.leases import LeaseStore


def not_found_yet(lease: Lease) -> PhasesyncError:
    """Return the error for a lease whose user IAM does not find, which does not count as revoked yet."""
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
            f"the lease {lease.id} was never handed out, and a request for it may still reach AWS: nothing "
            "else is removed until that cannot be any more",
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
    found = {lease.id: lease for lease in leases.list_leases(credential=credential)}
    for dynamic in dynamics:
        for lease in leases.list_leases(dynamic=dynamic):
            found.setdefault(lease.id, lease)
    return list(found.values())


def is_shared(log: Iterable[LeaseRecord]) -> bool:
    """Return whether a kept lease was issued again, so that others have its key."""
    return any(entry.event is LeaseEvent.GIVEN_AGAIN for entry in log)


def instant_or_now(moment: datetime | None) -> str:
    """Return an instant as a sentence names it; None is now."""
    return "now" if moment is None else instant_text(moment)
