"""
Pins syncs to an AWS account, and keeps two syncs from writing to one remote object.

Until the account is known a sync is told apart by its credential; when it becomes known the key is computed anew.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from phasesync.adapters.store.engine import row_lock
from phasesync.adapters.store.sync_rows import check_mac, destination_key, mac_of
from phasesync.adapters.store.tables import syncs
from phasesync.errors import AlreadyExistsError
from phasesync.ports import KeyRing


def follow_account(
    connection: sa.Connection,
    keys: KeyRing,
    which: sa.ColumnElement[bool],
    account: str | None,
    *,
    lenient: bool = False,
) -> None:
    """
    Pin syncs to an account.

    Args:
        connection: of a write.
        keys: makes the MACs.
        which: the syncs.
        account: 12 digits, None = not pinned any more.
        lenient: where another sync already writes to the same object, let the run find out by the owner mark.

    Raises:
        AlreadyExistsError: another sync writes to the same remote object there.
    """
    for row in connection.execute(row_lock(sa.select(syncs).where(which).order_by(syncs.c.id))).all():
        values = pinned(connection, keys, row, {"account": account}, lenient=lenient)
        connection.execute(syncs.update().where(syncs.c.id == row.id).values(**values))


def pinned(
    connection: sa.Connection, keys: KeyRing, row: sa.Row[Any], changes: Mapping[str, Any], *, lenient: bool = False
) -> dict[str, Any]:
    """
    Return the changes to a sync's configuration columns with its MAC and destination key.

    Raises:
        CiphertextError: what is there was altered; a new MAC would bless it.
        AlreadyExistsError: another sync writes to the same remote object.
    """
    check_mac(row, keys)
    values = {**row._asdict(), **changes}
    key = destination_key(values)
    if key != row.destination_key:
        other = holder_of(connection, key, row.id)
        if other is None:
            changes = {**changes, "destination_key": key}
        elif not lenient:
            raise already_written(other)
    return {**changes, "mac": mac_of(keys, values)}


def holder_of(connection: sa.Connection, key: str, but: str | None = None) -> str | None:
    """Return the name of the sync that has a destination key, None when it is free."""
    return connection.scalar(sa.select(syncs.c.name).where(syncs.c.destination_key == key, syncs.c.id != (but or "")))


def already_written(other: str) -> AlreadyExistsError:
    """Return the error for a second sync to one remote object."""
    return AlreadyExistsError(
        f"the sync {other} already writes to this remote name in this account and Region",
        hint=f"choose another --secret-name; phasesync syncs show {other}",
    )
