"""
Requests runs of syncs because something that they depend on changed, other than by an edit of secrets.

A request overrides back-off, and a run that is in progress is followed by one more.
"""

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from phasesync.errors import (
    AccountMismatchError,
    CredentialRejectedError,
    DestinationRejectedError,
    DestinationUnavailableError,
    PermissionDeniedError,
    UnresolvedReferenceError,
)
from phasesync.store.database import in_id_order
from phasesync.store.tables import credentials, environments, leases, sync_reads, syncs
from phasesync.store.wake_ups import WOKEN, notify_daemons

if TYPE_CHECKING:
    from phasesync.core.sync import Trigger

WAITS_FOR_WINDOW: Final = "MaintenanceWindow"
"""In `syncs.error_class` of a sync with changes that wait for its maintenance window: it has no error."""
WAITS_FOR_BUDGET: Final = "VersionBudget"
"""The same for changes that wait for the version budget of their object."""

REQUESTER: Final = "phasesync"
"""Actor of runs that no person requested."""

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
"""Errors of runs that may succeed with another identity, policy, endpoint or proxy."""


_CLAIMED: Final = sa.select(syncs.c.id).where(sa.type_coerce(syncs.c.claim_until, sa.BigInteger) > 0)
"""
The ids of the syncs with a run that may be in progress: a claim without an end has expired, and its end has an index,
in which SQLite looks for no IS NOT NULL.

In unions with this, since SQLite goes through all rows for two conditions of which one has to hold.
"""


def request_runs(connection: sa.Connection, which: sa.ColumnElement[bool], trigger: "Trigger | None" = None) -> None:
    """Request runs of some syncs, as changes by default; a sync with an open request keeps its trigger."""
    # Imported here, since lists of apps and environments request no run.
    from phasesync.core.sync import Trigger

    connection.execute(
        syncs.update()
        .where(in_id_order(syncs, which))
        .values(
            requested=sa.func.coalesce(syncs.c.requested, (trigger or Trigger.CHANGE).value),
            requested_by=sa.func.coalesce(syncs.c.requested_by, REQUESTER),
            request_number=syncs.c.request_number + 1,
            **WOKEN,
        )
    )
    notify_daemons(connection)


def retry_unresolved(connection: sa.Connection) -> None:
    """
    Request runs of the syncs that failed on a reference, because a new name appeared.

    A run in progress may have failed on it without having stored that yet, so it is followed by one more.
    """
    unresolved = sa.select(syncs.c.id).where(syncs.c.error_class == UnresolvedReferenceError.__name__)
    request_runs(connection, syncs.c.id.in_(sa.union(unresolved, _CLAIMED)))


def request_runs_of_readers(connection: sa.Connection, environment_id: str) -> None:
    """
    Request runs of the syncs that read an environment that is being removed.

    A run in progress may be reading it for the first time, so it is followed by one more.
    """
    readers = sa.select(sync_reads.c.sync_id).where(sync_reads.c.environment_id == environment_id)
    request_runs(connection, syncs.c.id.in_(sa.union(readers, _CLAIMED)))


def request_runs_of_credential(connection: sa.Connection, credential_id: str) -> None:
    """
    Request runs of the syncs of a credential, and of the credentials that it is the source of, however indirectly.

    Their leases that could not be revoked are tried again at once.
    """
    request_runs(connection, syncs.c.credential_id.in_(_users(credential_id)))
    retry_leases(connection, credential_id)


def retry_refused(connection: sa.Connection, credential_id: str | None = None) -> None:
    """
    Request runs of the syncs that AWS refused or that did not reach it.

    `credential_id`: only those of this credential and of the credentials that it is the source of; None means all.
    """
    refused = syncs.c.error_class.in_(_REFUSALS)
    request_runs(
        connection, refused if credential_id is None else refused & syncs.c.credential_id.in_(_users(credential_id))
    )


def retry_waiting_for_window(connection: sa.Connection, app_id: str | None = None, *, running: bool = True) -> None:
    """
    Request runs of the syncs that wait for a maintenance window, because the windows may be other ones now.

    Args:
        connection: of a write.
        app_id: only those of this app; None means all.
        running: also have runs in progress followed by one more, which may have read the former windows.
    """
    waiting = sa.select(syncs.c.id).where(syncs.c.error_class == WAITS_FOR_WINDOW)
    which: sa.ColumnElement[bool] = syncs.c.id.in_(sa.union(waiting, _CLAIMED) if running else waiting)
    if app_id is not None:
        which &= syncs.c.environment_id.in_(sa.select(environments.c.id).where(environments.c.app_id == app_id))
    request_runs(connection, which)


def retry_leases(connection: sa.Connection, credential_id: str) -> None:
    """Retry now the leases that could not be revoked, of a credential and of those that it is the source of."""
    # Imported here, since lists of apps and environments retry no lease.
    from phasesync.core.lease import LeaseStatus

    failed = leases.c.status == LeaseStatus.REVOKE_FAILED
    connection.execute(
        leases.update()
        .where(in_id_order(leases, failed & leases.c.credential_id.in_(_users(credential_id))))
        .values(retry_at=None)
    )


def _users(credential_id: str) -> sa.Select[tuple[str]]:
    """Return the ids of a credential and of those that it is the source of, however indirectly."""
    users = sa.select(credentials.c.id).where(credentials.c.id == credential_id).cte("users", recursive=True)
    users = users.union(sa.select(credentials.c.id).where(credentials.c.source_id == users.c.id))
    return sa.select(users.c.id)


def request_run(connection: sa.Connection, row: sa.Row[Any], trigger: "Trigger", actor: str, **changes: Any) -> None:
    """Store changes and have the sync reconciled at once."""
    update_row(
        connection,
        row,
        requested=trigger,
        requested_by=actor,
        request_number=syncs.c.request_number + 1,
        **WOKEN,
        **changes,
    )
    notify_daemons(connection)


def update_row(connection: sa.Connection, row: sa.Row[Any], **changes: Any) -> None:
    """Change columns of a sync."""
    connection.execute(syncs.update().where(syncs.c.id == row.id).values(**changes))
