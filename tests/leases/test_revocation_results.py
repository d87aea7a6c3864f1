"""What a revocation, a removal of orphan users and a renewal lead to."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from phasesync.core.lease import Lease, LeaseStatus
from phasesync.core.lease_users import MarkedUser, OrphanVerdict
from phasesync.engine.leases.orphan_users import AccountScan, OrphanUser, RemovalResult, summarise_removal
from phasesync.engine.leases.renewal import RETRY_S, ScheduledRenewal, first_renewal, renew_once
from phasesync.engine.leases.revocation import Revocation, by_end, failure_of, removal_blocker
from phasesync.errors import (
    DestinationUnavailableError,
    IllegalTransitionError,
    NotFoundError,
    PermissionDeniedError,
    PhasesyncError,
)
from phasesync.ports.issuer import RevokeOutcome
from tests.support.values import ACCOUNT, HOUR, LEASE, NOW, lease

REVOKED = lease(status=LeaseStatus.REVOKED, issued_at=NOW)
MISSING = lease(status=LeaseStatus.REVOKING, issued_at=NOW, missing_since=NOW)
NEVER_ISSUED = lease(status=LeaseStatus.REVOKING)


def result(of: Lease, error: PhasesyncError | None = None, *, dropped: bool = False) -> Revocation:
    return Revocation(lease=of, error=error, dropped=dropped)


def test_a_lease_that_is_over_blocks_no_removal() -> None:
    assert failure_of(result(REVOKED)) is removal_blocker(result(REVOKED)) is None


def test_one_that_is_not_found_yet_does() -> None:
    assert isinstance(failure_of(result(MISSING)), DestinationUnavailableError)
    assert isinstance(removal_blocker(result(MISSING)), DestinationUnavailableError)


def test_so_does_one_that_a_late_request_may_still_make() -> None:
    assert isinstance(removal_blocker(result(NEVER_ISSUED)), IllegalTransitionError)


def test_a_refusal_says_that_nothing_else_is_removed() -> None:
    blocker = removal_blocker(result(MISSING, PermissionDeniedError("no")))

    assert isinstance(blocker, PermissionDeniedError)
    assert blocker.message == f"the lease {LEASE} could not be revoked, so nothing else is removed: no"


def test_one_that_was_altered_and_dropped_does_not() -> None:
    assert removal_blocker(result(MISSING, PermissionDeniedError("no"), dropped=True)) is None


def test_leases_are_told_apart_by_how_they_end() -> None:
    user = replace(REVOKED, account=ACCOUNT)
    never_made = replace(REVOKED, credential_id="other", account=None)
    session = replace(REVOKED, issuer="aws-assume-role", expires_at=NOW + HOUR)

    leases = by_end([user, session, never_made], lambda one: one.issuer == "aws-iam-user")

    assert (leases.users, leases.sessions, leases.last_session_end) == ((user, never_made), (session,), NOW + HOUR)
    assert leases.credentials_asked == (user.credential_id,), "AWS was not asked about one that was never made"


# --- orphan users


def orphan(name: str) -> OrphanUser:
    user = MarkedUser(name=name, arn=f"arn:{name}", tags={})
    return OrphanUser(
        user=user,
        issuer="aws-iam-user",
        account=ACCOUNT,
        credential="aws",
        lease_id=None,
        max_expires_at=None,
        verdict=OrphanVerdict.OVERDUE,
    )


def scan(error: PhasesyncError | None = None) -> AccountScan:
    return AccountScan(account=ACCOUNT, credential="aws", orphans=(), error=error)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (RevokeOutcome.REMOVED, RemovalResult.REMOVED),
        (RevokeOutcome.FOREIGN, RemovalResult.LEFT_ALONE),
        (PermissionDeniedError("no"), RemovalResult.FAILED),
    ],
)
def test_each_orphan_has_a_result(outcome: RevokeOutcome | PhasesyncError, expected: RemovalResult) -> None:
    removal = summarise_removal([scan()], [(orphan("a"), outcome)])

    assert removal.results == {"arn:a": expected}
    assert removal.removed == (expected is RemovalResult.REMOVED)


def test_the_last_error_of_all_is_the_failure() -> None:
    first, last = NotFoundError("first"), PermissionDeniedError("last")

    assert summarise_removal([scan(first)], []).failure is first
    assert summarise_removal([scan(first)], [(orphan("a"), last), (orphan("b"), RevokeOutcome.REMOVED)]).failure is last
    assert summarise_removal([scan()], []).failure is None


# --- renewals

DUE = ScheduledRenewal(lease_id=LEASE, ttl=timedelta(minutes=1), due_s=40.0)


def operations(answer: Lease | PhasesyncError) -> Any:
    def prolong(_lease_id: str, _ttl: timedelta, *, actor: str) -> Lease:
        if isinstance(answer, PhasesyncError):
            raise answer
        return answer

    return SimpleNamespace(prolong=prolong)


def test_a_lease_is_renewed_at_two_thirds_of_its_life() -> None:
    assert first_renewal(lease(), since_s=100.0).due_s == 100.0 + HOUR.total_seconds() * 2 / 3


def test_a_renewal_leads_to_the_next_one() -> None:
    step = renew_once(operations(lease()), replace(DUE, reported="no"), actor="me", now_s=41.0)

    assert (step.next, step.warning) == (replace(DUE, due_s=81.0), None)


def test_at_the_maximum_there_is_no_next_one() -> None:
    step = renew_once(operations(lease(expires_at=NOW + 4 * HOUR)), DUE, actor="me", now_s=41.0)

    assert step.next is None
    assert step.warning is not None
    assert "for good" in step.warning


def test_a_lease_that_is_over_is_not_renewed_again() -> None:
    step = renew_once(operations(IllegalTransitionError("it has ended")), DUE, actor="me", now_s=41.0)

    assert (step.next, step.warning) == (None, f"the lease {LEASE} is not renewed: it has ended")


def test_a_failure_is_tried_again_soon_and_reported_once() -> None:
    first = renew_once(operations(DestinationUnavailableError("down")), DUE, actor="me", now_s=41.0)
    assert first.next is not None
    second = renew_once(operations(DestinationUnavailableError("down")), first.next, actor="me", now_s=46.0)

    assert (first.next.due_s, first.warning is None) == (41.0 + RETRY_S, False)
    assert (second.next, second.warning) == (replace(first.next, due_s=46.0 + RETRY_S), None)
