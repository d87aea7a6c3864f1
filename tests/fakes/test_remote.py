"""The fake beyond the contract: what only a fake can do, and what others do to its objects."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from phasesync.core.remote import PENDING, TAG_INSTANCE, Replica, ReplicaStatus, WriteResult
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import InvalidInputError, OutcomeUnknownError, RemoteChangedError
from tests.fakes.destination import FakeDestination, FakeDestinations
from tests.fakes.kms_keys import KEY_ID
from tests.fakes.remote import ACCOUNT, REGION, START, FakeRemote
from tests.support.aws_builders import INSTANCE, HandClock, access_key_credential, payload, token

KIND = "aws-secrets-manager"
NAME = "shop/production"
ELSEWHERE = "us-east-1"


@pytest.fixture
def clock() -> HandClock:
    return HandClock(START)


@pytest.fixture
def remote(clock: HandClock) -> FakeRemote:
    return FakeRemote(now=clock.now)


@pytest.fixture
def destinations(remote: FakeRemote) -> FakeDestinations:
    return FakeDestinations(remote, instance_id=INSTANCE)


@pytest.fixture
def destination(destinations: FakeDestinations) -> FakeDestination:
    return destinations.open(KIND, access_key_credential(), REGION)


def create(destination: FakeDestination, name: str = NAME) -> str:
    made = destination.create(
        name, payload("one"), token=token(1), description=None, kms_key=None, tags={TAG_INSTANCE: INSTANCE}
    )
    assert isinstance(made, WriteResult)
    return made.arn


# --- copies


def test_copies_are_made_at_once_where_a_test_asks_for_it(remote: FakeRemote, destination: FakeDestination):
    remote.replicates_at_once = True
    arn = create(destination)
    destination.replicate(arn, {ELSEWHERE: AWS_MANAGED_KEY})
    destination.put_value(arn, payload("two"), token=token(2))
    assert remote.object(NAME, region=ELSEWHERE).text() == "two"


def test_a_change_waits_for_replication_to_settle(remote: FakeRemote, destination: FakeDestination):
    arn = create(destination)
    remote.outside_replicate(NAME, ELSEWHERE)
    destination.put_value(arn, payload("two"), token=token(2))
    assert remote.object(NAME).replicas[ELSEWHERE].status is ReplicaStatus.IN_PROGRESS
    assert remote.object(NAME, region=ELSEWHERE).text() == "one"
    remote.settle_replication()
    assert remote.object(NAME).replicas[ELSEWHERE].status is ReplicaStatus.IN_SYNC
    assert remote.object(NAME, region=ELSEWHERE).text() == "two"


def test_a_copy_that_broke_says_nothing_of_its_name(remote: FakeRemote, destination: FakeDestination):
    create(destination)
    remote.outside_replicate(NAME, ELSEWHERE)
    remote.outside_break_replication(NAME, ELSEWHERE)
    remote.settle_replication()
    assert remote.object(NAME).replicas == {ELSEWHERE: Replica(status=ReplicaStatus.FAILED, kms_key=None)}


def test_a_promoted_copy_is_an_object_of_its_own(remote: FakeRemote, destination: FakeDestination):
    arn = create(destination)
    remote.outside_replicate(NAME, ELSEWHERE)
    remote.outside_promote(NAME, ELSEWHERE)
    destination.put_value(arn, payload("two"), token=token(2))
    remote.settle_replication()
    promoted = remote.object(NAME, region=ELSEWHERE)
    assert (promoted.text(), promoted.is_replica, remote.object(NAME).replicas) == ("one", False, {})


# --- others


def test_others_describe_restore_and_rotate(remote: FakeRemote, destination: FakeDestination):
    create(destination)
    remote.outside_describe(NAME, description="theirs", kms_key="arn:theirs")
    remote.outside_delete(NAME)
    remote.outside_restore(NAME)
    remote.outside_rotation(NAME)
    seen = destination.observe(NAME)
    assert seen is not None
    assert (seen.description, seen.kms_key, seen.deleted_at, seen.rotation_enabled) == (
        "theirs",
        "arn:theirs",
        None,
        True,
    )
    assert frozenset({PENDING}) in seen.versions.values()


def test_what_a_service_owns_is_written_to_by_nobody(remote: FakeRemote, destination: FakeDestination):
    arn = create(destination)
    remote.outside_service(NAME)
    for write in (
        lambda: destination.put_value(arn, payload("two"), token=token(2)),
        lambda: destination.delete(arn, recovery_days=30),
    ):
        with pytest.raises(RemoteChangedError):
            write()


def test_others_are_bound_by_the_rules_of_deletion(remote: FakeRemote, destination: FakeDestination):
    create(destination)
    remote.outside_replicate(NAME, ELSEWHERE)
    with pytest.raises(RemoteChangedError):
        remote.outside_delete(NAME)


@pytest.mark.reads_values("port")
def test_reading_is_no_change(remote: FakeRemote, destination: FakeDestination, clock: HandClock):
    create(destination)
    clock.turn(timedelta(days=1))
    destination.read_value(NAME)
    found = remote.object(NAME)
    assert (found.changed_at, found.last_read_on) == (START, clock.now().date())
    remote.outside_tag(NAME, {"team": "shop"})
    assert found.changed_at == clock.now()


# --- policies, keys, lists


def test_a_policy_comes_back_in_other_words(destination: FakeDestination):
    arn = create(destination)
    allowed = {"Action": "secretsmanager:GetSecretValue", "Effect": "Allow", "Resource": "*"}
    destination.put_resource_policy(
        arn, json.dumps({"Version": "2012-10-17", "Statement": [allowed | {"Principal": {"AWS": [ACCOUNT]}}]})
    )
    stored = json.loads(destination.resource_policy(arn) or "")
    assert stored["Statement"][0]["Principal"] == {"AWS": [f"arn:aws:iam::{ACCOUNT}:root"]}


def test_setting_a_policy_counts_as_the_two_calls_that_it_is(destinations: FakeDestinations):
    destination = destinations.open(KIND, access_key_credential(), REGION)
    arn = create(destination)
    calls = destination.calls
    with pytest.raises(RemoteChangedError):
        destination.put_resource_policy(f"{arn}-gone", "{}")
    assert (destination.calls - calls, destinations.log[-1]) == (2, "put_resource_policy")


def test_one_key_is_known_everywhere_and_no_other(destinations: FakeDestinations):
    arn = f"arn:aws:kms:{ELSEWHERE}:{ACCOUNT}:key/{KEY_ID}"
    assert destinations.resolve_key(KIND, access_key_credential(), ELSEWHERE, arn) == arn
    with pytest.raises(InvalidInputError):
        destinations.resolve_key(KIND, access_key_credential(), ELSEWHERE, arn.replace("1234", "4321"))


def test_looking_for_a_key_can_be_made_to_fail(destinations: FakeDestinations):
    destinations.fail("resolve_key", error=OutcomeUnknownError())
    with pytest.raises(OutcomeUnknownError):
        destinations.resolve_key(KIND, access_key_credential(), REGION, "alias/shop")


def test_a_list_shows_each_state_when_its_time_has_come(
    remote: FakeRemote, destination: FakeDestination, clock: HandClock
):
    remote.lag = timedelta(minutes=5)
    create(destination)
    for minute in range(1, 8):
        clock.turn(timedelta(minutes=1))
        remote.outside_describe(NAME, description=f"minute {minute}")
        shown = [seen.description for seen in destination.sweep(INSTANCE)]
        assert shown == ([] if minute < 5 else [""] if minute == 5 else [f"minute {minute - 5}"])
