"""
Leases: steps of the state machine under a claim, and the log of what was done.

A step is read, decided and stored in one transaction, with the database's time, so that a renewal and the end that it
comes too late for do not pass each other by. The claim is on the lease's own row; its fence lets a stale holder write
nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

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
from phasesync.errors import (
    CiphertextError,
    ClaimHeldError,
    ClaimLostError,
    IllegalTransitionError,
    NotFoundError,
    StalePlanError,
)
from phasesync.store.base import BaseStore, full_id, new_id
from phasesync.store.database import Database, not_locked, row_lock
from phasesync.store.db_time import LONGEST_WAIT, after, before, from_microseconds, next_fence, now
from phasesync.store.dynamic import find_dynamic
from phasesync.store.instance import read_registry
from phasesync.store.keys import KeyRing
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
"""In these a lease that nobody is at work on is a daemon's, once its pause is over; `core.lease.is_due`."""
_due_since: Final = sa.func.coalesce(leases.c.retry_at, leases.c.expires_at)


class LeaseStore(BaseStore):
    """Leases (port `LeaseStore`)."""

    def __init__(self, database: Database, keys: KeyRing, *, ttl: timedelta) -> None:
        """
        Args:
            database: where they are.
            keys: open it.
            ttl: life of a claim that is not prolonged; longer than any call takes.
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
        Note that a lease is wanted, before anything is called, and claim it.

        Args:
            dynamic: the recipe, as it was read.
            make_spec: makes what it is made of.
            ttl: how long it lives, counted from now; no longer than the recipe's maximum, whatever this says.
            owner: who is at work on it.
            for_keep: only where no kept lease may be given again, and nobody else is making one: of those that ask at
                once, one makes it.

        Raises:
            NotFoundError: the dynamic secret was removed.
            StalePlanError: it was changed meanwhile.
            IllegalTransitionError: it has as many live leases as it may have.
            ClaimHeldError: with `for_keep`: there is one to be given again by now, or another process is making one.
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
                # Under the lock on the recipe's row: whoever asks next finds the row of this one.
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
        """Raise ClaimHeldError where a kept lease may be given again, or another process is making one."""
        made = leases.c.status.in_((LeaseStatus.REQUESTED, LeaseStatus.ISSUING)) & ~_free()
        if any(lease.for_keep for lease in self._live(connection, dynamic.id, made)):
            raise ClaimHeldError(
                f"another process is issuing a lease of {dynamic.name} to be kept", hint="repeat the command"
            )
        # In this order: one that was being made when the first statement looked is there by the second.
        if self._kept(connection, dynamic) is not None:
            raise ClaimHeldError(
                f"another process has just issued a lease of {dynamic.name}", hint="repeat the command"
            )

    def _live(
        self, connection: sa.Connection, dynamic_id: str, which: sa.ColumnElement[bool] | None = None
    ) -> Iterator[Lease]:
        """Yield the live leases of a dynamic secret, but for those that do not authenticate."""
        live = select_leases().where(leases.c.dynamic_id == dynamic_id, leases.c.status.not_in(ENDED))
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
        Take a step of a claimed lease, in one transaction.

        Args:
            claim: the right to do it; prolonged by this, or given back where the lease is done.
            step: the step.
            entry: goes into its log; one that depends on what becomes of the lease is made from it.
            keep: values to store with it, encrypted; they go with the end of the lease.
            done: give the claim back.

        Raises:
            ClaimLostError: a successor has the claim; nothing is stored.
            IllegalTransitionError: the step is none that the lease can take.
        """
        with self._database.write() as connection:
            row = connection.execute(row_lock(select_leases().where(_held_by(claim)), leases)).first()
            if row is None:
                raise ClaimLostError
            claimed = _CLEARED if done else {"claim_until": after(self._ttl)}
            return self._step(connection, row, step, entry, keep=keep, **claimed)

    def change(self, lease_id: str, step: Step, *, entry: Entry | MakeEntry | None = None) -> Lease:
        """Take a step that needs no claim, since nothing is called for it. NotFoundError; what the step raises."""
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
        # Asked for once the row is locked: a statement that waited for that knows the time from before.
        lease = step(to_lease(row, self._keys), from_microseconds(connection.scalar(sa.select(now())) or 0))
        if keep is not None and lease.kept:
            columns["kept"] = encrypt_outputs(row.id, keep, self._keys, row.data_key_id)
        elif not lease.kept:
            columns["kept"] = None
        values = to_columns(lease, self._keys, row.data_key_id) | columns
        connection.execute(leases.update().where(leases.c.id == row.id).values(**values))
        if not lease.live:
            drop_live_lease(connection, self._keys, row.dynamic_id, row.id)
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

    # --- claims

    def extend(self, claim: LeaseClaim) -> None:
        """Prolong a claim, before a call. ClaimLostError when a successor has it."""
        with self._database.write() as connection:
            # Locked first: a statement that has to wait for the lock would go by the time from before.
            if connection.scalar(row_lock(sa.select(leases.c.id).where(_held_by(claim)), leases)) is None:
                raise ClaimLostError(f"the lease {claim.lease_id} passed to another process")
            connection.execute(
                leases.update().where(leases.c.id == claim.lease_id).values(claim_until=after(self._ttl))
            )

    def claim(self, lease_id: str, owner: str) -> ClaimedLease:
        """Claim one lease. NotFoundError; ClaimHeldError while another process is at work on it."""
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

        Those first that have not failed yet, so that many that cannot be taken back keep nobody waiting; of each kind
        those that have been due longest.

        Args:
            owner: the daemon.
            limit: how many.
            again: how many of these may be such that failed before.
            restored: this database may be older than AWS.
        """
        due = _is_due(restored)
        # Nearly always nothing is due: a look locks nothing.
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
        Delete a lease whose row does not authenticate, since nothing that it says can be believed.

        NotFoundError; IllegalTransitionError for one that does authenticate.
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
                return
            raise IllegalTransitionError(f"the lease {lease_id} is as we wrote it")

    def release(self, claim: LeaseClaim) -> None:
        """Give a claim back; the lease stays as due as it was."""
        with self._database.write() as connection:
            connection.execute(leases.update().where(_held_by(claim)).values(**_CLEARED))

    def defer(self, claim: LeaseClaim, pause: timedelta) -> None:
        """
        Look at a lease whose row does not authenticate again after a pause; gives the claim back.

        Where only its state was altered, it is known what it is made of: its pause ends now, and it is revoked.
        """
        with self._database.write() as connection:
            row = connection.execute(row_lock(select_leases().where(_held_by(claim)), leases)).first()
            if row is None:
                return
            # Of an active one the pause is not heeded; it stands for one that is being revoked.
            values = revocable_columns(row, self._keys) or {"status": LeaseStatus.REVOKE_FAILED}
            if "mac" in values and not is_authentic(self._keys, row):
                pause = timedelta(0)
            connection.execute(
                leases.update().where(leases.c.id == row.id).values(**_CLEARED, **values, retry_at=after(pause))
            )

    def _claim_first(
        self, connection: sa.Connection, owner: str, which: sa.ColumnElement[bool], limit: int
    ) -> list[sa.Row[Any]]:
        """Claim those that have been due longest."""
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

    def full_id(self, given: str) -> str:
        """Return the id of the one lease that begins with what was given. NotFoundError, InvalidInputError."""
        with self._database.read() as connection:
            found = full_id(connection, leases.c.id, given, what="lease", lists="phasesync leases list --all")
        if found is None:
            raise _unknown(given)
        return found

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
        Return leases, those that were asked for last first.

        Args:
            dynamic: name of a dynamic secret; None = of all.
            credential: name of the credential that made them; None = whichever.
            environment: (app, environment); None = whichever.
            ended: those that have ended too.
            limit: at most so many; None = all.

        Raises:
            NotFoundError: the dynamic secret. Of a credential or environment that does not exist there are none.
        """
        statement = select_leases().order_by(leases.c.requested_at.desc(), leases.c.id).limit(limit)
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
                statement = statement.where(leases.c.status.not_in(ENDED))
            rows = connection.execute(statement).all()
        return [to_listed_lease(row, self._keys) for row in rows]

    def statuses(self, lease_ids: Sequence[str]) -> Mapping[str, LeaseStatus]:
        """Return lease id -> status, of those that exist and whose row authenticates."""
        found: dict[str, LeaseStatus] = {}
        with self._database.read() as connection:
            for start in range(0, len(lease_ids), _IDS_PER_STATEMENT):
                some = list(lease_ids[start : start + _IDS_PER_STATEMENT])
                for row in connection.execute(select_leases().where(leases.c.id.in_(some))):
                    try:
                        found[row.id] = to_lease(row, self._keys).status
                    except CiphertextError:
                        continue  # Nothing that it says is believed; the user's own tags say when it is over.
        return found

    def kept(self, dynamic: DynamicSecret) -> KeptLease | None:
        """Return a lease whose secret key is kept and that has enough of its life left; None = there is none."""
        with self._database.read() as connection:
            found = self._kept(connection, dynamic)
        return None if found is None else found[1]

    def reuse(self, dynamic: DynamicSecret, *, actor: str) -> KeptLease | None:
        """Return what `kept` returns, and note that it was issued once more."""
        with self._database.write() as connection:
            # Which leases there are does not change while their recipe is locked.
            connection.execute(row_lock(sa.select(dynamic_secrets.c.id).where(dynamic_secrets.c.id == dynamic.id)))
            found = self._kept(connection, dynamic)
            if found is None:
                return None
            row, given = found
            self._log(connection, row, Entry(event=LeaseEvent.GIVEN_AGAIN, actor=actor))
        return given

    def _kept(self, connection: sa.Connection, dynamic: DynamicSecret) -> tuple[sa.Row[Any], KeptLease] | None:
        active = (leases.c.dynamic_id == dynamic.id) & (leases.c.status == LeaseStatus.ACTIVE)
        kept = select_leases().where(active, leases.c.kept.is_not(None)).order_by(leases.c.expires_at.desc())
        recipe = connection.execute(sa.select(dynamic_secrets).where(dynamic_secrets.c.id == dynamic.id)).first()
        if recipe is not None:
            check_live_leases_mac(self._keys, recipe, load_live_leases(connection, [dynamic.id])[dynamic.id])
        for row in connection.execute(kept).all():
            try:
                lease = to_lease(row, self._keys)
                if is_reusable(lease, from_microseconds(row.clock)):
                    return row, KeptLease(lease=lease, outputs=decrypt_outputs(row.id, row.kept, self._keys))
            except CiphertextError:
                continue  # What somebody altered hides no other, and is given to nobody.
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

    def prune(self, *, older_than: timedelta) -> int:
        """Delete leases that ended longer ago than that, with their log; return how many."""
        old = leases.c.status.in_(ENDED) & (leases.c.ended_at < before(older_than))
        with self._database.write() as connection:
            return connection.execute(leases.delete().where(not_locked(leases, old))).rowcount


def _is_due(restored: bool) -> sa.ColumnElement[bool]:
    """Return `core.lease.is_due` of leases that nobody is at work on, in SQL."""
    end = leases.c.max_expires_at <= now()
    if not restored:
        end |= leases.c.expires_at <= now()
    over = (leases.c.status == LeaseStatus.ACTIVE) & (end | (leases.c.requested_at > after(CLOCK_AHEAD)))
    # A pause beyond what any can be comes of a clock that was ahead and has been set back since.
    pause_over = leases.c.retry_at.is_(None) | (leases.c.retry_at <= now()) | (leases.c.retry_at > after(LONGEST_WAIT))
    # A status that there is not was put there by somebody: the row is looked at, and noted for what it is.
    revocable = leases.c.status.in_(_REVOCABLE) | leases.c.status.not_in(tuple(LeaseStatus))
    return _free() & (over | (revocable & pause_over))


def _free() -> sa.ColumnElement[bool]:
    until = leases.c.claim_until
    return leases.c.claim_owner.is_(None) | until.is_(None) | (until < now()) | (until > after(LONGEST_WAIT))


def _held_by(claim: LeaseClaim) -> sa.ColumnElement[bool]:
    """Return the condition that a claim is still good. An expired one that nobody took over is: the fence counts."""
    return (leases.c.id == claim.lease_id) & (leases.c.fence == claim.fence) & (leases.c.claim_owner == claim.owner)


def _unknown(lease_id: str) -> NotFoundError:
    return NotFoundError(f"there is no lease {lease_id}", hint="phasesync leases list --all")


_IDS_PER_STATEMENT: Final = 500
"""Ids in one statement."""
