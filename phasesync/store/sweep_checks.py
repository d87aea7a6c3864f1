"""
Syncs for a sweep: which are due soon, their journalled objects, and when they are checked next.

Whether a key is still set is found by its keyed digest: no environment is decrypted. Must not decide what counts as
drift.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.credential import Credential, CredentialStatus
from phasesync.core.planning.listing_check import shown_by_lists
from phasesync.core.remote import JournalEntry
from phasesync.core.remote_names import name_of_key
from phasesync.core.sweep_check import Check, SweepGroup, SweptObject, SweptSync
from phasesync.core.sync import Layout, SyncConfig, SyncStatus
from phasesync.errors import CiphertextError, KeyUnavailableError
from phasesync.store.base import BaseStore
from phasesync.store.credentials import select_credentials, to_credential
from phasesync.store.db_time import after, now
from phasesync.store.instance import read_registry
from phasesync.store.journal import to_entry
from phasesync.store.key_ring import same_mac
from phasesync.store.secrets import lookup_of
from phasesync.store.serialization import from_json
from phasesync.store.sync_rows import MAC_COLUMNS, has_newer_revision, sync_mac
from phasesync.store.tables import apps, credentials, environments, journal, secrets, syncs

_FETCH_ROWS: Final = 500
"""Rows fetched at once."""
_SYNCS_PER_TRANSACTION: Final = 1000
"""Syncs updated in one transaction: on SQLite, where writes are one at a time, an edit waits for it."""

_PLACE: Final = (syncs.c.destination_kind, syncs.c.account, syncs.c.region)


class SweepStore(BaseStore):
    """Syncs for a sweep."""

    def due_groups(self, *, within: timedelta) -> list[SweepGroup]:
        """Return the groups of syncs with checks due within this time, in a fixed number of statements."""
        soon = _only_settled(sa.select(*_PLACE, syncs.c.config, syncs.c.objects)).where(
            syncs.c.next_due_at <= after(within)
        )
        with self._database.read() as connection:
            due: dict[tuple[str, str, str], int] = {}
            for row in connection.execute(soon):
                # Not authenticated: an altered config could at most cause a sweep.
                if shown_by_lists(from_json(SyncConfig, row.config)):
                    due[tuple(row[:3])] = due.get(tuple(row[:3]), 0) + max(1, row.objects)
            if not due:
                return []
            in_places = sa.tuple_(*_PLACE).in_(list(due))
            objects = {
                tuple(row[:3]): int(row[3])
                for row in connection.execute(
                    sa.select(*_PLACE, sa.func.sum(syncs.c.objects)).where(in_places).group_by(*_PLACE)
                )
            }
            usable = self._credentials(connection, in_places)
        return [
            SweepGroup(
                destination_kind=place[0],
                account=place[1],
                region=place[2],
                due=count,
                objects=objects[place],
                credentials=tuple(usable.get(place, ())),
            )
            for place, count in sorted(due.items())
        ]

    def objects_of(self, group: SweepGroup) -> Iterator[SweptObject]:
        """
        Yield the objects of all syncs of a group, due or not, sync by sync, in a fixed number of statements.

        Leaves out syncs that are pending, held, halted, failing, paused, requested or claimed. Holds a snapshot of the
        database until it is exhausted or closed, and keeps at most a few hundred objects in memory.
        """
        with self._database.read() as connection:
            is_set = self._keys_that_are_set(connection, group)
            rows = connection.execute(_select_objects(group), execution_options={"yield_per": _FETCH_ROWS})
            for _, sync_rows in groupby(rows, key=lambda row: row.sync_id):
                yield from self._objects(sync_rows, is_set)

    def schedule_checks(self, checks: Sequence[Check]) -> int:
        """
        Set the next check of syncs that were not claimed, changed or requested since they were read.

        Does not wait for runs or edits, and blocks none for longer than a short transaction.

        Returns:
            The number of syncs that were set.
        """
        ordered = sorted(checks, key=lambda check: check.sync.id)
        count = 0
        for start in range(0, len(ordered), _SYNCS_PER_TRANSACTION):
            values = [
                {
                    "which": check.sync.id,
                    "former_fence": check.sync.fence,
                    "former_version": check.sync.version,
                    "pause": check.due_in // timedelta(microseconds=1),
                }
                for check in ordered[start : start + _SYNCS_PER_TRANSACTION]
            ]
            with self._database.write() as connection:
                count += connection.execute(_SET_NEXT_CHECK, values).rowcount
        return count

    def _credentials(
        self, connection: sa.Connection, in_places: sa.ColumnElement[bool]
    ) -> dict[tuple[str, str, str], list[Credential]]:
        used = sa.select(*_PLACE, syncs.c.credential_id).where(in_places).distinct().subquery("used")
        statement = (
            select_credentials()
            .add_columns(*(used.c[column.name].label(f"at_{column.name}") for column in _PLACE))
            .join(used, used.c.credential_id == credentials.c.id)
            .where(credentials.c.status != CredentialStatus.INCOMPLETE)
            .order_by(credentials.c.name_key)
        )
        usable: dict[tuple[str, str, str], list[Credential]] = {}
        registry = read_registry(connection, self._keys)
        for row in connection.execute(statement):
            place = (row.at_destination_kind, row.at_account, row.at_region)
            try:
                registry.check(credentials, row)
                usable.setdefault(place, []).append(to_credential(row, self._keys))
            except (CiphertextError, KeyUnavailableError):
                continue  # The next run of its syncs reports this and halts them.
        return usable

    def _keys_that_are_set(self, connection: sa.Connection, group: SweepGroup) -> set[bytes]:
        """Return the lookups of keys that are set, in the environments of the group's syncs with layout per-key."""
        # Another configuration that happens to contain these characters only adds lookups that are not used.
        per_key = syncs.c.config.contains(f'"layout":"{Layout.PER_KEY}"', autoescape=True)
        of_those = sa.select(syncs.c.environment_id).where(_in_group(group), per_key)
        statement = sa.select(secrets.c.lookup).where(secrets.c.is_set, secrets.c.environment_id.in_(of_those))
        return {bytes(lookup) for lookup in connection.scalars(statement)}

    def _objects(self, rows: Iterator[sa.Row[Any]], is_set: set[bytes]) -> Iterator[SweptObject]:
        """Yield the objects of one sync."""
        sync: SweptSync | None = None
        authentic = False
        for row in rows:
            if sync is None:
                sync = SweptSync(
                    id=row.sync_id, fence=row.fence, version=row.version, config=from_json(SyncConfig, row.config)
                )
                authentic = same_mac(row.mac, sync_mac(self._keys, {**row._asdict(), "id": row.sync_id}))
            entry = None
            if authentic:
                try:
                    entry = to_entry(row, self._keys)
                except (CiphertextError, KeyUnavailableError):
                    authentic = False  # The sync's next run reports this and halts it.
            yield SweptObject(
                sync=sync, entry=entry, wanted=entry is not None and self._wants(row, sync.config, entry, is_set)
            )

    def _wants(self, row: sa.Row[Any], config: SyncConfig, entry: JournalEntry, is_set: set[bytes]) -> bool:
        if config.layout is Layout.JSON:
            return entry.remote_name == config.names
        return any(
            lookup_of(self._keys, row.environment_id, row.path, key) in is_set
            and name_of_key(config, app=row.app, environment=row.environment, path=row.path, key=key)
            == entry.remote_name
            for key in entry.keys
        )


def _only_settled(statement: sa.Select[Any]) -> sa.Select[Any]:
    """Restrict a select of syncs to those that are settled, and neither claimed nor requested."""
    return statement.join_from(syncs, credentials, credentials.c.id == syncs.c.credential_id).where(
        syncs.c.account.is_not(None),
        syncs.c.settled_status == SyncStatus.IN_SYNC,
        syncs.c.failures == 0,
        syncs.c.requested.is_(None),
        syncs.c.claim_owner.is_(None),
        syncs.c.next_due_at.is_not(None),
        syncs.c.paused_at.is_(None) | (syncs.c.paused_until <= now()),
        credentials.c.status != CredentialStatus.INCOMPLETE,
        ~has_newer_revision(),
    )


def _in_group(group: SweepGroup) -> sa.ColumnElement[bool]:
    return (
        (syncs.c.destination_kind == group.destination_kind)
        & (syncs.c.account == group.account)
        & (syncs.c.region == group.region)
    )


def _select_objects(group: SweepGroup) -> sa.Select[Any]:
    """Return the select of journal rows with the configuration of their sync, ordered by sync. `id` is the entry's."""
    entries = (journal.c.sync_id == syncs.c.id) & (journal.c.account == syncs.c.account)
    return (
        _only_settled(
            sa.select(*_OF_SYNC, *_OF_ENTRY, apps.c.name.label("app"), environments.c.name.label("environment"))
        )
        .join(environments, environments.c.id == syncs.c.environment_id)
        .join(apps, apps.c.id == environments.c.app_id)
        .join(journal, entries & (journal.c.region == syncs.c.region))
        .where(_in_group(group))
        .order_by(syncs.c.id)
    )


_OF_SYNC: Final = tuple(syncs.c[name] for name in (*MAC_COLUMNS, "mac", "fence") if name != "id")
"""The configuration columns of a sync without its id, and its fence."""
_OF_ENTRY: Final = tuple(column for column in journal.c if column.name not in ("account", "region"))
"""The columns of a journal entry without those that equal its sync's."""

_which: Final = sa.bindparam("which", type_=sa.String)
_SET_NEXT_CHECK: Final = (
    syncs.update()
    .where(
        # A row that another transaction has locked need not be set; waiting for one row after the other could
        # deadlock.
        syncs.c.id.in_(
            sa.select(syncs.c.id)
            .where(
                syncs.c.id == _which,
                syncs.c.fence == sa.bindparam("former_fence", type_=sa.BigInteger),
                syncs.c.version == sa.bindparam("former_version", type_=sa.BigInteger),
                syncs.c.settled_status == SyncStatus.IN_SYNC,
                syncs.c.requested.is_(None),
                syncs.c.claim_owner.is_(None),
            )
            .with_for_update(skip_locked=True, key_share=True)
        )
    )
    .values(next_due_at=now() + sa.bindparam("pause", type_=sa.BigInteger))
)
