"""
Users that IAM does not find: for a moment, under their name, or in the account that the credential leads to by now.

None of it ends a lease. IAM is eventually consistent, users are renamed, and identities change beneath a credential.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from phasesync.core.lease import LeaseStatus
from phasesync.core.lease_claim import LeaseEvent
from phasesync.core.lease_users import TAG_LEASE
from phasesync.core.remote import TAG_INSTANCE
from phasesync.emulator import DROP, Answer, Operation
from phasesync.errors import AccountMismatchError, DestinationUnavailableError, PermissionDeniedError
from phasesync.store.tables import leases as lease_rows
from tests.support.lease_world import ACCOUNT, INLINE, OUR_PATH, LeaseWorld
from tests.support.stores import ACTOR

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)

NOT_FOUND = Answer("NoSuchEntity", "which text nobody reads", status=404)
OTHER_ACCOUNT = "222222222222"
ELSEWHERE = Answer(
    "",
    status=200,
    raw=(
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
        f"<Arn>arn:aws:sts::{OTHER_ACCOUNT}:assumed-role/another/run</Arn><UserId>AROA:run</UserId>"
        f"<Account>{OTHER_ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
    ).encode(),
)
Take = Callable[[LeaseWorld, str], object]


def revoke(world: LeaseWorld, lease_id: str) -> None:
    """Someone revokes it."""
    world.revoke(lease_id)


def expire(world: LeaseWorld, _lease_id: str) -> None:
    """Its time is over."""
    world.let_time_pass(hours=2)
    world.sweep()


both_ends = pytest.mark.parametrize("take", [revoke, expire])


def hide(world: LeaseWorld, name: str, *, seconds: float = 20, with_keys: bool = True) -> None:
    world.aws.state.users.hide(ACCOUNT, name, timedelta(seconds=seconds), with_keys=with_keys)


def events(world: LeaseWorld, lease_id: str) -> list[LeaseEvent]:
    return [record.event for record in world.leases.records(lease_id)]


@both_ends
def test_a_user_that_iam_does_not_find_for_a_while_is_removed_afterwards(world: LeaseWorld, take: Take) -> None:
    lease = world.issue().lease
    hide(world, lease.spec.name)

    take(world, lease.id)
    left = world.lease(lease.id)
    assert (left.status, left.missing_since is not None) == (LeaseStatus.REVOKING, True)
    assert events(world, lease.id) == [LeaseEvent.ISSUED, LeaseEvent.MISSING]

    world.aws.clock.advance(seconds=20)
    world.let_time_pass(seconds=61)
    world.sweep()
    assert (world.users(), world.lease(lease.id).live) == (set(), False)
    assert len(events(world, lease.id)) == 3


@both_ends
def test_a_user_that_is_gone_is_looked_for_three_times_in_five_minutes(world: LeaseWorld, take: Take) -> None:
    lease = world.issue().lease
    world.delete_by_hand(lease.spec.name)
    take(world, lease.id)
    asked = world.aws.count("ListUsers")
    for minutes, live in ((0.5, True), (0.6, True), (3.5, True), (0.5, False)):
        world.let_time_pass(minutes=minutes)
        world.sweep()
        assert world.lease(lease.id).live is live
    assert world.aws.count("ListUsers") - asked == 2


@pytest.mark.parametrize("nth", range(1, 7))
def test_whichever_call_does_not_find_it_it_is_gone_before_it_counts_as_gone(world: LeaseWorld, nth: int) -> None:
    lease = world.issue().lease
    calls = 0

    def lose(operation: Operation) -> Answer | None:
        nonlocal calls
        calls += operation.service == "iam" and world.is_ours(operation)
        return NOT_FOUND if calls == nth and world.is_ours(operation) else None

    world.aws.do("*", lose, times=None)
    world.revoke(lease.id)
    assert not world.users() or world.lease(lease.id).live
    for _ in range(3):
        world.let_time_pass(minutes=6)
        world.sweep()
    assert (world.users(), world.lease(lease.id).status) == (set(), LeaseStatus.REVOKED)


def test_a_command_looks_again_for_some_seconds(world: LeaseWorld) -> None:
    lease = world.issue().lease
    hide(world, lease.spec.name, seconds=3)
    world.operations._sleep = lambda seconds: world.aws.clock.advance(seconds=seconds)

    done = world.operations.revoke(lease.id, actor=ACTOR, look_again=True)

    assert (done.lease.status, world.users()) == (LeaseStatus.REVOKED, set())


def test_what_fails_in_between_begins_the_count_anew(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.delete_by_hand(lease.spec.name)
    world.revoke(lease.id)
    world.let_time_pass(minutes=6)
    world.aws.fail("ListUsers", Answer("Throttling", "later"))
    world.sweep()
    left = world.lease(lease.id)
    assert (left.status, left.missing_since) == (LeaseStatus.REVOKE_FAILED, None)

    world.let_time_pass(minutes=6)
    world.sweep()
    assert world.lease(lease.id).live
    world.let_time_pass(minutes=6)
    world.sweep()
    assert world.lease(lease.id).status is LeaseStatus.REVOKED


# --- names


def rename(world: LeaseWorld, name: str, path: str = OUR_PATH) -> None:
    world.iam.update_user(UserName=name, NewUserName="renamed", NewPath=path)


def all_users(world: LeaseWorld) -> set[str]:
    return {user["UserName"] for user in world.iam.list_users()["Users"]}


@both_ends
@pytest.mark.parametrize("path", [OUR_PATH, "/elsewhere/"])
def test_a_renamed_user_is_found_by_its_key(world: LeaseWorld, take: Take, path: str) -> None:
    lease = world.issue().lease
    rename(world, lease.spec.name, path)

    take(world, lease.id)

    assert (all_users(world), world.lease(lease.id).live) == (set(), False)


@both_ends
def test_a_renamed_user_is_found_by_its_tags_where_nobody_may_ask_for_keys(world: LeaseWorld, take: Take) -> None:
    lease, other = world.issue().lease, world.issue().lease
    rename(world, lease.spec.name)
    world.deny("iam:GetAccessKeyLastUsed")

    take(world, lease.id)

    assert not world.lease(lease.id).live
    assert world.users() == (set() if take is expire else {other.spec.name})
    asked = [one.form["UserName"] for one in world.aws.operations if one.name == "GetUser" and world.is_ours(one)]
    assert take is expire or other.spec.name not in asked, "users of other leases cost no call"


def test_a_user_whose_name_another_has_by_now_is_found_as_well(world: LeaseWorld) -> None:
    lease = world.issue().lease
    rename(world, lease.spec.name)
    world.iam.create_user(UserName=lease.spec.name, Path="/humans/")

    world.revoke(lease.id)

    assert (all_users(world), world.lease(lease.id).status) == ({lease.spec.name}, LeaseStatus.REVOKED)


def test_a_renamed_user_that_lost_our_tags_loses_its_key(world: LeaseWorld) -> None:
    lease = world.issue().lease
    rename(world, lease.spec.name)
    world.iam.untag_user(UserName="renamed", TagKeys=[TAG_INSTANCE, TAG_LEASE])
    world.iam.put_user_policy(UserName="renamed", PolicyName="theirs", PolicyDocument=INLINE)

    done = world.revoke(lease.id)

    assert world.iam.list_access_keys(UserName="renamed")["AccessKeyMetadata"] == []
    assert done.error is not None and "no longer carries our tags" in done.error.message
    assert done.lease.status is LeaseStatus.REVOKE_FAILED


@pytest.mark.parametrize("refusal", ["AccessDenied", "InvalidAction", "ValidationError"])
def test_where_nothing_may_be_looked_for_time_has_to_do(world: LeaseWorld, refusal: str) -> None:
    lease = world.issue().lease
    world.delete_by_hand(lease.spec.name)
    for operation in ("GetAccessKeyLastUsed", "ListUsers"):
        world.aws.fail(operation, Answer(refusal, "no", status=403), times=None)

    world.revoke(lease.id)
    assert world.lease(lease.id).live
    world.let_time_pass(minutes=6)
    world.sweep()

    assert world.lease(lease.id).status is LeaseStatus.REVOKED


@both_ends
def test_iam_that_knows_the_key_and_not_the_user_is_not_believed(world: LeaseWorld, take: Take) -> None:
    lease = world.issue().lease
    hide(world, lease.spec.name, with_keys=False)

    take(world, lease.id)
    left = world.lease(lease.id)
    assert left.status is LeaseStatus.REVOKE_FAILED
    assert left.error is not None and "says that the lease's access key belongs to it" in left.error

    world.aws.clock.advance(seconds=20)
    world.let_time_pass(seconds=30)
    world.sweep()
    assert (world.users(), world.lease(lease.id).live) == (set(), False)


# --- accounts


@both_ends
def test_what_another_account_does_not_have_is_not_gone(world: LeaseWorld, take: Take) -> None:
    """The keys behind the credential changed; what was known of the account is from before."""
    lease = world.issue().lease
    world.aws.do("*", lambda one: NOT_FOUND if one.service == "iam" and world.is_ours(one) else None, times=None)
    world.aws.fail("GetCallerIdentity", ELSEWHERE, times=None)

    take(world, lease.id)
    left = world.lease(lease.id)
    assert left.status is LeaseStatus.REVOKE_FAILED
    assert left.error is not None and f"leads to account {OTHER_ACCOUNT}" in left.error

    world.let_time_pass(hours=1)
    world.sweep()
    assert (world.lease(lease.id).live, world.users()) == (True, {lease.spec.name})
    world.aws.faults.clear()
    world.let_time_pass(hours=1)
    world.sweep()
    assert (world.lease(lease.id).live, world.users()) == (False, set())


def test_a_user_that_was_made_in_another_account_is_removed_there_and_gets_no_key(world: LeaseWorld) -> None:
    def elsewhere(operation: Operation) -> Answer:
        name = operation.form["UserName"]
        user = f"<UserName>{name}</UserName><Path>/</Path><UserId>AIDA</UserId>"
        arn = f"<Arn>arn:aws:iam::{OTHER_ACCOUNT}:user/{name}</Arn>"
        told = f"<CreateUserResponse><CreateUserResult><User>{user}{arn}</User></CreateUserResult></CreateUserResponse>"
        return Answer("", status=200, raw=told.encode())

    world.aws.do("CreateUser", elsewhere, when="after")

    with pytest.raises(AccountMismatchError, match=f"leads to account {OTHER_ACCOUNT}"):
        world.issue()

    assert (world.users(), world.only_lease().live) == (set(), False)
    assert world.aws.count("CreateAccessKey") == 0


# --- what no one was given


def test_a_user_of_a_lease_that_was_not_issued_is_looked_for_twice_too(world: LeaseWorld) -> None:
    """Its process died, nothing looked for it for an hour, and IAM does not find it for a moment."""
    world.aws.fail("CreateUser", Answer("AccessDenied", "not authorized", status=403))
    with pytest.raises(PermissionDeniedError):
        world.issue()
    lease = world.only_lease()
    # As the process left it that died, an hour ago.
    since = lease.requested_at - timedelta(hours=1)
    world.alter(
        lease.id, status=LeaseStatus.ISSUING, issuing_at=since, cause=None, reason=None, ended_at=None, final=False
    )
    world.iam.create_user(UserName=lease.spec.name, Path=OUR_PATH, Tags=_pairs(lease.spec.tags))
    hide(world, lease.spec.name)

    world.sweep()
    assert world.only_lease().live
    world.aws.clock.advance(seconds=20)
    world.let_time_pass(minutes=6)
    world.sweep()

    assert (world.users(), world.only_lease().status) == (set(), LeaseStatus.REVOKED)


def _pairs(tags: object) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in dict(tags).items()]  # type: ignore[call-overload]


def test_rows_of_an_earlier_release_say_nothing_of_what_is_new(world: LeaseWorld) -> None:
    lease = world.issue().lease
    with world.store.database.read() as connection:
        assert connection.execute(lease_rows.select()).one().status == LeaseStatus.ACTIVE
    assert (lease.missing_since, lease.renewals, lease.final, lease.replaced) == (None, 0, False, False)


def test_a_lease_is_told_to_be_looked_at_again(world: LeaseWorld) -> None:
    from phasesync.engine.leases.revocation import not_found_yet

    lease = world.issue().lease
    world.delete_by_hand(lease.spec.name)
    done = world.revoke(lease.id)

    error = not_found_yet(done.lease)

    assert isinstance(error, DestinationUnavailableError)
    assert "counts as revoked once that has been so for some minutes" in error.message
    assert "the daemon looks again, first at 2" in error.message


@pytest.mark.parametrize("lost", [DROP, Answer("ServiceFailure", "it broke", status=500)])
def test_a_deletion_whose_answer_was_lost_is_over_at_the_next_look(world: LeaseWorld, lost: Answer) -> None:
    lease = world.issue().lease
    world.aws.fail("DeleteUser", lost, when="after")
    assert world.revoke(lease.id).lease.status is LeaseStatus.REVOKE_FAILED

    world.let_time_pass(seconds=30)
    world.sweep()

    assert (world.lease(lease.id).status, world.users()) == (LeaseStatus.REVOKED, set())


def test_a_deletion_that_was_lost_on_the_way_is_made_again(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.aws.fail("DeleteUser", DROP)
    world.revoke(lease.id)

    world.let_time_pass(seconds=30)
    world.sweep()

    assert (world.lease(lease.id).status, world.users()) == (LeaseStatus.REVOKED, set())
