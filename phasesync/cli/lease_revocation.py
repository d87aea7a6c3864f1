"""
Takes back leases whose holder is gone: the command that had them has ended, or nobody could be told the key.

What fails is the daemon's, and changes no exit code.

What `--revoke` does before something is removed that leases hang on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output, instant, tell_identity
from phasesync.core.lease import Lease
from phasesync.errors import DestinationUnavailableError, IllegalTransitionError, PhasesyncError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.cli.run.child import Child
    from phasesync.core.lease import Lease


def give_back_all(
    application: "Application", leases: "Sequence[Lease]", actor: str, child: "Child", out: Output
) -> None:
    """
    Take back the leases of a command that has ended.

    All of them are noted as being revoked before the first call, so that a daemon goes on wherever this process is
    stopped. A second signal stops it.
    """
    from phasesync.cli.run.child import Stopped

    ours = [lease for lease in leases if application.context.issuers.traits(lease.issuer).takes_back]
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
    from phasesync.core.lease_claim import LeaseEvent

    if not application.context.issuers.traits(lease.issuer).takes_back:
        out.warn(f"nobody was told the credentials of the lease {lease.id}; AWS ends it at {instant(lease.expires_at)}")
        return
    try:
        told = any(record.event is LeaseEvent.GIVEN_AGAIN for record in application.context.leases.records(lease.id))
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


def leases_of(application: "Application", **which: Any) -> list[Lease]:
    """Return the live leases of a dynamic secret, of a credential or of an environment: as `list_leases` takes them."""
    return application.context.leases.list_leases(**which)


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
    return not application.context.issuers.traits(lease.issuer).takes_back


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
        tell_identity(application, application.store.credentials.get_by_id(credential_id), out)
    if revoked:
        out.say("revoked 1 lease" if len(revoked) == 1 else f"revoked {len(revoked)} leases")
    if sessions:
        out.warn(
            f"sessions of roles end by themselves, the last of {len(sessions)} at {_last_end(sessions)}: until "
            "then they can be used"
        )
