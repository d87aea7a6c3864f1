"""What every destination has to do. Runs against the fake, and against the real adapter on an emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest

from phasesync.adapters.aws.session import AwsClients
from phasesync.adapters.destinations.opener import RegisteredDestinations
from phasesync.core.model import AWS_MANAGED_KEY, CredentialStatus, SecretValue, ValueType
from phasesync.core.remote import TAG_INSTANCE, Occupied, Written
from phasesync.errors import (
    CredentialRejectedError,
    DestinationRejectedError,
    InvalidInputError,
    NotFoundError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    RemoteChangedError,
)
from phasesync.ports import Destination, Destinations
from phasesync.testing.fake_destination import FakeDestinations
from phasesync.testing.fake_remote import ACCOUNT as FAKE_ACCOUNT
from phasesync.testing.fake_remote import FakeRemote
from tests.support.aws import ACCOUNT, REGION, Aws
from tests.support.aws_builders import (
    INSTANCE,
    HandClock,
    access_key_credential,
    no_sources,
    payload,
    role_credential,
    token,
)
from tests.support.aws_server import DROP

KIND = "aws-secrets-manager"
NAME = "shop/production"
OURS = {TAG_INSTANCE: INSTANCE}
KEY_ARN = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


class World(Protocol):
    """The remote side as the suite sees it: who else writes there, and what is there."""

    account: str

    def destinations(self) -> Destinations: ...
    def outside_create(self, name: str, value: str) -> None: ...
    def outside_delete(self, name: str, *, for_good: bool = False) -> None: ...
    def text(self, name: str) -> str: ...
    def lose_next_answer(self, write: str) -> None: ...


class FakeWorld:
    account = FAKE_ACCOUNT

    def __init__(self) -> None:
        self.remote = FakeRemote()
        self._destinations = FakeDestinations(self.remote, instance_id=INSTANCE)

    def destinations(self) -> Destinations:
        return self._destinations

    def outside_create(self, name: str, value: str) -> None:
        self.remote.outside_create(name, value)

    def outside_delete(self, name: str, *, for_good: bool = False) -> None:
        self.remote.outside_delete(name, recovery_days=None if for_good else 30)

    def text(self, name: str) -> str:
        return self.remote.object(name).text()

    def lose_next_answer(self, write: str) -> None:
        self._destinations.fail(write, when="after")


class MotoWorld:
    account = ACCOUNT

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.raw: Any = aws.boto("secretsmanager")
        self.clients = AwsClients(
            source_of=no_sources,
            clock=HandClock(datetime.now(UTC)),
            instance_id=INSTANCE,
            endpoint_url=aws.server.url,
        )

    def destinations(self) -> Destinations:
        return RegisteredDestinations(self.clients, instance_id=INSTANCE)

    def outside_create(self, name: str, value: str) -> None:
        self.raw.create_secret(Name=name, SecretString=value)

    def outside_delete(self, name: str, *, for_good: bool = False) -> None:
        how = {"ForceDeleteWithoutRecovery": True} if for_good else {"RecoveryWindowInDays": 30}
        self.raw.delete_secret(SecretId=name, **how)

    def text(self, name: str) -> str:
        return self.aws.secret_text(name)

    def lose_next_answer(self, write: str) -> None:
        operation = {"create": "CreateSecret", "put_value": "PutSecretValue"}[write]
        self.aws.server.fail(operation, DROP, when="after", times=3)


@pytest.fixture
def fake_world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def moto_world(aws: Aws) -> Iterator[MotoWorld]:
    world = MotoWorld(aws)
    yield world
    world.clients.close()
    world.raw.close()


@pytest.fixture(params=["fake", "aws"])
def world(request: pytest.FixtureRequest) -> World:
    name = {"fake": "fake_world", "aws": "moto_world"}[request.param]
    found: World = request.getfixturevalue(name)
    return found


@pytest.fixture
def destination(world: World) -> Destination:
    return world.destinations().open(KIND, access_key_credential(), REGION)


@pytest.fixture
def fake_destination(fake_world: FakeWorld) -> Destination:
    return fake_world.destinations().open(KIND, access_key_credential(), REGION)


def create(destination: Destination, value: str | bytes = "one", *, name: str = NAME, **changes: Any) -> Written:
    arguments: dict[str, Any] = {"token": token(1), "description": None, "kms_key": None, "tags": OURS, **changes}
    answer = destination.create(name, payload(value), **arguments)
    assert isinstance(answer, Written)
    return answer


def put(destination: Destination, arn: str, value: str | bytes, number: int) -> Written:
    answer = destination.put_value(arn, payload(value), token=token(number))
    assert isinstance(answer, Written)
    return answer


# --- looking


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


# --- creating


def test_creates_an_object_with_its_first_value(destination: Destination, world: World):
    create(destination, "one")
    assert world.text(NAME) == "one"


def test_creates_with_a_key_of_its_own(destination: Destination):
    create(destination, kms_key=KEY_ARN)
    seen = destination.observe(NAME)
    assert seen is not None
    assert seen.kms_key == KEY_ARN


def test_creates_with_the_aws_managed_key(destination: Destination):
    create(destination, kms_key=AWS_MANAGED_KEY)
    seen = destination.observe(NAME)
    assert seen is not None
    assert seen.kms_key is None


def test_a_name_that_is_taken_is_not_written_over(destination: Destination, world: World):
    world.outside_create(NAME, "theirs")
    answer = destination.create(NAME, payload("ours"), token=token(1), description=None, kms_key=None, tags=OURS)
    assert answer == Occupied()
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
    assert answer == Occupied()
    assert world.text(NAME) == "one"


def test_creates_a_binary_object(destination: Destination):
    create(destination, b"\x00\xff")
    assert destination.read_value(NAME) == SecretValue(b"\x00\xff", ValueType.BINARY)


def test_keeps_every_character_of_a_text(destination: Destination, world: World):
    text = 'ü€𝄞 "\\\n\t\u2028 end'
    create(destination, text)
    assert world.text(NAME) == text


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
    assert destination.put_value(arn, payload("other"), token=token(2)) == Occupied()
    assert world.text(NAME) == "two"


def test_a_late_put_under_a_spent_token_does_not_bring_back_an_old_value(destination: Destination, world: World):
    arn = create(destination, "one").arn
    put(destination, arn, "two", 2)
    put(destination, arn, "three", 3)
    assert destination.put_value(arn, payload("late"), token=token(2)) == Occupied()
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


# --- metadata


def test_sets_the_description_and_nothing_else(destination: Destination, world: World):
    arn = create(destination, "one", kms_key=KEY_ARN).arn
    before = destination.observe(arn)
    destination.update_metadata(arn, description="new")
    after = destination.observe(arn)
    assert before is not None
    assert after is not None
    assert after.description == "new"
    assert (after.versions, after.tags, after.kms_key) == (before.versions, before.tags, before.kms_key)
    assert world.text(NAME) == "one"


def test_sets_the_key_without_a_new_version(destination: Destination):
    arn = create(destination).arn
    destination.update_metadata(arn, kms_key=KEY_ARN)
    seen = destination.observe(arn)
    assert seen is not None
    assert (seen.kms_key, list(seen.versions)) == (KEY_ARN, [token(1)])


def test_goes_back_to_the_aws_managed_key(destination: Destination):
    arn = create(destination, kms_key=KEY_ARN).arn
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


# --- listing and reading


def test_lists_what_is_ours_and_what_is_not_and_what_is_going(destination: Destination, world: World):
    create(destination, name="ours", description="of ours")
    world.outside_create("theirs", "x")
    create(destination, name="going")
    world.outside_delete("going")
    listed = {entry.name: entry for entry in destination.list_names()}
    assert {name: entry.ours for name, entry in listed.items()} == {"ours": True, "theirs": False, "going": True}
    assert {name for name, entry in listed.items() if entry.deleted_at} == {"going"}
    assert listed["ours"].description == "of ours"


def test_lists_more_than_one_page(destination: Destination, world: World):
    names = {f"name-{number:03}" for number in range(103)}
    for name in names:
        world.outside_create(name, "x")
    assert {entry.name for entry in destination.list_names()} == names


def test_lists_no_more_than_asked_for(destination: Destination, world: World):
    for number in range(5):
        world.outside_create(f"name-{number}", "x")
    assert len(destination.list_names(limit=3)) == 3
    assert destination.list_names(limit=0) == []


def test_reads_a_value_for_an_import(destination: Destination, world: World):
    world.outside_create(NAME, "theirs")
    assert destination.read_value(NAME) == SecretValue("theirs")


def test_reads_none_where_nothing_is(destination: Destination):
    assert destination.read_value(NAME) is None


def test_does_not_read_what_is_going(destination: Destination, world: World):
    world.outside_create(NAME, "theirs")
    world.outside_delete(NAME)
    with pytest.raises(DestinationRejectedError):
        destination.read_value(NAME)


# --- opening and counting


def test_counts_its_calls(destination: Destination):
    arn = create(destination).arn
    destination.observe(arn)
    put(destination, arn, "two", 2)
    assert destination.calls == 3


def test_does_not_open_an_incomplete_credential(world: World):
    incomplete = role_credential(None, status=CredentialStatus.INCOMPLETE)
    with pytest.raises(CredentialRejectedError):
        world.destinations().open(KIND, incomplete, REGION)


def test_does_not_open_an_unknown_kind(world: World):
    with pytest.raises(NotFoundError):
        world.destinations().open("vault", access_key_credential(), REGION)


@pytest.mark.parametrize("name", ["", "a" * 513, "a b", "rds!a", "größe", "a\n"])
def test_refuses_names_that_the_destination_would_not_take(world: World, name: str):
    with pytest.raises(InvalidInputError):
        world.destinations().check_name(KIND, name)


@pytest.mark.parametrize("name", ["a", "a" * 512, "Shop/production_1+2=3.4@5-6", "shop-abc123"])
def test_takes_names_that_the_destination_takes(world: World, name: str):
    world.destinations().check_name(KIND, name)
    with pytest.raises(NotFoundError):
        world.destinations().check_name("vault", name)


def test_regions_are_apart(world: World, destination: Destination):
    create(destination)
    elsewhere = world.destinations().open(KIND, access_key_credential(), "us-east-1")
    assert elsewhere.observe(NAME) is None


# --- manners of AWS that the emulator does not have: checked on the fake, and on the adapter with AWS's own answers in
# tests/adapters/destinations/


def test_a_name_that_is_going_cannot_be_created_again(fake_destination: Destination, fake_world: FakeWorld):
    """The emulator answers ResourceExistsException, AWS InvalidRequestException."""
    create(fake_destination)
    fake_world.outside_delete(NAME)
    with pytest.raises(RemoteChangedError):
        create(fake_destination, "two")


def test_nothing_is_written_to_what_is_going(fake_destination: Destination, fake_world: FakeWorld):
    """The emulator writes and tags."""
    arn = create(fake_destination, "one").arn
    fake_world.outside_delete(NAME)
    for write in (
        lambda: fake_destination.put_value(arn, payload("two"), token=token(2)),
        lambda: fake_destination.update_metadata(arn, tags={"team": "shop"}),
    ):
        with pytest.raises(RemoteChangedError):
            write()
    assert (fake_world.text(NAME), fake_world.remote.object(NAME).tags) == ("one", OURS)


def test_a_51st_tag_is_refused(fake_destination: Destination):
    """The emulator takes it."""
    with pytest.raises(DestinationRejectedError):
        create(fake_destination, tags={f"tag-{number}": "x" for number in range(51)})
