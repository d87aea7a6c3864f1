"""What `--revoke` does before something is removed that leases hang on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output
from phasesync.core.lease import Lease
from phasesync.errors import IllegalTransitionError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application


def leases_of(application: "Application", **which: Any) -> list[Lease]:
    """Return the live leases of a dynamic secret, of a credential or of an environment: as `list_leases` takes them."""
    return application.leases.list_leases(**which)


def with_leases(live: Sequence[Lease]) -> str:
    """Return the end of a question that says what is revoked first; empty where nothing is."""
    if not live:
        return ""
    return " after revoking its live lease" if len(live) == 1 else f" after revoking its {len(live)} live leases"


def revoke_leases(application: "Application", live: Sequence[Lease], out: Output) -> None:
    """
    Take leases back before what they hang on is removed.

    Raises:
        DestinationError, and others: one could not be taken back; what was to be removed is still there.
        IllegalTransitionError: one is not over yet.
    """
    if not live:
        return
    results = application.lease_operations.revoke_all(live, actor=invocation().actor)
    for one in results:
        if one.dropped:
            out.warn(
                f"the lease {one.lease.id} was altered outside phasesync and is forgotten; if it has a user at AWS, "
                "phasesync leases reap --credential NAME removes it once its end is over"
            )
            continue
        if one.error is not None:
            one.error.message = f"the lease {one.lease.id} could not be revoked, so nothing else is removed: " + (
                one.error.message
            )
            raise one.error
        if one.lease.live:
            raise IllegalTransitionError(
                f"the lease {one.lease.id} was never handed out, and a request for it may still reach AWS: nothing "
                "else is removed until that cannot be any more",
                hint=f"repeat it in a few minutes; phasesync leases show {one.lease.id}",
            )
    sessions = [
        one.lease for one in results if not one.dropped and not application.issuers.traits(one.lease.issuer).takes_back
    ]
    if sessions:
        last = max(lease.expires_at for lease in sessions)
        out.warn(
            f"sessions of roles end by themselves, the last of {len(sessions)} at {last:%Y-%m-%d %H:%M:%S} UTC: until "
            "then they can be used"
        )
