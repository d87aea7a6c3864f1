"""
Takes back leases whose holder is gone: the command that had them has ended, or nobody could be told the key.

What fails is the daemon's, and changes no exit code.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from phasesync.cli.output import Output, instant
from phasesync.errors import DestinationUnavailableError, PhasesyncError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.cli.child import Child
    from phasesync.core.lease import Lease


def give_back_all(
    application: "Application", leases: "Sequence[Lease]", actor: str, child: "Child", out: Output
) -> None:
    """
    Take back the leases of a command that has ended.

    All of them are noted as being revoked before the first call, so that a daemon goes on wherever this process is
    stopped. A second signal stops it.
    """
    from phasesync.cli.child import Stopped

    ours = [lease for lease in leases if application.issuers.traits(lease.issuer).takes_back]
    child.ends = True
    try:
        with child.holding_signals():
            for lease in ours:
                with suppress(PhasesyncError):  # Revoking it fails as well then, and says so.
                    application.lease_operations.begin_revoking(lease.id, actor=actor)
        for lease in ours:
            give_back(application, lease, actor, out)
    except Stopped:
        out.warn("not all leases are revoked yet, the daemon goes on with that")


def give_back(application: "Application", lease: "Lease", actor: str, out: Output) -> None:
    """Take one lease back."""
    failure: PhasesyncError | None
    try:
        done = application.lease_operations.revoke(lease.id, actor=actor)
        failure = done.error
        if failure is None and done.lease.live:
            failure = not_found_yet(done.lease)
    except PhasesyncError as error:
        failure = error
    if failure is None:
        out.say(f"revoked the lease {lease.id}")
    else:
        out.warn(f"the lease {lease.id} is not revoked yet, the daemon goes on with it: {failure.message}")


def give_back_unseen(application: "Application", lease: "Lease", actor: str, out: Output) -> None:
    """Take back a lease whose key nobody was told, unless it was kept, and somebody else was told it meanwhile."""
    from phasesync.ports import LeaseEvent

    if not application.issuers.traits(lease.issuer).takes_back:
        out.warn(f"nobody was told the credentials of the lease {lease.id}; AWS ends it at {instant(lease.expires_at)}")
        return
    try:
        told = any(record.event is LeaseEvent.GIVEN_AGAIN for record in application.leases.records(lease.id))
    except PhasesyncError:
        told = False  # Revoking it fails as well then, and says so.
    if not told:
        give_back(application, lease, actor, out)


def not_found_yet(lease: "Lease") -> PhasesyncError:
    """Return the error that tells of a lease of which IAM finds nothing, which does not count yet."""
    return DestinationUnavailableError(
        f"IAM does not find the user of the lease {lease.id}, nor its key or its tags. It counts as revoked once that "
        "has been so for some minutes, and its key may work until then; the daemon looks again, first at "
        f"{at_or_now(lease.retry_at)}",
        hint=f"phasesync leases show {lease.id}; without a daemon, repeat: phasesync leases revoke {lease.id}",
    )


def at_or_now(moment: datetime | None) -> str:
    """Return a moment as a sentence names it."""
    return "now" if moment is None else instant(moment)
