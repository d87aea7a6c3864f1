"""
Syncs as an operator handles them: add, list, change, remove, pause, request a run, consent.

Every change by an operator requests a run: it starts at once, whatever back-off says, and a run that is in progress is
followed by one more.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from phasesync.core.actors import BY_ACTOR, is_same_person
from phasesync.core.names import check_name, normalise_path
from phasesync.core.pages import PAGE_SIZE, Page, each_page, page_of
from phasesync.core.project.ownership import ObjectKind
from phasesync.core.remote import JournalEntry
from phasesync.core.sync import (
    ALL_SYNCS,
    Adopt,
    Layout,
    Paused,
    Sync,
    SyncConfig,
    SyncDraft,
    SyncFilter,
    SyncStatus,
    Trigger,
)
from phasesync.errors import (
    AlreadyExistsError,
    CiphertextError,
    ClaimHeldError,
    IllegalTransitionError,
    PhasesyncError,
)
from phasesync.store.apps import authentic_environments, find_app, find_environment, find_environments
from phasesync.store.base import BaseStore, Names, lookup_error, name_of_cursor, new_id, no_such, refuse_taken_name
from phasesync.store.credentials import credential_chain, find_credential
from phasesync.store.database import in_id_order, lock_rows, row_lock
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.journal import load_journal
from phasesync.store.projects import note_edit
from phasesync.store.protection import require_approval
from phasesync.store.run_requests import (
    REQUESTER,
    WAITS_FOR_WINDOW,
    retry_refused,
    retry_waiting_for_window,
)
from phasesync.store.serialization import from_json, to_json
from phasesync.store.sync_rows import (
    NEVER_READ,
    check_sync_mac,
    destination_key,
    is_claimed,
    is_paused,
    reason_context,
    remote_name_taken,
    select_syncs,
    sync_mac,
    sync_with_destination,
    to_listed_syncs,
    to_syncs,
    unknown_sync,
    with_mac,
)
from phasesync.store.sync_statuses import IS_BEHIND, count_by_status, has_status
from phasesync.store.tables import apps, environments, secret_versions, secrets, sync_reads, syncs
from phasesync.store.wake_ups import WOKEN, notify_daemons

if TYPE_CHECKING:
    from phasesync.core.change_request import Proposal


@dataclass(frozen=True, kw_only=True)
class WaitingForWindow:
    """How many syncs wait for a maintenance window; `next_opens_at`: when the first of them may go on."""

    count: int
    next_opens_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class _Update:
    """The new configuration of a sync; `credential` is the row of its credential."""

    config: SyncConfig
    path: str
    credential: sa.Row[Any]
    region: str
    adopt: Adopt | None


_NOT_PAUSED: Final = {"paused_by": None, "paused_at": None, "paused_until": None}
_NO_CHANGES: Final[Mapping[str, Any]] = {}


class SyncStore(BaseStore):
    """Syncs, and their state for a run."""

    def add_sync(self, draft: SyncDraft) -> Sync:
        """
        Add a sync; it is pending at once.

        Raises:
            NotFoundError: app, environment or credential.
            AlreadyExistsError: the name is taken, or another sync writes to the same remote name in the same account
                and Region (case is ignored).
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
            values |= {"destination_key": destination_key(values), "mac": sync_mac(self._keys, values)}
            if (other := sync_with_destination(connection, values["destination_key"])) is not None:
                raise remote_name_taken(other)
            draft = replace(draft, path=values["path"], account=values["account"])
            require_approval(
                self._keys,
                self._environments(connection, environment.id),
                partial(self._added, connection, draft, environment, credential.id),
            )
            connection.execute(
                syncs.insert().values(
                    **values,
                    settled_status=SyncStatus.PENDING,
                    failures=0,
                    objects=_expected_objects(draft.config, environment.id),
                    next_due_at=now(),
                    woken_at=now(),
                    request_number=0,
                    fence=0,
                    created_at=now(),
                )
            )
            connection.execute(
                sync_reads.insert().values(sync_id=values["id"], environment_id=environment.id, revision=NEVER_READ)
            )
            notify_daemons(connection)
            return self._get(connection, syncs.c.id == values["id"], draft.name)

    def page_syncs(
        self,
        which: SyncFilter = ALL_SYNCS,
        *,
        after: str | None = None,
        limit: int = PAGE_SIZE,
    ) -> Page[Sync]:
        """
        Return syncs by name; an altered sync is listed as halted.

        Args:
            which: the syncs to list.
            after: a cursor; None means from the beginning.
            limit: maximum number.

        Raises:
            NotFoundError: app, environment or credential of the filter.
            InvalidInputError: the cursor.
        """
        with self._database.read() as connection:
            page = self._filtered(connection, which).order_by(syncs.c.name_key).limit(limit + 1)
            if after is not None:
                page = page.where(syncs.c.name_key > name_of_cursor(after))
            # In two statements: in one, PostgreSQL misjudges how few the page leaves, and joins all syncs first.
            ids = list(connection.scalars(page))
            rows = connection.execute(select_syncs().where(syncs.c.id.in_(ids))).all()
        # The cursor is the key of the order, as it is stored: an altered one must not lead back.
        keys = dict.fromkeys(row.name_key for row in rows)
        listed = list(zip(keys, to_listed_syncs(rows, self._keys), strict=True))
        return page_of(listed, limit, lambda item: item[1], lambda item: item[0])

    def list_syncs(self, which: SyncFilter = ALL_SYNCS) -> list[Sync]:
        """Return syncs by name; for filters that leave few. NotFoundError."""
        pages = each_page(lambda after, limit: self.page_syncs(which, after=after, limit=limit))
        return [sync for page in pages for sync in page.items]

    def count_by_status(self) -> dict[SyncStatus, int]:
        """Return status -> number of syncs, as they are stored; without statuses that no sync has."""
        with self._database.read() as connection:
            return count_by_status(connection)

    def has_sync(self, name: str) -> bool:
        """Return whether there is a sync of a name, altered or not."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(syncs.c.id).where(syncs.c.name_key == name.lower())) is not None

    def find_by_id(self, sync_id: str) -> Sync | None:
        """Return one sync by id; None if there is no such sync."""
        with self._database.read() as connection:
            rows = connection.execute(select_syncs().where(syncs.c.id == sync_id)).all()
        return to_syncs(rows, self._keys)[0] if rows else None

    def find_similar(self, draft: SyncDraft, *, account: str | None) -> list[Sync]:
        """
        Return the syncs in the same account and Region, as far as known, that may write to a name of a draft.

        Includes syncs with names that readers may confuse with it. Holds only those in memory, of all syncs there.

        Args:
            draft: of the sync that is added or changed.
            account: the account it writes to; None if it is not known yet.
        """
        from phasesync.core.lint import may_meet
        from phasesync.core.remote_names import beginning_of_names

        ours = beginning_of_names(draft.config.names, app=draft.app, environment=draft.environment, path=draft.path)
        statement = (
            sa.select(syncs.c.id, syncs.c.config, syncs.c.path, apps.c.name.label("app"), environments.c.name)
            .join_from(syncs, environments, environments.c.id == syncs.c.environment_id)
            .join(apps, apps.c.id == environments.c.app_id)
        )
        with self._database.read() as connection:
            credential_id = find_credential(connection, draft.credential).id
            place = (syncs.c.account.is_(None) if account else sa.true()) & (syncs.c.credential_id == credential_id)
            if account is not None:
                place |= syncs.c.account == account
            rows = connection.execute(
                statement.where(syncs.c.region == draft.region, place), execution_options={"yield_per": PAGE_SIZE}
            )
            # Not authenticated yet: an altered row can at most be missed or read in vain.
            ids = [row.id for row in rows if may_meet(ours, _beginning_of_names(*row[1:]))]
            similar = []
            for n in range(0, len(ids), PAGE_SIZE):
                page = select_syncs().where(syncs.c.id.in_(ids[n : n + PAGE_SIZE]))
                similar += to_listed_syncs(connection.execute(page).all(), self._keys)
        return similar

    def _filtered(self, connection: sa.Connection, which: SyncFilter) -> sa.Select[tuple[str]]:
        """Return the select of the ids of some syncs."""
        ids = sa.select(syncs.c.id)
        if which.statuses:
            ids = ids.where(has_status(which.statuses))
        if which.app is not None:
            of_app = sa.select(environments.c.id).where(environments.c.app_id == find_app(connection, which.app).id)
            ids = ids.where(syncs.c.environment_id.in_(of_app))
        if which.credential is not None:
            ids = ids.where(syncs.c.credential_id == find_credential(connection, which.credential).id)
        if which.environment_id is not None:
            readers = sa.select(sync_reads.c.sync_id).where(sync_reads.c.environment_id == which.environment_id)
            own = sa.select(syncs.c.id).where(syncs.c.environment_id == which.environment_id)
            ids = ids.where(syncs.c.id.in_(sa.union(readers, own)))
        return ids

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
            note_edit(connection, self._keys, ObjectKind.SYNC, row.id)
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
                # Another credential may lead to another account; the guard holds the plan if objects stay behind.
                "account": new_credential.account if moved else row.account,
            }
            changes = with_mac(connection, self._keys, row, changes)
            update = _Update(config=config, path=changes["path"], credential=new_credential, region=region, adopt=adopt)
            require_approval(
                self._keys,
                self._environments(connection, row.environment_id),
                partial(self._updated, connection, row, update),
            )
            _request_run(connection, row, Trigger.CHANGE, REQUESTER, **changes)
            connection.execute(
                sync_reads.update()
                .where(sync_reads.c.sync_id == row.id, sync_reads.c.environment_id == row.environment_id)
                .values(revision=NEVER_READ)
            )
            return self._get(connection, syncs.c.id == row.id, name)

    def rename(self, name: str, new_name: str) -> Sync:
        """
        Give a sync another name; nothing else changes, and no run follows. A change of case alone is possible.

        Raises:
            NotFoundError: there is no such sync.
            AlreadyExistsError: another sync has the name.
            CiphertextError: the row was altered, and a new MAC would vouch for it.
        """
        check_name(new_name, "sync")
        with self._database.write() as connection:
            row = self._locked(connection, name)
            refuse_taken_name(connection, syncs, "sync", new_name, but=row.id)
            require_approval(
                self._keys, self._environments(connection, row.environment_id), partial(_renamed, row, new_name)
            )
            changes = {"name": new_name, "name_key": new_name.lower()}
            _update(connection, row, **with_mac(connection, self._keys, row, changes))
            note_edit(connection, self._keys, ObjectKind.SYNC, row.id)
            return self._get(connection, syncs.c.id == row.id, new_name)

    def remove_sync(self, name: str) -> tuple[JournalEntry, ...]:
        """Remove a sync with its journal and runs; return its last journal. NotFoundError, ClaimHeldError."""
        with self._database.write() as connection:
            row = self._locked(connection, name, check=False)
            if is_claimed(row):
                raise ClaimHeldError(f"the sync {row.name} is being reconciled; try again when its run has ended")
            # Not authenticated: who can alter the row of the environment can as well delete that of the sync.
            owner = find_environments(connection, environments.c.id == row.environment_id)
            require_approval(self._keys, owner, partial(removal_of, row.id, row.name, row.version, "keep"))
            try:
                entries = load_journal(connection, row.id, self._keys)
            except CiphertextError:
                entries = ()  # An altered journal must not keep the sync from being removed.
            note_edit(connection, self._keys, ObjectKind.SYNC, row.id, removed=True)
            connection.execute(syncs.delete().where(syncs.c.id == row.id))
            return entries

    def pause(self, name: str, paused: Paused) -> None:
        """Pause a sync; pausing again replaces who, why and until. NotFoundError."""
        with self._database.write() as connection:
            row = self._locked(connection, name)
            _update(connection, row, **with_mac(connection, self._keys, row, self._pausing(row, paused)))

    def resume(self, name: str, *, actor: str) -> None:
        """Resume a paused sync and have it reconciled at once; leave any other alone. NotFoundError."""
        with self._database.write() as connection:
            row = self._locked(connection, name)
            if is_paused(row, row.clock):
                cleared = with_mac(connection, self._keys, row, _NOT_PAUSED)
                _request_run(connection, row, Trigger.RESUME, actor, paused_reason=None, **cleared)

    def request(self, name: str, trigger: Trigger, *, actor: str) -> None:
        """Request a run at once, whatever back-off says. NotFoundError; IllegalTransitionError while it is paused."""
        with self._database.write() as connection:
            row = self._locked(connection, name)
            _refuse_paused(row)
            _request_run(connection, row, trigger, actor)

    def names_of(self, which: SyncFilter = ALL_SYNCS) -> list[str]:
        """Return the names of syncs, by name, as they are stored: rows are not authenticated. NotFoundError."""
        with self._database.read() as connection:
            ids = self._filtered(connection, which)
            return list(
                connection.scalars(sa.select(syncs.c.name).where(syncs.c.id.in_(ids)).order_by(syncs.c.name_key))
            )

    def stored_names(self, names: Sequence[str]) -> list[str]:
        """Return names as they are stored, in the given order. NotFoundError if there is no sync of one of them."""
        with self._database.read() as connection:
            found = self._ids_of(connection, names)
            if unknown := [name for name in names if name.lower() not in found]:
                error = no_such("sync", ", ".join(unknown), Names.of(connection, syncs), "syncs")
                raise lookup_error(connection, syncs, unknown[0], error)
        return [found[name.lower()].name for name in names]

    def get_syncs(self, names: Sequence[str]) -> list[Sync]:
        """Return syncs in the given order, without those that are gone; an altered sync is halted."""
        found: dict[str, Sync] = {}
        with self._database.read() as connection:
            for part in _parts([name.lower() for name in names]):
                rows = connection.execute(select_syncs().where(syncs.c.name_key.in_(part))).all()
                keys = dict.fromkeys(row.name_key for row in rows)
                found |= dict(zip(keys, to_listed_syncs(rows, self._keys), strict=True))
        return [found[name.lower()] for name in names if name.lower() in found]

    def pause_all(self, names: Sequence[str], paused: Paused) -> dict[str, PhasesyncError]:
        """Pause several syncs in one transaction, as `pause` does; return the errors of those left alone, by name."""
        with self._database.write() as connection:
            return self._change_all(connection, names, lambda row: self._pausing(row, paused))

    def resume_all(self, names: Sequence[str], *, actor: str) -> dict[str, PhasesyncError]:
        """Resume several syncs in one transaction, as `resume` does; return the errors of those left alone, by name."""

        def resuming(row: sa.Row[Any]) -> dict[str, Any] | None:
            return {**_NOT_PAUSED, "paused_reason": None} if is_paused(row, row.clock) else None

        with self._database.write() as connection:
            return self._change_all(connection, names, resuming, _requesting(Trigger.RESUME, actor))

    def request_all(self, names: Sequence[str], trigger: Trigger, *, actor: str) -> dict[str, PhasesyncError]:
        """Request runs of several syncs in one transaction; return the errors of those left alone, by name."""

        def requested(row: sa.Row[Any]) -> dict[str, Any]:
            _refuse_paused(row)
            return {}

        with self._database.write() as connection:
            return self._change_all(connection, names, requested, _requesting(trigger, actor))

    def approve_all(
        self, digests: Mapping[str, str], *, actor: str, by: str = BY_ACTOR, unattended: Collection[str] = ()
    ) -> None:
        """
        Store the approvals of several plans in one transaction: name -> digest; all of them, or none.

        Args:
            digests: name -> digest.
            actor: who approves.
            by: as of `approve`.
            unattended: names of the syncs with runs that count as ones that no person asked for, as of `approve`.

        Raises:
            NotFoundError, CiphertextError: of one of the syncs.
            IllegalTransitionError: as `approve` raises it.
        """
        by_name = {name.lower(): digest for name, digest in digests.items()}
        heeding = {name.lower() for name in unattended}
        request = _requesting(Trigger.MANUAL, actor)
        del request["requested"]

        def approved(row: sa.Row[Any]) -> dict[str, Any]:
            trigger = Trigger.CHANGE if row.name_key in heeding else Trigger.MANUAL
            return {"approved_digest": by_name[row.name_key], "requested": trigger}

        with self._database.write() as connection:
            for part in _parts(list(by_name)):
                owners = sa.select(syncs.c.environment_id).where(syncs.c.name_key.in_(part))
                for environment in authentic_environments(connection, self._keys, environments.c.id.in_(owners)):
                    _refuse_author(connection, environment, actor, by)
            errors = self._change_all(
                connection,
                list(digests),
                approved,
                request,
            )
            if errors:
                raise next(iter(errors.values()))

    def retry_refused(self) -> None:
        """Request runs of the syncs that AWS refused, or that did not reach it, in their newest run."""
        with self._database.write() as connection:
            retry_refused(connection)

    def retry_waiting_for_window(self, *, running: bool = True) -> None:
        """
        Request runs of the syncs that wait for a maintenance window: the windows may be other ones now.

        `running`: also have runs in progress followed by one more.
        """
        with self._database.write() as connection:
            retry_waiting_for_window(connection, running=running)

    def waiting_for_window(self) -> WaitingForWindow:
        """Return how many syncs wait for a maintenance window, and when the first of them may go on."""
        number = sa.BigInteger()
        statement = sa.select(
            sa.func.count().label("count"), sa.func.min(sa.type_coerce(syncs.c.retry_at, number)).label("first")
        ).where(syncs.c.error_class == WAITS_FOR_WINDOW)
        with self._database.read() as connection:
            row = connection.execute(statement).one()
        return WaitingForWindow(
            count=row[0], next_opens_at=from_microseconds(row.first) if isinstance(row.first, int) else None
        )

    def wake_where_behind(self) -> None:
        """
        Mark the syncs that read an older revision than there is now.

        Every edit does that itself, in its transaction. A process of a former release that still runs does not.
        """
        with self._database.write() as connection:
            behind = syncs.c.woken_at.is_(None) & IS_BEHIND
            if connection.execute(syncs.update().where(in_id_order(syncs, behind)).values(**WOKEN)).rowcount:
                notify_daemons(connection)

    def approve(self, name: str, digest: str, *, actor: str, by: str = BY_ACTOR, unattended: bool = False) -> None:
        """
        Store the approval of a plan digest and have the sync reconciled at once.

        Args:
            name: of the sync.
            digest: of the plan.
            actor: who approves.
            by: `BY_ACTOR` or `BY_OS_USER`: how people are told apart.
            unattended: the run counts as one that no person asked for, so that it heeds maintenance windows.

        Raises:
            NotFoundError: the sync.
            IllegalTransitionError: its environment is protected, and this actor made the newest edit of it.
        """
        with self._database.write() as connection:
            row = self._locked(connection, name)
            for environment in self._environments(connection, row.environment_id):
                _refuse_author(connection, environment, actor, by)
            self._consent(connection, row, {"approved_digest": digest}, actor, unattended=unattended)

    def consent_to_adopt(
        self,
        name: str,
        adopt: Adopt,
        *,
        actor: str,
        versions: Mapping[str, str] | None = None,
        unattended: bool = False,
    ) -> None:
        """
        Store the consent to adopt and have the sync reconciled at once. NotFoundError.

        Args:
            name: of the sync.
            adopt: what the operator consents to.
            actor: who consents.
            versions: remote name -> version that was imported, or that was shown and may be overwritten; None: any
                version of any object may be overwritten.
            unattended: as of `approve`.
        """
        consent = {"adopt": adopt, "adopt_versions": to_json(versions) if versions else None}
        with self._database.write() as connection:
            row = self._locked(connection, name)
            require_approval(
                self._keys,
                self._environments(connection, row.environment_id),
                partial(_adopted, row, adopt, dict(versions or {})),
            )
            self._consent(connection, row, consent, actor, unattended=unattended)

    def _added(
        self, connection: sa.Connection, draft: SyncDraft, environment: sa.Row[Any], credential_id: str
    ) -> "Proposal":
        from phasesync.core.change_request import AddSync, Proposal, Seen, reach_of, seen_credentials, settings_of

        reach = credential_chain(connection, self._keys, credential_id)
        label = f"{environment.app}/{environment.name}"
        adopt = () if draft.adopt is None else (f"take over what exists at AWS ({draft.adopt})",)
        return Proposal(
            arguments=AddSync(draft=draft),
            changes=(
                f"add the sync {draft.name} of {label} {draft.path} with the credential {draft.credential} in "
                f"{draft.region}, account {draft.account or 'not known yet'}",
                *reach_of(reach),
                *adopt,
                *settings_of(draft.config),
            ),
            seen={f"the environment {label}": Seen(id=environment.id), **seen_credentials(reach)},
        )

    def _updated(self, connection: sa.Connection, row: sa.Row[Any], update: _Update) -> "Proposal":
        from phasesync.core.change_request import Proposal, Seen, UpdateSync, differences, reach_of, seen_credentials

        reach = credential_chain(connection, self._keys, update.credential.id)
        plain = {"path": (row.path, update.path), "region": (row.region, update.region)}
        plain["credential"] = (row.credential, update.credential.name)
        plain["adopt"] = (row.adopt or "-", update.adopt or "-")
        lines = [f"{name}: {before} -> {after}" for name, (before, after) in plain.items() if before != after]
        return Proposal(
            arguments=UpdateSync(
                sync_id=row.id,
                config=update.config,
                path=update.path,
                credential=update.credential.name,
                region=update.region,
                adopt=update.adopt,
            ),
            changes=(
                f"update the sync {row.name}",
                *lines,
                *(reach_of(reach) if update.credential.id != row.credential_id else ()),
                *differences(from_json(SyncConfig, row.config), update.config),
            ),
            seen={f"the sync {row.name}": Seen(id=row.id, version=row.version), **seen_credentials(reach)},
        )

    def _consent(
        self, connection: sa.Connection, row: sa.Row[Any], changes: dict[str, Any], actor: str, *, unattended: bool
    ) -> None:
        trigger = Trigger.CHANGE if unattended else Trigger.MANUAL
        _request_run(connection, row, trigger, actor, **with_mac(connection, self._keys, row, changes))

    def _pausing(self, row: sa.Row[Any], paused: Paused) -> dict[str, Any]:
        """Return the columns of a paused sync."""
        reason = self._keys.encrypt_text(row.data_key_id, reason_context(row.id, "paused_reason"), paused.reason)
        return {
            "paused_by": paused.by,
            "paused_at": paused.at,
            "paused_until": paused.until,
            "paused_reason": reason,
        }

    def _change_all(
        self,
        connection: sa.Connection,
        names: Sequence[str],
        change: Callable[[sa.Row[Any]], dict[str, Any] | None],
        also: Mapping[str, Any] = _NO_CHANGES,
    ) -> dict[str, PhasesyncError]:
        """
        Change several syncs; the number of statements depends on their number by the thousand only.

        Args:
            connection: of a write.
            names: of the syncs.
            change: returns what changes of a row, None if nothing does. What it raises is the error of that sync.
            also: changes by the database itself, of every row that `change` returns something for.

        Returns:
            Name -> error, of the syncs that are left alone.
        """
        found = self._ids_of(connection, names)
        errors: dict[str, PhasesyncError] = {
            name: unknown_sync(connection, name) for name in names if name.lower() not in found
        }
        # All locks in the order of ids, or two such writes could wait for each other.
        for part in _parts(sorted(row.id for row in found.values())):
            lock_rows(connection, syncs, syncs.c.id.in_(part))
            changed = []
            for row in connection.execute(_select_to_change(), {"syncs": part}).all():
                try:
                    check_sync_mac(row, self._keys)
                    columns = change(row)
                    if columns is not None:
                        changed.append((row, with_mac(connection, self._keys, row, columns) if columns else {}))
                except PhasesyncError as error:
                    errors[row.name] = error
            _update_all(connection, changed, also)
        if also:
            notify_daemons(connection)
        return errors

    @staticmethod
    def _ids_of(connection: sa.Connection, names: Sequence[str]) -> dict[str, Any]:
        """Return name in lower case -> row with id and name, of those that exist."""
        select = sa.select(syncs.c.id, syncs.c.name, syncs.c.name_key)
        return {
            row.name_key: row
            for part in _parts([name.lower() for name in names])
            for row in connection.execute(select.where(syncs.c.name_key.in_(part)))
        }

    def _get(self, connection: sa.Connection, which: sa.ColumnElement[bool], shown: str) -> Sync:
        rows = connection.execute(select_syncs().where(which)).all()
        if not rows:
            raise unknown_sync(connection, shown)
        return to_syncs(rows, self._keys)[0]

    def _environments(self, connection: sa.Connection, environment_id: str) -> list[sa.Row[Any]]:
        return authentic_environments(connection, self._keys, environments.c.id == environment_id)

    def _locked(self, connection: sa.Connection, name: str, *, check: bool = True) -> sa.Row[Any]:
        """Lock a sync and return its authentic row. NotFoundError, CiphertextError."""
        statement = row_lock(select_syncs().where(syncs.c.name_key == name.lower()), syncs)
        row = connection.execute(statement).first()
        if row is None:
            raise unknown_sync(connection, name)
        if check:  # an altered sync can still be removed
            check_sync_mac(row, self._keys)
        return row


@lru_cache(maxsize=65_536)
def _beginning_of_names(config: str, path: str, app: str, environment: str) -> str:
    """Return how all remote names of a sync begin, from its columns; empty if the configuration was altered."""
    from phasesync.core.remote_names import beginning_of_names

    try:
        members = json.loads(config)
        names = members.get("remote_name") or members.get("name_template") or ""
        return beginning_of_names(names, app=app, environment=environment, path=path)
    except (ValueError, TypeError, AttributeError):
        return ""


def _expected_objects(config: SyncConfig, environment_id: str) -> int | sa.ScalarSelect[int]:
    """Return an estimate of the number of remote objects of a first run."""
    if config.layout is Layout.JSON:
        return 1
    keys = sa.select(sa.func.count()).where(secrets.c.environment_id == environment_id, secrets.c.is_set)
    return keys.scalar_subquery()


def _renamed(row: sa.Row[Any], new_name: str) -> "Proposal":
    from phasesync.core.change_request import Proposal, RenameSync, Seen

    return Proposal(
        arguments=RenameSync(sync_id=row.id, new_name=new_name),
        changes=(f"rename the sync {row.name} to {new_name}",),
        seen={f"the sync {row.name}": Seen(id=row.id, version=row.version)},
    )


def _adopted(row: sa.Row[Any], adopt: Adopt, versions: dict[str, str]) -> "Proposal":
    from phasesync.core.change_request import AdoptObjects, Proposal, Seen

    what = ", ".join(sorted(versions)) or "every object"
    return Proposal(
        arguments=AdoptObjects(sync_id=row.id, adopt=adopt, versions=versions),
        changes=(f"take over {what} at AWS for the sync {row.name} ({adopt})",),
        seen={f"the sync {row.name}": Seen(id=row.id, version=row.version)},
    )


def removal_of(sync_id: str, name: str, version: int, remote: str) -> "Proposal":
    """Return the removal of a sync as a change that waits for an approval. `remote`: keep or delete."""
    from phasesync.core.change_request import Proposal, RemoveSync, Seen

    fate = "its AWS secrets stay" if remote == "keep" else "its AWS secrets are deleted"
    return Proposal(
        arguments=RemoveSync(sync_id=sync_id, remote=remote),
        changes=(f"remove the sync {name}; {fate}",),
        seen={f"the sync {name}": Seen(id=sync_id, version=version)},
        command=f"phasesync syncs remove {name} --remote {remote}",
    )


def _refuse_author(connection: sa.Connection, environment: sa.Row[Any], actor: str, by: str) -> None:
    """Refuse the approval of held changes by whoever made the newest edit of a protected environment."""
    if environment.approvers is None:
        return
    newest = sa.select(secret_versions.c.changed_by).join_from(secrets, secret_versions)
    # Not that of the newest revision: a rename, and another number of approvers, are revisions without an author.
    newest = newest.where(secrets.c.environment_id == environment.id)
    author = connection.scalar(newest.order_by(secret_versions.c.revision.desc()).limit(1))
    if author is not None and is_same_person(author, actor, by):
        raise IllegalTransitionError(
            f"{environment.app}/{environment.name} is protected, and {actor} made its newest edit",
            hint="somebody else approves what the guard holds",
        )


def _request_run(connection: sa.Connection, row: sa.Row[Any], trigger: Trigger, actor: str, **changes: Any) -> None:
    """Store changes and have the sync reconciled at once."""
    _update(
        connection,
        row,
        requested=trigger,
        requested_by=actor,
        request_number=syncs.c.request_number + 1,
        **WOKEN,
        **changes,
    )
    notify_daemons(connection)


def _refuse_paused(row: sa.Row[Any]) -> None:
    if is_paused(row, row.clock):
        raise IllegalTransitionError(
            f"the sync {row.name} is paused by {row.paused_by}", hint=f"phasesync syncs resume {row.name}"
        )


def _requesting(trigger: Trigger, actor: str) -> dict[str, Any]:
    """Return the columns of a sync with a request."""
    return {
        "requested": trigger,
        "requested_by": actor,
        "request_number": syncs.c.request_number + 1,
        **WOKEN,
    }


def _update_all(
    connection: sa.Connection, changed: Sequence[tuple[sa.Row[Any], Mapping[str, Any]]], also: Mapping[str, Any]
) -> None:
    """Store changes of several syncs; one statement for all with the same columns."""
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row, columns in changed:
        values = {f"new_{name}": value for name, value in columns.items()}
        by_columns.setdefault(tuple(sorted(columns)), []).append({"of_sync": row.id, **values})
    for names, rows in by_columns.items():
        new = {name: sa.bindparam(f"new_{name}", type_=syncs.c[name].type) for name in names}
        connection.execute(syncs.update().where(syncs.c.id == sa.bindparam("of_sync")).values(**new, **also), rows)


@cache
def _select_to_change() -> sa.Select[Any]:
    """Return the select of the rows of syncs with what a change of one needs."""
    return (
        sa.select(syncs, environments.c.data_key_id, now().label("clock"))
        .join(environments, environments.c.id == syncs.c.environment_id)
        .where(syncs.c.id.in_(sa.bindparam("syncs", expanding=True)))
    )


def _parts(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for n in range(0, len(items), PAGE_SIZE):
        yield items[n : n + PAGE_SIZE]


def _update(connection: sa.Connection, row: sa.Row[Any], **changes: Any) -> None:
    connection.execute(syncs.update().where(syncs.c.id == row.id).values(**changes))
