"""Values: creating, putting, tokens, lost answers, limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from phasesync.core.model import SecretValue, ValueType
from phasesync.core.remote import ResourceExists
from phasesync.core.sync import AWS_MANAGED_KEY
from phasesync.errors import DestinationRejectedError, OutcomeUnknownError, PayloadTooLargeError, RemoteChangedError
from phasesync.ports.destination import Destination
from tests.contracts.destination.worlds import NAME, OURS, World, create, put
from tests.support.aws_builders import payload, token

# --- creating


def test_creates_an_object_with_its_first_value(destination: Destination, world: World):
    create(destination, "one")
    assert world.text(NAME) == "one"


def test_creates_with_a_key_of_its_own(destination: Destination, world: World):
    key = world.key()
    create(destination, kms_key=key)
    seen = destination.observe(NAME)
    assert seen is not None
    assert seen.kms_key == key


def test_creates_with_the_aws_managed_key(destination: Destination):
    create(destination, kms_key=AWS_MANAGED_KEY)
    seen = destination.observe(NAME)
    assert seen is not None
    assert seen.kms_key is None


def test_a_name_that_is_taken_is_not_written_over(destination: Destination, world: World):
    world.outside_create(NAME, "theirs")
    answer = destination.create(NAME, payload("ours"), token=token(1), description=None, kms_key=None, tags=OURS)
    assert answer == ResourceExists()
    assert world.text(NAME) == "theirs"


def test_the_same_create_again_changes_nothing(destination: Destination):
    first = create(destination, "one")
    assert create(destination, "one").version_id == first.version_id
    seen = destination.observe(NAME)
    assert seen is not None
    assert list(seen.versions) == [first.version_id]


def test_a_create_whose_token_is_spent_on_another_payload_is_occupied(destination: Destination, world: World):
    create(destination, "one")
    answer = destination.create(NAME, payload("two"), token=token(1), description=None, kms_key=None, tags=OURS)
    assert answer == ResourceExists()
    assert world.text(NAME) == "one"


@pytest.mark.reads_values("port")
def test_creates_a_binary_object(destination: Destination):
    create(destination, b"\x00\xff")
    assert destination.read_value(NAME) == SecretValue(b"\x00\xff", ValueType.BINARY)


def test_keeps_every_character_of_a_text(destination: Destination, world: World):
    text = 'ü€𝄞 "\\\n\t\u2028 end'
    create(destination, text)
    assert world.text(NAME) == text


def test_a_name_that_is_going_cannot_be_created_again(destination: Destination, world: World):
    create(destination)
    world.outside_delete(NAME)
    with pytest.raises(RemoteChangedError):
        create(destination, "two")


# --- putting


def test_puts_a_value_that_readers_get_at_once(destination: Destination, world: World):
    arn = create(destination, "one").arn
    written = put(destination, arn, "two", 2)
    assert (written.version_id, written.current) == (token(2), True)
    assert world.text(NAME) == "two"


def test_a_put_moves_the_labels(destination: Destination):
    arn = create(destination, "one").arn
    put(destination, arn, "two", 2)
    put(destination, arn, "three", 3)
    seen = destination.observe(arn)
    assert seen is not None
    assert seen.versions == {token(3): frozenset({"AWSCURRENT"}), token(2): frozenset({"AWSPREVIOUS"})}


def test_the_same_put_again_adds_no_version(destination: Destination, world: World):
    arn = create(destination, "one").arn
    put(destination, arn, "two", 2)
    assert put(destination, arn, "two", 2).version_id == token(2)
    seen = destination.observe(arn)
    assert seen is not None
    assert set(seen.versions) == {token(1), token(2)}
    assert world.text(NAME) == "two"


def test_a_token_that_is_spent_on_another_payload_is_refused(destination: Destination, world: World):
    arn = create(destination, "one").arn
    put(destination, arn, "two", 2)
    assert destination.put_value(arn, payload("other"), token=token(2)) == ResourceExists()
    assert world.text(NAME) == "two"


def test_a_late_put_under_a_spent_token_does_not_bring_back_an_old_value(destination: Destination, world: World):
    arn = create(destination, "one").arn
    put(destination, arn, "two", 2)
    put(destination, arn, "three", 3)
    assert destination.put_value(arn, payload("late"), token=token(2)) == ResourceExists()
    assert world.text(NAME) == "three"


def test_the_same_value_under_a_new_token_is_written_again(destination: Destination, world: World):
    arn = create(destination, "A").arn
    put(destination, arn, "B", 2)
    put(destination, arn, "A", 3)
    assert world.text(NAME) == "A"


def test_a_put_on_what_is_gone_says_that_it_changed(destination: Destination, world: World):
    arn = create(destination).arn
    world.outside_delete(NAME, for_good=True)
    with pytest.raises(RemoteChangedError):
        destination.put_value(arn, payload("two"), token=token(2))


@pytest.mark.parametrize("write", ["create", "put_value"])
def test_a_write_whose_answer_is_lost_is_unknown_and_may_be_repeated(
    world: World, destination: Destination, write: str
):
    arn = create(destination, "zero", name="other").arn
    acts: dict[str, Callable[[], Any]] = {
        "create": lambda: create(destination, "one"),
        "put_value": lambda: put(destination, arn, "one", 2),
    }
    world.lose_next_answer(write)
    with pytest.raises(OutcomeUnknownError):
        acts[write]()
    acts[write]()
    assert world.text(NAME if write == "create" else "other") == "one"


def test_nothing_is_written_to_what_is_going(destination: Destination, world: World):
    arn = create(destination, "one").arn
    world.outside_delete(NAME)
    for write in (
        lambda: destination.put_value(arn, payload("two"), token=token(2)),
        lambda: destination.update_metadata(arn, tags={"team": "shop"}),
        lambda: destination.update_metadata(arn, untag=list(OURS)),
        lambda: destination.update_metadata(arn, description="new"),
    ):
        with pytest.raises(RemoteChangedError):
            write()
    destination.restore(arn)
    seen = destination.observe(arn)
    assert seen is not None
    assert (world.text(NAME), seen.tags, seen.description) == ("one", OURS, "")


# --- limits


@pytest.mark.parametrize("write", ["create", "put_value"])
def test_a_payload_over_the_limit_is_refused_with_the_largest_keys(destination: Destination, write: str):
    arn = create(destination, name="other").arn
    acts: dict[str, Callable[[], Any]] = {
        "create": lambda: create(destination, "x" * 65_537),
        "put_value": lambda: put(destination, arn, "x" * 65_537, 2),
    }
    with pytest.raises(PayloadTooLargeError) as caught:
        acts[write]()
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (65_537, 65_536)
    assert caught.value.largest[0].startswith("KEY")


def test_the_largest_payload_is_written(destination: Destination, world: World):
    text = "ü" * 32_768
    create(destination, text)
    assert world.text(NAME) == text


def test_an_empty_payload_is_refused(destination: Destination):
    with pytest.raises(DestinationRejectedError):
        create(destination, "")


def test_a_token_that_is_too_short_is_refused(destination: Destination):
    with pytest.raises(DestinationRejectedError):
        create(destination, token="short")


def test_a_51st_tag_is_refused(destination: Destination):
    with pytest.raises(DestinationRejectedError):
        create(destination, tags={f"tag-{number}": "x" for number in range(51)})
