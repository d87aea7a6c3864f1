"""New users that IAM does not find for some seconds, and what NoSuchEntity means while a lease is issued."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from phasesync.adapters.issuers import eventual_consistency
from phasesync.core.lease import LeaseStatus
from phasesync.emulator import DROP, Answer, Operation
from phasesync.errors import DestinationRejectedError, DestinationUnavailableError
from tests.support.lease_world import BOUNDARY, LeaseWorld, policy_arn

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)

NOT_FOUND = Answer("NoSuchEntity", "There is no policy, group or user of that name.", status=404)


@pytest.fixture
def pauses(world: LeaseWorld, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, on the emulator's clock."""
    made: list[float] = []

    def sleep(seconds: float) -> None:
        made.append(seconds)
        world.aws.clock.advance(seconds=seconds)

    monkeypatch.setattr(eventual_consistency, "sleep", sleep)
    monkeypatch.setattr(eventual_consistency, "_PAUSES_S", (0.5, 1.0, 2.0, *(4.0,) * 14))
    return made


def test_a_new_user_is_waited_for(world: LeaseWorld, pauses: list[float]) -> None:
    world.aws.timing.new_user_takes = timedelta(seconds=20)

    issued = world.issue()

    assert world.users() == {issued.lease.spec.name} == world.wanted()
    assert pauses == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0]


def test_a_new_user_that_does_not_come_is_named(world: LeaseWorld, pauses: list[float]) -> None:
    world.aws.timing.new_user_takes = timedelta(minutes=10)

    with pytest.raises(DestinationUnavailableError, match="did not find the user ci-") as caught:
        world.issue()

    assert "policy" not in caught.value.message and 50 < sum(pauses) < 70
    assert world.only_lease().status is LeaseStatus.REVOKING
    world.aws.clock.advance(minutes=10)
    world.let_time_pass(minutes=11)
    world.sweep()
    assert world.users() == set()


@pytest.mark.parametrize("operation", ["AttachUserPolicy", "AddUserToGroup", "PutUserPolicy", "CreateAccessKey"])
def test_what_is_not_found_once_is_found_after_a_pause(world: LeaseWorld, operation: str, pauses: list[float]) -> None:
    """IAM may find the user here and not there."""
    world.aws.fail(operation, NOT_FOUND, times=2)

    issued = world.issue()

    assert world.users() == {issued.lease.spec.name}
    assert pauses == [0.5, 1.0]


def test_a_boundary_that_was_just_made_is_waited_for(world: LeaseWorld, pauses: list[float]) -> None:
    world.aws.fail("CreateUser", NOT_FOUND)

    issued = world.issue()

    assert world.users() == {issued.lease.spec.name}
    assert pauses == [0.5]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"policy_arns": (policy_arn("gone"),)}, f"there is no policy {policy_arn('gone')}"),
        ({"groups": ("gone",)}, "there is no group gone"),
        (
            {"permission_boundary": policy_arn("gone")},
            f"there is no policy {policy_arn('gone')}, the permission boundary",
        ),
    ],
)
@pytest.mark.parametrize("may_look", [True, False])
def test_what_is_missing_is_named_though_it_may_not_be_looked_for(
    make_lease_world: Callable[..., LeaseWorld], config: dict[str, object], said: str, may_look: bool
) -> None:
    world = make_lease_world(**config)
    if not may_look:
        world.deny("iam:GetPolicy")
        world.deny("iam:GetGroup")

    with pytest.raises(DestinationRejectedError) as caught:
        world.issue()

    assert caught.value.message == said
    assert not world.only_lease().live


def test_a_policy_that_is_there_is_not_called_missing(world: LeaseWorld, pauses: list[float]) -> None:
    """Whatever the text says."""
    text = Answer("NoSuchEntity", f"Policy {policy_arn('read')} does not exist or is not attachable.", status=404)
    world.aws.fail("AttachUserPolicy", text, times=None)

    with pytest.raises(DestinationUnavailableError) as caught:
        world.issue()

    assert "there is no policy" not in caught.value.message
    assert world.users() == set()


def test_a_policy_is_missing_although_its_user_takes_time(
    make_lease_world: Callable[..., LeaseWorld],
) -> None:
    world = make_lease_world(policy_arns=(policy_arn("gone"),))

    def one_moment(_operation: Operation) -> Answer | None:
        return NOT_FOUND

    world.aws.do("GetUser", one_moment, times=2)

    with pytest.raises(DestinationRejectedError, match="there is no policy"):
        world.issue()


def test_a_boundary_that_is_there_is_asked_for_by_its_arn(world: LeaseWorld) -> None:
    world.aws.fail("CreateUser", NOT_FOUND)
    world.issue()
    (asked,) = [one.form["PolicyArn"] for one in world.aws.operations if one.name == "GetPolicy"]
    assert asked == BOUNDARY


def test_a_new_user_whose_answer_was_lost_is_waited_for_as_well(world: LeaseWorld, pauses: list[float]) -> None:
    world.aws.timing.new_user_takes = timedelta(seconds=20)
    world.aws.fail("CreateUser", DROP, when="after")

    issued = world.issue()

    assert world.users() == {issued.lease.spec.name} == world.wanted()
