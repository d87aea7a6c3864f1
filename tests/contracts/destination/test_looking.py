"""Looking at an object: what is told, and that absence is told as absence."""

from __future__ import annotations

from datetime import timedelta

import pytest

from phasesync.ports.destination import Destination
from tests.contracts.destination.worlds import NAME, OURS, World, create, put
from tests.support.aws_builders import token


def test_says_which_account_it_leads_to(destination: Destination, world: World):
    assert destination.account_id() == world.account


def test_what_does_not_exist_is_observed_as_none(destination: Destination):
    assert destination.observe(NAME) is None


def test_observes_the_same_by_name_and_by_arn(destination: Destination):
    arn = create(destination).arn
    assert destination.observe(arn) == destination.observe(NAME)


def test_observes_a_new_object(destination: Destination):
    written = create(destination, description="ours", tags={**OURS, "team": "shop"})
    seen = destination.observe(NAME)
    assert seen is not None
    assert (seen.arn, seen.name, seen.description) == (written.arn, NAME, "ours")
    assert seen.tags == {**OURS, "team": "shop"}
    assert seen.current_version == written.version_id == token(1)
    assert (seen.kms_key, seen.deleted_at, seen.owning_service, seen.primary_region) == (None, None, None, None)
    assert not seen.rotation_enabled


def test_observes_a_scheduled_deletion(destination: Destination, world: World):
    create(destination)
    world.outside_delete(NAME)
    seen = destination.observe(NAME)
    assert seen is not None
    assert seen.deleted_at is not None
    assert seen.deleted_at.tzinfo is not None


def test_finds_a_name_that_looks_like_the_end_of_an_arn(destination: Destination):
    create(destination, name="shop-abc123")
    assert destination.observe("shop-abc123") is not None
    assert destination.observe("shop") is None


def test_looking_does_not_ask_for_the_resource_policy(destination: Destination, world: World):
    create(destination)
    calls = destination.calls
    seen = destination.observe(NAME)
    assert seen is not None
    assert seen.resource_policy is None
    assert destination.calls == calls + 1


def test_tells_the_day_of_the_last_read(destination: Destination, world: World):
    create(destination)
    before = destination.observe(NAME)
    world.outside_read(NAME)
    after = destination.observe(NAME)
    assert before is not None
    assert after is not None
    assert (before.last_read_on, after.last_read_on) == (None, world.now().date())


@pytest.mark.reads_values("port")
def test_our_own_read_counts_as_a_read(destination: Destination, world: World):
    create(destination)
    destination.read_value(NAME)
    world.pass_time(timedelta(days=1))
    seen = destination.observe(NAME)
    assert seen is not None
    assert seen.last_read_on == (world.now() - timedelta(days=1)).date()


def test_tells_when_anything_was_changed_last(destination: Destination, world: World):
    arn = create(destination).arn
    for change in (
        lambda: destination.update_metadata(arn, tags={"team": "shop"}),
        lambda: destination.update_metadata(arn, description="new"),
        lambda: put(destination, arn, "two", 2),
    ):
        before = destination.observe(arn)
        world.pass_time(timedelta(hours=1))
        change()
        after = destination.observe(arn)
        assert before is not None
        assert after is not None
        assert before.last_changed_at is not None
        assert after.last_changed_at is not None
        assert after.last_changed_at - before.last_changed_at >= timedelta(hours=1)
