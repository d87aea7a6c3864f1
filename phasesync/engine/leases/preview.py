"""
What issuing, renewing and revoking a lease would call at AWS, for dry runs.

Only asks: stores nothing and makes no call that changes something.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from phasesync.core.credential import require_account
from phasesync.core.dynamic import DynamicSecret
from phasesync.core.lease import Cause, Lease, LeaseSpec, LeaseStatus, begin_revoke, renew, revoked
from phasesync.core.lease_users import is_made_for, renewal_of
from phasesync.core.planned_call import PlannedCall
from phasesync.engine.context import Context
from phasesync.engine.error_hints import LeaseNames, hints_for
from phasesync.engine.leases.issuance import KeptLeases
from phasesync.engine.leases.operations import check_renewable, check_revocable, lifetime_of, spec_maker
from phasesync.engine.leases.revocation import require_same_account
from phasesync.errors import CiphertextError, PermissionDeniedError, RemoteChangedError
from phasesync.ports.issuer import LeaseIssuer

RANDOM_PLACEHOLDER: Final = "{{random}}"
"""What stands in a name for the text that is chosen when the lease is issued."""
NEW_LEASE: Final = "{{lease}}"
"""What stands in a tag for the id of a lease that is not issued yet."""


@dataclass(frozen=True, kw_only=True)
class IssuePreview:
    """
    What issuing a lease would do.

    Attributes:
        account: in which it would be issued.
        spec: of the lease, with placeholders for what is random; None if a kept lease would be reused.
        ttl: how long it would live.
        reused: the kept lease that would be printed again; None if one would be issued.
        replaced: a kept lease with a key that AWS does not know any more, which would be revoked first.
        calls: the calls that change something.
    """

    dynamic: DynamicSecret
    account: str
    spec: LeaseSpec | None
    ttl: timedelta
    reused: Lease | None = None
    replaced: Lease | None = None
    calls: tuple[PlannedCall, ...] = ()


def preview_issue(context: Context, name: str, *, ttl: timedelta | None, reuse: bool) -> IssuePreview:
    """
    Return what issuing a lease would do.

    Args:
        context: stores, AWS and time.
        name: of the dynamic secret.
        ttl: its lifetime; None means the dynamic secret's default.
        reuse: a kept lease may be reused.

    Raises:
        NotFoundError, InvalidInputError, IllegalTransitionError: the name, the lifetime, the limit of live leases.
        AccountMismatchError, DestinationError: as when it is issued.
    """
    dynamic = context.store.dynamics.get(name)
    lifetime = lifetime_of(context, dynamic, ttl)
    kept = context.leases.kept(dynamic) if reuse else None
    with hints_for(dynamic):
        credential = context.store.credentials.get_by_id(dynamic.credential_id)
        issuer = context.issuers.open(dynamic.issuer, credential, tenant=dynamic.id)
        account = require_account(credential, issuer.account_id())
        before: tuple[PlannedCall, ...] = ()
        replaced = None
        if kept is not None:
            if KeptLeases(context).is_good(kept) is not False:
                return IssuePreview(dynamic=dynamic, account=account, spec=None, ttl=lifetime, reused=kept.lease)
            replaced = kept.lease
            before = preview_revocation(context, replaced).calls
    spec = _rehearsed_spec(context, dynamic, lifetime, replaced)
    return IssuePreview(
        dynamic=dynamic,
        account=account,
        spec=spec,
        ttl=lifetime,
        replaced=replaced,
        calls=(*before, *issuer.calls_to_issue(spec)),
    )


def _rehearsed_spec(context: Context, dynamic: DynamicSecret, ttl: timedelta, replaced: Lease | None) -> LeaseSpec:
    """Return the spec of a lease as it would be requested, with the refusals of the store."""
    make_spec = spec_maker(context, dynamic, ttl, lambda: RANDOM_PLACEHOLDER)
    with context.store.database.rehearsal():
        if replaced is not None:
            end_in_store(context, [replaced])
        _, lease = context.leases.request(
            dynamic, lambda _, max_expires_at: make_spec(NEW_LEASE, max_expires_at), ttl=ttl, owner=context.owner
        )
    return lease.spec


def preview_renewal(context: Context, lease_id: str, ttl: timedelta) -> tuple[Lease, Sequence[PlannedCall]]:
    """
    Return a lease as renewing it would leave it, and what would be called.

    Raises:
        NotFoundError, InvalidInputError, IllegalTransitionError, DestinationError: as `LeaseOperations.renew`.
    """
    lease = context.leases.get(lease_id)
    check_renewable(context, lease, ttl)
    renewed = renew(lease, ttl, context.clock.now())
    credential = context.store.credentials.get_by_id(lease.credential_id)
    with hints_for(LeaseNames(context.store.credentials, lease)):
        issuer = context.issuers.open(lease.issuer, credential, tenant=lease.dynamic_id)
        require_account(credential, issuer.account_id(), lease.account)
        try:
            tags = issuer.tags_of(lease.spec)
        except PermissionDeniedError:
            return renewed, ()  # An older policy lacks this action: then only the row names the new end.
        if tags is None or not is_made_for(tags, lease.spec.tags):
            raise RemoteChangedError(
                f"IAM does not find the user {lease.spec.name} with our tags, so the lease cannot be renewed",
                hint=f"look at it: aws iam get-user --user-name {lease.spec.name}; if it is gone, issue another lease",
            )
    last = renewal_of(tags)
    number = max(lease.renewals + 1, 0 if last is None else last.number + 1)
    return renewed, issuer.calls_to_renew(lease.spec, renewed.expires_at, number=number)


@dataclass(frozen=True, kw_only=True)
class RevocationPreview:
    """
    What revoking a lease would do.

    Attributes:
        calls: the calls that change something.
        note: why nothing is called, None if something is.
    """

    lease: Lease
    calls: tuple[PlannedCall, ...] = ()
    note: str | None = None


def preview_revocation(context: Context, lease: Lease) -> RevocationPreview:
    """
    Return what revoking a lease would do.

    Raises:
        IllegalTransitionError: it ends by itself, and only so.
        AccountMismatchError, DestinationError: AWS does not say what exists of it.
    """
    if not lease.live:
        return RevocationPreview(lease=lease, note=f"it is {lease.status} already")
    check_revocable(context, lease)
    if lease.status is LeaseStatus.REQUESTED:
        return RevocationPreview(lease=lease, note="nothing was called for it yet")
    credential = context.store.credentials.get_by_id(lease.credential_id)
    with hints_for(LeaseNames(context.store.credentials, lease)):
        issuer = context.issuers.open(lease.issuer, credential, tenant=lease.dynamic_id)
        require_same_account(credential.name, lease, issuer.account_id())
        spec, note = _spec_at_aws(context, issuer, lease)
    if spec is None:
        return RevocationPreview(lease=lease, note=note)
    calls = issuer.calls_to_revoke(spec, access_key_id=lease.access_key_id)
    return RevocationPreview(lease=lease, calls=tuple(calls))


def _spec_at_aws(context: Context, issuer: LeaseIssuer, lease: Lease) -> tuple[LeaseSpec | None, str | None]:
    """Return the spec with the name that its user has at AWS; or None, and why there is nothing to revoke."""
    try:
        tags: Mapping[str, str] | None = issuer.tags_of(lease.spec)
    except PermissionDeniedError:
        return lease.spec, None  # Revoking needs no right to read: it removes what is known to have been made.
    if tags is not None and (lease.was_issued or is_made_for(tags, lease.spec.tags)):
        return lease.spec, None
    others = {other.spec.name for other in context.leases.list_leases()} - {lease.spec.name}
    elsewhere = issuer.find(lease.spec, access_key_id=lease.access_key_id, known=others.__contains__)
    if elsewhere is not None:
        return replace(lease.spec, name=elsewhere.name), None
    if tags is None:
        return None, "IAM finds nothing of it"
    return None, f"the user {lease.spec.name} was not made for it, and is left alone"


def preview_revocations(context: Context, leases: Sequence[Lease]) -> list[RevocationPreview]:
    """Return what revoking several leases would do; those that only end by themselves are let go. Raises as one."""
    previews = []
    for lease in leases:
        try:
            context.leases.get(lease.id)
        except CiphertextError:
            previews.append(RevocationPreview(lease=lease, note="it was altered outside phasesync and is forgotten"))
            continue
        if context.issuers.traits(lease.issuer).revocable or not lease.was_issued:
            previews.append(preview_revocation(context, lease))
        else:
            previews.append(RevocationPreview(lease=lease, note="it is a session of a role, which ends by itself"))
    return previews


def end_in_store(context: Context, leases: Sequence[Lease]) -> None:
    """End leases in the store without asking AWS. Only in a rehearsal, which is rolled back."""
    for lease in leases:
        try:
            context.leases.change(lease.id, _ended)
        except CiphertextError:
            context.leases.drop_altered(lease.id)


def _ended(lease: Lease, now: datetime) -> Lease:
    begun = begin_revoke(lease, Cause.REQUEST, "rehearsed", now)
    return revoked(begun, now) if begun.live else begun
