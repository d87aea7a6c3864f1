"""
What operators and daemons ask of a sync without changing its configuration: pause, resume, run, approve, adopt.

A request by an operator starts a run at once, whatever back-off says; a run that is in progress is followed by one
more. Several syncs are changed in one transaction.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from phasesync.core.actors import BY_ACTOR, is_same_person
from phasesync.core.alert import Ended
from phasesync.core.audit import AuditKind
from phasesync.core.sync import Adopt, Paused, Trigger
from phasesync.errors import IllegalTransitionError, PhasesyncError
from phasesync.store.alert_rows import NONE_OPEN, end_alerts
from phasesync.store.base import BaseStore
from phasesync.store.database import in_id_order, lock_rows
from phasesync.store.db_time import from_microseconds, now
from phasesync.store.environment_mac import authentic_environments
from phasesync.store.protection import require_approval
from phasesync.store.run_requests import (
    WAITS_FOR_WINDOW,
    request_run,
    retry_refused,
    retry_waiting_for_window,
    update_row,
)
from phasesync.store.serialization import to_json
from phasesync.store.sync_rows import (
    NOT_PAUSED,
    check_sync_mac,
    ids_of_syncs,
    in_parts,
    is_paused,
    locked_sync,
    reason_context,
    unknown_sync,
    with_mac,
)
from phasesync.store.sync_statuses import IS_BEHIND
from phasesync.store.tables import environments, secret_versions, secrets, syncs
from phasesync.store.wake_ups import WOKEN, notify_daemons

if TYPE_CHECKING:
    from phasesync.core.change_request import Proposal


@dataclass(frozen=True, kw_only=True)
class WaitingForWindow:
    """How many syncs wait for a maintenance window; `next_opens_at`: when the first of them may go on."""

    count: int
    next_opens_at: datetime | None


_CONSENTS: Final = ("sync.approve", "sync.adopt")
_NO_CHANGES: Final[Mapping[str, Any]] = {}


class SyncRequestStore(BaseStore):
    """Requests for syncs."""

    def pause(self, name: str, paused: Paused) -> None:
        """Pause a sync; pausing again replaces who, why and until. NotFoundError."""
        with self._database.write() as connection:
            row = locked_sync(connection, self._keys, name)
            changes = with_mac(connection, self._keys, row, self._pausing(row, paused))
            update_row(connection, row, alerted_status=NONE_OPEN, **changes)
            end_alerts(connection, [row.id], Ended.PAUSED)
            self._audit_change(connection, "sync.pause", row, changes)

    def resume(self, name: str, *, actor: str) -> None:
        """Resume a paused sync and have it reconciled at once; leave any other alone. NotFoundError."""
        with self._database.write() as connection:
            row = locked_sync(connection, self._keys, name)
            if is_paused(row, row.clock):
                cleared = with_mac(connection, self._keys, row, NOT_PAUSED)
                request_run(connection, row, Trigger.RESUME, actor, paused_reason=None, **cleared)
                self._audit_change(connection, "sync.resume", row, cleared)

    def request(self, name: str, trigger: Trigger, *, actor: str) -> None:
        """Request a run at once, whatever back-off says. NotFoundError; IllegalTransitionError while it is paused."""
        with self._database.write() as connection:
            row = locked_sync(connection, self._keys, name)
            _refuse_paused(row)
            request_run(connection, row, trigger, actor)
            self._audit(connection, "sync.trigger", row.name)

    def pause_all(self, names: Sequence[str], paused: Paused) -> dict[str, PhasesyncError]:
        """Pause several syncs in one transaction, as `pause` does; return the errors of those left alone, by name."""
        with self._database.write() as connection:
            paused_ids: list[str] = []

            def pausing(row: sa.Row[Any]) -> dict[str, Any]:
                paused_ids.append(row.id)
                return {**self._pausing(row, paused), "alerted_status": NONE_OPEN}

            errors = self._change_all(connection, "sync.pause", names, pausing)
            for part in in_parts(paused_ids):
                end_alerts(connection, part, Ended.PAUSED)
            return errors

    def resume_all(self, names: Sequence[str], *, actor: str) -> dict[str, PhasesyncError]:
        """Resume several syncs in one transaction, as `resume` does; return the errors of those left alone, by name."""

        def resuming(row: sa.Row[Any]) -> dict[str, Any] | None:
            return {**NOT_PAUSED, "paused_reason": None} if is_paused(row, row.clock) else None

        with self._database.write() as connection:
            return self._change_all(connection, "sync.resume", names, resuming, _requesting(Trigger.RESUME, actor))

    def request_all(self, names: Sequence[str], trigger: Trigger, *, actor: str) -> dict[str, PhasesyncError]:
        """Request runs of several syncs in one transaction; return the errors of those left alone, by name."""

        def requested(row: sa.Row[Any]) -> dict[str, Any]:
            _refuse_paused(row)
            return {}

        with self._database.write() as connection:
            return self._change_all(connection, "sync.trigger", names, requested, _requesting(trigger, actor))

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
            row = locked_sync(connection, self._keys, name)
            for environment in self._environments(connection, row.environment_id):
                _refuse_author(connection, environment, actor, by)
            self._consent(connection, row, {"approved_digest": digest}, actor, unattended=unattended)

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
            for part in in_parts(list(by_name)):
                owners = sa.select(syncs.c.environment_id).where(syncs.c.name_key.in_(part))
                for environment in authentic_environments(connection, self._keys, environments.c.id.in_(owners)):
                    _refuse_author(connection, environment, actor, by)
            errors = self._change_all(connection, "sync.approve", list(digests), approved, request)
            if errors:
                raise next(iter(errors.values()))

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
            row = locked_sync(connection, self._keys, name)
            require_approval(
                self._keys,
                self._environments(connection, row.environment_id),
                partial(_adopted, row, adopt, dict(versions or {})),
            )
            self._consent(connection, row, consent, actor, unattended=unattended)

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
        first = from_microseconds(row.first) if isinstance(row.first, int) else None
        # Its run is due a moment later than the window opens, since clocks differ.
        return WaitingForWindow(count=row[0], next_opens_at=None if first is None else first.replace(microsecond=0))

    def wake_where_behind(self) -> None:
        """
        Mark the syncs that read an older revision than there is now.

        Every edit does that itself, in its transaction. A process of a former release that still runs does not.
        """
        with self._database.write() as connection:
            behind = syncs.c.woken_at.is_(None) & IS_BEHIND
            if connection.execute(syncs.update().where(in_id_order(syncs, behind)).values(**WOKEN)).rowcount:
                notify_daemons(connection)

    def _consent(
        self, connection: sa.Connection, row: sa.Row[Any], changes: dict[str, Any], actor: str, *, unattended: bool
    ) -> None:
        trigger = Trigger.CHANGE if unattended else Trigger.MANUAL
        changes = with_mac(connection, self._keys, row, changes)
        request_run(connection, row, trigger, actor, **changes)
        self._audit_change(connection, "sync.adopt" if "adopt" in changes else "sync.approve", row, changes)

    def _audit_change(
        self, connection: sa.Connection, action: str, row: sa.Row[Any], changes: Mapping[str, Any]
    ) -> None:
        """Write what somebody did to a sync; `changes`: its new columns with the MAC, if it has a new one."""
        details = {}
        if (digest := changes.get("approved_digest")) is not None:
            details["plan"] = digest
        if "adopt" in changes:
            details |= {"adopt": changes["adopt"], "versions": changes["adopt_versions"]}
        kind = AuditKind.APPROVAL if action in _CONSENTS else AuditKind.CHANGE
        before, after = (row.mac, changes["mac"]) if "mac" in changes else (None, None)
        self._audit(connection, action, row.name, kind=kind, details=details, before=before, after=after)

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
        action: str,
        names: Sequence[str],
        change: Callable[[sa.Row[Any]], dict[str, Any] | None],
        also: Mapping[str, Any] = _NO_CHANGES,
    ) -> dict[str, PhasesyncError]:
        """
        Change several syncs; the number of statements depends on their number by the thousand only.

        Args:
            connection: of a write.
            action: for the audit log.
            names: of the syncs.
            change: returns what changes of a row, None if nothing does. What it raises is the error of that sync.
            also: changes by the database itself, of every row that `change` returns something for.

        Returns:
            Name -> error, of the syncs that are left alone.
        """
        found = ids_of_syncs(connection, names)
        errors: dict[str, PhasesyncError] = {
            name: unknown_sync(connection, name) for name in names if name.lower() not in found
        }
        # All locks in the order of ids, or two such writes could wait for each other.
        for part in in_parts(sorted(row.id for row in found.values())):
            lock_rows(connection, syncs, syncs.c.id.in_(part))
            changed = []
            for row in connection.execute(_select_to_change(), {"syncs": part}).all():
                try:
                    check_sync_mac(row, self._keys)
                    columns = change(row)
                    if columns is not None:
                        changes = with_mac(connection, self._keys, row, columns) if columns else {}
                        changed.append((row, changes))
                        self._audit_change(connection, action, row, changes)
                except PhasesyncError as error:
                    errors[row.name] = error
            _update_all(connection, changed, also)
        if also:
            notify_daemons(connection)
        return errors

    def _environments(self, connection: sa.Connection, environment_id: str) -> list[sa.Row[Any]]:
        return authentic_environments(connection, self._keys, environments.c.id == environment_id)


def _adopted(row: sa.Row[Any], adopt: Adopt, versions: dict[str, str]) -> "Proposal":
    from phasesync.core.change_request import AdoptObjects, Proposal, Seen

    what = ", ".join(sorted(versions)) or "every object"
    return Proposal(
        arguments=AdoptObjects(sync_id=row.id, adopt=adopt, versions=versions),
        changes=(f"take over {what} at AWS for the sync {row.name} ({adopt})",),
        seen={f"the sync {row.name}": Seen(id=row.id, version=row.version)},
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
