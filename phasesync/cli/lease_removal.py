"""What `--revoke` does before something is removed that leases hang on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from phasesync.cli.identity import tell_identity
from phasesync.cli.invocation import invocation
from phasesync.cli.lease_ending import not_found_yet
from phasesync.cli.output import Output
from phasesync.core.lease import Lease
from phasesync.errors import IllegalTransitionError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application


def leases_of(application: "Application", **which: Any) -> list[Lease]:
    """Return the live leases of a dynamic secret, of a credential or of an environment: as `list_leases` takes them."""
    return application.leases.list_leases(**which)


def with_leases(application: "Application", live: Sequence[Lease]) -> str:
    """Return the end of a question that says what is revoked first, and what cannot be; empty where nothing is live."""
    sessions = [lease for lease in live if _is_session(application, lease)]
    users = len(live) - len(sessions)
    told = ""
    if users:
        told = " after revoking its live lease" if users == 1 else f" after revoking its {users} live leases"
    if sessions:
        last, counted = _last_end(sessions), "1 session" if len(sessions) == 1 else f"{len(sessions)} sessions"
        told += f"{' and' if users else ' after'} letting go of {counted} of a role that AWS ends by {last}"
    return told


@contextmanager
def sessions_told(application: "Application", dynamic: str) -> Iterator[None]:
    """Have the refusal to remove a dynamic secret with live sessions of a role say that these end by themselves."""
    try:
        yield
    except IllegalTransitionError as error:
        if sessions := [one for one in leases_of(application, dynamic=dynamic) if _is_session(application, one)]:
            name = sessions[0].dynamic
            error.hint = (
                f"sessions of a role cannot be revoked; AWS ends these by {_last_end(sessions)}; to remove {name} "
                f"before, and let them go: phasesync dynamic remove {name} --revoke"
            )
        raise


def _is_session(application: "Application", lease: Lease) -> bool:
    return not application.issuers.traits(lease.issuer).takes_back


def _last_end(leases: Sequence[Lease]) -> str:
    return f"{max(lease.expires_at for lease in leases):%Y-%m-%d %H:%M:%S} UTC"


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
        if one.lease.live and one.lease.was_issued:
            raise not_found_yet(one.lease)
        if one.lease.live:
            raise IllegalTransitionError(
                f"the lease {one.lease.id} was never handed out, and a request for it may still reach AWS: nothing "
                "else is removed until that cannot be any more",
                hint=f"repeat it in a few minutes; phasesync leases show {one.lease.id}",
            )
    ended = [one.lease for one in results if not one.dropped]
    sessions = [lease for lease in ended if _is_session(application, lease)]
    revoked = [lease for lease in ended if lease not in sessions]
    # One that has no account was never made: AWS was not asked about it.
    for credential_id in dict.fromkeys(lease.credential_id for lease in revoked if lease.account is not None):
        tell_identity(application, application.credentials.get_by_id(credential_id), out)
    if revoked:
        out.say("revoked 1 lease" if len(revoked) == 1 else f"revoked {len(revoked)} leases")
    if sessions:
        out.warn(
            f"sessions of roles end by themselves, the last of {len(sessions)} at {_last_end(sessions)}: until "
            "then they can be used"
        )
