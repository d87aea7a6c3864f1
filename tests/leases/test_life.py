"""A lease from its issue to its end: what IAM has meanwhile, and that it is over when its time is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from phasesync.core.events import LeaseUnreadable
from phasesync.core.lease import Cause, LeaseStatus
from phasesync.core.lease_claim import LeaseEvent
from phasesync.core.lease_users import TAG_LEASE, TAG_MAX_EXPIRES_AT, max_expires_at_of
from phasesync.core.remote import TAG_INSTANCE
from phasesync.errors import DestinationRejectedError, IllegalTransitionError, InvalidInputError
from phasesync.store.tables import leases as lease_rows
from tests.support.databases import on_each_database
from tests.support.lease_world import BOUNDARY, GROUP, INLINE, OUR_PATH, POLICIES, LeaseWorld
from tests.support.stores import ACTOR

pytestmark = on_each_database

HOUR = timedelta(hours=1)


def whoami(world: LeaseWorld, credentials: dict[str, str]) -> str:
    """Ask AWS who holds an access key."""
    sts = world.boto(
        "sts",
        aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
    )
    return str(sts.get_caller_identity()["Arn"])


def test_a_lease_is_a_user_with_exactly_what_the_recipe_says(world: LeaseWorld) -> None:
    issued = world.issue()

    name = issued.lease.spec.name
    user = world.iam.get_user(UserName=name)["User"]
    tags = {tag["Key"]: tag["Value"] for tag in user["Tags"]}
    assert world.users() == {name} == world.wanted()
    assert (user["Path"], user["PermissionsBoundary"]["PermissionsBoundaryArn"]) == (OUR_PATH, BOUNDARY)
    assert (tags[TAG_INSTANCE], tags[TAG_LEASE]) == (world.store.instance_id, issued.lease.id)
    end = max_expires_at_of({TAG_MAX_EXPIRES_AT: tags[TAG_MAX_EXPIRES_AT]})
    assert end is not None and abs(end - issued.lease.max_expires_at) < timedelta(seconds=1)
    attached = world.iam.list_attached_user_policies(UserName=name)["AttachedPolicies"]
    assert {one["PolicyArn"] for one in attached} == set(POLICIES)
    assert [one["GroupName"] for one in world.iam.list_groups_for_user(UserName=name)["Groups"]] == [GROUP]
    assert world.iam.list_user_policies(UserName=name)["PolicyNames"] == ["phasesync"]
    assert whoami(world, {key: value.reveal_text() for key, value in issued.credentials.items()}) == user["Arn"]
    assert issued.lease.principal == user["Arn"]


def test_two_leases_are_two_users(world: LeaseWorld) -> None:
    first, second = world.issue(), world.issue()

    assert world.users() == {first.lease.spec.name, second.lease.spec.name} == world.wanted()


def test_when_its_time_is_over_the_user_goes_and_the_key_is_refused(world: LeaseWorld) -> None:
    issued = world.issue()
    keys = {key: value.reveal_text() for key, value in issued.credentials.items()}
    world.sweep()
    assert world.users() == {issued.lease.spec.name}, "its time is not over"

    world.let_time_pass(hours=1, seconds=1)
    world.sweep()

    ended = world.lease(issued.lease.id)
    assert (world.users(), ended.status, ended.cause) == (set(), LeaseStatus.EXPIRED, Cause.EXPIRY)
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        whoami(world, keys)


def test_a_renewed_lease_lives_past_its_first_end_and_is_gone_after_the_new_one(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.let_time_pass(minutes=50)
    world.operations.renew(lease.id, HOUR, actor=ACTOR)

    world.let_time_pass(minutes=15)
    world.sweep()
    assert world.users() == {lease.spec.name}

    world.let_time_pass(minutes=46)
    world.sweep()
    assert (world.users(), world.lease(lease.id).status) == (set(), LeaseStatus.EXPIRED)


def test_a_lease_is_not_renewed_past_its_maximum_nor_after_its_end(world: LeaseWorld) -> None:
    lease = world.issue().lease
    with pytest.raises(IllegalTransitionError, match="at the latest"):
        world.operations.renew(lease.id, timedelta(hours=8, minutes=1), actor=ACTOR)
    with pytest.raises(InvalidInputError, match="too short"):
        world.operations.renew(lease.id, timedelta(seconds=59), actor=ACTOR)

    world.let_time_pass(hours=1, seconds=1)
    with pytest.raises(IllegalTransitionError, match="has expired"):
        world.operations.renew(lease.id, HOUR, actor=ACTOR)

    world.sweep()
    with pytest.raises(IllegalTransitionError, match="is expired"):
        world.operations.renew(lease.id, HOUR, actor=ACTOR)
    assert world.users() == set()


def test_revoking_takes_the_key_first_and_then_exactly_what_was_put_there(world: LeaseWorld) -> None:
    lease = world.issue().lease
    before = len(world.calls())

    done = world.revoke(lease.id)

    assert (done.lease.status, done.lease.cause, world.users()) == (LeaseStatus.REVOKED, Cause.REQUEST, set())
    assert world.calls()[before:] == [
        "DeleteAccessKey",
        "DetachUserPolicy",
        "DetachUserPolicy",
        "RemoveUserFromGroup",
        "DeleteUserPolicy",
        "DeleteUser",
    ]


def test_revoking_twice_is_revoking_once(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.revoke(lease.id)
    before = len(world.calls())

    done = world.revoke(lease.id)

    assert (done.lease.status, done.error) == (LeaseStatus.REVOKED, None)
    assert world.calls()[before:] == []


def test_a_user_that_somebody_deleted_by_hand_is_no_error(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.delete_by_hand(lease.spec.name)

    world.revoke(lease.id)
    world.let_time_pass(minutes=6)
    done = world.revoke(lease.id)

    assert (done.lease.status, done.error) == (LeaseStatus.REVOKED, None)
    events = [record.event for record in world.leases.records(lease.id)]
    assert events == [LeaseEvent.ISSUED, LeaseEvent.MISSING, LeaseEvent.REVOKED]


def test_a_user_that_somebody_else_made_under_its_name_is_left_alone(world: LeaseWorld) -> None:
    """Deleted by hand, and made again for something else: what is on it now is none of ours."""
    lease = world.issue().lease
    name = lease.spec.name
    world.delete_by_hand(name)
    world.iam.create_user(UserName=name, Path="/humans/")
    world.iam.attach_user_policy(UserName=name, PolicyArn=POLICIES[0])
    world.iam.add_user_to_group(UserName=name, GroupName=GROUP)

    world.revoke(lease.id)
    world.let_time_pass(minutes=6)
    done = world.revoke(lease.id)

    assert (done.lease.status, done.error) == (LeaseStatus.REVOKED, None)
    assert len(world.iam.list_attached_user_policies(UserName=name)["AttachedPolicies"]) == 1
    assert len(world.iam.list_groups_for_user(UserName=name)["Groups"]) == 1


def test_a_broken_credential_is_told_and_mended_it_takes_the_lease_back(world: LeaseWorld) -> None:
    lease = world.issue().lease
    denial = world.deny("iam:*")

    failed = world.revoke(lease.id)
    world.sweep()

    assert failed.error is not None and failed.error.code == "AccessDenied"
    left = world.lease(lease.id)
    assert (left.status, left.failures, world.users()) == (LeaseStatus.REVOKE_FAILED, 1, {lease.spec.name})
    assert left.error is not None and "iam:DeleteAccessKey" in left.error

    world.allow(denial)
    world.let_time_pass(hours=1)
    world.sweep()
    assert (world.lease(lease.id).status, world.users()) == (LeaseStatus.REVOKED, set())


def test_what_fails_over_and_over_is_one_entry_of_the_log_and_comes_less_and_less_often(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.deny("iam:*")
    world.revoke(lease.id)
    for _ in range(3):
        world.let_time_pass(hours=1)
        world.sweep()

    events = [record.event for record in world.leases.records(lease.id)]
    assert events == [LeaseEvent.ISSUED, LeaseEvent.REVOKE_FAILED]
    assert world.lease(lease.id).failures == 4


def test_what_others_hung_on_a_user_is_stripped_when_aws_names_it(world: LeaseWorld) -> None:
    lease = world.issue().lease
    name = lease.spec.name
    world.iam.create_access_key(UserName=name)
    world.iam.put_user_policy(UserName=name, PolicyName="theirs", PolicyDocument=INLINE)
    world.iam.create_login_profile(UserName=name, Password="Correct-Horse-9")
    device = world.iam.create_virtual_mfa_device(VirtualMFADeviceName=name)["VirtualMFADevice"]["SerialNumber"]
    world.iam.enable_mfa_device(
        UserName=name, SerialNumber=device, AuthenticationCode1="123456", AuthenticationCode2="654321"
    )
    world.iam.create_group(GroupName="others")
    world.iam.add_user_to_group(UserName=name, GroupName="others")
    world.iam.create_service_specific_credential(UserName=name, ServiceName="codecommit.amazonaws.com")

    done = world.revoke(lease.id)

    assert (done.lease.status, done.error, world.users()) == (LeaseStatus.REVOKED, None, set())
    assert world.iam.list_virtual_mfa_devices()["VirtualMFADevices"] == []


def test_a_user_that_lost_our_tags_and_got_more_is_left_for_a_person(world: LeaseWorld) -> None:
    lease = world.issue().lease
    name = lease.spec.name
    world.iam.untag_user(UserName=name, TagKeys=[TAG_INSTANCE, TAG_LEASE])
    world.iam.put_user_policy(UserName=name, PolicyName="theirs", PolicyDocument=INLINE)

    done = world.revoke(lease.id)

    assert isinstance(done.error, DestinationRejectedError)
    assert world.users() == {name}
    assert world.iam.list_user_policies(UserName=name)["PolicyNames"] == ["theirs"]
    assert world.iam.list_access_keys(UserName=name)["AccessKeyMetadata"] == [], "the key that we made is gone"


def test_a_recipe_may_change_while_its_leases_live(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.iam.create_policy(PolicyName="other", PolicyDocument=INLINE)
    world.configuration.update("ci", lambda config: type(config)(**{**vars(config), "policy_arns": (), "groups": ()}))

    done = world.revoke(lease.id)

    assert (done.lease.status, world.users()) == (LeaseStatus.REVOKED, set())
    assert "ListAttachedUserPolicies" not in world.calls(), "what was put there is known from the lease"


def test_the_cap_counts_live_leases(make_lease_world: Callable[..., LeaseWorld]) -> None:
    world = make_lease_world(max_leases=2)
    first, _ = world.issue(), world.issue()
    with pytest.raises(IllegalTransitionError, match="has 2 live leases, and may have 2"):
        world.issue()

    world.revoke(first.lease.id)
    third = world.issue()
    assert third.lease.spec.name in world.users()
    assert len(world.users()) == 2


def test_a_database_that_may_be_older_takes_no_lease_back_before_the_last_possible_end(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.become_restored()
    world.let_time_pass(hours=2)

    world.sweep()

    assert world.users() == {lease.spec.name} == world.wanted()


def test_a_lease_whose_row_was_altered_goes_with_its_recipe_and_its_user_by_its_tag(world: LeaseWorld) -> None:
    lease = world.issue().lease
    with world.store.database.write() as connection:
        # Its ciphertext is bound to that end.
        connection.execute(lease_rows.update().values(max_expires_at=datetime(2026, 1, 1, tzinfo=UTC)))
    world.sweep()
    assert world.users() == {lease.spec.name}, "nothing that the row says is believed"
    assert [one for one in world.events if isinstance(one, LeaseUnreadable)]

    (done,) = world.operations.revoke_all(world.leases.list_leases(), actor=ACTOR)
    world.store.dynamics.remove("ci")
    assert (done.dropped, world.leases.list_leases(ended=True)) == (True, [])

    world.clock.pass_(hours=9)
    (scan,) = world.orphan_users.scan("aws")
    world.orphan_users.remove(scan.orphans, actor=ACTOR)
    assert world.users() == set()
