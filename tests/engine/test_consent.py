"""What an operator consents to holds once, for what was shown, and for nothing else."""

import json
from dataclasses import replace

from phasesync.core.model import SecretValue
from phasesync.core.payloads import build_json_payload
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC
from phasesync.core.run import Outcome
from phasesync.core.sync import Adopt, SyncStatus, Trigger
from phasesync.errors import OutcomeUnknownError, ThrottledError
from tests.support.databases import on_each_database
from tests.support.stores import ACTOR
from tests.support.world import NAME, World


def digest_of_held(world: World) -> str:
    """The digest that `syncs plan` shows for what is held."""
    digest = world.reconciler.prepare(world.store.sync_states.state_of("web")).guarded.digest
    assert digest is not None
    return digest


def hold_emptying(world: World) -> str:
    """Bring the object in step, empty the source; return the digest of what is held."""
    world.run()
    world.edit(URL=None, USER=None)
    assert world.run().outcome is Outcome.HELD
    return digest_of_held(world)


def empty_again(world: World) -> Outcome:
    """Fill the source, bring the object in step, and empty it once more; return how that run ends."""
    world.edit(URL="postgres://db", USER="shop")
    world.run()
    world.edit(URL=None, USER=None)
    return world.run().outcome


@on_each_database
def test_an_approval_is_spent_although_somebody_asks_for_a_run_meanwhile(world: World) -> None:
    """A request that comes while the approved run is under way does not keep the approval for another day."""
    world.store.sync_requests.approve("web", hold_emptying(world), actor=ACTOR)
    claim = world.claim()
    world.store.sync_requests.request("web", Trigger.MANUAL, actor=ACTOR)
    world.reconciler.reconcile(claim, lambda: None)
    assert world.text == "{}"
    world.run()

    assert empty_again(world) is Outcome.HELD


def test_an_approval_lapses_when_nothing_is_held_any_more(world: World) -> None:
    """Approved, and then the keys came back before the run."""
    world.store.sync_requests.approve("web", hold_emptying(world), actor=ACTOR)

    assert empty_again(world) is Outcome.HELD


def test_an_approval_outlives_a_call_that_failed(world: World) -> None:
    """What was approved and could not be written is tried again, not held again."""
    world.store.sync_requests.approve("web", hold_emptying(world), actor=ACTOR)
    world.destinations.fail("put_value", error=ThrottledError("slower"))
    assert world.run().outcome is Outcome.FAILED

    assert world.run().outcome is Outcome.APPLIED
    assert world.text == "{}"
    assert world.sync.approved_digest is None


def test_an_approval_holds_for_one_region(world: World) -> None:
    """The same payload under the same name elsewhere is another object."""
    world.run()
    sync = world.sync

    def move(region: str) -> None:
        world.store.syncs.update_sync(
            "web", config=sync.config, path="/", credential=sync.credential, region=region, adopt=None
        )

    move("us-east-1")
    first = digest_of_held(world)
    move("us-east-2")

    assert digest_of_held(world) != first


def test_an_approved_adoption_from_an_empty_source_writes_the_marks_too(world: World) -> None:
    """Value and marks wait together and go out together; the next run finds the object ours."""
    world.edit(URL=None, USER=None)
    world.remote.outside_create(NAME, "theirs")
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)
    assert world.run().outcome is Outcome.HELD
    assert world.writes() == []

    world.store.sync_requests.approve("web", digest_of_held(world), actor=ACTOR)
    assert world.run().outcome is Outcome.APPLIED

    assert world.object.tags == {TAG_INSTANCE: world.store.instance_id, TAG_SYNC: world.sync_id}
    assert world.run().outcome is Outcome.UNCHANGED
    assert world.sync.settled_status is SyncStatus.IN_SYNC


def test_a_held_move_onto_a_foreign_object_leaves_its_tags_alone(world: World) -> None:
    """The marks go out with the value or not at all."""
    world.run()
    world.remote.outside_create("other/app", "theirs")
    world.configure(remote_name="other/app")
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)

    assert world.run().outcome is Outcome.HELD
    assert world.remote.object("other/app").tags == {}


def test_an_object_that_appears_while_it_is_created_is_adopted_in_the_same_run(world: World) -> None:
    """The journal entry that the refused create left is gone on with, not stored a second time."""
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)

    def appear(when: str, call: str) -> None:
        if (when, call) == ("before", "create"):
            world.remote.outside_create(NAME, "theirs")

    world.destinations.on_call = appear
    assert world.run().outcome is Outcome.APPLIED
    assert world.entry.former_tags == {}
    assert world.sync.settled_status is SyncStatus.IN_SYNC


def test_an_old_write_that_lands_at_the_last_moment_is_not_emptied_unattended(world: World) -> None:
    """The guard judges what has landed, not what was there when the run began."""
    world.run()
    world.edit(URL=None, USER=None)
    world.run()
    world.store.sync_requests.approve("web", digest_of_held(world), actor=ACTOR)
    world.run()
    assert world.text == "{}"
    keys = {"A": "1", "B": "2", "C": "3"}
    world.edit(**keys)
    world.destinations.fail("put_value", error=OutcomeUnknownError("no answer"))
    world.run()
    late = build_json_payload(NAME, {key: SecretValue(value) for key, value in keys.items()}, world.store.keys.digests)
    token = world.entry.intent.token if world.entry.intent else ""
    world.edit(A=None, B=None, C=None)

    def land(when: str, call: str) -> None:
        if (when, call) == ("before", "put_value"):
            world.destinations.on_call = None
            world.remote.put(world.object, late, token=token)

    world.destinations.on_call = land
    assert world.run().outcome is Outcome.HELD
    assert json.loads(world.text) == keys


@on_each_database
def test_a_consent_to_adopt_is_for_the_object_that_was_shown(world: World) -> None:
    """A sync that is pointed elsewhere needs another consent."""
    world.remote.outside_create("other/app", "theirs")
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)

    world.configuration().update("web", change=lambda config: replace(config, remote_name="other/app"))

    assert world.run().outcome is Outcome.REFUSED
    assert world.remote.object("other/app").text() == "theirs"


def test_a_consent_to_adopt_outlives_other_changes(world: World) -> None:
    """A new description is no new object."""
    world.remote.outside_create(NAME, "theirs")
    world.store.sync_requests.consent_to_adopt("web", Adopt.OVERWRITE, actor=ACTOR)

    world.configuration().update("web", change=lambda config: replace(config, description="new"))

    assert world.run().outcome is Outcome.APPLIED
