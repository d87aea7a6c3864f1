"""
The journal of remote objects: what we wrote where, and the open intent to write.

Only the holder of a claim writes it. Digests by key name, tags and intents are one ciphertext, bound to the rest of the
row, so that an attacker cannot make an object look ours, or a write look settled.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.remote import JournalEntry
from phasesync.core.sync_claim import Claim
from phasesync.errors import ClaimLostError
from phasesync.store.base import BaseStore, new_id
from phasesync.store.database import insert_or_update, row_lock
from phasesync.store.key_ring import KeyRing
from phasesync.store.keys_in_use import is_there
from phasesync.store.serialization import members, to_plain
from phasesync.store.sync_rows import IS_CLAIMED, claimed_by
from phasesync.store.tables import environments, journal, syncs

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

    def save_entry(self, claim: Claim, entry: JournalEntry, also: Sequence[JournalEntry] = ()) -> JournalEntry:
        """
        Store a journal entry, intent included, before this returns.

        Args:
            claim: the claim of the sync.
            entry: the entry.
            also: further entries of the same sync, with ids.

        Returns:
            The entry with its id.

        Raises:
            ClaimLostError: a successor has the claim; nothing is stored.
        """
        stored = with_id(entry)
        entries = [*also, stored]
        if not self._store(claim, claim.data_key_id, entries):
            # A run may last longer than the key that its claim names.
            with self._database.read_once() as connection:
                key_id = connection.scalar(_KEY_OF_SYNC, {"sync": claim.sync_id})
            if key_id in (None, claim.data_key_id) or not self._store(claim, key_id, entries):
                raise ClaimLostError
        return stored

    def _store(self, claim: Claim, data_key_id: str, entries: Sequence[JournalEntry]) -> bool:
        """Store entries under a data key; return False, and store nothing, if the claim is lost or the key is gone."""
        rows = [
            {f"new_{name}": value for name, value in to_row(self._keys, data_key_id, each).items()}
            | claimed_by(claim)
            | {"used_key": data_key_id}
            for each in entries
        ]
        self._keys.forget_used(data_key_id)  # The statement looks at the key itself.
        with self._database.write_once() as connection:
            # The conditions are part of the insert: one statement stores the entries, or finds that it must not.
            result = connection.execute(
                _upsert_claimed(connection.dialect.name), rows, execution_options={"preserve_rowcount": True}
            )
            return bool(result.rowcount == len(rows))


def with_id(entry: JournalEntry) -> JournalEntry:
    """Return an entry with an id: a new one if it has none."""
    return entry if entry.id is not None else replace(entry, id=new_id())


def store_entries(connection: sa.Connection, keys: KeyRing, data_key_id: str, entries: Sequence[JournalEntry]) -> None:
    """Store entries with ids, in a transaction that holds the row of their sync; one statement."""
    if entries:
        connection.execute(_upsert(connection.dialect.name), [to_row(keys, data_key_id, entry) for entry in entries])


@cache
def _upsert(dialect: str) -> Any:
    return _or_update(insert_or_update(dialect, journal))


@cache
def _upsert_claimed(dialect: str) -> Any:
    values = [sa.cast(sa.bindparam(f"new_{column.name}"), column.type) for column in journal.c]
    conditions = IS_CLAIMED & is_there(sa.bindparam("used_key", type_=sa.String))
    claimed = row_lock(sa.select(*values).select_from(syncs).where(conditions), syncs)
    return _or_update(insert_or_update(dialect, journal).from_select([column.name for column in journal.c], claimed))


_KEY_OF_SYNC: Final = (
    sa.select(environments.c.data_key_id)
    .join_from(syncs, environments, environments.c.id == syncs.c.environment_id)
    .where(syncs.c.id == sa.bindparam("sync"))
)


def _or_update(insert: Any) -> Any:
    changed = {column.name: insert.excluded[column.name] for column in journal.c if column.name != "id"}
    return insert.on_conflict_do_update(index_elements=["id"], set_=changed)


def update_entries(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace stored entries by values of `to_row`, in one statement."""
    if rows:
        statement = journal.update().where(journal.c.id == sa.bindparam("entry_id"))
        new: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in rows[0] if name != "id"}
        parameters = [{"entry_id" if name == "id" else f"new_{name}": row[name] for name in row} for row in rows]
        connection.execute(statement.values(new), parameters)


def load_journal(connection: sa.Connection, sync_id: str, keys: KeyRing) -> tuple[JournalEntry, ...]:
    """Return the entries of a sync by Region and name. CiphertextError."""
    return tuple(to_entry(row, keys) for row in journal_rows(connection, [sync_id])[sync_id])


def journal_rows(connection: sa.Connection, sync_ids: Sequence[str]) -> Mapping[str, Sequence[sa.Row[Any]]]:
    """Return sync id -> rows of its entries by Region and name, in one statement."""
    rows: dict[str, list[sa.Row[Any]]] = {sync_id: [] for sync_id in sync_ids}
    for row in connection.execute(_OF_SYNCS, {"syncs": list(sync_ids)}):
        rows[row.sync_id].append(row)
    return rows


_OF_SYNCS: Final = (
    sa.select(journal)
    .where(journal.c.sync_id.in_(sa.bindparam("syncs", expanding=True)))
    .order_by(journal.c.region, journal.c.remote_name)
)


def to_row(keys: KeyRing, data_key_id: str, entry: JournalEntry) -> dict[str, Any]:
    """Return the columns of an entry that has an id."""
    values: dict[str, Any] = {name: getattr(entry, name) for name in _PLAIN}
    details = {
        member.name: to_plain(getattr(entry, member.name)) for member in fields(entry) if member.name not in _PLAIN
    }
    values["details"] = keys.encrypt_json(data_key_id, entry_context(entry), details)
    return values


def to_entry(row: sa.Row[Any], keys: KeyRing) -> JournalEntry:
    """Return the entry of a row of the journal. CiphertextError."""
    plain = JournalEntry(**{name: getattr(row, name) for name in _PLAIN})
    details = json.loads(keys.decrypt(entry_context(plain), row.details))
    return replace(plain, **members(JournalEntry, details))


def entry_context(entry: JournalEntry | sa.Row[Any]) -> tuple[str, ...]:
    """Return what the details of an entry, or of its row, are bound to."""
    bound = ("sync_id", "remote_name", "account", "region", "arn", "version_id", "fingerprint")
    return (
        "journal",
        str(entry.id),
        "details",
        str(entry.generation),
        *("" if getattr(entry, name) is None else str(getattr(entry, name)) for name in bound),
    )
