"""Incidents in which something was written too often, too late, wrongly, or not at all."""

import json
from datetime import timedelta

from phasesync.core.model import SecretValue, SecretWrite, ValueType
from phasesync.core.planning.listing_check import pages
from phasesync.core.run import Outcome
from phasesync.core.sync import AWS_MANAGED_KEY, Adopt, SyncStatus, TagMode, Trigger
from phasesync.errors import InvalidInputError, OutcomeUnknownError, PayloadTooLargeError, ThrottledError
from tests.support.stores import ACTOR
from tests.support.world import KEY_ARN, NAME, World

POLICY = '{"Statement":[{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}],"Version":"2012-10-17"}'


def set_typed(world: World, key: str, value: SecretValue) -> None:
    """Set a key to a value of any type."""
    writes = [SecretWrite(path="/", key=key, value=value)]
    world.store.secrets.edit("shop", "production", actor=ACTOR, origin="set", writes=writes)


def test_a_steady_state_makes_no_writing_call_and_leaves_what_is_not_set_alone(world: World) -> None:
    """Policy, copies, tags, key and description of others stay, and an unchanged sync costs one look."""
    world.run()
    world.remote.outside_policy(NAME, POLICY)
    world.remote.outside_describe(NAME, description="theirs", kms_key=KEY_ARN)
    world.remote.outside_tag(NAME, {"team": "other"})
    world.remote.outside_replicate(NAME, "us-east-1")
    before = world.object.observed(), world.object.resource_policy
    world.destinations.log.clear()

    assert world.run().outcome is Outcome.UNCHANGED
    assert world.destinations.log == ["observe"]
    assert (world.object.observed(), world.object.resource_policy) == before


def test_checking_many_objects_takes_few_calls(keyed: World) -> None:
    """An edit of one key of sixty takes two calls; a check of 5,000 objects fifty."""
    keyed.edit(**{f"K{number}": "v" for number in range(58)})
    keyed.run()
    keyed.run()
    keyed.edit(K7="new")
    keyed.destinations.log.clear()

    keyed.run(Trigger.CHANGE)

    assert keyed.destinations.log == ["observe", "put_value"]
    assert pages(5_000) / 5_000 <= 0.02


def test_a_throttled_look_is_never_taken_for_absence(world: World) -> None:
    """Nothing is created, dropped or forgotten, and it is tried again by itself."""
    world.run()
    entry = world.entry
    world.destinations.fail("observe", error=ThrottledError("slower"))

    run = world.run()

    assert run.outcome is Outcome.FAILED
    assert world.sync.settled_status is SyncStatus.FAILING
    assert run.next_attempt_at is not None
    assert world.writes() == ["create"]
    assert world.entry.version_id == entry.version_id


def test_many_edits_of_fields_make_one_write_of_the_whole(world: World) -> None:
    """Two people who set different keys lose nothing; ten edits are one version."""
    world.run()
    for number in range(10):
        world.edit(**{f"K{number}": str(number)})
    world.run()

    assert world.versions == 2
    assert json.loads(world.text) == {
        "URL": "postgres://db",
        "USER": "shop",
        **{f"K{number}": str(number) for number in range(10)},
    }


def test_a_second_run_writes_nothing_whatever_the_values_look_like(world: World) -> None:
    """Order of keys, spaces in documents, characters beyond ASCII and line ends are no difference."""
    set_typed(world, "DOC", SecretValue('{"b": 1.0, "a": [ 2 ],  "c": "\\u00e9"}', ValueType.JSON))
    set_typed(world, "BIN", SecretValue(b"\x00\xff\n", ValueType.BINARY))
    world.edit(Z='é\r\n\t"\\ ', A="  ")
    world.run()
    versions = world.versions

    for trigger in (Trigger.SCHEDULE, Trigger.MANUAL, Trigger.CHANGE):
        assert world.run(trigger).outcome is Outcome.UNCHANGED
    assert world.versions == versions


def test_a_full_set_of_versions_parks_the_object_and_says_until_when(world: World) -> None:
    """Someone else used up what AWS keeps; no storm of attempts follows."""
    world.run()
    for number in range(99):
        world.remote.outside_put(NAME, f"theirs-{number}")

    run = world.run()

    assert run.error is not None
    assert (run.error.cls, run.error.code) == ("QuotaExceededError", "LimitExceededException")
    assert world.sync.settled_status is SyncStatus.FAILING
    assert run.next_attempt_at is not None
    assert run.next_attempt_at - world.clock.now() > timedelta(hours=23)
    world.clock.pass_(hours=25)
    assert world.run().outcome is Outcome.APPLIED


def test_each_kind_of_metadata_is_brought_in_step_although_the_value_is_unchanged(world: World) -> None:
    """And a new key comes with a fresh version, so that the value is under the new key alone."""
    world.run()
    world.configure(description="ours", tags={"team": "shop"})
    assert world.run().counts == {"retag": 1, "set-description": 1}
    assert world.versions == 1

    world.configure(kms_key=KEY_ARN)
    assert world.run().counts == {"rekey": 1}
    assert (world.object.kms_key, world.versions) == (KEY_ARN, 2)


def test_tags_of_others_stay(world: World) -> None:
    """In every tag mode; only what we wrote ourselves is taken off."""
    world.configure(tags={"ours": "1"}, tag_mode=TagMode.REPLACE_OWN)
    world.run()
    world.remote.outside_tag(NAME, {"team": "other", "aws:cloudformation:stack-id": "x"})
    world.configure(tags={"mine": "2"})
    world.run()

    assert "ours" not in world.object.tags
    assert world.object.tags["team"] == "other"
    assert world.object.tags["aws:cloudformation:stack-id"] == "x"
    assert world.object.tags["mine"] == "2"


def test_text_is_a_string_and_becomes_binary_only_with_an_approval(keyed: World) -> None:
    keyed.run()
    url = keyed.remote.object("shop/production/URL")
    assert url.current is not None and url.current.value.type is ValueType.TEXT
    set_typed(keyed, "URL", SecretValue(b"\x00", ValueType.BINARY))

    assert keyed.run().outcome is Outcome.HELD
    assert url.text() == "postgres://db"


def test_a_secret_without_any_value_gets_one(world: World) -> None:
    """Ours, and one that someone made empty and gave to us."""
    world.run()
    world.object.versions.clear()
    assert world.run().outcome is Outcome.APPLIED
    assert json.loads(world.text)["USER"] == "shop"

    world.remote.outside_delete(NAME, recovery_days=None)
    world.remote.outside_create(NAME).versions.clear()
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)
    assert world.run().outcome is Outcome.APPLIED
    assert json.loads(world.text)["USER"] == "shop"


def test_a_payload_over_the_limit_names_its_largest_keys_and_leaves_what_is_there(world: World) -> None:
    world.run()
    text = world.text
    world.edit(HUGE="x" * 66_000)

    run = world.run()

    assert run.error is not None
    assert run.error.cls == PayloadTooLargeError.__name__
    assert "HUGE" in run.error.message and "65,536" in run.error.message
    assert world.text == text


def test_a_value_that_aws_does_not_take_is_named_and_stops_no_other(keyed: World) -> None:
    """Empty values: the others go out."""
    set_typed(keyed, "EMPTY", SecretValue(""))

    run = keyed.run()

    assert run.error is not None
    assert run.error.cls == InvalidInputError.__name__
    assert "EMPTY" in run.error.message
    assert keyed.remote.object("shop/production/USER").text() == "shop"


def test_a_value_that_is_put_back_is_not_swallowed_by_its_token(world: World) -> None:
    """A, then B with a lost answer, then A again: readers get A, whether B had landed or not."""
    for when in ("before", "after"):
        world.edit(URL="A")
        world.run()
        world.edit(URL="B")
        world.destinations.fail("put_value", when=when, error=OutcomeUnknownError("no answer"))
        world.run()
        world.edit(URL="A")
        world.run()

        assert json.loads(world.text)["URL"] == "A"


def test_a_sync_that_is_pointed_at_a_copy_says_where_its_primary_is(world: World) -> None:
    """A copy is read-only; nothing is tried against it."""
    primary = world.remote.outside_create(NAME, "theirs", region="us-east-1")
    world.remote.replicate(primary, {world.sync.region: AWS_MANAGED_KEY})
    world.remote.settle_replication()

    run = world.run()

    assert run.outcome is Outcome.REFUSED
    assert run.error is not None and "us-east-1" in run.error.message
    assert world.writes() == []
