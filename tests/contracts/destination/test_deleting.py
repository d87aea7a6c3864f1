"""Deleting with a window and for good; restoring."""

from __future__ import annotations

from datetime import timedelta

import pytest

from phasesync.errors import DestinationRejectedError, RemoteChangedError
from phasesync.ports.destination import Destination
from tests.contracts.destination.worlds import ELSEWHERE, NAME, World, create

# --- deleting


@pytest.mark.reads_values("port")
def test_a_deleted_object_is_scheduled_and_cannot_be_read(destination: Destination):
    arn = create(destination).arn
    destination.delete(arn, recovery_days=30)
    seen = destination.observe(NAME)
    assert seen is not None
    assert (seen.arn, seen.deleted_at is None) == (arn, False)
    with pytest.raises(DestinationRejectedError):
        destination.read_value(NAME)


def test_a_deletion_within_its_window_can_be_taken_back(destination: Destination, world: World):
    arn = create(destination, "one").arn
    destination.delete(arn, recovery_days=7)
    destination.restore(arn)
    assert world.text(NAME) == "one"


def test_an_object_is_gone_when_its_window_has_ended(destination: Destination, world: World):
    arn = create(destination).arn
    destination.delete(arn, recovery_days=7)
    world.pass_time(timedelta(days=6))
    assert destination.observe(arn) is not None
    world.pass_time(timedelta(days=1, seconds=1))
    assert destination.observe(arn) is None
    assert create(destination, "two").arn != arn


def test_a_deletion_for_good_is_at_once(destination: Destination):
    arn = create(destination).arn
    destination.delete(arn, recovery_days=None)
    assert destination.observe(NAME) is None


def test_what_is_scheduled_can_still_be_deleted_for_good(destination: Destination):
    arn = create(destination).arn
    destination.delete(arn, recovery_days=30)
    destination.delete(arn, recovery_days=None)
    assert destination.observe(NAME) is None


@pytest.mark.parametrize("recovery_days", [-1, 0, 6, 31])
def test_a_window_that_aws_does_not_have_is_refused(destination: Destination, recovery_days: int):
    arn = create(destination).arn
    with pytest.raises(DestinationRejectedError):
        destination.delete(arn, recovery_days=recovery_days)
    seen = destination.observe(arn)
    assert seen is not None
    assert seen.deleted_at is None


def test_deleting_twice_says_that_it_changed(destination: Destination):
    arn = create(destination).arn
    destination.delete(arn, recovery_days=30)
    with pytest.raises(RemoteChangedError):
        destination.delete(arn, recovery_days=30)


def test_deleting_what_is_gone_says_that_it_changed(destination: Destination, world: World):
    arn = create(destination).arn
    world.outside_delete(NAME, for_good=True)
    with pytest.raises(RemoteChangedError):
        destination.delete(arn, recovery_days=30)


def test_deleting_for_good_what_is_gone_succeeds(destination: Destination, world: World):
    arn = create(destination).arn
    world.outside_delete(NAME, for_good=True)
    destination.delete(arn, recovery_days=None)
    assert destination.observe(NAME) is None


@pytest.mark.parametrize("recovery_days", [30, None])
def test_a_primary_with_copies_cannot_be_deleted(destination: Destination, world: World, recovery_days: int | None):
    arn = create(destination).arn
    destination.replicate(arn, {ELSEWHERE: "default"})
    world.settle_replication()
    with pytest.raises(RemoteChangedError):
        destination.delete(arn, recovery_days=recovery_days)
    destination.remove_replicas(arn, [ELSEWHERE])
    destination.delete(arn, recovery_days=recovery_days)
    seen = destination.observe(arn)
    assert (seen is None) == (recovery_days is None)


# --- restoring


def test_a_restored_object_keeps_its_arn_and_its_value(destination: Destination, world: World):
    arn = create(destination, "one").arn
    world.outside_delete(NAME)
    destination.restore(arn)
    seen = destination.observe(NAME)
    assert seen is not None
    assert (seen.arn, seen.deleted_at) == (arn, None)
    assert world.text(NAME) == "one"


def test_restoring_what_is_gone_says_that_it_changed(destination: Destination, world: World):
    arn = create(destination).arn
    world.outside_delete(NAME, for_good=True)
    with pytest.raises(RemoteChangedError):
        destination.restore(arn)
