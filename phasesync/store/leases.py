"""
Leases: steps of their state machine under a claim, and the log of each lease.

A step is read, decided and stored in one transaction with the database's time, so that a renewal and an expiry cannot
both succeed. The claim is on the lease's own row; its fence keeps a stale holder from writing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from phasesync.core.alert import Ended, SubjectKind
from phasesync.core.audit import AuditKind, AuditOutcome
from phasesync.core.dynamic import DynamicSecret
from phasesync.core.lease import CLOCK_AHEAD, ENDED, Lease, LeaseStatus, is_reusable
from phasesync.core.lease_claim import (
    ClaimedLease,
    Entry,
    KeptLease,
    LeaseClaim,
    LeaseEvent,
    LeaseRecord,
    MakeEntry,
    MakeOrder,
    Outputs,
    Step,
)
from phasesync.core.notification_message import Condition
from phasesync.core.pages import PAGE_SIZE, Page, each_page, page_of
from phasesync.errors import (
    CiphertextError,
    ClaimHeldError,
    ClaimLostError,
    IllegalTransitionError,
    NotFoundError,
    StalePlanError,
)
from phasesync.store.alert_rows import end_alerts, open_alert
from phasesync.store.base import BaseStore, from_pair_cursor, full_id, new_id, to_pair_cursor
from phasesync.store.database import Database, row_lock
from phasesync.store.db_time import LONGEST_WAIT, after, before, from_microseconds, next_fence, now
from phasesync.store.dynamic import find_dynamic
from phasesync.store.instance import read_registry
from phasesync.store.key_ring import KeyRing
from phasesync.store.lease_rows import (
    check_live_leases_mac,
    decrypt_outputs,
    drop_live_lease,
    encrypt_outputs,
    insert_event,
    is_authentic,
    live_leases_mac,
    load_live_leases,
    revocable_columns,
    select_leases,
    to_columns,
    to_lease,
    to_listed_lease,
    to_record,
)
from phasesync.store.tables import (
    LEASE_IS_LIVE,
    apps,
    credentials,
    dynamic_secrets,
    environments,
    lease_events,
    leases,
)

_ID_CHARACTERS: Final = 16
_CLEARED: Final = {"claim_owner": None, "claim_until": None}
_REVOCABLE: Final = (LeaseStatus.REQUESTED, LeaseStatus.ISSUING, LeaseStatus.REVOKING, LeaseStatus.REVOKE_FAILED)
"""A daemon acts on an unclaimed lease in one of these statuses once its pause is over; see `core.lease.is_due`."""
_due_since: Final = sa.func.coalesce(leases.c.retry_at, leases.c.expires_at)


_AUDITED: Final = {
    LeaseEvent.ISSUED: ("lease.issue", AuditOutcome.DONE),
    LeaseEvent.GIVEN_AGAIN: ("lease.issue", AuditOutcome.DONE),
    LeaseEvent.RENEWED: ("lease.renew", AuditOutcome.DONE),
    LeaseEvent.ISSUE_FAILED: ("lease.issue", AuditOutcome.FAILED),
    LeaseEvent.REVOKED: ("lease.revoke", AuditOutcome.DONE),
    LeaseEvent.EXPIRED: ("lease.expire", AuditOutcome.DONE),
    LeaseEvent.REVOKE_FAILED: ("lease.revoke", AuditOutcome.FAILED),
    LeaseEvent.MISSING: ("lease.revoke", AuditOutcome.HELD),
    LeaseEvent.LEFT_OVER: ("lease.reap", AuditOutcome.DONE),
}
"""What happened to a lease -> its action in the audit log, and how it ended."""


class LeaseStore(BaseStore):
    """Leases of dynamic secrets."""

    def __init__(self, database: Database, keys: KeyRing, *, ttl: timedelta) -> None:
        """
        Args:
            database: an initialised database.
            keys: its key ring.
            ttl: how long a claim lasts unless it is extended; longer than any call to AWS.
        """
        super().__init__(database, keys)
        self._ttl = ttl

    # --- steps

    def request(
        self,
        dynamic: DynamicSecret,
        make_spec: MakeOrder,
        *,
        ttl: timedelta,
        owner: str,
        for_keep: bool = False,
    ) -> tuple[LeaseClaim, Lease]:
        """
        Store that a lease is requested, before any call to AWS, and claim it.

        Args:
            dynamic: the dynamic secret, as it was read.
            make_spec: makes the lease's spec from its id and maximum end.
            ttl: life of the lease from now; limited by the maximum of the dynamic secret.
            owner: holder of the claim.
            for_keep: refuse if a kept lease can be reused, or if another process is issuing one: of several processes
                that ask at the same time, one issues it.

        Raises:
            NotFoundError: the dynamic secret was removed.
            StalePlanError: it was changed meanwhile.
            IllegalTransitionError: it has the maximum number of live leases.
            ClaimHeldError: with `for_keep`: a kept lease can be reused now, or another process is issuing one.
        """
        with self._database.write() as connection:
            row = find_dynamic(connection, dynamic.name, lock=True)
            if (row.id, row.version) != (dynamic.id, dynamic.version):
                raise StalePlanError(
                    f"the dynamic secret {dynamic.name} was changed meanwhile", hint="repeat the command"
                )
            read_registry(connection, self._keys).check(dynamic_secrets, row)
            ids = load_live_leases(connection, [row.id])[row.id]
            check_live_leases_mac(self._keys, row, ids)
            if for_keep:
                # Under the lock on the dynamic secret: the next process that asks finds the row of this lease.
                self._refuse_second_for_keep(connection, dynamic)
            live = len(ids)
            if live >= (cap := dynamic.config.max_leases):
                live -= sum(lease.replaced for lease in self._live(connection, row.id))
            if live >= cap:
                raise IllegalTransitionError(
                    f"the dynamic secret {dynamic.name} has {live} live leases, and may have {cap}",
                    hint=f"phasesync leases list --dynamic {dynamic.name}, then leases revoke LEASE; or: "
                    f"phasesync dynamic update {dynamic.name} --max-leases N",
                )
            clock = from_microseconds(connection.scalar(sa.select(now())) or 0)
            lease_id, most = new_id()[:_ID_CHARACTERS], clock + dynamic.config.max_ttl
            lease = Lease(
                id=lease_id,
                dynamic_id=dynamic.id,
                dynamic=row.name,
                issuer=dynamic.issuer,
                credential_id=dynamic.credential_id,
                status=LeaseStatus.REQUESTED,
                spec=make_spec(lease_id, most),
                requested_at=clock,
                expires_at=min(clock + ttl, most),
                max_expires_at=most,
                for_keep=for_keep,
            )
            columns = to_columns(lease, self._keys, row.data_key_id)
            connection.execute(
                leases.insert().values(**columns, fence=1, claim_owner=owner, claim_until=after(self._ttl))
            )
            connection.execute(
                dynamic_secrets.update()
                .where(dynamic_secrets.c.id == row.id)
                .values(leases_mac=live_leases_mac(self._keys, row.id, [*ids, lease_id]))
            )
        return LeaseClaim(lease_id=lease_id, owner=owner, fence=1), lease

    def _refuse_second_for_keep(self, connection: sa.Connection, dynamic: DynamicSecret) -> None:
        """Raise ClaimHeldError if a kept lease can be reused, or another process is issuing one."""
        in_progress = leases.c.status.in_((LeaseStatus.REQUESTED, LeaseStatus.ISSUING)) & ~_free()
        if any(lease.for_keep for lease in self._live(connection, dynamic.id, in_progress)):
            raise ClaimHeldError(
                f"another process is issuing a lease of {dynamic.name} to be kept", hint="repeat the command"
            )
        # In this order: a lease that was in progress during the first statement exists for the second.
        if self._kept(connection, dynamic) is not None:
            raise ClaimHeldError(
                f"another process has just issued a lease of {dynamic.name}", hint="repeat the command"
            )

    def _live(
        self, connection: sa.Connection, dynamic_id: str, which: sa.ColumnElement[bool] | None = None
    ) -> Iterator[Lease]:
        """Yield the live leases of a dynamic secret that authenticate."""
        live = select_leases().where(leases.c.dynamic_id == dynamic_id, LEASE_IS_LIVE)
        for row in connection.execute(live if which is None else live.where(which)).all():
            with suppress(CiphertextError):
                yield to_lease(row, self._keys)

    def save(
        self,
        claim: LeaseClaim,
        step: Step,
        *,
        entry: Entry | MakeEntry | None = None,
        keep: Outputs | None = None,
        done: bool = False,
    ) -> Lease:
        """
        Apply a step to a claimed lease, in one transaction.

        Args:
            claim: the claim; this extends it, or releases it with `done`.
            step: the step.
            entry: an entry for the lease's log, or a function that makes it from the new lease.
            keep: issued values to store with the lease, encrypted; they are deleted when it ends.
            done: release the claim.

        Raises:
            ClaimLostError: a successor has the claim; nothing is stored.
            IllegalTransitionError: the step is not possible in the lease's status.
        """
        with self._database.write() as connection:
            row = connection.execute(row_lock(select_leases().where(_held_by(claim)), leases)).first()
            if row is None:
                raise ClaimLostError
            claimed = _CLEARED if done else {"claim_until": after(self._ttl)}
            return self._step(connection, row, step, entry, keep=keep, **claimed)

    def change(self, lease_id: str, step: Step, *, entry: Entry | MakeEntry | None = None) -> Lease:
        """Apply a step without a claim, since it needs no call to AWS. NotFoundError; errors of the step."""
        with self._database.write() as connection:
            row = connection.execute(row_lock(select_leases().where(leases.c.id == lease_id), leases)).first()
            if row is None:
                raise _unknown(lease_id)
            return self._step(connection, row, step, entry)

    def _step(
        self,
        connection: sa.Connection,
        row: sa.Row[Any],
        step: Step,
        entry: Entry | MakeEntry | None,
        *,
        keep: Outputs | None = None,
        **columns: Any,
    ) -> Lease:
        # Read once the row is locked: a statement that waited for the lock knows only the time before.
        lease = step(to_lease(row, self._keys), from_microseconds(connection.scalar(sa.select(now())) or 0))
        if keep is not None and lease.kept:
            columns["kept"] = encrypt_outputs(row.id, keep, self._keys, row.data_key_id)
        elif not lease.kept:
            columns["kept"] = None
        values = to_columns(lease, self._keys, row.data_key_id) | columns
        connection.execute(leases.update().where(leases.c.id == row.id).values(**values))
        if not lease.live:
            drop_live_lease(connection, self._keys, row.dynamic_id, row.id)
        _alert(connection, lease)
        if (log_entry := entry(lease) if callable(entry) else entry) is not None:
            self._log(connection, row, log_entry)
        return lease

    def _log(self, connection: sa.Connection, row: sa.Row[Any], entry: Entry) -> None:
        insert_event(
            connection,
            self._keys,
            row.data_key_id,
            row.id,
            event=entry.event,
            actor=entry.actor,
            detail=entry.detail,
        )
        action, outcome = _AUDITED[entry.event]
        details = {"event": entry.event} | ({} if entry.detail is None else {"detail": entry.detail})
        self._audit(
            connection,
            action,
            f"{row.dynamic}/{row.id}",
            kind=AuditKind.LEASE,
            outcome=outcome,
            details=details,
            actor=entry.actor,
        )

    # --- claims

    def extend(self, claim: LeaseClaim) -> None:
        """Extend a claim before a call to AWS. ClaimLostError if a successor has it."""
        with self._database.write() as connection:
            # Locked first: a statement that waits for the lock would use the time before.
            if connection.scalar(row_lock(sa.select(leases.c.id).where(_held_by(claim)), leases)) is None:
                raise ClaimLostError(f"the lease {claim.lease_id} passed to another process")
            connection.execute(
                leases.update().where(leases.c.id == claim.lease_id).values(claim_until=after(self._ttl))
            )

    def claim(self, lease_id: str, owner: str) -> ClaimedLease:
        """Claim one lease. NotFoundError; ClaimHeldError while another process works on it."""
        with self._database.write() as connection:
            rows = self._claim_rows(connection, owner, (leases.c.id == lease_id) & _free())
            if rows:
                return self._claimed(rows[0], owner)
            holder = connection.execute(sa.select(leases.c.claim_owner).where(leases.c.id == lease_id)).first()
        if holder is None:
            raise _unknown(lease_id)
        raise ClaimHeldError(f"the lease {lease_id} is being worked on by {holder.claim_owner}")

    def claim_due(self, owner: str, *, limit: int, again: int, restored: bool) -> list[ClaimedLease]:
        """
        Claim leases that a daemon has to act on (`core.lease.is_due`).

        First those that have not failed yet, so that many failures do not delay others; of each kind those that have
        been due longest.

        Args:
            owner: the daemon.
            limit: maximum number of leases.
            again: how many of them may have failed before.
            restored: this database may be older than AWS.
        """
        due = _is_due(restored)
        # Nearly always nothing is due: this read locks nothing.
        with self._database.read() as connection:
            if connection.scalar(sa.select(leases.c.id).where(due).limit(1)) is None:
                return []
        failed = leases.c.status == LeaseStatus.REVOKE_FAILED
        with self._database.write() as connection:
            rows = self._claim_first(connection, owner, due & ~failed, limit)
            rows += self._claim_first(connection, owner, due & failed, min(again, limit - len(rows)))
            return [self._claimed(row, owner) for row in rows]

    def drop_altered(self, lease_id: str) -> None:
        """
        Delete a lease with a row that does not authenticate, since nothing in it can be trusted.

        NotFoundError; IllegalTransitionError if the row authenticates.
        """
        with self._database.write() as connection:
            row = connection.execute(row_lock(select_leases().where(leases.c.id == lease_id), leases)).first()
            if row is None:
                raise _unknown(lease_id)
            try:
                to_lease(row, self._keys)
            except CiphertextError:
                connection.execute(leases.delete().where(leases.c.id == lease_id))
                drop_live_lease(connection, self._keys, row.dynamic_id, lease_id)
                self._audit(connection, "lease.drop", f"{row.dynamic}/{lease_id}", kind=AuditKind.LEASE)
                return
            raise IllegalTransitionError(f"the lease {lease_id} is as we wrote it")

    def release(self, claim: LeaseClaim) -> None:
        """Release a claim; the lease stays as due as it was."""
        with self._database.write() as connection:
            connection.execute(leases.update().where(_held_by(claim)).values(**_CLEARED))

    def defer(self, claim: LeaseClaim, pause: timedelta) -> None:
        """
        Release the claim of a lease that does not authenticate, and make it due again after a pause.

        If only its status or times were altered, its spec is known: there is no pause, and it is revoked.
        """
        with self._database.write() as connection:
            row = connection.execute(row_lock(select_leases().where(_held_by(claim)), leases)).first()
            if row is None:
                return
            # The pause has no effect in status active, so the lease gets the status of a failed revocation.
            values = revocable_columns(row, self._keys) or {"status": LeaseStatus.REVOKE_FAILED}
            if "mac" in values and not is_authentic(self._keys, row):
                pause = timedelta(0)
            connection.execute(
                leases.update().where(leases.c.id == row.id).values(**_CLEARED, **values, retry_at=after(pause))
            )

    def _claim_first(
        self, connection: sa.Connection, owner: str, which: sa.ColumnElement[bool], limit: int
    ) -> list[sa.Row[Any]]:
        """Claim the leases that have been due longest."""
        if limit < 1:
            return []
        first = (
            sa.select(leases.c.id)
            .where(which)
            .order_by(_due_since)
            .limit(limit)
            .with_for_update(skip_locked=True, of=leases, key_share=True)
            .cte("due")
        )
        rows = self._claim_rows(connection, owner, leases.c.id.in_(sa.select(first.c.id)))
        return sorted(rows, key=lambda row: row.retry_at or row.expires_at)

    def _claim_rows(
        self, connection: sa.Connection, owner: str, which: sa.ColumnElement[bool]
    ) -> Sequence[sa.Row[Any]]:
        taken = list(
            connection.scalars(
                leases.update()
                .where(which)
                .values(claim_owner=owner, claim_until=after(self._ttl), fence=next_fence(leases.c.fence))
                .returning(leases.c.id)
            )
        )
        return connection.execute(select_leases().where(leases.c.id.in_(taken))).all() if taken else []

    def _claimed(self, row: sa.Row[Any], owner: str) -> ClaimedLease:
        claim = LeaseClaim(lease_id=row.id, owner=owner, fence=row.fence)
        try:
            return ClaimedLease(claim=claim, lease=to_lease(row, self._keys))
        except CiphertextError as error:
            return ClaimedLease(claim=claim, lease=None, error=error.message)

    # --- reading

    def get(self, lease_id: str) -> Lease:
        """Return one lease. NotFoundError."""
        with self._database.read() as connection:
            row = connection.execute(select_leases().where(leases.c.id == lease_id)).first()
        if row is None:
            raise _unknown(lease_id)
        return to_lease(row, self._keys)

    def full_id(self, prefix: str) -> str:
        """Return the id of the only lease that begins with a prefix. NotFoundError, InvalidInputError."""
        with self._database.read() as connection:
            lease_id = full_id(connection, leases.c.id, prefix, kind="lease", lists="phasesync leases list --all")
        if lease_id is None:
            raise _unknown(prefix)
        return lease_id

    def page_leases(
        self,
        *,
        dynamic: str | None = None,
        credential: str | None = None,
        environment: tuple[str, str] | None = None,
        ended: bool = False,
        after: str | None = None,
        limit: int = PAGE_SIZE,
    ) -> Page[Lease]:
        """
        Return leases, newest first.

        Args:
            dynamic: name of a dynamic secret; None means all.
            credential: name of the credential that issued them; None means any.
            environment: (app, environment); None means any.
            ended: include ended leases.
            after: a cursor; None means from the beginning.
            limit: maximum number.

        Raises:
            NotFoundError: the dynamic secret. An unknown credential or environment gives an empty list.
            InvalidInputError: the cursor.
        """
        statement = select_leases().order_by(leases.c.requested_at.desc(), leases.c.id.desc()).limit(limit + 1)
        with self._database.read() as connection:
            if dynamic is not None:
                statement = statement.where(leases.c.dynamic_id == find_dynamic(connection, dynamic).id)
            if credential is not None:
                made_by = sa.select(credentials.c.id).where(credentials.c.name_key == credential.lower())
                statement = statement.where(leases.c.credential_id.in_(made_by))
            if environment is not None:
                app, name = environment
                statement = statement.join(apps, apps.c.id == environments.c.app_id).where(
                    apps.c.name_key == app.lower(), environments.c.name_key == name.lower()
                )
            if not ended:
                statement = statement.where(LEASE_IS_LIVE)
            if after is not None:
                at, lease_id = from_pair_cursor(after)
                place = sa.tuple_(sa.literal(at, sa.BigInteger), sa.literal(lease_id, sa.String))
                statement = statement.where(sa.tuple_(leases.c.requested_at, leases.c.id) < place)
            rows = connection.execute(statement).all()
        return page_of(
            rows,
            limit,
            lambda row: to_listed_lease(row, self._keys),
            lambda row: to_pair_cursor(row.requested_at, row.id),
        )

    def list_leases(
        self,
        *,
        dynamic: str | None = None,
        credential: str | None = None,
        environment: tuple[str, str] | None = None,
        ended: bool = False,
        limit: int | None = None,
    ) -> list[Lease]:
        """
        Return the leases that `page_leases` pages through, up to `limit`; None means all.

        There are few live ones: AWS allows 5,000 IAM users in an account.
        """
        pages = each_page(
            lambda after, size: self.page_leases(
                dynamic=dynamic, credential=credential, environment=environment, ended=ended, after=after, limit=size
            ),
            limit=limit,
        )
        return [lease for page in pages for lease in page.items]

    def statuses(self, lease_ids: Sequence[str]) -> Mapping[str, LeaseStatus]:
        """Return lease id -> status of the leases that exist and authenticate."""
        statuses: dict[str, LeaseStatus] = {}
        with self._database.read() as connection:
            for start in range(0, len(lease_ids), _IDS_PER_STATEMENT):
                batch = list(lease_ids[start : start + _IDS_PER_STATEMENT])
                for row in connection.execute(select_leases().where(leases.c.id.in_(batch))):
                    try:
                        statuses[row.id] = to_lease(row, self._keys).status
                    except CiphertextError:
                        continue  # An altered row is not trusted; the tags of the IAM user hold its end.
        return statuses

    def kept(self, dynamic: DynamicSecret) -> KeptLease | None:
        """Return a lease with kept values and enough life left; None if there is no such lease."""
        with self._database.read() as connection:
            reusable = self._kept(connection, dynamic)
        return None if reusable is None else reusable[1]

    def reuse(self, dynamic: DynamicSecret, *, actor: str) -> KeptLease | None:
        """Return what `kept` returns, and log that the values were issued again."""
        with self._database.write() as connection:
            # The set of leases does not change while their dynamic secret is locked.
            connection.execute(row_lock(sa.select(dynamic_secrets.c.id).where(dynamic_secrets.c.id == dynamic.id)))
            reusable = self._kept(connection, dynamic)
            if reusable is None:
                return None
            row, kept_lease = reusable
            self._log(connection, row, Entry(event=LeaseEvent.GIVEN_AGAIN, actor=actor))
        return kept_lease

    def _kept(self, connection: sa.Connection, dynamic: DynamicSecret) -> tuple[sa.Row[Any], KeptLease] | None:
        active = (leases.c.dynamic_id == dynamic.id) & (leases.c.status == LeaseStatus.ACTIVE)
        kept = select_leases().where(active, leases.c.kept.is_not(None)).order_by(leases.c.expires_at.desc())
        current = connection.execute(sa.select(dynamic_secrets).where(dynamic_secrets.c.id == dynamic.id)).first()
        if current is not None:
            check_live_leases_mac(self._keys, current, load_live_leases(connection, [dynamic.id])[dynamic.id])
        for row in connection.execute(kept).all():
            try:
                lease = to_lease(row, self._keys)
                if is_reusable(lease, from_microseconds(row.clock)):
                    return row, KeptLease(lease=lease, outputs=decrypt_outputs(row.id, row.kept, self._keys))
            except CiphertextError:
                continue  # An altered lease hides no other, and is never reused.
        return None

    def records(self, lease_id: str) -> list[LeaseRecord]:
        """Return the log of a lease, oldest first. NotFoundError."""
        with self._database.read() as connection:
            if connection.scalar(sa.select(leases.c.id).where(leases.c.id == lease_id)) is None:
                raise _unknown(lease_id)
            rows = connection.execute(
                sa.select(lease_events).where(lease_events.c.lease_id == lease_id).order_by(lease_events.c.number)
            ).all()
        return [to_record(row, self._keys) for row in rows]

    def prune(self, *, older_than: timedelta, limit: int = 500) -> int:
        """
        Delete up to `limit` leases that ended longer ago than this, with their log, in one short transaction.

        Returns:
            How many were deleted. Fewer than `limit`: no more can be deleted now.
        """
        old = leases.c.status.in_(ENDED) & (leases.c.ended_at < before(older_than))
        first = sa.select(leases.c.id).where(old).order_by(leases.c.ended_at).limit(limit)
        with self._database.write() as connection:
            return connection.execute(
                leases.delete().where(leases.c.id.in_(first.with_for_update(skip_locked=True, of=leases)))
            ).rowcount


def _is_due(restored: bool) -> sa.ColumnElement[bool]:
    """Return `core.lease.is_due` as SQL, for leases that are not claimed."""
    end = leases.c.max_expires_at <= now()
    if not restored:
        end |= leases.c.expires_at <= now()
    over = (leases.c.status == LeaseStatus.ACTIVE) & (end | (leases.c.requested_at > after(CLOCK_AHEAD)))
    # A pause longer than any possible one was stored by a clock that was ahead and has been set back since.
    pause_over = leases.c.retry_at.is_(None) | (leases.c.retry_at <= now()) | (leases.c.retry_at > after(LONGEST_WAIT))
    # An unknown status is an alteration: the row is claimed, and the alteration is reported.
    revocable = leases.c.status.in_(_REVOCABLE) | leases.c.status.not_in(tuple(LeaseStatus))
    return _free() & (over | (revocable & pause_over))


def _free() -> sa.ColumnElement[bool]:
    until = leases.c.claim_until
    return leases.c.claim_owner.is_(None) | until.is_(None) | (until < now()) | (until > after(LONGEST_WAIT))


def _held_by(claim: LeaseClaim) -> sa.ColumnElement[bool]:
    """Return the condition that a claim is valid. The fence decides: an expired claim without a successor is valid."""
    return (leases.c.id == claim.lease_id) & (leases.c.fence == claim.fence) & (leases.c.claim_owner == claim.owner)


def _unknown(lease_id: str) -> NotFoundError:
    return NotFoundError(f"there is no lease {lease_id}", hint="phasesync leases list --all")


_IDS_PER_STATEMENT: Final = 500
"""Ids in one statement."""


def _alert(connection: sa.Connection, lease: Lease) -> None:
    """Open an alert with the first failure to revoke a lease, and end it with the lease. Time opens others."""
    failed = lease.status is LeaseStatus.REVOKE_FAILED
    if failed and lease.failures <= 1:
        open_alert(connection, Condition.LEASE_OVERDUE, SubjectKind.LEASE, lease.id, f"{lease.dynamic}/{lease.id}")
    elif not lease.live and lease.failures:
        end_alerts(connection, [lease.id], Ended.OVER)
