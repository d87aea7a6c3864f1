"""
Syncs and their configuration: add, list, change, rename, remove. A change requests a run, which starts at once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from phasesync.core.alert import Ended
from phasesync.core.names import check_name, normalise_path
from phasesync.core.pages import PAGE_SIZE, Page, each_page, page_of
from phasesync.core.project.ownership import ObjectKind
from phasesync.core.remote import JournalEntry
from phasesync.core.sync import (
    ALL_SYNCS,
    Adopt,
    Layout,
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
)
from phasesync.store.alert_rows import NONE_OPEN, end_alerts
from phasesync.store.apps import find_app, find_environment
from phasesync.store.base import BaseStore, Names, lookup_error, name_of_cursor, new_id, no_such, refuse_taken_name
from phasesync.store.credentials import credential_chain, find_credential
from phasesync.store.db_time import now
from phasesync.store.environment_mac import authentic_environments, find_environments
from phasesync.store.journal import load_journal
from phasesync.store.projects import note_edit
from phasesync.store.protection import require_approval
from phasesync.store.run_requests import (
    REQUESTER,
    request_run,
    update_row,
)
from phasesync.store.serialization import from_json, to_json
from phasesync.store.sync_rows import (
    NEVER_READ,
    NOT_PAUSED,
    destination_key,
    ids_of_syncs,
    in_parts,
    is_claimed,
    locked_sync,
    remote_name_taken,
    select_syncs,
    sync_mac,
    sync_with_destination,
    to_listed_syncs,
    to_syncs,
    unknown_sync,
    with_mac,
)
from phasesync.store.sync_statuses import count_by_status, has_status
from phasesync.store.tables import apps, environments, secrets, sync_reads, syncs
from phasesync.store.wake_ups import notify_daemons

if TYPE_CHECKING:
    from phasesync.core.change_request import Proposal


@dataclass(frozen=True, kw_only=True)
class _Update:
    """The new configuration of a sync; `credential` is the row of its credential."""

    config: SyncConfig
    path: str
    credential: sa.Row[Any]
    region: str
    adopt: Adopt | None


class SyncStore(BaseStore):
    """Syncs, and their state for a run."""

    def add_sync(self, draft: SyncDraft, *, sync_id: str | None = None) -> Sync:
        """
        Add a sync; it is pending at once.

        Args:
            draft: what an operator says of it.
            sync_id: its id, if it had one before; None: a new one.

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
                "id": sync_id or new_id(),
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
                **NOT_PAUSED,
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
                    status_since=now(),
                    alerted_status=NONE_OPEN,
                    failures=0,
                    objects=_expected_objects(draft.config, environment.id),
                    next_due_at=now(),
                    woken_at=now(),
                    behind_since=now(),
                    request_number=0,
                    fence=0,
                    created_at=now(),
                )
            )
            connection.execute(
                sync_reads.insert().values(sync_id=values["id"], environment_id=environment.id, revision=NEVER_READ)
            )
            notify_daemons(connection)
            self._audit(connection, "sync.add", draft.name, after=values["mac"])
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
            row = locked_sync(connection, self._keys, name)
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
            request_run(connection, row, Trigger.CHANGE, REQUESTER, **changes)
            connection.execute(
                sync_reads.update()
                .where(sync_reads.c.sync_id == row.id, sync_reads.c.environment_id == row.environment_id)
                .values(revision=NEVER_READ)
            )
            self._audit(connection, "sync.update", row.name, before=row.mac, after=changes["mac"])
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
            row = locked_sync(connection, self._keys, name)
            refuse_taken_name(connection, syncs, "sync", new_name, but=row.id)
            note_edit(connection, self._keys, ObjectKind.SYNC, row.id)
            require_approval(
                self._keys, self._environments(connection, row.environment_id), partial(_renamed, row, new_name)
            )
            changes = with_mac(connection, self._keys, row, {"name": new_name, "name_key": new_name.lower()})
            update_row(connection, row, **changes)
            self._audit(
                connection,
                "sync.rename",
                row.name,
                details={"renamed_to": new_name},
                before=row.mac,
                after=changes["mac"],
            )
            return self._get(connection, syncs.c.id == row.id, new_name)

    def remove_sync(self, name: str) -> tuple[JournalEntry, ...]:
        """Remove a sync with its journal and runs; return its last journal. NotFoundError, ClaimHeldError."""
        with self._database.write() as connection:
            row = locked_sync(connection, self._keys, name, check=False)
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
            end_alerts(connection, [row.id], Ended.REMOVED)
            connection.execute(syncs.delete().where(syncs.c.id == row.id))
            self._audit(connection, "sync.remove", row.name, before=row.mac)
            return entries

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
            found = ids_of_syncs(connection, names)
            if unknown := [name for name in names if name.lower() not in found]:
                error = no_such("sync", ", ".join(unknown), Names.of(connection, syncs), "syncs")
                raise lookup_error(connection, syncs, unknown[0], error)
        return [found[name.lower()].name for name in names]

    def get_syncs(self, names: Sequence[str]) -> list[Sync]:
        """Return syncs in the given order, without those that are gone; an altered sync is halted."""
        found: dict[str, Sync] = {}
        with self._database.read() as connection:
            for part in in_parts([name.lower() for name in names]):
                rows = connection.execute(select_syncs().where(syncs.c.name_key.in_(part))).all()
                keys = dict.fromkeys(row.name_key for row in rows)
                found |= dict(zip(keys, to_listed_syncs(rows, self._keys), strict=True))
        return [found[name.lower()] for name in names if name.lower() in found]

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
                f"{draft.region}" + (f", account {draft.account}" if draft.account else ""),
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

    def _get(self, connection: sa.Connection, which: sa.ColumnElement[bool], shown: str) -> Sync:
        rows = connection.execute(select_syncs().where(which)).all()
        if not rows:
            raise unknown_sync(connection, shown)
        return to_syncs(rows, self._keys)[0]

    def _environments(self, connection: sa.Connection, environment_id: str) -> list[sa.Row[Any]]:
        return authentic_environments(connection, self._keys, environments.c.id == environment_id)


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
