"""Managed external secrets, and copies between accounts: what is told of them, and what AWS refuses."""

from __future__ import annotations

import pytest

from phasesync.core.remote import CrossAccountLink, CrossAccountStatus
from phasesync.errors import DestinationRejectedError, RemoteChangedError
from phasesync.ports.destination import Destination
from tests.contracts.destination.test_policies import policy
from tests.contracts.destination.worlds import NAME, World, create, put
from tests.support.aws_builders import INSTANCE, payload, token


def test_an_ordinary_secret_is_held_by_nobody_else(destination: Destination, world: World):
    create(destination)
    seen = destination.observe(NAME)
    assert seen is not None
    assert (seen.external_type, seen.cross_account_primary, seen.cross_account_copies) == (None, None, ())
    assert [one.external_type for one in destination.list_names()] == [None]


def test_a_type_is_told_by_itself_and_in_lists(destination: Destination, world: World):
    create(destination)
    world.outside_external(NAME, "DatadogApiKey")
    seen = destination.observe(NAME)
    assert seen is not None
    assert seen.external_type == "DatadogApiKey"
    assert [one.external_type for one in destination.list_names()] == ["DatadogApiKey"]
    assert [one.external_type for one in destination.sweep(INSTANCE)] == ["DatadogApiKey"]


@pytest.mark.reads_values("port")
def test_a_copy_of_anothers_secret_names_its_primary_and_can_be_read(destination: Destination, world: World):
    primary, arn = world.outside_copy_here(NAME)
    seen = destination.observe(NAME)
    assert seen is not None
    assert seen.arn == arn
    assert seen.cross_account_primary == CrossAccountLink(arn=primary, status=CrossAccountStatus.IN_SYNC)
    assert seen.cross_account_copies == ()
    value = destination.read_value(NAME)
    assert value is not None
    assert value.reveal_text() == "theirs"


@pytest.mark.parametrize("recovery_days", [30, None])
def test_a_copy_of_anothers_secret_is_not_written_or_deleted(
    destination: Destination, world: World, recovery_days: int | None
):
    _, arn = world.outside_copy_here(NAME)
    with pytest.raises(DestinationRejectedError):
        destination.put_value(arn, payload("ours"), token=token(1))
    with pytest.raises(RemoteChangedError):
        destination.delete(arn, recovery_days=recovery_days)
    assert world.text(NAME) == "theirs"


def test_a_copy_of_anothers_secret_has_a_policy_of_its_own(destination: Destination, world: World):
    """The one that anyone may change, beside the one that AWS keeps there."""
    _, arn = world.outside_copy_here(NAME)
    assert destination.resource_policy(arn) is None
    destination.put_resource_policy(arn, policy())
    assert destination.resource_policy(arn) == policy()


def test_a_primary_tells_its_copies_and_they_follow(destination: Destination, world: World):
    arn = create(destination).arn
    copied = world.outside_copy(NAME)
    seen = destination.observe(NAME)
    assert seen is not None
    assert seen.cross_account_primary is None
    assert seen.cross_account_copies == (CrossAccountLink(arn=copied, status=CrossAccountStatus.IN_SYNC),)
    put(destination, arn, "two", 2)
    assert world.text_there(NAME) == world.text(NAME) == "two"


def test_lists_tell_nothing_of_copies_between_accounts(destination: Destination, world: World):
    create(destination)
    world.outside_copy(NAME)
    (listed,) = destination.sweep(INSTANCE)
    assert (listed.cross_account_primary, listed.cross_account_copies) == (None, ())


@pytest.mark.parametrize("recovery_days", [30, None])
def test_a_primary_is_deleted_only_after_its_replication_was_ended(
    destination: Destination, world: World, recovery_days: int | None
):
    arn = create(destination).arn
    world.outside_copy(NAME)
    with pytest.raises(RemoteChangedError):
        destination.delete(arn, recovery_days=recovery_days)
    world.outside_end_copies(NAME)
    destination.delete(arn, recovery_days=recovery_days)
    seen = destination.observe(arn)
    assert (seen is None) == (recovery_days is None)
