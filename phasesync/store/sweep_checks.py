"""
Syncs for a sweep: where they write, their journalled objects, how far lists were read, and when they are checked next.

Everything is read a part at a time, in short transactions: a sweep may take minutes, and its memory must not grow with
the number of objects. Whether a key is still set is found by its keyed digest: no environment is decrypted. Must not
decide what counts as drift.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.credential import Credential, CredentialStatus
from phasesync.core.remote import JournalEntry
from phasesync.core.remote_names import name_of_key
from phasesync.core.sweep_check import Check, Place, SweptObject, SweptPlace, SweptSync, SyncEntries
from phasesync.core.sync import Layout, SyncConfig, SyncStatus, Trigger
from phasesync.errors import CiphertextError, KeyUnavailableError
from phasesync.store.base import BaseStore
from phasesync.store.credentials import select_credentials, to_credential
from phasesync.store.database import in_id_order, insert_or_update
from phasesync.store.db_time import after, before, now, to_microseconds
from phasesync.store.instance import read_registry
from phasesync.store.journal import to_entry
from phasesync.store.key_ring import KeyRing, same_mac
from phasesync.store.run_requests import request_runs
from phasesync.store.secrets import lookup_of
from phasesync.store.serialization import from_json
from phasesync.store.sync_rows import MAC_COLUMNS, sync_mac
from phasesync.store.tables import apps, credentials, environments, journal, secrets, sweeps, syncs
from phasesync.store.wake_ups import notify_daemons

_SYNCS_PER_TRANSACTION: Final = 500
"""Syncs updated in one transaction: on SQLite, where writes are one at a time, an edit waits for it."""
_MICROSECOND: Final = timedelta(microseconds=1)

_PLACE: Final = ("destination_kind", "account", "region")
_USED_BY: Final = (*_PLACE, "credential_id")

Position = tuple[Any, str]
"""Where a part ended: the next one begins behind it."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Rows of one part, and where it ended; None if there are no more."""

    position: Position | None


@dataclass(frozen=True, kw_only=True)
class EntriesPart(_Part):
    """Some syncs of a place, with the ids of their entries."""

    syncs: tuple[SyncEntries, ...]


@dataclass(frozen=True, kw_only=True)
class DuePart(_Part):
    """Some syncs of a place with checks that are due soon, with their objects."""

    syncs: tuple[SweptSync, ...]
    objects: tuple[SweptObject, ...]


class SweepStore(BaseStore):
    """Syncs for a sweep."""

    def places(self) -> list[SweptPlace]:
        """
        Return the places where syncs are in step, in a fixed number of statements.

        Costs the same for any number of syncs: it goes from one place and credential to the next through an index.
        """
        with self._database.read() as connection:
            used: dict[Place, list[str]] = {}
            # In two steps: joined, SQLite would read all syncs.
            first = list(connection.scalars(_select_places()))
            for row in connection.execute(_select_used(), {"first": first}):
                place = Place(destination_kind=row.destination_kind, account=row.account, region=row.region)
                used.setdefault(place, []).append(row.credential_id)
            if not used:
                return []
            read = {tuple(row[:3]): (row.changed_since, row.full_ago) for row in connection.execute(_SELECT_READ)}
            usable = usable_credentials(
                connection, self._keys, {credential_id for ids in used.values() for credential_id in ids}
            )
        places = []
        for place, ids in used.items():
            changed_since, full_ago = read.get((place.destination_kind, place.account, place.region), (None, None))
            known = sorted(
                (usable[credential_id] for credential_id in ids if credential_id in usable), key=lambda item: item.name
            )
            places.append(
                SweptPlace(
                    place=place,
                    credentials=tuple(known),
                    changed_since=changed_since,
                    full_ago=None if full_ago is None else full_ago * _MICROSECOND,
                )
            )
        return places

    def journalled(self, place: Place, names: Collection[str]) -> list[SweptObject]:
        """Return the objects with these remote names, of syncs that are in step; for a page of a list."""
        if not names:
            return []
        with self._database.read() as connection:
            rows = connection.execute(_select_objects().where(_writes_to(place), journal.c.remote_name.in_(names)))
            return self._objects(connection, rows.all())

    def objects(self, place: Place, ids: Collection[str]) -> list[SweptObject]:
        """Return the objects with these ids of the journal, of syncs that are in step."""
        if not ids:
            return []
        with self._database.read() as connection:
            rows = connection.execute(_select_objects().where(_writes_to(place), journal.c.id.in_(ids)))
            return self._objects(connection, rows.all())

    def entries(self, place: Place, *, after_: Position | None = None, limit: int = 200) -> EntriesPart:
        """Return the next syncs of a place that are in step, with the ids of their entries; nothing is decrypted."""
        order = (syncs.c.credential_id, syncs.c.id)
        statement = _select_in_step().where(_writes_to(place)).order_by(*order).limit(limit)
        if after_ is not None:
            statement = statement.where(_behind(order, after_, sa.String()))
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
            known: dict[str, list[str]] = {row.sync_id: [] for row in rows}
            here = sa.select(journal.c.sync_id, journal.c.id).where(
                journal.c.sync_id.in_(list(known)),
                journal.c.account == place.account,
                journal.c.region == place.region,
            )
            for entry in connection.execute(here) if known else ():
                known[entry.sync_id].append(entry.id)
        return EntriesPart(
            syncs=tuple(SyncEntries(sync=_to_swept_sync(row), entries=tuple(known[row.sync_id])) for row in rows),
            position=(rows[-1].credential_id, rows[-1].sync_id) if len(rows) == limit else None,
        )

    def due_soon(self, place: Place, *, within: timedelta, after_: Position | None = None, limit: int = 20) -> DuePart:
        """Return the next settled syncs of a place with a check that is due within this time and not due yet."""
        order = (syncs.c.next_due_at, syncs.c.id)
        statement = (
            _select_in_step()
            .where(_writes_to(place), _is_settled(), syncs.c.next_due_at > now(), syncs.c.next_due_at <= after(within))
            .order_by(*order)
            .limit(limit)
        )
        if after_ is not None:
            statement = statement.where(_behind(order, after_, sa.BigInteger()))
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
            ids = [row.sync_id for row in rows]
            of_those = _select_objects().where(_writes_to(place), journal.c.sync_id.in_(ids))
            objects = self._objects(connection, connection.execute(of_those).all()) if ids else []
        return DuePart(
            syncs=tuple(_to_swept_sync(row) for row in rows),
            objects=tuple(objects),
            position=(to_microseconds(rows[-1].next_due_at), ids[-1]) if len(rows) == limit else None,
        )

    def due_count(self, place: Place, *, within: timedelta) -> tuple[int, int]:
        """
        Return how many objects have checks due within this time, and how many objects there are.

        Objects of syncs that lists do not show count for the second number only. Reads all syncs of the place.
        """
        # Not authenticated: an altered config could at most cause a sweep.
        shown = syncs.c.config.contains('"replicas":null') & syncs.c.config.contains('"resource_policy":null')
        soon = _is_settled() & (syncs.c.next_due_at <= after(within)) & shown & syncs.c.next_due_at.is_not(None)
        objects = sa.case((syncs.c.objects > 1, syncs.c.objects), else_=1)
        statement = (
            sa.select(sa.func.sum(sa.case((soon & _is_in_step(), objects), else_=0)), sa.func.sum(objects))
            .join_from(syncs, credentials)
            .where(_writes_to(place))
        )
        with self._database.read() as connection:
            due, total = connection.execute(statement).one()
        return int(due or 0), int(total or 0)

    def defer(self, checks: Sequence[Check]) -> int:
        """
        Set the next check of syncs that were not claimed, changed or requested since they were read.

        Does not wait for runs or edits, and blocks none for longer than a short transaction.

        Returns:
            The number of syncs that were set.
        """
        ordered = sorted(checks, key=lambda check: check.sync.id)
        count = 0
        for start in range(0, len(ordered), _SYNCS_PER_TRANSACTION):
            part = ordered[start : start + _SYNCS_PER_TRANSACTION]
            with self._database.write() as connection:
                count += len(connection.execute(_set_next_check(part)).all())
        return count

    def suspect(self, sync_ids: Collection[str]) -> int:
        """
        Have syncs that are in step checked at once; return how many checks became due.

        A run in progress may have observed the object before it changed: it is followed by one more. A paused sync is
        checked when its pause ends. Other syncs (held, halted, failing) are checked whole by the run that brings them
        in step again.
        """
        ordered = sorted(sync_ids)
        count = 0
        for start in range(0, len(ordered), _SYNCS_PER_TRANSACTION):
            which = syncs.c.id.in_(ordered[start : start + _SYNCS_PER_TRANSACTION]) & _is_in_step()
            due = which & syncs.c.claim_owner.is_(None) & (syncs.c.next_due_at > now())
            running = which & syncs.c.claim_owner.is_not(None) & (syncs.c.request_number == syncs.c.claim_request)
            with self._database.write() as connection:
                set_due = syncs.update().where(in_id_order(syncs, due)).values(next_due_at=now())
                count += len(connection.execute(set_due.returning(syncs.c.id)).all())
                if connection.scalar(sa.select(syncs.c.id).where(running).limit(1)) is not None:
                    request_runs(connection, running, Trigger.DRIFT)
                notify_daemons(connection)
        return count

    def save(self, place: Place, *, changed_since: datetime) -> None:
        """Store from which LastChangedDate on changes are still to be compared."""
        self._save(place, {"changed_since": changed_since})

    def save_full(self, place: Place, *, began_ago: timedelta) -> None:
        """Store when a complete list of everything began."""
        self._save(place, {"full_at": before(began_ago)})

    def forget(self, place: Place, *, within: timedelta, spread: Callable[[], float]) -> None:
        """
        Forget what lists showed of a place, since they show nothing more: its syncs are checked by themselves again.

        Checks that are due later than this time become due within it, spread by random numbers in [0, 1).
        """
        with self._database.write() as connection:
            connection.execute(sweeps.delete().where(*(sweeps.c[name] == getattr(place, name) for name in _PLACE)))
        late = _writes_to(place) & _is_in_step() & (syncs.c.next_due_at > after(within))
        some = sa.select(syncs.c.id).where(late).limit(_SYNCS_PER_TRANSACTION // 5)
        while True:
            with self._database.read() as connection:
                ids = list(connection.scalars(some))
            if not ids:
                return
            with self._database.write() as connection:
                connection.execute(
                    syncs.update()
                    .where(in_id_order(syncs, syncs.c.id.in_(ids)))
                    .values(next_due_at=after(within * spread()))
                )

    def _save(self, place: Place, values: dict[str, Any]) -> None:
        with self._database.write() as connection:
            insert = insert_or_update(connection.dialect.name, sweeps).values(
                **{name: getattr(place, name) for name in _PLACE}, **values
            )
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=list(_PLACE), set_={name: insert.excluded[name] for name in values}
                )
            )

    def _objects(self, connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[SweptObject]:
        known: dict[str, tuple[SweptSync, bool]] = {}
        opened: list[tuple[sa.Row[Any], SweptSync, JournalEntry | None]] = []
        for row in rows:
            if row.sync_id not in known:
                authentic = same_mac(row.mac, sync_mac(self._keys, {**row._asdict(), "id": row.sync_id}))
                known[row.sync_id] = _to_swept_sync(row), authentic
            sync, authentic = known[row.sync_id]
            opened.append((row, sync, self._entry(row) if authentic else None))
        is_set = self._keys_that_are_set(connection, opened)
        return [
            SweptObject(
                id=row.id,
                sync=sync,
                entry=entry,
                wanted=entry is not None and self._wants(row, sync.config, entry, is_set),
            )
            for row, sync, entry in opened
        ]

    def _entry(self, row: sa.Row[Any]) -> JournalEntry | None:
        try:
            return to_entry(row, self._keys)
        except (CiphertextError, KeyUnavailableError):
            return None  # The sync's next run reports this and halts it.

    def _keys_that_are_set(
        self, connection: sa.Connection, opened: Sequence[tuple[sa.Row[Any], SweptSync, JournalEntry | None]]
    ) -> set[bytes]:
        """Return the lookups of keys that are set, among those of objects of layout per-key."""
        sought = sorted(
            {
                (row.environment_id, lookup_of(self._keys, row.environment_id, row.path, key))
                for row, sync, entry in opened
                if entry is not None and sync.config.layout is Layout.PER_KEY
                for key in entry.keys
            }
        )
        lookups: set[bytes] = set()
        for start in range(0, len(sought), _SYNCS_PER_TRANSACTION):
            part = sought[start : start + _SYNCS_PER_TRANSACTION]
            statement = sa.select(secrets.c.lookup).where(
                secrets.c.is_set, sa.tuple_(secrets.c.environment_id, secrets.c.lookup).in_(part)
            )
            lookups |= {bytes(lookup) for lookup in connection.scalars(statement)}
        return lookups

    def _wants(self, row: sa.Row[Any], config: SyncConfig, entry: JournalEntry, is_set: set[bytes]) -> bool:
        if config.layout is Layout.JSON:
            return entry.remote_name == config.names
        return any(
            lookup_of(self._keys, row.environment_id, row.path, key) in is_set
            and name_of_key(config, app=row.app, environment=row.environment, path=row.path, key=key)
            == entry.remote_name
            for key in entry.keys
        )


def usable_credentials(connection: sa.Connection, keys: KeyRing, ids: Collection[str]) -> dict[str, Credential]:
    """Return id -> credential, without those that are incomplete or do not authenticate."""
    statement = select_credentials().where(
        credentials.c.id.in_(ids), credentials.c.status != CredentialStatus.INCOMPLETE
    )
    registry = read_registry(connection, keys)
    usable: dict[str, Credential] = {}
    for row in connection.execute(statement):
        try:
            registry.check(credentials, row)
            usable[row.id] = to_credential(row, keys)
        except (CiphertextError, KeyUnavailableError):
            continue  # The next run of its syncs reports this and halts them.
    return usable


def _to_swept_sync(row: sa.Row[Any]) -> SweptSync:
    return SweptSync(
        id=row.sync_id,
        fence=row.fence,
        version=row.version,
        config=from_json(SyncConfig, row.config),
        settled=bool(row.settled),
        overdue=bool(row.overdue),
    )


def _behind(
    order: Sequence[sa.ColumnElement[Any]], position: Position, first: sa.types.TypeEngine[Any]
) -> sa.ColumnElement[bool]:
    return sa.tuple_(*order) > sa.tuple_(sa.literal(position[0], first), sa.literal(position[1], sa.String()))


def _writes_to(place: Place) -> sa.ColumnElement[bool]:
    return sa.and_(*(syncs.c[name] == getattr(place, name) for name in _PLACE))


def _is_in_step() -> sa.ColumnElement[bool]:
    """Return the condition that the newest run of a sync found it in step, and that it is checked."""
    return (syncs.c.settled_status == SyncStatus.IN_SYNC) & (syncs.c.failures == 0) & syncs.c.next_due_at.is_not(None)


def _is_settled() -> sa.ColumnElement[bool]:
    """Return the condition that nothing makes the next check of a sync uncertain."""
    return sa.and_(
        syncs.c.woken_at.is_(None),
        syncs.c.requested.is_(None),
        syncs.c.claim_owner.is_(None),
        syncs.c.paused_at.is_(None) | (syncs.c.paused_until <= now()),
        credentials.c.status != CredentialStatus.INCOMPLETE,
    )


@cache
def _select_places() -> sa.Select[Any]:
    """
    Return the select of the ids of one sync for each place and credential.

    Each step of the recursion finds the first sync behind the last place and credential: an index range of one row.
    """
    first, current = syncs.alias("first"), syncs.alias("current")
    start = sa.select(first.c.id).where(first.c.account.is_not(None)).order_by(*_used_by(first)).limit(1)
    firsts = sa.select(start.scalar_subquery().label("id")).cte("firsts", recursive=True)
    # SQLite searches an index by one inequality only: the next credential of the place, else the next Region, ...
    following = [_behind_prefix(current, length) for length in reversed(range(len(_USED_BY)))]
    firsts = firsts.union_all(sa.select(sa.func.coalesce(*following)).where(current.c.id == firsts.c.id))
    return sa.select(firsts.c.id).where(firsts.c.id.is_not(None))


@cache
def _select_used() -> sa.Select[Any]:
    """Return the select of the places and credentials of `first` syncs where any sync is in step."""
    of_place = syncs.alias("of_place")
    in_step = sa.exists().where(
        *(of_place.c[name] == syncs.c[name] for name in _USED_BY),
        of_place.c.settled_status == SyncStatus.IN_SYNC,
        of_place.c.failures == 0,
        of_place.c.next_due_at.is_not(None),
    )
    return (
        sa.select(*_used_by(syncs))
        .where(syncs.c.id.in_(sa.bindparam("first", expanding=True)), in_step)
        .order_by(*_used_by(syncs))
    )


def _behind_prefix(current: sa.FromClause, length: int) -> sa.ScalarSelect[Any]:
    """Return the first sync behind another one with the same first columns of `_USED_BY`, as many as `length`."""
    other = syncs.alias(f"other{length}")
    same = [other.c[name] == current.c[name] for name in _USED_BY[:length]]
    return (
        sa.select(other.c.id)
        .where(*same, other.c[_USED_BY[length]] > current.c[_USED_BY[length]], other.c.account.is_not(None))
        .order_by(*_used_by(other))
        .limit(1)
        .correlate(current)
        .scalar_subquery()
    )


def _used_by(table: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    return [table.c[name] for name in _USED_BY]


@cache
def _select_in_step() -> sa.Select[Any]:
    """Return the select of the columns of `SweptSync`, and of where a part ends, of syncs that are in step."""
    return (
        sa.select(
            syncs.c.id.label("sync_id"),
            *(syncs.c.fence, syncs.c.version, syncs.c.config, syncs.c.credential_id, syncs.c.next_due_at),
            *(_is_settled().label("settled"), (syncs.c.next_due_at <= now()).label("overdue")),
        )
        .join_from(syncs, credentials, credentials.c.id == syncs.c.credential_id)
        .where(_is_in_step())
    )


@cache
def _select_objects() -> sa.Select[Any]:
    """Return the select of journal rows with the configuration of their sync. `id` is the entry's."""
    entries = (journal.c.sync_id == syncs.c.id) & (journal.c.account == syncs.c.account)
    return (
        sa.select(
            *(*_OF_SYNC, *_OF_ENTRY),
            *(apps.c.name.label("app"), environments.c.name.label("environment")),
            *(_is_settled().label("settled"), (syncs.c.next_due_at <= now()).label("overdue")),
        )
        .join_from(journal, syncs, entries & (journal.c.region == syncs.c.region))
        .join(credentials, credentials.c.id == syncs.c.credential_id)
        .join(environments, environments.c.id == syncs.c.environment_id)
        .join(apps, apps.c.id == environments.c.app_id)
        .where(_is_in_step())
    )


_OF_SYNC: Final = tuple(syncs.c[name] for name in (*MAC_COLUMNS, "mac", "fence") if name != "id")
"""The configuration columns of a sync without its id, and its fence."""
_OF_ENTRY: Final = tuple(column for column in journal.c if column.name not in ("account", "region"))
"""The columns of a journal entry without those that equal its sync's."""
_SELECT_READ: Final = sa.select(
    *(sweeps.c[name] for name in _PLACE),
    sweeps.c.changed_since,
    (now() - sa.type_coerce(sweeps.c.full_at, sa.BigInteger())).label("full_ago"),
)


def _set_next_check(checks: Sequence[Check]) -> sa.UpdateBase:
    """Return the update that sets the next checks of syncs that are as they were read, in one statement."""
    read = sa.values(
        sa.column("id", sa.String),
        sa.column("fence", sa.BigInteger),
        sa.column("version", sa.BigInteger),
        sa.column("pause", sa.BigInteger),
        name="read",
    ).data([(check.sync.id, check.sync.fence, check.sync.version, check.due_in // _MICROSECOND) for check in checks])
    as_read = read.cte()
    # A row that another transaction has locked need not be set; waiting for one row after the other could deadlock.
    free = (
        sa.select(syncs.c.id, as_read.c.pause)
        .join(as_read, syncs.c.id == as_read.c.id)
        .where(
            syncs.c.fence == as_read.c.fence,
            syncs.c.version == as_read.c.version,
            syncs.c.settled_status == SyncStatus.IN_SYNC,
            syncs.c.requested.is_(None),
            syncs.c.claim_owner.is_(None),
        )
        .with_for_update(skip_locked=True, key_share=True, of=syncs)
        .cte("free")
    )
    return (
        syncs.update()
        .where(syncs.c.id == free.c.id)
        .values(next_due_at=now() + free.c.pause)
        .returning(syncs.c.id)  # Python's sqlite3 counts no rows of a statement that begins with WITH.
    )
