"""
Has syncs run again because something that they depend on changed other than by an edit.

A wake is a request: it overrides back-off, and a run that is under way is followed by one more.
"""

from typing import Final

import sqlalchemy as sa

from phasesync.core.lease import LeaseStatus
from phasesync.core.sync import Trigger
from phasesync.errors import (
    AccountMismatchError,
    CredentialRejectedError,
    DestinationRejectedError,
    DestinationUnavailableError,
    PermissionDeniedError,
    UnresolvedReferenceError,
)
from phasesync.store.database import ordered
from phasesync.store.tables import credentials, leases, sync_reads, syncs

WAKER: Final = "phasesync"
"""Actor of runs that nobody asked for by name."""

_REFUSALS: Final = tuple(
    error.__name__
    for error in (
        AccountMismatchError,
        CredentialRejectedError,
        DestinationRejectedError,
        DestinationUnavailableError,
        PermissionDeniedError,
    )
)
"""How a run ends that another identity, policy, endpoint or proxy may bring to a good end."""


def wake(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Have some syncs reconciled at once; one that is asked for already keeps its trigger."""
    connection.execute(
        syncs.update()
        .where(ordered(syncs, which))
        .values(
            requested=sa.func.coalesce(syncs.c.requested, Trigger.CHANGE.value),
            requested_by=sa.func.coalesce(syncs.c.requested_by, WAKER),
            request_number=syncs.c.request_number + 1,
        )
    )


def wake_unresolved(connection: sa.Connection) -> None:
    """
    Wake what failed on a reference, because a name came into being.

    A run under way may just have failed on it and not have said so yet, so those are followed by one more.
    """
    wake(
        connection,
        (syncs.c.error_class == UnresolvedReferenceError.__name__) | syncs.c.claim_owner.is_not(None),
    )


def wake_readers(connection: sa.Connection, environment_id: str) -> None:
    """Wake what reads an environment that is about to go; a run under way may be reading it for the first time."""
    readers = sa.select(sync_reads.c.sync_id).where(sync_reads.c.environment_id == environment_id)
    wake(connection, syncs.c.id.in_(readers) | syncs.c.claim_owner.is_not(None))


def wake_users(connection: sa.Connection, credential_id: str) -> None:
    """
    Wake the syncs of a credential and of the credentials that it is the source of, through any number of hops.

    Leases of theirs that could not be taken back are tried again at once.
    """
    wake(connection, syncs.c.credential_id.in_(_users(credential_id)))
    wake_leases(connection, credential_id)


def wake_refused(connection: sa.Connection, credential_id: str | None = None) -> None:
    """
    Wake the syncs that AWS refused or that did not reach it: of a credential and of those that it is the source of, or
    of all.
    """
    refused = syncs.c.error_class.in_(_REFUSALS)
    wake(connection, refused if credential_id is None else refused & syncs.c.credential_id.in_(_users(credential_id)))


def wake_leases(connection: sa.Connection, credential_id: str) -> None:
    """Have leases of a credential, and of those that it is the source of, tried again that could not be taken back."""
    failed = leases.c.status == LeaseStatus.REVOKE_FAILED
    connection.execute(
        leases.update()
        .where(ordered(leases, failed & leases.c.credential_id.in_(_users(credential_id))))
        .values(retry_at=None)
    )


def _users(credential_id: str) -> sa.Select[tuple[str]]:
    """Return the ids of a credential and of those that it is the source of, through any number of hops."""
    users = sa.select(credentials.c.id).where(credentials.c.id == credential_id).cte("users", recursive=True)
    users = users.union(sa.select(credentials.c.id).where(credentials.c.source_id == users.c.id))
    return sa.select(users.c.id)
