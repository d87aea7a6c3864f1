"""A database that was put back from a copy: leases that were renewed since are not revoked at their old end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from phasesync.core.events import LeaseEndMoved
from phasesync.core.lease import Lease, LeaseStatus
from phasesync.core.lease_claim import LeaseEvent
from phasesync.core.lease_users import TAG_RENEWED
from phasesync.emulator import DROP, Answer
from phasesync.errors import RemoteChangedError
from phasesync.store.tables import leases as lease_rows
from tests.support.databases import on_each_database
from tests.support.lease_world import ACCOUNT, LeaseWorld
from tests.support.stores import ACTOR, LONG

HOUR = timedelta(hours=1)
on_sqlite = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)


class Copy:
    """The rows of all leases, as they were when this was made."""

    def __init__(self, world: LeaseWorld) -> None:
        self._world = world
        with world.store.database.read() as connection:
            self._rows: list[dict[str, Any]] = [row._asdict() for row in connection.execute(lease_rows.select())]

    def put_back(self) -> None:
        """Have the database be as it was."""
        with self._world.store.database.write() as connection:
            for row in self._rows:
                connection.execute(lease_rows.update().where(lease_rows.c.id == row["id"]).values(row))


def renewed_since(world: LeaseWorld, ttl: timedelta = 4 * HOUR, times: int = 1) -> Lease:
    """A lease of an hour that was renewed; the database does not know it."""
    lease = world.issue().lease
    copy = Copy(world)
    for _ in range(times):
        world.operations.renew(lease.id, ttl, actor=ACTOR)
    copy.put_back()
    return lease


@on_each_database
def test_what_was_renewed_since_lives_on_to_its_new_end_and_no_longer(world: LeaseWorld) -> None:
    lease = renewed_since(world)
    world.let_time_pass(hours=1, minutes=1)
    world.sweep()

    left = world.lease(lease.id)
    assert (left.status, world.users()) == (LeaseStatus.ACTIVE, {lease.spec.name})
    assert timedelta(hours=2) < left.expires_at - lease.expires_at < timedelta(hours=5)
    assert [record.event for record in world.leases.records(lease.id)][-1] is LeaseEvent.RENEWED
    assert [one.lease_id for one in world.events if isinstance(one, LeaseEndMoved)] == [lease.id]

    world.let_time_pass(hours=4, minutes=1)
    world.sweep()
    assert (world.lease(lease.id).status, world.users()) == (LeaseStatus.EXPIRED, set())


@on_sqlite
def test_what_was_not_renewed_ends_when_its_row_says(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.operations.renew(lease.id, 2 * HOUR, actor=ACTOR)
    world.let_time_pass(hours=2, seconds=1)
    world.sweep()

    assert (world.lease(lease.id).status, world.users()) == (LeaseStatus.EXPIRED, set())
    assert not [one for one in world.events if isinstance(one, LeaseEndMoved)]


@on_sqlite
def test_the_last_of_several_renewals_counts_and_the_next_one_goes_on_from_it(world: LeaseWorld) -> None:
    lease = renewed_since(world, times=3)
    assert world.operations.renew(lease.id, 2 * HOUR, actor=ACTOR).renewals == 4

    world.let_time_pass(hours=2, seconds=1)
    world.sweep()

    assert world.lease(lease.id).status is LeaseStatus.EXPIRED


@on_sqlite
@pytest.mark.parametrize("wrong", [DROP, Answer("Throttling", "later"), Answer("ServiceFailure", "no", status=500)])
def test_where_aws_does_not_answer_nothing_is_decided(world: LeaseWorld, wrong: Answer) -> None:
    lease = renewed_since(world)
    world.aws.fail("GetUser", wrong)
    world.let_time_pass(hours=1, minutes=1)
    world.sweep()
    assert world.lease(lease.id).status is LeaseStatus.REVOKE_FAILED

    world.let_time_pass(minutes=1)
    world.sweep()
    assert (world.lease(lease.id).status, world.users()) == (LeaseStatus.ACTIVE, {lease.spec.name})


@on_sqlite
def test_where_iam_does_not_find_it_for_a_moment_nothing_is_decided(world: LeaseWorld) -> None:
    lease = renewed_since(world)
    world.aws.state.users.hide(ACCOUNT, lease.spec.name, timedelta(seconds=20))
    world.let_time_pass(hours=1, minutes=1)
    world.sweep()
    assert world.lease(lease.id).status is LeaseStatus.REVOKING

    world.aws.clock.advance(seconds=20)
    world.let_time_pass(minutes=2)
    world.sweep()
    assert (world.lease(lease.id).status, world.users()) == (LeaseStatus.ACTIVE, {lease.spec.name})


@on_sqlite
def test_who_is_renamed_is_asked_too(world: LeaseWorld) -> None:
    lease = renewed_since(world)
    world.iam.update_user(UserName=lease.spec.name, NewUserName="renamed")
    world.let_time_pass(hours=1, minutes=1)
    world.sweep()

    assert (world.lease(lease.id).status, world.users()) == (LeaseStatus.ACTIVE, {"renamed"})


@on_sqlite
def test_a_person_revokes_whatever_its_user_says(world: LeaseWorld) -> None:
    lease = renewed_since(world)
    denial = world.deny("iam:Delete*")
    world.let_time_pass(hours=1, minutes=1)
    world.revoke(lease.id)
    world.allow(denial)
    world.let_time_pass(hours=1)
    world.sweep()

    assert (world.lease(lease.id).status, world.users()) == (LeaseStatus.REVOKED, set())


@on_sqlite
def test_a_renewal_whose_answer_was_lost_is_one_that_may_have_been_made(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.aws.fail("TagUser", DROP, when="after")
    with pytest.raises(Exception, match="TagUser"):
        world.operations.renew(lease.id, 2 * HOUR, actor=ACTOR)
    assert world.lease(lease.id).expires_at == lease.expires_at

    world.let_time_pass(hours=1, minutes=1)
    world.sweep()
    assert world.lease(lease.id).status is LeaseStatus.ACTIVE
    world.let_time_pass(hours=2)
    world.sweep()
    assert world.lease(lease.id).status is LeaseStatus.EXPIRED


@on_sqlite
def test_a_lease_whose_user_is_not_there_is_not_renewed(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.delete_by_hand(lease.spec.name)
    with pytest.raises(RemoteChangedError, match=r"IAM does not find the user ci-.*cannot be renewed"):
        world.operations.renew(lease.id, 2 * HOUR, actor=ACTOR)

    world.iam.create_user(UserName=lease.spec.name)
    with pytest.raises(RemoteChangedError, match="our tags are no longer on"):
        world.operations.renew(lease.id, 2 * HOUR, actor=ACTOR)
    assert "Tags" not in world.iam.get_user(UserName=lease.spec.name)["User"], "another's user is not tagged"
    assert world.lease(lease.id).expires_at == lease.expires_at


@on_sqlite
def test_where_a_policy_does_not_let_us_tag_the_row_alone_says_it(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.deny("iam:TagUser")

    renewed = world.operations.renew(lease.id, 2 * HOUR, actor=ACTOR)

    assert renewed.expires_at > lease.expires_at
    detail = world.leases.records(lease.id)[-1].detail
    assert detail is not None and "the tag of its user was not changed" in detail


@on_sqlite
@pytest.mark.parametrize(
    "value", ["", "1", "x 2099-01-01T00:00:00Z", "1 soon", "1 2099-01-01", "-1 2099-01-01T00:00:00Z"]
)
def test_a_tag_that_says_nothing_readable_changes_nothing(world: LeaseWorld, value: str) -> None:
    lease = world.issue().lease
    world.iam.tag_user(UserName=lease.spec.name, Tags=[{"Key": TAG_RENEWED, "Value": value}])
    world.let_time_pass(hours=1, minutes=1)
    world.sweep()

    assert (world.lease(lease.id).status, world.users()) == (LeaseStatus.EXPIRED, set())


@on_sqlite
def test_nobody_gets_more_than_the_maximum_by_a_tag(world: LeaseWorld) -> None:
    lease = world.issue().lease
    written = [{"Key": TAG_RENEWED, "Value": "7 2099-01-01T00:00:00Z"}]
    world.iam.tag_user(UserName=lease.spec.name, Tags=written)
    world.let_time_pass(hours=1, minutes=1)
    world.sweep()

    assert world.lease(lease.id).expires_at == lease.max_expires_at


@on_sqlite
def test_the_daemon_takes_nothing_back_while_it_is_being_renewed(world: LeaseWorld) -> None:
    lease = world.issue().lease
    operator = world.another_process(claim_ttl=LONG)

    def end_meanwhile(_operation: object) -> None:
        world.alter(lease.id, expires_at=lease.requested_at)
        world.sweep()

    world.aws.do("TagUser", end_meanwhile)
    operator.operations.renew(lease.id, 2 * HOUR, actor=ACTOR)

    assert (world.lease(lease.id).status, world.users()) == (LeaseStatus.ACTIVE, {lease.spec.name})


@on_sqlite
def test_who_may_not_look_at_users_ends_leases_as_their_rows_say(world: LeaseWorld) -> None:
    lease = world.issue().lease
    world.deny("iam:GetUser")
    world.let_time_pass(hours=1, minutes=1)
    world.sweep()

    assert (world.lease(lease.id).status, world.users()) == (LeaseStatus.EXPIRED, set())
