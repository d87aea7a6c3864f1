"""
Requests for changes of protected environments.

What is to be done, who asked, how many have to approve and who did are one ciphertext under the key of the first
environment, bound to the plain columns. So an attacker who can write to the database but has no key can neither forge
an approval nor alter a request. What was proposed, values included, is erased when a request is closed.

Times are the database's. A request that is past its end has lapsed, whether a daemon has noted that or not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.audit import AuditKind, AuditOutcome
from phasesync.core.change_request import (
    ACTIONS,
    LIFE,
    Approval,
    Arguments,
    ChangeRequest,
    Proposal,
    RequestStatus,
    Seen,
    moved,
)
from phasesync.errors import CiphertextError, IllegalTransitionError, NotFoundError
from phasesync.store.base import BaseStore, new_id
from phasesync.store.database import not_locked, row_lock
from phasesync.store.db_time import before, from_microseconds, now, to_microseconds
from phasesync.store.environment_mac import authentic_environments
from phasesync.store.protection import digest_of
from phasesync.store.serialization import from_json, to_json, to_member
from phasesync.store.tables import change_requests, environments

_WAITING: Final = (RequestStatus.OPEN.value, RequestStatus.APPROVED.value)


@dataclass(frozen=True, kw_only=True)
class _Details:
    """
    The members that are stored encrypted.

    Attributes:
        arguments: JSON of the arguments of the action; empty once the request is closed.
        seen: what the change starts from.
    """

    action: str
    arguments: str = field(repr=False)
    seen: Mapping[str, Seen]
    environments: Mapping[str, str]
    changes: tuple[str, ...]
    asked_by: str
    needed: int
    command: str | None
    approvals: tuple[Approval, ...] = ()
    closed_at: datetime | None = None
    closed_by: str | None = None
    note: str = ""
    revisions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoredRequest:
    """A request with what carries it out: its arguments, and what it starts from."""

    request: ChangeRequest
    arguments: Arguments = field(repr=False)
    seen: Mapping[str, Seen]


_CLOSED: Final = {
    RequestStatus.APPLIED: "environment.apply",
    RequestStatus.WITHDRAWN: "environment.withdraw",
    RequestStatus.REJECTED: "environment.reject",
    RequestStatus.LAPSED: "environment.lapse",
}
"""How a request ended -> its action in the audit log."""


class ChangeRequestStore(BaseStore):
    """Requests for changes."""

    def file(
        self, proposal: Proposal, environment_ids: Sequence[str], *, actor: str, life: timedelta = LIFE
    ) -> ChangeRequest:
        """
        Store a request for a change; return the one there is, if the same change is asked for already.

        Args:
            proposal: the change.
            environment_ids: the protected environments that it concerns.
            actor: who asks.
            life: time until it lapses.

        Raises:
            NotFoundError: one of the environments was removed.
        """
        digest = digest_of(self._keys, proposal)
        with self._database.transaction() as connection:
            rows = authentic_environments(connection, self._keys, environments.c.id.in_(environment_ids))
            if len(rows) != len(set(environment_ids)):
                raise NotFoundError("a protected environment that the change concerns was removed")
            same = self._waiting(connection, change_requests.c.digest == digest)
            for known in same:
                if known.seen != proposal.seen:  # A plan: its digest does not cover which objects its names mean.
                    note = f"asked for again, since it changed: {moved(known.seen, proposal.seen)}"
                    self.close(known.request.id, RequestStatus.LAPSED, actor=None, note=note)
                elif set(environment_ids) == known.request.environments.keys():
                    return known.request
            details = _Details(
                action=proposal.action,
                arguments=to_json(proposal.arguments),
                seen=proposal.seen,
                environments={row.id: f"{row.app}/{row.name}" for row in rows},
                changes=proposal.changes,
                asked_by=actor,
                # One who approves for several environments is one person for each.
                needed=max(row.approvers or 1 for row in rows),
                command=proposal.command,
            )
            requested_at = from_microseconds(connection.scalar(sa.select(now())) or 0)
            values = {
                "id": new_id(),
                "environment_id": rows[0].id,
                "digest": digest,
                "status": RequestStatus.OPEN.value,
                "requested_at": requested_at,
                "expires_at": requested_at + life,
                "version": 1,
            }
            sealed = self._keys.encrypt_json(rows[0].data_key_id, request_context(values), details)
            connection.execute(change_requests.insert().values(**values, details=sealed))
            self._audit_request(connection, "environment.request", digest, details, outcome=AuditOutcome.HELD)
            return self._get(connection, values["id"]).request

    def list_requests(
        self, environment_id: str | None = None, *, closed: bool = False, applied: bool = False
    ) -> list[ChangeRequest]:
        """
        Return requests, the oldest first; an altered one is listed with the reason, so that it hides no other.

        Args:
            environment_id: those that concern this environment; None: all.
            closed: also those that were carried out, withdrawn, rejected or have lapsed.
            applied: those that were carried out, and no others.
        """
        statement = _select().order_by(change_requests.c.requested_at, change_requests.c.id)
        if applied:
            statement = statement.where(change_requests.c.status == RequestStatus.APPLIED.value)
        elif not closed:
            statement = statement.where(change_requests.c.status.in_(_WAITING), change_requests.c.expires_at > now())
        with self._database.read() as connection:
            rows = [(row, self._readable(row)) for row in connection.execute(statement)]
            approvers = _approvers(connection, [details for row, details in rows if row.status in _WAITING])
        requests = [
            _altered(row, details.message)
            if isinstance(details, CiphertextError)
            else _request(row, details, approvers)
            for row, details in rows
        ]
        return [request for request in requests if environment_id is None or environment_id in request.environments]

    def find(self, environment_id: str, digest: str) -> StoredRequest | None:
        """Return the request of a digest that waits, for an environment; None if there is none. CiphertextError."""
        with self._database.read() as connection:
            return self._find(connection, environment_id, digest)

    def approved_plan(self, plan: Proposal) -> ChangeRequest | None:
        """Return the approved request for a plan; None if there is none. CiphertextError."""
        with self._database.read() as connection:
            for found in self._waiting(connection, change_requests.c.digest == digest_of(self._keys, plan)):
                same = found.arguments == plan.arguments and found.seen == plan.seen
                if found.request.status is RequestStatus.APPROVED and same:
                    return found.request
        return None

    def lock(self, environment_id: str, digest: str) -> StoredRequest:
        """
        Lock the request of a digest that waits, for the transaction that this thread is in. NotFoundError.

        Its environments are locked too, so that how many have to approve does not change meanwhile.
        """
        with self._database.write() as connection:
            connection.execute(
                row_lock(
                    sa.select(change_requests.c.id)
                    .where(change_requests.c.digest == digest)
                    .order_by(change_requests.c.id),
                    change_requests,
                )
            ).all()
            found = self._find(connection, environment_id, digest)
            if found is None:
                raise NotFoundError(
                    f"no request with the digest {digest} waits there",
                    hint="phasesync envs requests lists those that wait; --all also those that have ended",
                )
            concerned = sa.select(environments.c.id).where(environments.c.id.in_(found.request.environments))
            connection.execute(row_lock(concerned.order_by(environments.c.id), environments)).all()
            return self._get(connection, found.request.id)

    def add_approval(self, request_id: str, *, actor: str, reason: str) -> ChangeRequest:
        """Store an approval; with the last one that is needed the request is approved. The caller has checked who."""
        with self._database.write() as connection:
            row = self._row(connection, request_id)
            details = self._open(row)
            approval = Approval(by=actor, at=from_microseconds(row.clock), reason=reason)
            details = replace(details, approvals=(*details.approvals, approval))
            needed = _needed(details, _approvers(connection, [details]))
            status = RequestStatus.APPROVED if len(details.approvals) >= needed else RequestStatus.OPEN
            self._store(connection, row, status, details)
            held = status is RequestStatus.OPEN
            outcome = AuditOutcome.HELD if held else AuditOutcome.DONE
            self._audit_request(connection, "environment.approve", row.digest, details, outcome=outcome)
            return self._get(connection, request_id).request

    def close(
        self, request_id: str, status: RequestStatus, *, actor: str | None, note: str = ""
    ) -> ChangeRequest | None:
        """
        Store how a request ended, and erase what was proposed.

        Args:
            request_id: of the request.
            status: applied, withdrawn, rejected or lapsed.
            actor: who ended it; None: nobody.
            note: why.

        Returns:
            The request; None if it was removed with its environment.
        """
        with self._database.write() as connection:
            row = connection.execute(_select().where(change_requests.c.id == request_id)).first()
            if row is None:
                return None
            details = self._open(row)
            revisions = {}
            if status is RequestStatus.APPLIED:
                found = connection.execute(
                    sa.select(environments.c.id, environments.c.revision).where(
                        environments.c.id.in_(list(details.environments))
                    )
                )
                revisions = {environment.id: environment.revision for environment in found}
            ended = replace(
                details,
                arguments="",
                needed=_needed(details, _approvers(connection, [details])),
                closed_at=from_microseconds(row.clock),
                closed_by=actor,
                note=note,
                revisions=revisions,
            )
            self._store(connection, row, status, ended)
            self._audit_request(connection, _CLOSED[status], row.digest, details, outcome=AuditOutcome.DONE)
            return self._get(connection, request_id).request

    def lapse(self, *, limit: int = 100) -> int:
        """Note that requests have lapsed, and erase what they proposed; return how many. An altered one is removed."""
        waiting = change_requests.c.status.in_(_WAITING)
        with self._database.write() as connection:
            rows = connection.execute(
                row_lock(
                    _select()
                    .where(waiting, change_requests.c.expires_at <= now())
                    .order_by(change_requests.c.id)
                    .limit(limit),
                    change_requests,
                )
            ).all()
            for row in rows:
                try:
                    details = replace(self._open(row), arguments="", closed_at=row.expires_at)
                except CiphertextError:
                    connection.execute(change_requests.delete().where(change_requests.c.id == row.id))
                else:
                    self._store(connection, row, RequestStatus.LAPSED, details)
                    self._audit_request(
                        connection, _CLOSED[RequestStatus.LAPSED], row.digest, details, outcome=AuditOutcome.DONE
                    )
            return len(rows)

    def prune(self, *, older_than: timedelta) -> int:
        """Delete the requests that ended longer ago than this; return how many."""
        old = change_requests.c.expires_at < before(older_than)
        with self._database.write() as connection:
            return connection.execute(change_requests.delete().where(not_locked(change_requests, old))).rowcount

    def _audit_request(
        self, connection: sa.Connection, action: str, digest: str, details: _Details, *, outcome: AuditOutcome
    ) -> None:
        """Write what happened to a request: one row, whichever environments it concerns."""
        self._audit(
            connection,
            action,
            ", ".join(sorted(details.environments.values())),
            kind=AuditKind.APPROVAL,
            outcome=outcome,
            details={"digest": digest, "asked_by": details.asked_by, "changes": details.changes},
        )

    def _find(self, connection: sa.Connection, environment_id: str, digest: str) -> StoredRequest | None:
        for found in self._waiting(connection, change_requests.c.digest == digest):
            if environment_id in found.request.environments:
                return found
        return None

    def _waiting(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[StoredRequest]:
        """Return requests that may still be carried out. CiphertextError."""
        waiting = change_requests.c.status.in_(_WAITING) & (change_requests.c.expires_at > now())
        rows = connection.execute(_select().where(which, waiting).order_by(change_requests.c.id)).all()
        return [self._stored(connection, row) for row in rows]

    def _row(self, connection: sa.Connection, request_id: str) -> sa.Row[Any]:
        row = connection.execute(_select().where(change_requests.c.id == request_id)).first()
        if row is None:
            raise NotFoundError("the request was removed")
        return row

    def _get(self, connection: sa.Connection, request_id: str) -> StoredRequest:
        return self._stored(connection, self._row(connection, request_id))

    def _store(self, connection: sa.Connection, row: sa.Row[Any], status: RequestStatus, details: _Details) -> None:
        values = {**row._asdict(), "status": status.value, "version": row.version + 1}
        done = connection.execute(
            change_requests.update()
            .where(change_requests.c.id == row.id, change_requests.c.version == row.version)
            .values(
                status=values["status"],
                version=values["version"],
                details=self._keys.encrypt_json(row.data_key_id, request_context(values), details),
            )
        )
        if done.rowcount != 1:
            raise IllegalTransitionError("somebody else decided on the request in the same moment", hint="try again")

    def _open(self, row: sa.Row[Any]) -> _Details:
        try:
            return self._keys.decrypt_json(_Details, request_context(row._asdict()), row.details)
        except (CiphertextError, AttributeError, TypeError):  # SQLite stores a value of any type in any column.
            raise CiphertextError(
                f"the request {row.digest} in table change_requests does not authenticate: it was altered outside "
                "phasesync",
                hint="ask for the change again",
            ) from None

    def _stored(self, connection: sa.Connection, row: sa.Row[Any]) -> StoredRequest:
        details = self._open(row)
        arguments = from_json(ACTIONS[details.action], details.arguments) if details.arguments else None
        return StoredRequest(
            request=_request(row, details, _approvers(connection, [details])),
            arguments=arguments,  # type: ignore[arg-type]
            seen=details.seen,
        )

    def _readable(self, row: sa.Row[Any]) -> _Details | CiphertextError:
        try:
            details = self._open(row)
            to_member(RequestStatus, row.status, "status in table change_requests")
        except CiphertextError as error:
            return error
        return details


def _altered(row: sa.Row[Any], why: str) -> ChangeRequest:
    return ChangeRequest(
        id=row.id,
        digest=str(row.digest),
        status=RequestStatus.OPEN,
        action="?",
        environments={row.environment_id: row.label or "?"},
        changes=(),
        asked_by="?",
        requested_at=row.requested_at,
        expires_at=row.expires_at,
        needed=0,
        error=why,
    )


def _approvers(connection: sa.Connection, requested: Iterable[_Details | CiphertextError]) -> dict[str, int]:
    """
    Return environment id -> how many have to approve a change of it now, of all protected ones of some requests.

    Not authenticated: an altered number can at most ask for more, and whatever changes the environment authenticates
    it.
    """
    ids = {key for details in requested if isinstance(details, _Details) for key in details.environments}
    if not ids:
        return {}
    which = environments.c.id.in_(ids), environments.c.approvers.is_not(None)
    found = connection.execute(sa.select(environments.c.id, environments.c.approvers).where(*which))
    # SQLite stores a value of any type in any column.
    return {row.id: row.approvers for row in found if isinstance(row.approvers, int)}


def _needed(details: _Details, approvers: Mapping[str, int]) -> int:
    """Return how many approvals a request needs: more than at first if one of its environments asks for more by now."""
    return max(details.needed, *(approvers.get(key, 0) for key in details.environments))


def _request(row: sa.Row[Any], details: _Details, approvers: Mapping[str, int]) -> ChangeRequest:
    """Return a request. `approvers`: as `_approvers` returns it; it counts while the request waits."""
    status = to_member(RequestStatus, row.status, "status in table change_requests")
    waits = row.status in _WAITING
    needed = _needed(details, approvers) if waits else details.needed
    lapsed = waits and to_microseconds(row.expires_at) <= row.clock
    if status is RequestStatus.APPROVED and len(details.approvals) < needed:
        status = RequestStatus.OPEN
    return ChangeRequest(
        id=row.id,
        digest=row.digest,
        status=RequestStatus.LAPSED if lapsed else status,
        action=details.action,
        environments=details.environments,
        changes=details.changes,
        asked_by=details.asked_by,
        requested_at=row.requested_at,
        expires_at=row.expires_at,
        needed=needed,
        approvals=details.approvals,
        command=details.command,
        closed_at=details.closed_at,
        closed_by=details.closed_by,
        note=details.note,
        revisions=details.revisions,
    )


@cache
def _select() -> sa.Select[Any]:
    return sa.select(
        change_requests, environments.c.data_key_id, environments.c.name.label("label"), now().label("clock")
    ).outerjoin_from(change_requests, environments)  # An altered reference must not hide the row.


def request_context(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the details of a request are bound to."""
    bound = ("environment_id", "digest", "status")
    times = (str(to_microseconds(values[name])) for name in ("requested_at", "expires_at"))
    return (
        "change_requests",
        values["id"],
        "details",
        str(values["version"]),
        *(str(values[name]) for name in bound),
        *times,
    )
