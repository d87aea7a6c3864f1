"""Changes to authenticated rows as phasesync itself makes them, for instance as if time had passed."""

import sqlalchemy as sa

from phasesync.store import Database, open_database
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.instance import lock_registry
from phasesync.store.lease_rows import lease_mac, live_leases_mac, load_live_leases
from phasesync.store.tables import dynamic_secrets, leases
from tests.support.stores import opens_with


def vouch_for_leases(where: Database | str) -> None:
    """Give all leases, and the sets of live ones, the MACs of their present rows. `where`: a database or its URL."""
    database = open_database(where) if isinstance(where, str) else where
    keys = opens_with()(database)
    with database.write() as connection:
        for row in connection.execute(sa.select(leases)).all():
            mac = lease_mac(keys, row._asdict())
            connection.execute(leases.update().where(leases.c.id == row.id).values(mac=mac))
        live = load_live_leases(connection, list(connection.scalars(sa.select(dynamic_secrets.c.id))))
        for dynamic_id, ids in live.items():
            mac = live_leases_mac(keys, dynamic_id, ids)
            connection.execute(
                dynamic_secrets.update().where(dynamic_secrets.c.id == dynamic_id).values(leases_mac=mac)
            )
    if isinstance(where, str):
        database.close()


def set_restore_mark(database: Database) -> None:
    """Mark a database as older than AWS, as `phasesync db restore` does."""
    keys = opens_with()(database)
    with database.write() as connection:
        clock = from_microseconds(connection.scalar(sa.select(now())) or 0)
        lock_registry(connection, keys).store(restored_at=clock)
