"""
Orphan users: finds users at AWS by our tags, compares them with the leases, and removes those that no lease needs.

They result from a database that was lost or restored, and from requests that AWS carried out long after a time-out.
Touches only our users: `core.lease_users` decides which are removed, and the issuer checks their tags again first.
What a removal means, for each user and as a whole, is at the end.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from phasesync.core.audit import AuditKind
from phasesync.core.chores import Chore
from phasesync.core.credential import Credential, require_account
from phasesync.core.dynamic import DynamicSecret
from phasesync.core.events import ChoreFailed, OrphanUsersRemoved
from phasesync.core.lease import Lease, LeaseSpec
from phasesync.core.lease_claim import Entry, LeaseEvent
from phasesync.core.lease_users import (
    OUR_PATH,
    REMOVED,
    TAG_LEASE,
    MarkedUser,
    OrphanVerdict,
    max_expires_at_of,
    orphan_verdict_of,
)
from phasesync.core.planned_call import PlannedCall
from phasesync.engine.context import Context
from phasesync.engine.leases.expiry import DAEMON
from phasesync.engine.older_copy import is_restored
from phasesync.engine.stale_database import check_may_delete
from phasesync.errors import CiphertextError, IllegalTransitionError, InterruptedRunError, NotFoundError, PhasesyncError
from phasesync.ports.issuer import LeaseIssuer, RevokeOutcome

EVERY: Final = timedelta(days=1)
"""How often one of the daemons scans."""
AGAIN: Final = timedelta(hours=1)
"""The same if the last scan by this daemon, or a removal, failed."""
_TENANT: Final = "reap"


@dataclass(frozen=True, kw_only=True)
class OrphanUser:
    """
    A user with our tag that belongs to no live lease.

    Attributes:
        user: as it was found.
        issuer: its kind of issuer.
        account: 12 digits.
        credential: name of the credential that found it.
        lease_id: of the lease that its tag names; None if there is no such tag.
        max_expires_at: the end that its tag names; None if the tag cannot be read.
        verdict: what to do with it.
    """

    user: MarkedUser
    issuer: str
    account: str
    credential: str
    lease_id: str | None
    max_expires_at: datetime | None
    verdict: OrphanVerdict

    @property
    def removable(self) -> bool:
        """Whether it has to be removed."""
        return self.verdict in REMOVED


@dataclass(frozen=True, kw_only=True)
class AccountScan:
    """
    The result of scanning one account.

    Attributes:
        account: None if AWS did not say.
        credential: name of the credential that was used.
        error: why the scan was not completed; None if it was.
    """

    account: str | None
    credential: str
    orphans: tuple[OrphanUser, ...]
    error: PhasesyncError | None


class OrphanCollector:
    """Finds and removes users that no lease needs."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def scan(self, credential: str | None = None) -> list[AccountScan]:
        """
        Find users that belong to no live lease, in each account once. Removes nothing.

        Args:
            credential: name of the credential to scan with; None: all. A credential that no dynamic secret and no live
                lease uses may have been used before: what it finds counts, and that it may not scan is not reported.

        Raises:
            NotFoundError: the credential.
        """
        dynamics = self._context.store.dynamics.list_all()
        live = self._context.leases.list_leases()
        paths = sorted({OUR_PATH, *self._paths(dynamics, live)})
        known = {lease.spec.name for lease in live}
        scans: list[AccountScan] = []
        for kind, credential_id, needed in self._scanners(dynamics, live, credential):
            try:
                stored = self._context.store.credentials.get_by_id(credential_id)
            except NotFoundError:
                continue  # It was removed at this moment, together with its dynamic secrets.
            except CiphertextError as error:
                scans.append(AccountScan(account=None, credential=credential_id, orphans=(), error=error))
                continue
            scanned = {scan.account for scan in scans if scan.error is None}
            scan = self._scan_account(kind, stored, paths, known, scanned)
            if scan is not None and (needed or scan.error is None or scan.orphans):
                scans.append(scan)
        return scans

    def remove(
        self, orphans: Iterable[OrphanUser], *, actor: str, checkpoint: Callable[[], None] = lambda: None
    ) -> list[tuple[OrphanUser, RevokeOutcome | PhasesyncError]]:
        """
        Remove orphan users; return the outcome of each, or why it still exists.

        Args:
            orphans: as `scan` found them; each is checked again before anything is called for it.
            actor: who removes them, for the leases' logs.
            checkpoint: called before every call that changes something; raises if this process may not go on.

        Raises:
            IllegalTransitionError: this database counts as older than AWS: an unknown lease may be live.
        """
        issuers: dict[tuple[str, str], LeaseIssuer] = {}
        results: list[tuple[OrphanUser, RevokeOutcome | PhasesyncError]] = []
        is_restored(self._context)  # Compares the database with AWS, if that was not done where it is now.
        for orphan in orphans:
            check_may_delete(self._context)
            try:
                results.append((orphan, self._remove(orphan, issuers, actor, checkpoint)))
            except InterruptedRunError:
                raise
            except PhasesyncError as error:
                results.append((orphan, error))
        return results

    def calls_to_remove(self, orphans: Iterable[OrphanUser]) -> list[PlannedCall]:
        """Return the calls that `remove` would make; makes none. Raises as `remove` does."""
        calls: list[PlannedCall] = []
        for orphan in orphans:
            check_may_delete(self._context)
            credential = self._context.store.credentials.get(orphan.credential)
            issuer = self._context.issuers.open(orphan.issuer, credential, tenant=_TENANT)
            calls += issuer.calls_to_revoke(_spec_of(orphan), access_key_id=None)
        return calls

    def collect(self, checkpoint: Callable[[], None]) -> bool:
        """Scan and remove, for a daemon. Emits events; returns whether everything succeeded. StoreUnavailableError."""
        if is_restored(self._context):
            return True
        succeeded = True
        for scan in self.scan():
            if scan.error is not None:
                succeeded = False
                self._context.events.emit(
                    ChoreFailed(chore=Chore.REAP_USERS, error=type(scan.error).__name__, message=scan.error.message)
                )
            try:
                results = self.remove(
                    (orphan for orphan in scan.orphans if orphan.removable), actor=DAEMON, checkpoint=checkpoint
                )
            except (IllegalTransitionError, InterruptedRunError):
                return True  # The database turned out to be older than AWS meanwhile, or this daemon has to stop.
            removed = sum(result is RevokeOutcome.REMOVED for _, result in results)
            succeeded = succeeded and not any(isinstance(result, PhasesyncError) for _, result in results)
            self._context.events.emit(
                OrphanUsersRemoved(account=scan.account or "", orphans=len(scan.orphans), removed=removed)
            )
        return succeeded

    def _paths(self, dynamics: Sequence[DynamicSecret], live: Sequence[Lease]) -> Iterator[str]:
        """Yield the IAM paths of our users. The path of an altered row is unknown."""
        for dynamic in dynamics:
            if dynamic.error is None and self._context.issuers.traits(dynamic.issuer).has_path:
                yield dynamic.config.iam_path or "/"
        for lease in live:
            if lease.is_readable and self._context.issuers.traits(lease.issuer).has_path:
                yield lease.spec.iam_path or "/"

    def _scanners(
        self, dynamics: Sequence[DynamicSecret], live: Sequence[Lease], credential: str | None
    ) -> list[tuple[str, str, bool]]:
        """Return (kind of issuer, id of a credential to scan with, whether something needs it), needed ones first."""
        kinds = [kind for kind in self._context.issuers.kinds() if self._context.issuers.traits(kind).has_path]
        if credential is not None:
            named = self._context.store.credentials.get(credential)
            return [(kind, named.id, True) for kind in kinds]
        used = [(dynamic.issuer, dynamic.credential_id, dynamic.error is None) for dynamic in dynamics]
        used += [(lease.issuer, lease.credential_id, lease.is_readable) for lease in live]
        # What an altered row issues is unknown: scan for every kind.
        needed = {
            (kind, credential_id)
            for issuer, credential_id, known in used
            for kind in kinds
            if issuer == kind or not known
        }
        try:
            stored = {(kind, other.id) for other in self._context.store.credentials.list_all() for kind in kinds}
            others = stored - needed
        except CiphertextError:
            others = set()
        return [(*pair, True) for pair in sorted(needed)] + [(*pair, False) for pair in sorted(others)]

    def _scan_account(
        self, kind: str, credential: Credential, paths: Sequence[str], known: set[str], scanned: set[str | None]
    ) -> AccountScan | None:
        account: str | None = None
        orphans: list[OrphanUser] = []
        failure: PhasesyncError | None = None
        try:
            issuer = self._context.issuers.open(kind, credential, tenant=_TENANT)
            account = require_account(credential, issuer.account_id())
            if account in scanned:
                return None
            users = list(issuer.marked(paths, known.__contains__))
            # Read after the users were listed: a lease is stored before its user is created.
            statuses = self._context.leases.statuses([user.tags[TAG_LEASE] for user in users if TAG_LEASE in user.tags])
            for user in users:
                lease_id = user.tags.get(TAG_LEASE)
                status = None if lease_id is None else statuses.get(lease_id)
                verdict = orphan_verdict_of(
                    user, status, instance_id=self._context.instance_id, now=self._context.clock.now()
                )
                if verdict in (OrphanVerdict.THEIRS, OrphanVerdict.LIVE):
                    continue
                orphans.append(
                    OrphanUser(
                        user=user,
                        issuer=kind,
                        account=account,
                        credential=credential.name,
                        lease_id=lease_id,
                        max_expires_at=max_expires_at_of(user.tags),
                        verdict=verdict,
                    )
                )
        except PhasesyncError as error:
            failure = error
        return AccountScan(account=account, credential=credential.name, orphans=tuple(orphans), error=failure)

    def _remove(
        self,
        orphan: OrphanUser,
        issuers: dict[tuple[str, str], LeaseIssuer],
        actor: str,
        checkpoint: Callable[[], None],
    ) -> RevokeOutcome:
        place = (orphan.issuer, orphan.credential)
        if place not in issuers:
            credential = self._context.store.credentials.get(orphan.credential)
            issuers[place] = self._context.issuers.open(orphan.issuer, credential, tenant=_TENANT)
        self._context.store.audit.add(
            "lease.reap",
            orphan.credential,
            kind=AuditKind.LEASE,
            details={"user": orphan.user.name, "account": orphan.account, "lease": orphan.lease_id},
        )
        outcome = issuers[place].revoke(_spec_of(orphan), access_key_id=None, proven=False, checkpoint=checkpoint)
        if (
            orphan.verdict is OrphanVerdict.LEFT_OVER
            and orphan.lease_id is not None
            and outcome is RevokeOutcome.REMOVED
        ):
            entry = Entry(event=LeaseEvent.LEFT_OVER, actor=actor, detail="its user was found after its end")
            self._context.leases.change(orphan.lease_id, lambda lease, _now: lease, entry=entry)
        return outcome


def _spec_of(orphan: OrphanUser) -> LeaseSpec:
    """Return a spec for the removal of a user. What was attached to it is not known: whatever AWS lists is detached."""
    return LeaseSpec(name=orphan.user.name, ttl=timedelta(0), tags=orphan.user.tags)


class RemovalResult(StrEnum):
    """What became of an orphan user."""

    REMOVED = "removed"
    GONE = "gone already"
    LEFT_ALONE = "left alone"
    """It is not ours any more."""
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class OrphanRemoval:
    """
    How a removal of orphan users ended.

    Attributes:
        results: ARN of a user -> what became of it.
        failure: the last error of a scan or a removal; None if all of them worked.
    """

    results: Mapping[str, RemovalResult]
    failure: PhasesyncError | None

    @property
    def removed(self) -> int:
        """Number of users that were removed."""
        return sum(result is RemovalResult.REMOVED for result in self.results.values())


def summarise_removal(
    scans: Iterable[AccountScan], outcomes: Iterable[tuple[OrphanUser, RevokeOutcome | PhasesyncError]]
) -> OrphanRemoval:
    """
    Return how a removal ended.

    Args:
        scans: of the accounts that were searched.
        outcomes: of the users that were to be removed.
    """
    outcomes = list(outcomes)
    errors = [scan.error for scan in scans if scan.error is not None]
    errors += [outcome for _, outcome in outcomes if isinstance(outcome, PhasesyncError)]
    return OrphanRemoval(
        results={orphan.user.arn: _result_of(outcome) for orphan, outcome in outcomes},
        failure=errors[-1] if errors else None,
    )


def _result_of(outcome: RevokeOutcome | PhasesyncError) -> RemovalResult:
    if isinstance(outcome, PhasesyncError):
        return RemovalResult.FAILED
    if outcome is RevokeOutcome.REMOVED:
        return RemovalResult.REMOVED
    return RemovalResult.LEFT_ALONE if outcome is RevokeOutcome.FOREIGN else RemovalResult.GONE
