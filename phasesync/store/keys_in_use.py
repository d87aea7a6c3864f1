"""
Keeps a data key from being removed while a write encrypts with it.

A process keeps the ids of keys in memory: that of a shared key, and that of the key of an environment for as long as a
run lasts. Another process may replace the key meanwhile, encrypt all rows anew, and remove the old key. So every write
ends with a look at the keys that it used, and locks them until its commit. The removal locks a key first and looks for
rows under it afterwards: either it finds the row of the write, or the write finds that the key is gone, and is repeated
with its successor.
"""

from typing import Final

import sqlalchemy as sa

from phasesync.errors import StoreUnavailableError
from phasesync.store.key_ring import KeyRing
from phasesync.store.tables import data_keys

REPLACED: Final = "40001"
"""The SQLSTATE of a conflict with another transaction: the store repeats the write."""


def hold_used_keys(keys: KeyRing, connection: sa.Connection, *also: str) -> None:
    """
    Make sure that the data keys which a write has encrypted with are still there, and stay until its commit.

    Args:
        keys: knows which ones this thread has used.
        connection: of the write.
        also: ids of keys that it uses afterwards.

    Raises:
        StoreUnavailableError: one was removed; the same work succeeds with its successor.
    """
    used = keys.take_used().union(also)
    if not used:
        return
    held = connection.execute(_HELD, {"used": sorted(used)}).all()
    missing = len(held) < len(used)
    if missing or any(row.retired_at is not None for row in held):
        keys.expect_newer()
    if missing:
        raise StoreUnavailableError("a data key was replaced meanwhile", hint="repeat the command", code=REPLACED)


_HELD: Final = (
    sa.select(data_keys.c.id, data_keys.c.retired_at)
    .where(data_keys.c.id.in_(sa.bindparam("used", expanding=True)))
    .order_by(data_keys.c.id)
    .with_for_update(read=True, key_share=True)
)


def is_there(key_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return the condition, for a write of one statement, that a data key is there; it holds the key until the end."""
    key = sa.select(data_keys.c.id).where(data_keys.c.id == key_id)
    return key.with_for_update(read=True, key_share=True).scalar_subquery().is_not(None)
