"""Requests that AWS carries out after everybody has given them up; processes that go on after they were replaced."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from phasesync.core.lease import ARRIVES_WITHIN, Cause, Lease, LeaseStatus, begin_revoke, revoked
from phasesync.core.lease_claim import LeaseEvent
from phasesync.emulator import DROP, Answer, Operation
from phasesync.errors import ClaimLostError, DestinationError
from tests.support.databases import on_each_database
from tests.support.lease_world import GROUP, LeaseProcess, LeaseWorld
from tests.support.stores import ACTOR, LONG


def lose_the_user(world: LeaseWorld) -> None:
    """Issue a lease with a CreateUser that never arrives, as far as anyone knows: all that follows is lost as well."""
    world.aws.on_request = lambda when, one: DROP if one.service == "iam" and when == "before" else None
    with pytest.raises(DestinationError):
        world.issue()
    world.aws.on_request = None


def arrives(world: LeaseWorld) -> None:
    """AWS carries out the request after all."""
    spec = world.only_lease().spec
    tags = [{"Key": key, "Value": value} for key, value in spec.tags.items()]
    world.iam.create_user(UserName=spec.name, Path=spec.iam_path, Tags=tags)


@on_each_database
def test_a_user_that_comes_into_being_late_is_found_and_removed(world: LeaseWorld) -> None:
    lose_the_user(world)
    world.let_time_pass(seconds=3)
    world.sweep()
    lease = world.only_lease()
    assert (lease.status, world.users()) == (LeaseStatus.REVOKING, set())
    assert lease.issuing_at is not None and lease.retry_at is not None
    assert lease.retry_at > lease.issuing_at + ARRIVES_WITHIN - timedelta(seconds=30)

    arrives(world)
    world.let_time_pass(minutes=11)
    world.sweep()

    assert (world.only_lease().status, world.users()) == (LeaseStatus.REVOKED, set())


@on_each_database
def test_one_that_comes_after_even_that_is_the_reapers(world: LeaseWorld) -> None:
    lose_the_user(world)
    lease = world.only_lease()
    claimed = world.leases.claim(lease.id, "daemon-0")
    world.leases.save(claimed.claim, given_up, done=True)
    arrives(world)

    world.orphan_users.collect(lambda: None)

    assert world.users() == set()
    assert [record.event for record in world.leases.records(lease.id)][-1] is LeaseEvent.LEFT_OVER


def given_up(lease: Lease, now: datetime) -> Lease:
    """The lease as it is when no request for it can arrive any more."""
    return revoked(begin_revoke(lease, Cause.FAILURE, "given up", now), now)


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("operation", ["CreateUser", "AttachUserPolicy", "AddUserToGroup", "CreateAccessKey"])
def test_a_process_that_was_frozen_makes_nothing_more_once_a_daemon_took_over(
    world: LeaseWorld, operation: str
) -> None:
    frozen = world.another_process()

    def meanwhile(_operation: Operation) -> Answer | None:
        # The call in hand is carried out; before the next one the process finds that the lease is another's.
        world.aws.on_request = None
        world.sweep()
        return None

    world.aws.do(operation, meanwhile, when="after")
    with pytest.raises(ClaimLostError):
        frozen.issue()

    world.let_time_pass(minutes=11)
    world.sweep()
    assert (world.users(), world.only_lease().status) == (set(), LeaseStatus.REVOKED)


@on_each_database
def test_what_a_frozen_process_makes_late_goes_as_soon_as_it_finds_out(world: LeaseWorld) -> None:
    """It was frozen between its look at the claim and CreateUser, so long that the daemon has ended the lease."""
    frozen = world.another_process()

    def ends(_operation: Operation) -> Answer | None:
        world.sweep()
        lease = world.only_lease()
        assert lease.status is LeaseStatus.REVOKING, "nothing of it yet"
        return None

    world.aws.do("CreateUser", ends, when="before")
    with pytest.raises(ClaimLostError):
        frozen.issue()

    assert world.users() == set()


@on_each_database
def test_a_command_that_lives_keeps_the_daemon_away(world: LeaseWorld) -> None:
    operator: LeaseProcess = world.another_process(claim_ttl=LONG)

    def sweep(_operation: Operation) -> Answer | None:
        world.sweep()
        return None

    world.aws.do("AddUserToGroup", sweep, when="after")
    issued = operator.issue()

    assert world.users() == {issued.lease.spec.name} == world.wanted()
    groups = world.iam.list_groups_for_user(UserName=issued.lease.spec.name)["Groups"]
    assert [one["GroupName"] for one in groups] == [GROUP]


@on_each_database
def test_revoking_waits_for_who_is_at_work_and_says_so(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.another_process(claim_ttl=LONG).leases.claim(lease.id, "another-daemon")

    with pytest.raises(Exception, match="is being worked on by another-daemon"):
        world.operations.revoke(lease.id, actor=ACTOR, patience=timedelta(0))

    assert world.users() == {lease.spec.name}
