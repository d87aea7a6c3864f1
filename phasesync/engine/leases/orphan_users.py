"""
Users that nobody would take back: found at AWS by our marks, compared with the leases, removed where none wants them.

They come of a database that was lost or restored, and of requests that AWS carried out long after they were given up.
Nobody's but ours: which ones go is decided by `core.orphans`, and the issuer looks at the marks again before it acts.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from phasesync.core.credential import Credential
from phasesync.core.daemons import Chore
from phasesync.core.dynamic import DynamicSecret
from phasesync.core.events import ChoreFailed, OrphanUsersRemoved
from phasesync.core.iam_users import (
    OUR_PATH,
    REMOVED,
    TAG_LEASE,
    MarkedUser,
    OrphanVerdict,
    max_expires_at_of,
    orphan_verdict_of,
)
from phasesync.core.lease import Lease, LeaseSpec
from phasesync.core.lease_claim import Entry, LeaseEvent
from phasesync.engine.context import Context
from phasesync.engine.leases.expiry import DAEMON
from phasesync.engine.pinned_account import require_account
from phasesync.engine.stale_database import check_may_delete
from phasesync.errors import CiphertextError, IllegalTransitionError, InterruptedRunError, NotFoundError, PhasesyncError
from phasesync.ports.issuer import LeaseIssuer, RevokeOutcome

EVERY: Final = timedelta(days=1)
"""How often the daemons look, whichever of them."""
AGAIN: Final = timedelta(hours=1)
"""The same where the last look of this daemon, or a removal, failed."""
_CUSTOMER: Final = "reap"


@dataclass(frozen=True, kw_only=True)
class OrphanUser:
    """
    A user with our tag that belongs to no live lease.

    Attributes:
        user: as it was found.
        issuer: kind of issuer that it is of.
        account: 12 digits.
        credential: name of the credential that found it.
        lease_id: of the lease that its tag names, None where it names none.
        max_expires_at: the end that its tag names, None where nothing can be read from it.
        fate: what becomes of it.
    """

    user: MarkedUser
    issuer: str
    account: str
    credential: str
    lease_id: str | None
    max_expires_at: datetime | None
    fate: OrphanVerdict

    @property
    def goes(self) -> bool:
        """Whether it is to be removed."""
        return self.fate in REMOVED


@dataclass(frozen=True, kw_only=True)
class AccountScan:
    """
    What a look at one account found.

    Attributes:
        account: None where AWS did not say.
        credential: name of the credential that looked.
        error: why the look did not come to an end, None where it did.
    """

    account: str | None
    credential: str
    strays: tuple[OrphanUser, ...]
    error: PhasesyncError | None


class OrphanCollector:
    """Finds and removes users that no lease wants."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def look(self, credential: str | None = None) -> list[AccountScan]:
        """
        Look for users that belong to no live lease, in each account once. Removes nothing.

        Args:
            credential: look with this one; None = with all. Those that no dynamic secret and no live lease uses may
                have been used: what they find counts, and that they may not look is nothing to tell.

        Raises:
            NotFoundError: the credential.
        """
        dynamics = self._context.store.dynamics.list_all()
        live = self._context.leases.list_leases()
        paths = sorted({OUR_PATH, *self._paths(dynamics, live)})
        known = {lease.spec.name for lease in live}
        looks: list[AccountScan] = []
        for kind, credential_id, needed in self._lookers(dynamics, live, credential):
            try:
                one = self._context.store.credentials.get_by_id(credential_id)
            except NotFoundError:
                continue  # Removed in this moment, and its dynamic secrets with it.
            except CiphertextError as error:
                looks.append(AccountScan(account=None, credential=credential_id, strays=(), error=error))
                continue
            looked = {look.account for look in looks if look.error is None}
            look = self._look(kind, one, paths, known, looked)
            if look is not None and (needed or look.error is None or look.strays):
                looks.append(look)
        return looks

    def remove(
        self, strays: Iterable[OrphanUser], *, actor: str, checkpoint: Callable[[], None] = lambda: None
    ) -> list[tuple[OrphanUser, RevokeOutcome | PhasesyncError]]:
        """
        Remove users that are to go; return for each what was there, or why it is still there.

        Args:
            strays: as `look` found them; each is looked at again before anything is called for it.
            actor: who does it, for the leases' logs.
            checkpoint: asked before every call that changes something; raises when this process may not go on.

        Raises:
            IllegalTransitionError: this database counts as older than AWS: a lease that it does not know may be live.
        """
        issuers: dict[tuple[str, str], LeaseIssuer] = {}
        results: list[tuple[OrphanUser, RevokeOutcome | PhasesyncError]] = []
        for stray in strays:
            check_may_delete(self._context)
            try:
                results.append((stray, self._remove(stray, issuers, actor, checkpoint)))
            except InterruptedRunError:
                raise
            except PhasesyncError as error:
                results.append((stray, error))
        return results

    def reap(self, checkpoint: Callable[[], None]) -> bool:
        """Look and remove; for a daemon. Tells what came of it; returns whether it all held. StoreUnavailableError."""
        if self._context.store.restore_mark.is_set():
            return True
        held = True
        for look in self.look():
            if look.error is not None:
                held = False
                self._context.events.emit(
                    ChoreFailed(chore=Chore.REAP_USERS, error=type(look.error).__name__, message=look.error.message)
                )
            try:
                done = self.remove((one for one in look.strays if one.goes), actor=DAEMON, checkpoint=checkpoint)
            except (IllegalTransitionError, InterruptedRunError):
                return True  # The database has turned out to be an older one meanwhile, or this daemon is to stop.
            removed = sum(result is RevokeOutcome.REMOVED for _, result in done)
            held = held and not any(isinstance(result, PhasesyncError) for _, result in done)
            self._context.events.emit(
                OrphanUsersRemoved(account=look.account or "", orphans=len(look.strays), removed=removed)
            )
        return held

    def _paths(self, dynamics: Sequence[DynamicSecret], live: Sequence[Lease]) -> Iterator[str]:
        """Yield the IAM paths that users of ours lie under; of what was altered nobody knows them."""
        for one in dynamics:
            if one.error is None and self._context.issuers.traits(one.issuer).has_path:
                yield one.config.iam_path or "/"
        for lease in live:
            if lease.is_readable and self._context.issuers.traits(lease.issuer).has_path:
                yield lease.spec.iam_path or "/"

    def _lookers(
        self, dynamics: Sequence[DynamicSecret], live: Sequence[Lease], credential: str | None
    ) -> list[tuple[str, str, bool]]:
        """Return (kind of issuer, id of a credential to look with, whether something needs it), those needed first."""
        kinds = [kind for kind in self._context.issuers.kinds() if self._context.issuers.traits(kind).has_path]
        if credential is not None:
            found = self._context.store.credentials.get(credential)
            return [(kind, found.id, True) for kind in kinds]
        used = [(one.issuer, one.credential_id, one.error is None) for one in dynamics]
        used += [(one.issuer, one.credential_id, one.is_readable) for one in live]
        # Of one whose row was altered nobody knows what it issues: it is looked for.
        needed = {(kind, user) for issuer, user, known in used for kind in kinds if issuer == kind or not known}
        try:
            others = {(kind, one.id) for one in self._context.store.credentials.list_all() for kind in kinds} - needed
        except CiphertextError:
            others = set()
        return [(*one, True) for one in sorted(needed)] + [(*one, False) for one in sorted(others)]

    def _look(
        self, kind: str, credential: Credential, paths: Sequence[str], known: set[str], looked: set[str | None]
    ) -> AccountScan | None:
        account: str | None = None
        strays: list[OrphanUser] = []
        failure: PhasesyncError | None = None
        try:
            issuer = self._context.issuers.open(kind, credential, tenant=_CUSTOMER)
            account = require_account(credential, issuer.account_id())
            if account in looked:
                return None
            users = list(issuer.marked(paths, known.__contains__))
            # Asked after the users were listed: a lease is noted before its user is made.
            statuses = self._context.leases.statuses([user.tags[TAG_LEASE] for user in users if TAG_LEASE in user.tags])
            for user in users:
                lease_id = user.tags.get(TAG_LEASE)
                status = None if lease_id is None else statuses.get(lease_id)
                fate = orphan_verdict_of(
                    user, status, instance_id=self._context.instance_id, now=self._context.clock.now()
                )
                if fate in (OrphanVerdict.THEIRS, OrphanVerdict.LIVE):
                    continue
                strays.append(
                    OrphanUser(
                        user=user,
                        issuer=kind,
                        account=account,
                        credential=credential.name,
                        lease_id=lease_id,
                        max_expires_at=max_expires_at_of(user.tags),
                        fate=fate,
                    )
                )
        except PhasesyncError as error:
            failure = error
        return AccountScan(account=account, credential=credential.name, strays=tuple(strays), error=failure)

    def _remove(
        self, stray: OrphanUser, issuers: dict[tuple[str, str], LeaseIssuer], actor: str, checkpoint: Callable[[], None]
    ) -> RevokeOutcome:
        place = (stray.issuer, stray.credential)
        if place not in issuers:
            credential = self._context.store.credentials.get(stray.credential)
            issuers[place] = self._context.issuers.open(stray.issuer, credential, tenant=_CUSTOMER)
        # What was put on it is not known any more: whatever AWS names is taken off.
        spec = LeaseSpec(name=stray.user.name, ttl=timedelta(0), tags=stray.user.tags)
        found = issuers[place].revoke(spec, access_key_id=None, proven=False, checkpoint=checkpoint)
        if stray.fate is OrphanVerdict.LEFT_OVER and stray.lease_id is not None and found is RevokeOutcome.REMOVED:
            entry = Entry(event=LeaseEvent.LEFT_OVER, actor=actor, detail="its user was found after its end")
            self._context.leases.change(stray.lease_id, lambda lease, _now: lease, entry=entry)
        return found
