"""
Every encrypted column: under which data key it is, and what its ciphertext is bound to.

Two kinds of tables have ciphertexts. Those of an environment are under the key of that environment; the others share a
key by purpose. A test compares this list with the schema, so that no column is forgotten when a key is replaced.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from phasesync.errors import CiphertextError
from phasesync.store.app_windows import windows_context
from phasesync.store.audit_chain import AUDIT_KEY, details_context
from phasesync.store.backup_schedules import schedule_context
from phasesync.store.change_requests import request_context
from phasesync.store.credentials import credential_context
from phasesync.store.dynamic import config_context
from phasesync.store.instance import registry_context
from phasesync.store.journal import entry_context
from phasesync.store.key_ring import CREDENTIALS_KEY, KeyRing
from phasesync.store.lease_rows import detail_context, is_authentic, kept_context, lease_context, lease_mac
from phasesync.store.message_making import message_context
from phasesync.store.notifications import notification_context
from phasesync.store.projects import owned_context
from phasesync.store.runs import run_context
from phasesync.store.secrets import name_context, version_context
from phasesync.store.sync_rows import reason_context
from phasesync.store.tables import (
    apps,
    audit,
    backup_schedules,
    change_requests,
    credentials,
    dynamic_secrets,
    environments,
    instance,
    journal,
    lease_events,
    leases,
    messages,
    notifications,
    owned_objects,
    runs,
    secret_versions,
    secrets,
    syncs,
)

Context = tuple[str, ...]


def _no_macs(_keys: KeyRing, _row: sa.Row[Any], _changes: Mapping[str, Any]) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class EncryptedTable:
    """
    A table with ciphertexts.

    Attributes:
        table: the table.
        columns: column -> returns what its ciphertext is bound to, from a row of `source`.
        source: the table, joined with `environments` if its rows belong to one.
        purpose: of the shared key; None: the rows are under the key of their environment.
        extra: further columns of a row that `columns` need.
        remake: returns the MACs that cover the ciphertexts, from the row and its new ciphertexts. CiphertextError if
            the row was altered: a new MAC would vouch for it.
    """

    table: sa.Table
    columns: Mapping[str, Callable[[sa.Row[Any]], Context]]
    source: sa.FromClause
    purpose: str | None = None
    extra: tuple[sa.ColumnElement[Any], ...] = field(default=())
    remake: Callable[[KeyRing, sa.Row[Any], Mapping[str, Any]], dict[str, Any]] = _no_macs

    @property
    def primary_key(self) -> tuple[sa.Column[Any], ...]:
        """The columns that identify a row, in the order in which rows are locked."""
        return tuple(self.table.primary_key.columns)


def _shared(
    table: sa.Table, column: str, context: Callable[[sa.Row[Any]], Context], purpose: str = CREDENTIALS_KEY
) -> EncryptedTable:
    return EncryptedTable(table=table, columns={column: context}, source=table, purpose=purpose)


def _lease_macs(keys: KeyRing, row: sa.Row[Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    if not is_authentic(keys, row):
        raise CiphertextError(f"the lease {row.id} in table leases does not authenticate")
    return {"mac": lease_mac(keys, {**row._asdict(), **changes})}


_of_syncs: Final = syncs.join(environments, environments.c.id == syncs.c.environment_id)
# What an altered reference leads nowhere is found too, and reported.
_of_dynamics: Final = dynamic_secrets.outerjoin(environments, environments.c.id == dynamic_secrets.c.environment_id)
_of_leases: Final = leases.outerjoin(dynamic_secrets, dynamic_secrets.c.id == leases.c.dynamic_id).outerjoin(
    environments, environments.c.id == dynamic_secrets.c.environment_id
)

ENCRYPTED: Final = (
    EncryptedTable(
        table=secrets,
        columns={"name": lambda row: name_context(row.environment_id, row.id)},
        source=secrets.join(environments),
    ),
    EncryptedTable(
        table=secret_versions,
        columns={
            column: partial(
                lambda column, row: version_context(row.environment_id, row.secret_id, column, row.version), column
            )
            for column in ("value", "comment")
        },
        source=secret_versions.join(secrets).join(environments),
        extra=(secrets.c.environment_id,),
    ),
    EncryptedTable(
        table=syncs,
        columns={
            column: partial(lambda column, row: reason_context(row.id, column), column)
            for column in ("paused_reason", "status_reason")
        },
        source=_of_syncs,
    ),
    EncryptedTable(
        table=journal,
        columns={"details": entry_context},
        source=journal.join(syncs, syncs.c.id == journal.c.sync_id).join(
            environments, environments.c.id == syncs.c.environment_id
        ),
    ),
    EncryptedTable(
        table=runs,
        columns={"details": lambda row: run_context(row.id, row.sync_id)},
        source=runs.join(syncs, syncs.c.id == runs.c.sync_id).join(
            environments, environments.c.id == syncs.c.environment_id
        ),
    ),
    EncryptedTable(
        table=dynamic_secrets,
        columns={"config": lambda row: config_context(row._asdict())},
        source=_of_dynamics,
    ),
    EncryptedTable(
        table=leases,
        columns={
            "details": lambda row: lease_context(row._asdict()),
            "kept": lambda row: kept_context(row.id),
        },
        source=_of_leases,
        remake=_lease_macs,
    ),
    EncryptedTable(
        table=lease_events,
        columns={"detail": lambda row: detail_context(row.lease_id)},
        source=lease_events.outerjoin(leases, leases.c.id == lease_events.c.lease_id)
        .outerjoin(dynamic_secrets, dynamic_secrets.c.id == leases.c.dynamic_id)
        .outerjoin(environments, environments.c.id == dynamic_secrets.c.environment_id),
    ),
    EncryptedTable(
        table=change_requests,
        columns={"details": lambda row: request_context(row._asdict())},
        source=change_requests.join(environments, environments.c.id == change_requests.c.environment_id),
    ),
    _shared(instance, "registry", lambda row: registry_context(row._asdict())),
    _shared(credentials, "sealed", lambda row: credential_context(row._asdict())),
    _shared(apps, "windows", lambda row: windows_context(row.id)),
    _shared(owned_objects, "spec", lambda row: owned_context(row.kind, row.object_id, row.project_id)),
    _shared(notifications, "sealed", lambda row: notification_context(row._asdict())),
    _shared(backup_schedules, "sealed", lambda row: schedule_context(row._asdict())),
    _shared(messages, "payload", lambda row: message_context(row.id, row.notification_id)),
    # The chain covers what is in the details, not their ciphertext.
    _shared(audit, "details", lambda row: details_context(row.number), AUDIT_KEY),
)
"""Every table with ciphertexts."""
