"""Description, key and tags: set apart from each other, and from the value."""

from __future__ import annotations

import pytest

from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import RemoteChangedError
from phasesync.ports.destination import Destination
from tests.contracts.destination.worlds import NAME, OURS, World, create
from tests.support.aws_builders import token


def test_sets_the_description_and_nothing_else(destination: Destination, world: World):
    arn = create(destination, "one", kms_key=world.key()).arn
    before = destination.observe(arn)
    destination.update_metadata(arn, description="new")
    after = destination.observe(arn)
    assert before is not None
    assert after is not None
    assert after.description == "new"
    assert (after.versions, after.tags, after.kms_key) == (before.versions, before.tags, before.kms_key)
    assert world.text(NAME) == "one"


def test_sets_the_key_without_a_new_version(destination: Destination, world: World):
    arn, key = create(destination).arn, world.key()
    destination.update_metadata(arn, kms_key=key)
    seen = destination.observe(arn)
    assert seen is not None
    assert (seen.kms_key, list(seen.versions)) == (key, [token(1)])


def test_goes_back_to_the_aws_managed_key(destination: Destination, world: World):
    arn = create(destination, kms_key=world.key()).arn
    destination.update_metadata(arn, kms_key=AWS_MANAGED_KEY)
    seen = destination.observe(arn)
    assert seen is not None
    assert seen.kms_key is None


def test_tags_are_added_and_changed_and_others_left_alone(destination: Destination):
    arn = create(destination, tags={**OURS, "team": "shop", "stage": "old"}).arn
    destination.update_metadata(arn, tags={"stage": "new", "cost": "42"})
    seen = destination.observe(arn)
    assert seen is not None
    assert seen.tags == {**OURS, "team": "shop", "stage": "new", "cost": "42"}


def test_tags_are_taken_off(destination: Destination):
    arn = create(destination, tags={**OURS, "team": "shop"}).arn
    destination.update_metadata(arn, untag=("team", "never-there"))
    seen = destination.observe(arn)
    assert seen is not None
    assert seen.tags == OURS


def test_no_call_is_made_for_metadata_that_is_not_given(destination: Destination):
    arn = create(destination).arn
    calls = destination.calls
    destination.update_metadata(arn)
    assert destination.calls == calls


def test_metadata_of_what_is_gone_says_that_it_changed(destination: Destination, world: World):
    arn = create(destination).arn
    world.outside_delete(NAME, for_good=True)
    with pytest.raises(RemoteChangedError):
        destination.update_metadata(arn, description="new")
