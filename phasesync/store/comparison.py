"""
Whether this database was compared with AWS since it is where it is, and what such a comparison reads of it.

`server_run.py` says how a copy that was brought in is recognised. Must not decide what is older; the engine does.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.credential import Credential
from phasesync.core.remote import JournalEntry
from phasesync.core.sweep_check import Place
from phasesync.errors import CiphertextError, KeyUnavailableError
from phasesync.store.base import BaseStore
from phasesync.store.instance import lock_registry, read_registry
from phasesync.store.journal import to_entry
from phasesync.store.restore_mark import is_restored, select_mark, set_mark
from phasesync.store.server_run import current_run, is_compared, parse, render
from phasesync.store.sweep_checks import usable_credentials
from phasesync.store.tables import instance, journal, syncs

_AT_ONCE: Final = 500


@dataclass(frozen=True, kw_only=True)
class Standing:
    """
    How the database stands to AWS.

    Attributes:
        run: the run of the database server that it is on.
        compared: it was compared on it, as far as AWS answered.
        unanswered: places that still have to be compared.
        restored: it is older than AWS, and no operator has accepted that.
    """

    run: str
    compared: bool
    unanswered: frozenset[str]
    restored: bool


@dataclass(frozen=True, kw_only=True)
class ComparedPlace:
    """
    A place that the journal has objects at.

    Attributes:
        credentials: what its syncs use, by name; unusable ones are left out.
    """

    place: Place
    credentials: tuple[Credential, ...]


def key_of(place: Place) -> str:
    """Return the name of a place in `instance.server`; `server_run.place_of_sync` makes the same."""
    return f"{place.destination_kind}/{place.account}/{place.region}"


class ComparisonStore(BaseStore):
    """Whether this database was compared with AWS where it is now."""

    def standing(self) -> Standing:
        """Return how the database stands to AWS."""
        with self._database.read() as connection:
            row = connection.execute(select_mark()).one()
            return Standing(
                run=current_run(connection, row.server_run),
                compared=is_compared(connection, row),
                unanswered=parse(row.compared_on)[1],
                restored=is_restored(row, self._keys),
            )

    def places(self) -> list[ComparedPlace]:
        """Return the places that the journal has objects at, of syncs that exist."""
        statement = (
            sa.select(syncs.c.destination_kind, journal.c.account, journal.c.region, syncs.c.credential_id)
            .join_from(journal, syncs, journal.c.sync_id == syncs.c.id)
            .distinct()
            .order_by(syncs.c.destination_kind, journal.c.account, journal.c.region)
        )
        with self._database.read() as connection:
            used: dict[Place, list[str]] = {}
            for kind, account, region, credential_id in connection.execute(statement):
                place = Place(destination_kind=kind, account=account, region=region)
                used.setdefault(place, []).append(credential_id)
            ids = {credential_id for of_place in used.values() for credential_id in of_place}
            usable = usable_credentials(connection, self._keys, ids) if ids else {}
        return [
            ComparedPlace(
                place=place,
                credentials=tuple(sorted((usable[key] for key in keys if key in usable), key=lambda item: item.name)),
            )
            for place, keys in used.items()
        ]

    def entries_named(self, place: Place, names: Collection[str]) -> list[JournalEntry]:
        """Return the journal entries of objects with these remote names at a place, of all syncs."""
        with self._database.read() as connection:
            rows = connection.execute(_entries_at(place).where(journal.c.remote_name.in_(names))).all()
        return self._opened(rows)

    def entries_after(self, place: Place, after: str) -> list[JournalEntry]:
        """Return the next journal entries of a place by id, some hundred at once; an empty `after` begins."""
        statement = _entries_at(place).where(journal.c.id > after).order_by(journal.c.id).limit(_AT_ONCE)
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return self._opened(rows)

    def known_syncs(self, ids: Collection[str]) -> tuple[set[str], int]:
        """Return which of these syncs exist, and the generation above which objects without a journal begin."""
        with self._database.read() as connection:
            known = set(connection.scalars(sa.select(syncs.c.id).where(syncs.c.id.in_(ids))))
            return known, read_registry(connection, self._keys).generation_floor

    def note(self, run: str, *, unanswered: Collection[Place] = ()) -> None:
        """
        Note that the database was compared on a run of the server and is not older than AWS.

        Args:
            run: the one on which the comparison began.
            unanswered: places that could not be compared; nothing is written there until they are.
        """
        with self._database.write() as connection:
            connection.execute(
                instance.update().values(server=render(run, frozenset(key_of(place) for place in unanswered)))
            )

    def note_place(self, run: str, place: Place) -> None:
        """Note that a place was compared that had given no answer before."""
        with self._database.write() as connection:
            lock_registry(connection, self._keys)
            noted, unanswered = parse(connection.scalar(sa.select(instance.c.server)))
            if noted == run:
                left = unanswered - {key_of(place)}
                connection.execute(instance.update().values(server=render(run, frozenset(left))))

    def note_older(self, run: str) -> None:
        """Mark the whole database as older than AWS, which has writes of ours that the journal does not know."""
        with self._database.write() as connection:
            if set_mark(connection, self._keys):
                self._audit(connection, "db.mark-restored", "database")
            connection.execute(instance.update().values(server=render(run, frozenset())))

    def _opened(self, rows: Collection[sa.Row[Any]]) -> list[JournalEntry]:
        entries = []
        for row in rows:
            try:
                entries.append(to_entry(row, self._keys))
            except (CiphertextError, KeyUnavailableError):
                continue  # The sync's next run reports this and halts it.
        return entries


def _entries_at(place: Place) -> sa.Select[Any]:
    return (
        sa.select(journal)
        .join_from(journal, syncs, journal.c.sync_id == syncs.c.id)
        .where(
            syncs.c.destination_kind == place.destination_kind,
            journal.c.account == place.account,
            journal.c.region == place.region,
        )
    )
