"""What happens on the way to a lease: creations are sent once, refusals say what is missing, new keys take time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from phasesync.adapters.issuers.iam_client import IamClient
from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.lease import Lease, LeaseStatus
from phasesync.core.lease_claim import LeaseEvent
from phasesync.emulator import DROP, Answer, Operation, garbled
from phasesync.errors import (
    AccountMismatchError,
    DestinationRejectedError,
    InvalidInputError,
    PhasesyncError,
    QuotaExceededError,
    StoreUnavailableError,
)
from tests.support.lease_world import REGION, LeaseWorld, policy_arn

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)

AMBIENT = CredentialDraft(type=CredentialType.AMBIENT, region=REGION)
LOST = [DROP, Answer("ServiceFailure", "internal error", status=500), garbled(b"<CreateUserResponse/>")]


@pytest.mark.parametrize("lost", LOST, ids=["dropped", "500", "garbled"])
def test_a_user_whose_answer_was_lost_is_found_by_its_tags_and_used(world: LeaseWorld, lost: Answer) -> None:
    world.aws.fail("CreateUser", lost, when="after")

    issued = world.issue()

    assert world.users() == {issued.lease.spec.name}
    assert world.calls()[:3] == ["CreateUser", "GetUser", "AttachUserPolicy"]


def test_a_key_whose_answer_was_lost_is_removed_and_another_made(world: LeaseWorld) -> None:
    world.aws.fail("CreateAccessKey", DROP, when="after")

    issued = world.issue()

    keys = world.iam.list_access_keys(UserName=issued.lease.spec.name)["AccessKeyMetadata"]
    assert [key["AccessKeyId"] for key in keys] == [issued.lease.access_key_id]
    assert world.calls()[-4:] == ["CreateAccessKey", "ListAccessKeys", "DeleteAccessKey", "CreateAccessKey"]


@pytest.mark.parametrize("code", ["Throttling", "ConcurrentModification", "EntityTemporarilyUnmodifiable"])
def test_what_aws_asks_to_try_again_is_tried_again(world: LeaseWorld, code: str) -> None:
    world.aws.fail("CreateUser", Answer(code, "later"))
    world.aws.fail("CreateAccessKey", Answer(code, "later"))

    issued = world.issue()

    assert world.users() == {issued.lease.spec.name}
    assert (world.aws.count("CreateUser"), world.aws.count("CreateAccessKey")) == (2, 2)


def test_a_name_that_is_somebody_elses_is_refused_and_left_alone(world: LeaseWorld) -> None:
    def take(operation: Operation) -> Answer | None:
        world.iam.create_user(UserName=operation.form["UserName"], Path="/others/")
        return None

    world.aws.do("CreateUser", take)
    with pytest.raises(DestinationRejectedError, match="already, and it is not ours"):
        world.issue()

    world.let_time_pass(minutes=11)
    world.sweep()
    left = world.iam.list_users(PathPrefix="/others/")["Users"]
    assert [user["UserName"] for user in left] == [world.only_lease().spec.name]
    assert world.only_lease().status is LeaseStatus.REVOKED


@pytest.mark.parametrize(
    ("config", "said", "option"),
    [
        ({"policy_arns": (policy_arn("gone"),)}, f"there is no policy {policy_arn('gone')}", "--policy-arn ARN"),
        ({"groups": ("gone",)}, "there is no group gone", "--group GROUP"),
        (
            {"permission_boundary": policy_arn("gone")},
            f"there is no policy {policy_arn('gone')}, the permission boundary",
            "--permission-boundary ARN",
        ),
    ],
)
def test_what_does_not_exist_is_named_and_nothing_is_left(
    make_lease_world: Callable[..., LeaseWorld], config: dict[str, object], said: str, option: str
) -> None:
    world = make_lease_world(**config)

    with pytest.raises(DestinationRejectedError) as caught:
        world.issue()

    assert caught.value.message == said
    assert caught.value.hint == f"make it at AWS, or name another one: phasesync dynamic update ci {option}"
    assert (world.users(), world.only_lease().status) == (set(), LeaseStatus.REVOKED)
    events = [record.event for record in world.leases.records(world.only_lease().id)]
    assert events in ([LeaseEvent.ISSUE_FAILED], [LeaseEvent.ISSUE_FAILED, LeaseEvent.REVOKED])


def test_a_quota_of_users_is_told_as_such(world: LeaseWorld) -> None:
    world.aws.limits.users = 0

    with pytest.raises(QuotaExceededError):
        world.issue()

    assert world.only_lease().status is LeaseStatus.REVOKED


def test_more_policies_than_aws_takes_leave_nothing(make_lease_world: Callable[..., LeaseWorld]) -> None:
    world = make_lease_world()
    world.aws.limits.user_policies = 1

    with pytest.raises(QuotaExceededError):
        world.issue()

    assert (world.users(), world.only_lease().status) == (set(), LeaseStatus.REVOKED)


def test_what_could_not_be_undone_is_said_and_left_to_the_daemon(world: LeaseWorld) -> None:
    def spoil(_operation: Operation) -> Answer:
        world.deny("iam:*")
        return Answer("AccessDenied", "not authorized", status=403)

    world.aws.do("AddUserToGroup", spoil)
    with pytest.raises(PhasesyncError) as caught:
        world.issue()

    assert "the daemon revokes what there may be of the lease" in caught.value.message
    assert world.users() == {world.only_lease().spec.name}
    world.aws.access.clear()
    world.let_time_pass(minutes=11)
    world.sweep()
    assert (world.users(), world.only_lease().status) == (set(), LeaseStatus.REVOKED)


def test_ctrl_c_on_the_way_leaves_nothing(world: LeaseWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    put = IamClient.put

    def interrupted(self: IamClient, operation: str, *args: object, **kwargs: object) -> None:
        put(self, operation, *args, **kwargs)  # type: ignore[arg-type]
        if operation == "AddUserToGroup":
            raise KeyboardInterrupt

    monkeypatch.setattr(IamClient, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.issue()

    assert (world.users(), world.only_lease().status) == (set(), LeaseStatus.REVOKED)


# --- keys take time


@pytest.mark.parametrize("failure", [KeyboardInterrupt, StoreUnavailableError])
def test_a_kept_key_of_which_nobody_heard_is_not_handed_out_dead(
    world: LeaseWorld, failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row was active already when Ctrl-C came, or when the answer of the commit was lost."""
    save = world.leases.save

    def heard_of_nothing(*args: Any, **how: Any) -> Lease:
        saved = save(*args, **how)
        if saved.status is LeaseStatus.ACTIVE:
            raise failure
        return saved

    monkeypatch.setattr(world.leases, "save", heard_of_nothing)
    with pytest.raises(failure):
        world.issue(keep=True)

    assert (world.users(), world.only_lease().status, world.only_lease().kept) == (set(), LeaseStatus.REVOKED, False)
    assert world.leases.kept(world.store.dynamics.get("ci")) is None


def test_it_is_waited_until_aws_knows_the_key(world: LeaseWorld) -> None:
    world.aws.timing.new_key_takes = timedelta(seconds=5)
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        world.aws.clock.advance(seconds=seconds)

    world.operations._maker._sleep = sleep

    issued = world.issue(probe_for=timedelta(seconds=30))

    assert issued.known is True
    assert waited == [0.5, 1.0, 2.0, 4.0], "growing pauses"


def test_a_key_that_stays_unknown_is_handed_out_with_a_word_of_warning(world: LeaseWorld) -> None:
    world.aws.timing.new_key_takes = timedelta(hours=1)

    issued = world.issue(probe_for=timedelta(0))

    assert issued.known is False
    assert world.users() == {issued.lease.spec.name} == world.wanted()


def test_a_probe_that_cannot_be_made_costs_nothing_but_the_certainty(world: LeaseWorld) -> None:
    world.aws.do("GetCallerIdentity", lambda _: None)  # The daemon's own, before the lease.
    world.aws.fail("GetCallerIdentity", Answer("ServiceFailure", "internal error", status=500), nth=2, times=None)

    issued = world.issue(probe_for=timedelta(seconds=30))

    assert (issued.known, world.users()) == (False, {issued.lease.spec.name})


# --- accounts


def test_a_credential_that_leads_elsewhere_makes_nothing_there(world: LeaseWorld) -> None:
    world.store.credentials.update("aws", AMBIENT, account="999999999999")

    with pytest.raises(AccountMismatchError, match="leads to account 123456789012, pinned is 999999999999"):
        world.issue()

    assert (world.users(), world.leases.list_leases(ended=True)) == (set(), [])


def test_a_credential_that_leads_elsewhere_by_now_removes_nothing_there(world: LeaseWorld) -> None:
    lease = world.issue().lease
    role = CredentialDraft(
        type=CredentialType.ASSUME_ROLE, region=REGION, role_arn="arn:aws:iam::222222222222:role/phasesync"
    )
    world.store.credentials.update("aws", role, account="222222222222")
    before = len(world.aws.names("iam"))

    done = world.revoke(lease.id)

    assert isinstance(done.error, AccountMismatchError)
    assert f"the lease {lease.id} is in 123456789012" in done.error.message
    assert len(world.aws.names("iam")) == before
    assert (world.users(), done.lease.status) == ({lease.spec.name}, LeaseStatus.REVOKE_FAILED)

    world.store.credentials.update("aws", AMBIENT, account="123456789012")
    world.sweep()
    assert (world.users(), world.lease(lease.id).status) == (set(), LeaseStatus.REVOKED)


def test_a_template_that_grew_too_long_with_its_app_is_refused(world: LeaseWorld) -> None:
    world.configuration.update("ci", lambda one: type(one)(**{**vars(one), "user_template": "{{app}}-{{random}}"}))
    world.store.apps.update_app("shop", new_name="s" * 60)

    with pytest.raises(InvalidInputError, match="names of 77 characters"):
        world.issue()

    assert world.leases.list_leases(ended=True) == []


def test_a_dynamic_secret_that_is_changed_all_the_time_does_not_keep_a_lease_from_being_issued(
    world: LeaseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dynamic update` in a loop: each issue that reads it and then finds another version reads it again."""
    asked, most = world.leases.request, iter(range(1, 6))

    def changed_before(*given: Any, **named: Any) -> Any:
        if (number := next(most, None)) is not None:
            config = replace(world.store.dynamics.get("ci").config, max_leases=number)
            world.store.dynamics.update("ci", credential="aws", config=config)
        return asked(*given, **named)

    monkeypatch.setattr(world.leases, "request", changed_before)

    issued = world.issue()

    assert world.users() == {issued.lease.spec.name}
