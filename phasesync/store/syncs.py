"""
Syncs as an operator handles them: add, list, change, remove, pause, ask for a run, consent.

Whatever an operator changes is a request: it is answered at once, whatever back-off says, and a run under way is
followed by one more.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.names import check_name, normalise_path
from phasesync.core.remote import JournalEntry
from phasesync.core.status import SyncStatus, Trigger
from phasesync.core.sync import Adopt, Layout, Paused, Sync, SyncConfig
from phasesync.core.sync_state import Claim, SyncDraft, SyncState
from phasesync.errors import (
    AlreadyExistsError,
    CiphertextError,
    ClaimHeldError,
    ClaimLostError,
    IllegalTransitionError,
    NotFoundError,
    PhasesyncError,
)
from phasesync.store.apps import find_environment
from phasesync.store.base import BaseStore, absent, new_id, not_found
from phasesync.store.credentials import find_credential, select_credentials, to_credential
from phasesync.store.database import row_lock
from phasesync.store.db_time import now, to_microseconds
from phasesync.store.instance import read_registry
from phasesync.store.journal import load_journal
from phasesync.store.restore_mark import known_restored
from phasesync.store.run_requests import WAKER, wake_refused
from phasesync.store.serialization import to_json
from phasesync.store.sync_rows import (
    NEVER_READ,
    already_written,
    check_mac,
    destination_key,
    held_by,
    holder_of,
    is_paused,
    mac_of,
    pinned,
    reason_context,
    select_syncs,
    to_listed_syncs,
    to_syncs,
)
from phasesync.store.tables import credentials, secrets, sync_reads, syncs

_NOT_PAUSED: Final = {"paused_by": None, "paused_at": None, "paused_until": None}


class SyncStore(BaseStore):
    """Syncs of the port `StateStore`."""

    def add_sync(self, draft: SyncDraft) -> Sync:
        """
        Add a sync; it is pending at once.

        Raises:
            NotFoundError: app, environment or credential.
            AlreadyExistsError: the name is taken, or another sync writes to the same remote name of the same account
                and Region (names that differ in case only count as the same).
        """
        check_name(draft.name, "sync")
        with self._database.write() as connection:
            taken = connection.scalar(sa.select(syncs.c.name).where(syncs.c.name_key == draft.name.lower()))
            if taken is not None:
                raise AlreadyExistsError(f"the sync {taken} exists already")
            environment = find_environment(connection, draft.app, draft.environment)
            credential = find_credential(connection, draft.credential)
            values: dict[str, Any] = {
                "id": new_id(),
                "name": draft.name,
                "name_key": draft.name.lower(),
                "environment_id": environment.id,
                "path": normalise_path(draft.path),
                "credential_id": credential.id,
                "destination_kind": draft.destination_kind,
                "region": draft.region,
                "version": 1,
                "config": to_json(draft.config),
                "account": draft.account or credential.account,
                "adopt": draft.adopt,
                "adopt_versions": to_json(draft.adopt_versions) if draft.adopt_versions else None,
                "approved_digest": None,
                **_NOT_PAUSED,
            }
            values |= {"destination_key": destination_key(values), "mac": mac_of(self._keys, values)}
            if (other := holder_of(connection, values["destination_key"])) is not None:
                raise already_written(other)
            connection.execute(
                syncs.insert().values(
                    **values,
                    settled_status=SyncStatus.PENDING,
                    failures=0,
                    objects=_objects_to_come(draft.config, environment.id),
                    next_due_at=now(),
                    request_number=0,
                    fence=0,
                    created_at=now(),
                )
            )
            connection.execute(
                sync_reads.insert().values(sync_id=values["id"], environment_id=environment.id, revision=NEVER_READ)
            )
            return self._get(connection, syncs.c.id == values["id"], draft.name)

    def list_syncs(self) -> list[Sync]:
        """Return all syncs by name, in one statement; one that was altered outside is in it as halted."""
        with self._database.read() as connection:
            rows = connection.execute(select_syncs()).all()
        return to_listed_syncs(rows, self._keys)

    def get_sync(self, name: str) -> Sync:
        """Return one sync. NotFoundError."""
        with self._database.read() as connection:
            return self._get(connection, syncs.c.name_key == name.lower(), name)

    def update_sync(
        self, name: str, *, config: SyncConfig, path: str, credential: str, region: str, adopt: Adopt | None
    ) -> Sync:
        """Replace the configuration; the sync becomes pending. NotFoundError, AlreadyExistsError."""
        with self._database.write() as connection:
            row = self._locked(connection, name)
            new_credential = find_credential(connection, credential)
            moved = new_credential.id != row.credential_id
            changes = {
                "version": row.version + 1,
                "config": to_json(config),
                "path": normalise_path(path),
                "credential_id": new_credential.id,
                "region": region,
                "adopt": adopt,
                "adopt_versions": None if adopt is None else row.adopt_versions,
                # Another credential may lead to another account; the guard says so where objects stay behind.
                "account": new_credential.account if moved else row.account,
            }
            changes = pinned(connection, self._keys, row, changes)
            _ask(connection, row, Trigger.CHANGE, WAKER, **changes)
            connection.execute(
                sync_reads.update()
                .where(sync_reads.c.sync_id == row.id, sync_reads.c.environment_id == row.environment_id)
                .values(revision=NEVER_READ)
            )
            return self._get(connection, syncs.c.id == row.id, name)

    def remove_sync(self, name: str) -> tuple[JournalEntry, ...]:
        """Remove a sync with its journal and runs; return the journal as it was. NotFoundError; ClaimHeldError."""
        with self._database.write() as connection:
            row = self._locked(connection, name, check=False)
            if row.claim_owner is not None and to_microseconds(row.claim_until) >= row.clock:
                raise ClaimHeldError(f"the sync {row.name} is being reconciled; try again when its run has ended")
            try:
                entries = load_journal(connection, row.id, self._keys)
            except CiphertextError:
                entries = ()  # What cannot be trusted must not keep the sync from being removed.
            connection.execute(syncs.delete().where(syncs.c.id == row.id))
            return entries

    def pause(self, name: str, paused: Paused) -> None:
        """Pause a sync; pausing again replaces who, why and until. NotFoundError."""
        with self._database.write() as connection:
            row = self._locked(connection, name)
            reason = self._keys.encrypt_text(row.data_key_id, reason_context(row.id, "paused_reason"), paused.reason)
            changes = {"paused_by": paused.by, "paused_at": paused.at, "paused_until": paused.until}
            _set(connection, row, paused_reason=reason, **pinned(connection, self._keys, row, changes))

    def resume(self, name: str, *, actor: str) -> None:
        """Resume a sync and have it reconciled at once; nothing happens to one that is not paused."""
        with self._database.write() as connection:
            row = self._locked(connection, name)
            if is_paused(row, row.clock):
                cleared = pinned(connection, self._keys, row, _NOT_PAUSED)
                _ask(connection, row, Trigger.RESUME, actor, paused_reason=None, **cleared)

    def request(self, name: str, trigger: Trigger, *, actor: str) -> None:
        """Have a daemon reconcile a sync at once, whatever back-off says. IllegalTransitionError while paused."""
        with self._database.write() as connection:
            row = self._locked(connection, name)
            if is_paused(row, row.clock):
                raise IllegalTransitionError(
                    f"the sync {row.name} is paused by {row.paused_by}", hint=f"phasesync syncs resume {row.name}"
                )
            _ask(connection, row, trigger, actor)

    def wake_refused(self) -> None:
        """Have the syncs reconciled at once that AWS refused, or that did not reach it, in their newest run."""
        with self._database.write() as connection:
            wake_refused(connection)

    def approve(self, name: str, digest: str, *, actor: str) -> None:
        """Note an approval and have the sync reconciled at once."""
        self._consent(name, {"approved_digest": digest}, actor)

    def consent_to_adopt(
        self, name: str, adopt: Adopt, *, actor: str, versions: Mapping[str, str] | None = None
    ) -> None:
        """
        Note the consent and have the sync reconciled at once.

        Args:
            name: of the sync.
            adopt: what was consented to.
            actor: who did.
            versions: remote name -> version that was imported, or that was seen where it may be overwritten; None =
                whatever stands anywhere may be written over.
        """
        self._consent(name, {"adopt": adopt, "adopt_versions": to_json(versions) if versions else None}, actor)

    def _consent(self, name: str, changes: dict[str, Any], actor: str) -> None:
        with self._database.write() as connection:
            row = self._locked(connection, name)
            _ask(connection, row, Trigger.MANUAL, actor, **pinned(connection, self._keys, row, changes))

    def _get(self, connection: sa.Connection, which: sa.ColumnElement[bool], shown: str) -> Sync:
        rows = connection.execute(select_syncs().where(which)).all()
        if not rows:
            raise self._unknown(connection, shown)
        return to_syncs(rows, self._keys)[0]

    def _unknown(self, connection: sa.Connection, name: str) -> PhasesyncError:
        names = list(connection.scalars(sa.select(syncs.c.name).order_by(syncs.c.name_key)))
        return not_found(connection, syncs, name, absent("sync", name, names, "syncs"))

    def _locked(self, connection: sa.Connection, name: str, *, check: bool = True) -> sa.Row[Any]:
        """Return a sync's row, locked and authentic. NotFoundError, CiphertextError."""
        statement = row_lock(select_syncs().where(syncs.c.name_key == name.lower()), syncs)
        row = connection.execute(statement).first()
        if row is None:
            raise self._unknown(connection, name)
        if check:  # a sync that was tampered with can still be removed
            check_mac(row, self._keys)
        return row

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
        (sync,) = to_syncs(rows, self._keys)
        registry = read_registry(connection, self._keys)
        credential = connection.execute(select_credentials().where(credentials.c.id == sync.credential_id)).one()
        # Who else uses the credential is nothing to a run, and would take another statement.
        opened = to_credential(credential, self._keys, used_by=())
        registry.check(credentials, credential)
        return SyncState(
            sync=sync,
            credential=opened,
            journal=load_journal(connection, sync.id, self._keys),
            restored=bool(rows[0].restored),
            generation_floor=registry.generation_floor,
        )


def _objects_to_come(config: SyncConfig, environment_id: str) -> int | sa.ScalarSelect[int]:
    """Return about how many remote objects a first run will be about."""
    if config.layout is Layout.JSON:
        return 1
    keys = sa.select(sa.func.count()).where(secrets.c.environment_id == environment_id, secrets.c.is_set)
    return keys.scalar_subquery()


def _ask(connection: sa.Connection, row: sa.Row[Any], trigger: Trigger, actor: str, **changes: Any) -> None:
    """Store changes and have the sync reconciled at once."""
    _set(
        connection,
        row,
        requested=trigger,
        requested_by=actor,
        request_number=syncs.c.request_number + 1,
        **changes,
    )


def _set(connection: sa.Connection, row: sa.Row[Any], **changes: Any) -> None:
    connection.execute(syncs.update().where(syncs.c.id == row.id).values(**changes))


@cache
def _select_state() -> sa.Select[Any]:
    return select_syncs().add_columns(known_restored().label("restored"))
