"""
The state of a sync for a run or a plan: the sync, its credential and its journal, read in one snapshot.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.sync_claim import Claim, SyncState
from phasesync.errors import CiphertextError, ClaimLostError, KeyUnavailableError, NotFoundError
from phasesync.store.base import BaseStore
from phasesync.store.credentials import select_credentials, to_credential
from phasesync.store.instance import Registry, read_registry
from phasesync.store.journal import journal_rows, to_entry
from phasesync.store.key_ring import KeyRing
from phasesync.store.restore_mark import is_marked
from phasesync.store.server_run import compared_columns, is_compared, place_of_sync
from phasesync.store.sync_rows import IS_CLAIMED, claimed_by, select_syncs, to_syncs, unknown_sync
from phasesync.store.tables import credentials, environments, sync_reads, syncs


class SyncStateStore(BaseStore):
    """States of syncs."""

    def load(self, claim: Claim) -> SyncState:
        """Read the state of a claimed sync. NotFoundError if it was removed; ClaimLostError if a successor has it."""
        with self._database.read() as connection:
            rows = connection.execute(_select_state().where(IS_CLAIMED), claimed_by(claim)).all()
            if rows:
                return self._states(connection, [rows])[0].read()
            if connection.scalar(sa.select(syncs.c.id).where(syncs.c.id == claim.sync_id)) is None:
                raise NotFoundError("the sync was removed")
            raise ClaimLostError

    def load_all(self, claims: Sequence[Claim]) -> dict[Claim, SyncState]:
        """
        Read the states of claimed syncs together: four statements, however many there are.

        Leaves out syncs that were removed, lost or altered: `load` says what is wrong with one.
        """
        with self._database.read() as connection:
            rows = connection.execute(_select_states(), {"syncs": [claim.sync_id for claim in claims]}).all()
            by_sync = {sync_id: list(group) for sync_id, group in groupby(rows, key=lambda row: row.id)}
            claimed = [
                claim
                for claim in claims
                if (group := by_sync.get(claim.sync_id)) is not None
                and (group[0].fence, group[0].claim_owner) == (claim.fence, claim.owner)
            ]
            stored = self._states(connection, [by_sync[claim.sync_id] for claim in claimed])
        states = {}
        for claim, state in zip(claimed, stored, strict=True):
            with suppress(CiphertextError, KeyUnavailableError):
                states[claim] = state.read()
        return states

    def state_of(self, name: str) -> SyncState:
        """Read the state of a sync without a claim, for planning only. NotFoundError."""
        with self._database.read() as connection:
            rows = connection.execute(_select_state().where(syncs.c.name_key == name.lower())).all()
            if not rows:
                raise unknown_sync(connection, name)
            return self._states(connection, [rows])[0].read()

    def states_by_id(self, sync_ids: Sequence[str]) -> list[SyncState]:
        """Read the states of some syncs by name, for planning only. CiphertextError, KeyUnavailableError."""
        with self._database.read() as connection:
            rows = connection.execute(_select_states(), {"syncs": sync_ids}).all()
            groups = [list(group) for _, group in groupby(rows, key=lambda row: row.id)]
            stored = self._states(connection, groups)
        return sorted((state.read() for state in stored), key=lambda state: state.sync.name.lower())

    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Return sync id -> numbers that grow with every change of what the sync does: of itself and what it reads."""
        numbers = (
            sa.select(
                syncs.c.id,
                syncs.c.version,
                syncs.c.request_number,
                credentials.c.version,
                sa.func.coalesce(sa.func.sum(environments.c.revision), 0),
            )
            .join_from(syncs, credentials, credentials.c.id == syncs.c.credential_id)
            .outerjoin(sync_reads, sync_reads.c.sync_id == syncs.c.id)
            .outerjoin(environments, environments.c.id == sync_reads.c.environment_id)
            .group_by(syncs.c.id, syncs.c.version, syncs.c.request_number, credentials.c.version)
        )
        with self._database.read() as connection:
            return {row[0]: tuple(int(number) for number in row[1:]) for row in connection.execute(numbers)}

    def _states(self, connection: sa.Connection, groups: Sequence[Sequence[sa.Row[Any]]]) -> list["_StoredState"]:
        """Return the rows of the states of syncs, each given as rows of `_select_state`; in three statements."""
        registry = read_registry(connection, self._keys)
        used = {"credentials": list({group[0].credential_id for group in groups})}
        credential_rows = {row.id: row for row in connection.execute(_SELECT_CREDENTIALS, used)}
        entries = journal_rows(connection, [group[0].id for group in groups])
        return [
            _StoredState(
                keys=self._keys,
                registry=registry,
                sync=group,
                credential=credential_rows[group[0].credential_id],
                journal=entries[group[0].id],
                compared=is_compared(connection, group[0], place=group[0].place),
            )
            for group in groups
        ]


@dataclass(frozen=True, kw_only=True)
class _StoredState:
    """The rows of a sync, its credential and its journal, read together and not decrypted yet."""

    keys: KeyRing
    registry: Registry
    sync: Sequence[sa.Row[Any]]
    credential: sa.Row[Any]
    journal: Sequence[sa.Row[Any]]
    compared: bool

    def read(self) -> SyncState:
        """Decrypt. CiphertextError, KeyUnavailableError."""
        (sync,) = to_syncs(self.sync, self.keys)
        # A run does not need the other users of the credential, which would take another statement.
        credential = to_credential(self.credential, self.keys)
        self.registry.check(credentials, self.credential)
        return SyncState(
            sync=sync,
            credential=credential,
            journal=tuple(to_entry(row, self.keys) for row in self.journal),
            restored=bool(self.sync[0].restored),
            generation_floor=self.registry.generation_floor,
            compared=self.compared,
        )


@cache
def _select_state() -> sa.Select[Any]:
    return select_syncs().add_columns(
        is_marked().label("restored"), *compared_columns(), place_of_sync().label("place")
    )


@cache
def _select_states() -> sa.Select[Any]:
    return _select_state().where(syncs.c.id.in_(sa.bindparam("syncs", expanding=True)))


_SELECT_CREDENTIALS: Final = select_credentials().where(
    credentials.c.id.in_(sa.bindparam("credentials", expanding=True))
)
