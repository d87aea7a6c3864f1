"""
Checks that the rows of a whole database authenticate under its root key, and that each row which a MAC vouches for is
there: what the rest of the store checks one by one.

It reads and changes nothing. Values are decrypted, and dropped at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.counted import counted
from phasesync.errors import CiphertextError
from phasesync.store.app_windows import decrypt_windows
from phasesync.store.apps import select_environments
from phasesync.store.audit_chain import open_row, select_rows
from phasesync.store.backup_schedules import select_schedules, to_schedule
from phasesync.store.change_requests import ChangeRequestStore
from phasesync.store.credentials import select_credentials, to_credential
from phasesync.store.database import Database
from phasesync.store.dynamic import open_config
from phasesync.store.environment_mac import authentic_pointers, columns_of_app
from phasesync.store.instance import REGISTERED, read_registry
from phasesync.store.journal import to_entry
from phasesync.store.key_ring import KeyRing
from phasesync.store.lease_rows import (
    check_live_leases_mac,
    decrypt_outputs,
    load_live_leases,
    select_leases,
    to_lease,
    to_record,
)
from phasesync.store.notifications import select_notifications, to_notification
from phasesync.store.outbox import open_message
from phasesync.store.projects import open_owned
from phasesync.store.root_keys import check_root_key
from phasesync.store.runs import select_runs, to_run
from phasesync.store.secrets import select_versions, to_version
from phasesync.store.sync_rows import check_sync_mac, reason_context
from phasesync.store.tables import (
    apps,
    credentials,
    dynamic_secrets,
    environments,
    journal,
    lease_events,
    messages,
    notifications,
    owned_objects,
    root_keys,
    secret_versions,
    secrets,
    sync_reads,
    syncs,
)

_BATCH: Final = 500


@dataclass(frozen=True, kw_only=True)
class Authenticated:
    """How many rows of each kind authenticate."""

    credentials: int
    apps: int
    environments: int
    secret_versions: int
    syncs: int
    journal: int
    runs: int
    dynamic_secrets: int
    leases: int
    lease_events: int
    owned_objects: int
    change_requests: int
    notifications: int
    messages: int
    audit: int
    root_keys: int
    backup_schedules: int


def authenticate_all(database: Database, keys: KeyRing, *, with_audit: bool = True) -> Authenticated:
    """
    Check every row that the root key vouches for. What no MAC names may have been removed: a sync, a run, history of
    leases, a whole environment. Only the manifest of a backup shows that.

    `with_audit`: with the rows of the audit log, of which `verify_chain` can say all that is wrong.

    Raises:
        CiphertextError: names the first row that does not authenticate.
        KeyUnavailableError: it is another root key.
    """
    keys.verify()
    requests = ChangeRequestStore(database, keys).list_requests(closed=True)
    for request in requests:
        if request.error is not None:
            raise CiphertextError(request.error)
    with database.read() as connection:
        rows_of_log = select_rows(connection.dialect.name, with_all=True)
        registry = read_registry(connection, keys)
        registered = dict.fromkeys(REGISTERED, 0)

        def check_credential(row: sa.Row[Any]) -> None:
            to_credential(row, keys)
            registry.check(credentials, row)
            registered[credentials] += 1

        def check_definition(row: sa.Row[Any]) -> None:
            open_config(row, keys)
            registry.check(dynamic_secrets, row)
            check_live_leases_mac(keys, row, load_live_leases(connection, [row.id])[row.id])
            registered[dynamic_secrets] += 1

        def check_notification(row: sa.Row[Any]) -> None:
            to_notification(row, keys, registry)
            registered[notifications] += 1

        def check_sync(row: sa.Row[Any]) -> None:
            check_sync_mac(row, keys)
            for column in ("paused_reason", "status_reason"):
                keys.decrypt_text(reason_context(row.id, column), getattr(row, column))

        def check_lease(row: sa.Row[Any]) -> None:
            to_lease(row, keys)
            if row.kept is not None:
                decrypt_outputs(row.id, row.kept, keys)

        count = Authenticated(
            credentials=_each(connection, select_credentials(), check_credential),
            apps=_each(connection, sa.select(apps), lambda row: decrypt_windows(keys, row.id, row.windows)),
            environments=_each(
                connection, select_environments(), lambda row: authentic_pointers(connection, keys, row)
            ),
            secret_versions=_each(connection, select_versions(), lambda row: to_version(row, keys)),
            syncs=_each(connection, sa.select(syncs), check_sync),
            journal=_each(connection, sa.select(journal), lambda row: to_entry(row, keys)),
            runs=_each(connection, select_runs(), lambda row: to_run(row, keys)),
            dynamic_secrets=_each(connection, sa.select(dynamic_secrets), check_definition),
            leases=_each(connection, select_leases(), check_lease),
            lease_events=_each(connection, sa.select(lease_events), lambda row: to_record(row, keys)),
            owned_objects=_each(connection, sa.select(owned_objects), lambda row: open_owned(row, keys)),
            change_requests=len(requests),
            notifications=_each(connection, select_notifications(), check_notification),
            messages=_each(connection, sa.select(messages), lambda row: open_message(row, keys)),
            audit=_each(connection, rows_of_log, lambda row: _check_audit_row(row, keys)) if with_audit else 0,
            root_keys=_each(connection, sa.select(root_keys), lambda row: check_root_key(row, keys)),
            backup_schedules=_each(connection, select_schedules(), lambda row: to_schedule(row, keys)),
        )
        _check_versions(connection)
        _check_reads(connection)
        for table, found in registered.items():
            if (expected := registry.count(table)) != found:
                raise CiphertextError(
                    f"rows of table {table.name} are missing: the registry has {expected}, the table {found}"
                )
    return count


def _check_versions(connection: sa.Connection) -> None:
    """
    Raise CiphertextError if a secret lacks a version.

    The MAC of its environment names the current one, and versions are 1, 2, 3 and so on: nothing ever removes one.
    """
    up_to = (secret_versions.c.secret_id == secrets.c.id) & secret_versions.c.version.between(1, secrets.c.version)
    incomplete = (
        sa.select(secrets.c.id)
        .outerjoin_from(secrets, secret_versions, up_to)
        .group_by(secrets.c.id, secrets.c.version)
        .having(sa.func.count(secret_versions.c.version) != secrets.c.version)
    ).subquery()
    short = sa.func.count().label("short")
    row = connection.execute(
        sa.select(*columns_of_app(), environments.c.name, short)
        .join_from(incomplete, secrets, secrets.c.id == incomplete.c.id)
        .join(environments, environments.c.id == secrets.c.environment_id)
        .join(apps, apps.c.id == environments.c.app_id)
        .group_by(apps.c.name, apps.c.name_key, environments.c.name)
        .limit(1)
    ).first()
    if row is not None:
        raise CiphertextError(
            f"versions of {counted(row.short, 'secret')} of the environment {row.app}/{row.name} are missing in table "
            "secret_versions: they were removed outside phasesync"
        )


def _check_reads(connection: sa.Connection) -> None:
    """Raise CiphertextError if nothing says how far a sync has read its environment: no edit would wake it."""
    own = (sync_reads.c.sync_id == syncs.c.id) & (sync_reads.c.environment_id == syncs.c.environment_id)
    missing = sa.select(syncs.c.name).outerjoin_from(syncs, sync_reads, own).where(sync_reads.c.sync_id.is_(None))
    if (name := connection.scalar(missing.limit(1))) is not None:
        raise CiphertextError(
            f"the row of sync {name} in table sync_reads is missing: it was removed outside phasesync"
        )


def _check_audit_row(row: sa.Row[Any], keys: KeyRing) -> None:
    """
    Raise CiphertextError if a row of the audit log was altered. Whether rows are missing is for `audit verify`.

    What was removed cannot be brought back, and must not make every later backup count as one that cannot be restored.
    """
    if open_row(keys, row) is None:
        raise CiphertextError(
            f"row {row.number} of the audit log is not what was written",
            hint="phasesync audit verify names all that is wrong with it",
        )


def _each(connection: sa.Connection, statement: sa.Select[Any], check: Callable[[sa.Row[Any]], object]) -> int:
    """Check every row of a select, in constant memory; return how many there are."""
    count = 0
    with connection.execute(statement.execution_options(yield_per=_BATCH)) as rows:
        for row in rows:
            check(row)
            count += 1
    return count
