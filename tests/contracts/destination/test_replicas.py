"""Copies in other Regions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from phasesync.core.remote import Replica, ReplicaStatus
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import DestinationRejectedError, RemoteChangedError
from phasesync.ports.destination import Destination
from tests.contracts.destination.worlds import (
    ELSEWHERE,
    NAME,
    OURS,
    THIRD,
    World,
    create,
    open_in,
    put,
)
from tests.support.aws import REGION
from tests.support.aws_builders import payload, token

IN_SYNC = Replica(status=ReplicaStatus.IN_SYNC, kms_key=None)


def replicas(destination: Destination) -> dict[str, Replica]:
    """How the copies stand."""
    seen = destination.observe(NAME)
    assert seen is not None
    return dict(seen.replicas)


@pytest.fixture
def arn(destination: Destination, world: World) -> str:
    """The ARN of an object with a copy elsewhere."""
    arn = create(destination, "one").arn
    destination.replicate(arn, {ELSEWHERE: AWS_MANAGED_KEY})
    world.settle_replication()
    return arn


def test_copies_value_and_tags(destination: Destination, world: World, arn: str):
    assert replicas(destination) == {ELSEWHERE: IN_SYNC}
    copied = open_in(world, ELSEWHERE).observe(NAME)
    assert copied is not None
    assert (world.text(NAME, region=ELSEWHERE), copied.tags) == ("one", OURS)


def test_a_copy_names_its_primary_and_has_no_copies(world: World, arn: str):
    copied = open_in(world, ELSEWHERE).observe(NAME)
    assert copied is not None
    assert (copied.primary_region, copied.replicas) == (REGION, {})
    assert copied.arn == arn.replace(REGION, ELSEWHERE)


def test_a_primary_names_itself(destination: Destination, arn: str):
    seen = destination.observe(arn)
    assert seen is not None
    assert seen.primary_region == REGION


def test_copies_to_more_than_one_region(destination: Destination, world: World, arn: str):
    destination.replicate(arn, {THIRD: AWS_MANAGED_KEY})
    world.settle_replication()
    assert replicas(destination) == {ELSEWHERE: IN_SYNC, THIRD: IN_SYNC}


def test_a_copy_has_a_key_of_its_own_region(destination: Destination, world: World):
    arn, key = create(destination).arn, world.key(region=ELSEWHERE)
    destination.replicate(arn, {ELSEWHERE: key})
    world.settle_replication()
    assert replicas(destination) == {ELSEWHERE: Replica(status=ReplicaStatus.IN_SYNC, kms_key=key)}
    copied = open_in(world, ELSEWHERE).observe(NAME)
    assert copied is not None
    assert copied.kms_key == key


def test_changes_reach_the_copy(destination: Destination, world: World, arn: str):
    put(destination, arn, "two", 2)
    destination.update_metadata(arn, tags={"team": "shop"})
    world.settle_replication()
    copied = open_in(world, ELSEWHERE).observe(NAME)
    assert copied is not None
    assert (world.text(NAME, region=ELSEWHERE), copied.tags) == ("two", {**OURS, "team": "shop"})
    assert copied.current_version == token(2)


def test_a_copy_is_in_progress_for_a_while(destination: Destination, world: World):
    world.slow_replication(timedelta(minutes=1))
    arn = create(destination).arn
    destination.replicate(arn, {ELSEWHERE: AWS_MANAGED_KEY})
    assert replicas(destination)[ELSEWHERE].status is ReplicaStatus.IN_PROGRESS
    world.settle_replication()
    assert replicas(destination)[ELSEWHERE].status is ReplicaStatus.IN_SYNC


def test_a_copy_fails_where_its_name_is_taken_and_writes_nothing_over(destination: Destination, world: World):
    world.outside_create_in(ELSEWHERE, NAME, "theirs")
    arn = create(destination).arn
    destination.replicate(arn, {ELSEWHERE: AWS_MANAGED_KEY})
    world.settle_replication()
    failed = replicas(destination)[ELSEWHERE]
    assert (failed.status, failed.name_taken) == (ReplicaStatus.FAILED, True)
    assert world.text(NAME, region=ELSEWHERE) == "theirs"


def test_a_copy_that_failed_is_tried_again(destination: Destination, world: World):
    world.outside_create_in(ELSEWHERE, NAME, "theirs")
    arn = create(destination, "ours").arn
    destination.replicate(arn, {ELSEWHERE: AWS_MANAGED_KEY})
    world.settle_replication()
    open_in(world, ELSEWHERE).delete(NAME, recovery_days=None)
    destination.replicate(arn, {ELSEWHERE: AWS_MANAGED_KEY})
    world.settle_replication()
    assert replicas(destination) == {ELSEWHERE: IN_SYNC}
    assert world.text(NAME, region=ELSEWHERE) == "ours"


def test_removing_a_copy_that_failed_leaves_what_has_its_name(destination: Destination, world: World):
    world.outside_create_in(ELSEWHERE, NAME, "theirs")
    arn = create(destination).arn
    destination.replicate(arn, {ELSEWHERE: AWS_MANAGED_KEY})
    world.settle_replication()
    destination.remove_replicas(arn, [ELSEWHERE])
    assert replicas(destination) == {}
    assert world.text(NAME, region=ELSEWHERE) == "theirs"


def test_a_removed_copy_is_gone_at_once_and_the_others_stay(destination: Destination, world: World, arn: str):
    destination.replicate(arn, {THIRD: AWS_MANAGED_KEY})
    world.settle_replication()
    destination.remove_replicas(arn, [ELSEWHERE])
    assert replicas(destination) == {THIRD: IN_SYNC}
    assert open_in(world, ELSEWHERE).observe(NAME) is None
    assert world.text(NAME) == world.text(NAME, region=THIRD) == "one"


@pytest.mark.parametrize("write", ["put_value", "update_metadata", "delete", "replicate"])
def test_a_copy_is_read_only(world: World, arn: str, write: str):
    elsewhere = open_in(world, ELSEWHERE)
    acts: dict[str, Any] = {
        "put_value": lambda: elsewhere.put_value(NAME, payload("two"), token=token(2)),
        "update_metadata": lambda: elsewhere.update_metadata(arn.replace(REGION, ELSEWHERE), tags={"team": "shop"}),
        "delete": lambda: elsewhere.delete(NAME, recovery_days=30),
        "replicate": lambda: elsewhere.replicate(NAME, {THIRD: AWS_MANAGED_KEY}),
    }
    with pytest.raises(DestinationRejectedError):
        acts[write]()
    copied = elsewhere.observe(NAME)
    assert copied is not None
    assert (copied.tags, copied.deleted_at, world.text(NAME, region=ELSEWHERE)) == (OURS, None, "one")


def test_an_object_is_not_copied_to_its_own_region(destination: Destination):
    arn = create(destination).arn
    with pytest.raises(DestinationRejectedError):
        destination.replicate(arn, {REGION: AWS_MANAGED_KEY})
    assert replicas(destination) == {}


def test_a_copy_that_stands_is_not_made_again(destination: Destination, arn: str):
    with pytest.raises(DestinationRejectedError):
        destination.replicate(arn, {ELSEWHERE: AWS_MANAGED_KEY})
    assert replicas(destination) == {ELSEWHERE: IN_SYNC}


def test_a_copy_that_is_not_there_is_not_removed(destination: Destination, arn: str):
    with pytest.raises(DestinationRejectedError):
        destination.remove_replicas(arn, [THIRD])
    assert replicas(destination) == {ELSEWHERE: IN_SYNC}


def test_no_call_is_made_where_no_region_is_named(destination: Destination, arn: str):
    calls = destination.calls
    destination.replicate(arn, {})
    destination.remove_replicas(arn, [])
    assert destination.calls == calls


@pytest.mark.parametrize("write", ["replicate", "remove_replicas"])
def test_copies_of_what_is_gone_say_that_it_changed(destination: Destination, world: World, write: str):
    arn = create(destination).arn
    world.outside_delete(NAME, for_good=True)
    acts: dict[str, Any] = {
        "replicate": lambda: destination.replicate(arn, {ELSEWHERE: AWS_MANAGED_KEY}),
        "remove_replicas": lambda: destination.remove_replicas(arn, [ELSEWHERE]),
    }
    with pytest.raises(RemoteChangedError):
        acts[write]()


def test_what_is_going_is_not_copied(destination: Destination, world: World):
    arn = create(destination).arn
    world.outside_delete(NAME)
    with pytest.raises(RemoteChangedError):
        destination.replicate(arn, {ELSEWHERE: AWS_MANAGED_KEY})
    assert open_in(world, ELSEWHERE).observe(NAME) is None
