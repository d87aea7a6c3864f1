"""
Makes the MACs of a database that comes from a release which had none; part of the migration, in its transaction.

The MACs vouch for what is there at this moment. So that nobody has altered rows vouched for by turning a database back
to a former schema first, it is refused where the journal, which is encrypted, has entries of a release with MACs.
"""

import hmac
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from phasesync.errors import CiphertextError, IllegalTransitionError
from phasesync.store import lease_rows as lease_macs
from phasesync.store.apps import mac_of as environment_mac_of
from phasesync.store.apps import pointers_of, select_environments
from phasesync.store.daemons import is_alive
from phasesync.store.db_time import AHEAD, after, now
from phasesync.store.instance import REGISTERED, seal_registry
from phasesync.store.journal import to_entry
from phasesync.store.keys import CREDENTIALS_KEY, KeyRing
from phasesync.store.lease_rows import leases_mac_of, live_leases_of
from phasesync.store.serialization import to_json
from phasesync.store.sync_rows import mac_of as sync_mac_of
from phasesync.store.tables import (
    daemons,
    dynamic_secrets,
    environments,
    instance,
    journal,
    leases,
    syncs,
)

SINCE: Final = "0003"
"""Revision of the schema whose columns are filled here."""

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
"""Environments of which the secrets are in memory at once."""


def authenticate(connection: sa.Connection, keys: KeyRing) -> None:
    """
    Make the MACs of all rows, in a transaction of the caller's. Needs the newest schema.

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
    Refuse while a process of the former release works on the database: what it wrote afterwards would have no MAC that
    fits, and would look as if somebody had altered it. IllegalTransitionError.
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
    for table, what in ((syncs, "a sync"), (leases, "a lease")):
        held = table.c.claim_owner.is_not(None) & table.c.claim_until.between(now(), after(AHEAD))
        owner = connection.scalar(sa.select(table.c.claim_owner).where(held).order_by(table.c.id).limit(1))
        if owner is not None:
            raise IllegalTransitionError(
                f"a process of the former release is at work on {what} of this database: {owner}",
                hint="repeat this when it has ended; one that was killed counts as gone some minutes later",
            )


def _refuse_one_that_had_macs(connection: sa.Connection, keys: KeyRing) -> None:
    for row in connection.execute(sa.select(journal)):
        try:
            entry = to_entry(row, keys)
        except CiphertextError:
            continue  # Its run says so.
        if entry.sync_version is not None:
            raise CiphertextError(
                "this database had a newer schema before, and was set back to an older one outside phasesync",
                hint="restore a backup: phasesync db restore FILE",
            )


def _environments(connection: sa.Connection, keys: KeyRing) -> None:
    rows = connection.execute(select_environments()).all()
    for some in (rows[start : start + _AT_A_TIME] for start in range(0, len(rows), _AT_A_TIME)):
        pointers = pointers_of(connection, [row.id for row in some])
        _store(
            connection,
            environments,
            "mac",
            ((row.id, environment_mac_of(keys, row._asdict(), pointers[row.id])) for row in some),
        )


def _syncs(connection: sa.Connection, keys: KeyRing) -> None:
    """One that was altered before keeps the MAC that does not fit."""
    rows = connection.execute(sa.select(syncs)).all()
    _store(
        connection,
        syncs,
        "mac",
        ((row.id, sync_mac_of(keys, row._asdict())) for row in rows if _was_authentic(keys, row)),
    )


def _was_authentic(keys: KeyRing, row: sa.Row[Any]) -> bool:
    covered = {name: getattr(row, name) for name in _FORMERLY_COVERED}
    return hmac.compare_digest(row.mac, keys.digests.digest("sync-configuration", to_json(covered).encode()))


def _leases(connection: sa.Connection, keys: KeyRing) -> None:
    rows = connection.execute(sa.select(leases)).all()
    _store(connection, leases, "mac", ((row.id, lease_macs.mac_of(keys, row._asdict())) for row in rows))
    live = live_leases_of(connection, list(connection.scalars(sa.select(dynamic_secrets.c.id))))
    _store(connection, dynamic_secrets, "leases_mac", ((one, leases_mac_of(keys, one, live[one])) for one in live))


def _instance(connection: sa.Connection, keys: KeyRing) -> None:
    row = connection.execute(sa.select(instance)).one()
    versions = {
        table.name: {row.id: row.version for row in connection.execute(sa.select(table.c.id, table.c.version))}
        for table in REGISTERED
    }
    registry = seal_registry(keys, keys.data_key(CREDENTIALS_KEY), row._asdict(), versions)
    connection.execute(instance.update().values(registry=registry))


def _store(connection: sa.Connection, table: sa.Table, column: str, macs: Iterable[tuple[str, bytes]]) -> None:
    values = [{"which": row_id, "made": mac} for row_id, mac in macs]
    if values:
        statement = table.update().where(table.c.id == sa.bindparam("which"))
        connection.execute(statement.values({column: sa.bindparam("made")}), values)
