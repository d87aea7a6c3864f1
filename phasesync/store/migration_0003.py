"""
The data step of migration 0003: makes the MACs of rows that an earlier release wrote without them.

Runs in the transaction of the migration. The MACs vouch for the rows as they are at this moment. Otherwise an attacker
could turn a database back to an older schema and have altered rows vouched for. So the step refuses a database if its
journal, which is encrypted, has entries of a release with MACs.
"""

import hmac
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from phasesync.errors import CiphertextError, IllegalTransitionError
from phasesync.store.apps import select_environments
from phasesync.store.daemons import is_alive
from phasesync.store.db_time import LONGEST_WAIT, after, now
from phasesync.store.environment_mac import environment_mac, load_pointers
from phasesync.store.instance import encrypt_registry
from phasesync.store.journal import to_entry
from phasesync.store.key_ring import CREDENTIALS_KEY, KeyRing
from phasesync.store.lease_rows import lease_mac, live_leases_mac, load_live_leases
from phasesync.store.serialization import to_json
from phasesync.store.sync_rows import sync_mac
from phasesync.store.tables import (
    credentials,
    daemons,
    dynamic_secrets,
    environments,
    instance,
    journal,
    leases,
    syncs,
)

SINCE: Final = "0003"
"""The revision that added the columns filled here."""

_FORMERLY_COVERED: Final = (
    "id",
    "name",
    "environment_id",
    "path",
    "credential_id",
    "destination_kind",
    "region",
    "version",
    "config",
    "account",
    "adopt",
    "adopt_versions",
    "approved_digest",
)
"""Columns of a sync that its MAC covered before `SINCE`."""

_AT_A_TIME: Final = 100
"""Environments with their secrets in memory at once."""


def authenticate(connection: sa.Connection, keys: KeyRing) -> None:
    """
    Make the MACs of all rows, in a transaction of the caller. Needs the newest schema.

    Raises:
        CiphertextError: this database had MACs before.
    """
    _refuse_one_that_had_macs(connection, keys)
    _environments(connection, keys)
    _syncs(connection, keys)
    _leases(connection, keys)
    _instance(connection, keys)


def refuse_beside_others(connection: sa.Connection) -> None:
    """
    Raise IllegalTransitionError while a process of the former release works on the database.

    Rows that it writes later would have no valid MAC, and would look altered.
    """
    member = connection.execute(
        sa.select(daemons.c.host, daemons.c.pid).where(is_alive()).order_by(daemons.c.owner)
    ).first()
    if member is not None:
        raise IllegalTransitionError(
            f"a daemon of the former release is at work on this database: pid {member.pid} on {member.host}",
            hint="stop every daemon first; one that was killed counts as gone once its last heartbeat is "
            "daemon.claim_ttl_s old",
        )
    kinds = [(syncs, "a sync"), (leases, "a lease")]
    for table, kind in [each for each in kinds if sa.inspect(connection).has_table(each[0].name)]:
        held = table.c.claim_owner.is_not(None) & table.c.claim_until.between(now(), after(LONGEST_WAIT))
        owner = connection.scalar(sa.select(table.c.claim_owner).where(held).order_by(table.c.id).limit(1))
        if owner is not None:
            raise IllegalTransitionError(
                f"a process of the former release is at work on {kind} of this database: {owner}",
                hint="repeat this when it has ended; one that was killed counts as gone some minutes later",
            )


def _refuse_one_that_had_macs(connection: sa.Connection, keys: KeyRing) -> None:
    for row in connection.execute(sa.select(journal)):
        try:
            entry = to_entry(row, keys)
        except CiphertextError:
            continue  # The sync's next run reports it.
        if entry.sync_version is not None:
            raise CiphertextError(
                "this database had a newer schema before, and was set back to an older one outside phasesync",
                hint="restore a backup: phasesync db restore FILE",
            )


def _environments(connection: sa.Connection, keys: KeyRing) -> None:
    rows = connection.execute(select_environments()).all()
    for batch in (rows[start : start + _AT_A_TIME] for start in range(0, len(rows), _AT_A_TIME)):
        pointers = load_pointers(connection, [row.id for row in batch])
        _store(
            connection,
            environments,
            "mac",
            ((row.id, environment_mac(keys, row._asdict(), pointers[row.id])) for row in batch),
        )


def _syncs(connection: sa.Connection, keys: KeyRing) -> None:
    """Make the MACs of syncs; a sync that was altered before keeps its invalid MAC."""
    rows = connection.execute(sa.select(syncs)).all()
    _store(
        connection,
        syncs,
        "mac",
        ((row.id, sync_mac(keys, row._asdict())) for row in rows if _was_authentic(keys, row)),
    )


def _was_authentic(keys: KeyRing, row: sa.Row[Any]) -> bool:
    covered = {name: getattr(row, name) for name in _FORMERLY_COVERED}
    return hmac.compare_digest(row.mac, keys.digests.digest("sync-configuration", to_json(covered).encode()))


def _leases(connection: sa.Connection, keys: KeyRing) -> None:
    rows = connection.execute(sa.select(leases)).all()
    _store(connection, leases, "mac", ((row.id, lease_mac(keys, row._asdict())) for row in rows))
    live = load_live_leases(connection, list(connection.scalars(sa.select(dynamic_secrets.c.id))))
    _store(
        connection,
        dynamic_secrets,
        "leases_mac",
        ((dynamic_id, live_leases_mac(keys, dynamic_id, ids)) for dynamic_id, ids in live.items()),
    )


def _instance(connection: sa.Connection, keys: KeyRing) -> None:
    row = connection.execute(sa.select(instance)).one()
    versions = {
        table.name: {row.id: row.version for row in connection.execute(sa.select(table.c.id, table.c.version))}
        for table in (credentials, dynamic_secrets)
    }
    registry = encrypt_registry(keys, keys.data_key(CREDENTIALS_KEY), row._asdict(), versions)
    connection.execute(instance.update().values(registry=registry))


def _store(connection: sa.Connection, table: sa.Table, column: str, macs: Iterable[tuple[str, bytes]]) -> None:
    values = [{"which": row_id, "made": mac} for row_id, mac in macs]
    if values:
        statement = table.update().where(table.c.id == sa.bindparam("which"))
        connection.execute(statement.values({column: sa.bindparam("made")}), values)
