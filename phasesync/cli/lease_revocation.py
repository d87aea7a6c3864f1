"""
Revokes leases for commands: when a command has ended, when a key was not shown, and before a removal.

If a lease of the first two kinds cannot be revoked, the daemon goes on with it, and the exit code stays as it is.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from phasesync.cli.dry_run import is_dry_run, would_call
from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output, show_identity
from phasesync.core.counted import counted
from phasesync.core.times import instant_text
from phasesync.errors import IllegalTransitionError, PhasesyncError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.cli.run.child import Child
    from phasesync.core.lease import Lease
    from phasesync.engine.leases.revocation import LeasesByEnd


def revoke_of_command(
    application: "Application", leases: "Sequence[Lease]", actor: str, child: "Child", out: Output
) -> None:
    """
    Revoke the leases of a command that has ended.

    All of them are marked as being revoked before the first call, so that a daemon goes on wherever this process is
    stopped. A second signal stops it.
    """
    from phasesync.cli.run.child import Stopped

    users = _by_end(application, leases).users
    child.ends = True
    try:
        with child.holding_signals():
            for lease in users:
                with suppress(PhasesyncError):  # Revoking it then fails as well, and shows the error.
                    application.lease_operations.begin_revoking(lease.id, actor=actor)
        for lease in users:
            _revoke_or_leave_to_daemon(application, lease, actor, out)
    except Stopped:
        out.warn("not all leases are revoked yet, the daemon goes on with that")


def revoke_unshown(application: "Application", lease: "Lease", actor: str, out: Output) -> None:
    """Revoke a lease after its key was not shown, unless it is a kept lease that others have."""
    from phasesync.engine.leases.revocation import is_shared

    if not application.context.issuers.traits(lease.issuer).revocable:
        end = instant_text(lease.expires_at)
        out.warn(f"the credentials of the lease {lease.id} were not shown to anyone; AWS ends it at {end}")
        return
    try:
        shared = is_shared(application.context.leases.records(lease.id))
    except PhasesyncError:
        shared = False  # Revoking it then fails as well, and shows the error.
    if not shared:
        _revoke_or_leave_to_daemon(application, lease, actor, out)


def _revoke_or_leave_to_daemon(application: "Application", lease: "Lease", actor: str, out: Output) -> None:
    from phasesync.engine.leases.revocation import failure_of

    failure: PhasesyncError | None
    try:
        failure = failure_of(application.lease_operations.revoke(lease.id, actor=actor))
    except PhasesyncError as error:
        failure = error
    if failure is None:
        out.say(f"revoked the lease {lease.id}")
    else:
        out.warn(f"the lease {lease.id} is not revoked yet, the daemon goes on with it: {failure.message}")


# --- `--revoke` before something is removed that leases hang on


def revocation_clause(application: "Application", live: "Sequence[Lease]") -> str:
    """Return the end of a question that says what is revoked first, and what cannot be; empty without live leases."""
    leases = _by_end(application, live)
    users, sessions = len(leases.users), len(leases.sessions)
    clause = ""
    if users:
        clause = " after revoking its live lease" if users == 1 else f" after revoking its {users} live leases"
    if sessions:
        counted = "1 session" if sessions == 1 else f"{sessions} sessions"
        word = " and" if users else " after"
        clause += f"{word} letting go of {counted} of a role that AWS ends by {_last_end(leases)}"
    return clause


def revoke_before_removal(application: "Application", live: "Sequence[Lease]", out: Output) -> None:
    """
    Revoke leases before what they hang on is removed.

    Raises:
        DestinationError, and others: one could not be revoked; what was to be removed is still there.
        IllegalTransitionError: one is not over yet.
    """
    if not live:
        return
    if is_dry_run():
        _show_revocations(application, live, out)
        return
    from phasesync.engine.leases.revocation import removal_blocker

    results = application.lease_operations.revoke_all(live, actor=invocation().actor)
    for result in results:
        if result.dropped:
            out.warn(
                f"the lease {result.lease.id} was altered outside phasesync and is forgotten; if it has a user at AWS, "
                "phasesync leases reap --credential NAME removes it once its end is over"
            )
        elif (blocker := removal_blocker(result)) is not None:
            raise blocker
    ended = _by_end(application, [result.lease for result in results if not result.dropped])
    for credential_id in ended.credentials_asked:
        show_identity(application, application.store.credentials.get_by_id(credential_id), out)
    if ended.users:
        out.say(f"revoked {counted(len(ended.users), 'lease')}")
    if ended.sessions:
        out.warn(
            f"sessions of roles end by themselves, the last of {len(ended.sessions)} at {_last_end(ended)}: until "
            "then they can be used"
        )


def _show_revocations(application: "Application", live: "Sequence[Lease]", out: Output) -> None:
    """Say what revoking leases would call, and end them in the store of a rehearsal."""
    from phasesync.engine.leases.preview import end_in_store, preview_revocations

    for preview in preview_revocations(application.context, live):
        if preview.note is not None:
            out.say(f"nothing of the lease {preview.lease.id} would be revoked: {preview.note}")
        would_call(out, preview.calls)
    end_in_store(application.context, live)


@contextmanager
def session_hint(application: "Application", dynamic: str) -> Iterator[None]:
    """Add a hint to the refusal to remove a dynamic secret: live sessions of a role end by themselves."""
    try:
        yield
    except IllegalTransitionError as error:
        live = _by_end(application, application.context.leases.list_leases(dynamic=dynamic))
        if live.sessions:
            name = live.sessions[0].dynamic
            error.hint = (
                f"sessions of a role cannot be revoked; AWS ends these by {_last_end(live)}; to remove {name} "
                f"before, and let them go: phasesync dynamic remove {name} --revoke"
            )
        raise


def _by_end(application: "Application", leases: "Sequence[Lease]") -> "LeasesByEnd":
    from phasesync.engine.leases.revocation import by_end

    return by_end(leases, lambda lease: application.context.issuers.traits(lease.issuer).revocable)


def _last_end(leases: "LeasesByEnd") -> str:
    return f"{leases.last_session_end:%Y-%m-%d %H:%M:%S} UTC"
