"""The state store, put together: syncs, claims, journal, runs; and the read that needs all of them."""

from functools import cache
from typing import Any

import sqlalchemy as sa

from phasesync.errors import ClaimLostError, NotFoundError
from phasesync.ports import Claim, SyncState
from phasesync.store.acceptance import AcceptancePart, known_restored
from phasesync.store.claims import ClaimsPart, held_by
from phasesync.store.credentials import select_credentials, to_credential
from phasesync.store.journal import JournalPart, load_journal
from phasesync.store.registry import read_registry
from phasesync.store.runs import RunsPart
from phasesync.store.sync_rows import select_syncs, to_syncs
from phasesync.store.syncs import SyncsPart
from phasesync.store.tables import credentials, syncs


class SqlStateStore(SyncsPart, ClaimsPart, JournalPart, RunsPart, AcceptancePart):
    """Syncs, remote objects with their journal, runs and claims (port `StateStore`)."""

    def load(self, claim: Claim) -> SyncState:
        """Read a claimed sync again. NotFoundError when it was removed, ClaimLostError when it is no longer ours."""
        with self._database.read() as connection:
            state = self._state(connection, held_by(claim))
            if state is not None:
                return state
            if connection.scalar(sa.select(syncs.c.id).where(syncs.c.id == claim.sync_id)) is None:
                raise NotFoundError("the sync was removed")
            raise ClaimLostError

    def state_of(self, name: str) -> SyncState:
        """Read a sync without a claim, to plan only. NotFoundError."""
        with self._database.read() as connection:
            state = self._state(connection, syncs.c.name_key == name.lower())
            if state is None:
                raise self._unknown(connection, name)
            return state

    def _state(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> SyncState | None:
        rows = connection.execute(_select_state().where(which)).all()
        if not rows:
            return None
        (sync,) = to_syncs(rows, self._sealer)
        registry = read_registry(connection, self._keys)
        credential = connection.execute(select_credentials().where(credentials.c.id == sync.credential_id)).one()
        # Who else uses the credential is nothing to a run, and would take another statement.
        opened = to_credential(credential, self._sealer, used_by=())
        registry.check(credentials, credential)
        return SyncState(
            sync=sync,
            credential=opened,
            journal=load_journal(connection, sync.id, self._sealer),
            restored=bool(rows[0].restored),
            generation_floor=registry.generation_floor,
        )


@cache
def _select_state() -> sa.Select[Any]:
    return select_syncs().add_columns(known_restored().label("restored"))
