"""
The journal of remote objects: what we wrote where, and the open intent to write.

Only the holder of a claim writes it. Digests by key name, tags and intents are one ciphertext, bound to the rest of the
row, so that an attacker cannot make an object look ours, or a write look settled.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.remote import JournalEntry
from phasesync.core.sync_claim import Claim
from phasesync.store.base import BaseStore, new_id
from phasesync.store.key_ring import KeyRing
from phasesync.store.serialization import members, to_plain
from phasesync.store.sync_rows import lock_claimed
from phasesync.store.tables import journal

_PLAIN: Final = (
    "id",
    "sync_id",
    "remote_name",
    "account",
    "region",
    "arn",
    "version_id",
    "generation",
    "fingerprint",
)
"""Plain columns; every other member of an entry is in `details`."""


class JournalStore(BaseStore):
    """The journal of remote objects."""

    def save_entry(self, claim: Claim, entry: JournalEntry) -> JournalEntry:
        """
        Store a journal entry, intent included, in a transaction of its own.

        Returns:
            The entry with its id.

        Raises:
            ClaimLostError: a successor has the claim; nothing is stored.
        """
        stored = entry if entry.id is not None else replace(entry, id=new_id())
        with self._database.write() as connection:
            data_key_id = lock_claimed(connection, claim).data_key_id
            values = to_row(self._keys, data_key_id, stored)
            if entry.id is None:
                connection.execute(journal.insert().values(**values))
            else:
                connection.execute(journal.update().where(journal.c.id == entry.id).values(**values))
        return stored


def update_entries(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace stored entries by values of `to_row`, in one statement."""
    if rows:
        statement = journal.update().where(journal.c.id == sa.bindparam("entry_id"))
        new: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in rows[0] if name != "id"}
        parameters = [{"entry_id" if name == "id" else f"new_{name}": row[name] for name in row} for row in rows]
        connection.execute(statement.values(new), parameters)


def load_journal(connection: sa.Connection, sync_id: str, keys: KeyRing) -> tuple[JournalEntry, ...]:
    """Return the entries of a sync by Region and name. CiphertextError."""
    rows = connection.execute(
        sa.select(journal).where(journal.c.sync_id == sync_id).order_by(journal.c.region, journal.c.remote_name)
    )
    return tuple(to_entry(row, keys) for row in rows)


def to_row(keys: KeyRing, data_key_id: str, entry: JournalEntry) -> dict[str, Any]:
    """Return the columns of an entry that has an id."""
    values: dict[str, Any] = {name: getattr(entry, name) for name in _PLAIN}
    details = {
        member.name: to_plain(getattr(entry, member.name)) for member in fields(entry) if member.name not in _PLAIN
    }
    values["details"] = keys.encrypt_json(data_key_id, _context(entry), details)
    return values


def to_entry(row: sa.Row[Any], keys: KeyRing) -> JournalEntry:
    """Return the entry of a row of the journal. CiphertextError."""
    plain = JournalEntry(**{name: getattr(row, name) for name in _PLAIN})
    details = json.loads(keys.decrypt(_context(plain), row.details))
    return replace(plain, **members(JournalEntry, details))


def _context(entry: JournalEntry) -> tuple[str, ...]:
    bound = ("sync_id", "remote_name", "account", "region", "arn", "version_id", "fingerprint")
    return (
        "journal",
        str(entry.id),
        "details",
        str(entry.generation),
        *("" if getattr(entry, name) is None else str(getattr(entry, name)) for name in bound),
    )
