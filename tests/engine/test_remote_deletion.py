"""Deleting at AWS on an operator's word: with a sync, or one object for good. Never what is not proven ours."""

import pytest

from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC
from phasesync.core.run import Outcome
from phasesync.core.sync import AWS_MANAGED_KEY, Layout
from phasesync.engine.removal import DeletionResult, deletable_objects, force_delete, remove_sync_and_objects
from phasesync.errors import (
    DestinationUnavailableError,
    IllegalTransitionError,
    NotFoundError,
    OutcomeUnknownError,
    OwnershipConflictError,
    PermissionDeniedError,
)
from tests.support.stores import ACTOR
from tests.support.vouching import set_restore_mark
from tests.support.world import NAME, World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"])

KIND = "aws-secrets-manager"


def remove(world: World) -> DeletionResult:
    """Remove the sync with what it wrote."""
    return remove_sync_and_objects(world.context, "web", actor=ACTOR)


def two_objects(world: World) -> None:
    """The sync has written shop/URL and shop/USER."""
    world.configure(layout=Layout.PER_KEY, remote_name=None, name_template="shop/{key}")
    world.run()


def gone(world: World) -> bool:
    """Whether the sync is not there any more."""
    return world.store.syncs.list_syncs() == []


# --- with a sync


def test_everything_that_the_sync_wrote_is_scheduled_and_the_sync_goes(world: World) -> None:
    """With the sync's own recovery window."""
    world.configure(recovery_days=7)
    two_objects(world)
    assert deletable_objects(world.context, "web") == ("shop/URL", "shop/USER")

    done = remove(world)

    assert done == DeletionResult(scheduled=("shop/URL", "shop/USER"), left_alone={}, blocked={})
    assert gone(world)
    days = {(one.deleted_at - world.clock.now()).days for one in world.remote.objects.values() if one.deleted_at}
    assert days <= {6, 7}
    assert all(one.deleted_at for one in world.remote.objects.values())


def test_what_is_not_ours_is_never_touched(world: World) -> None:
    """Marked by others, another object under the name, never ours: each stays, and the sync goes."""
    two_objects(world)
    world.edit(THIRD="x")
    world.remote.outside_create("shop/THIRD", "theirs")
    world.run()
    world.remote.outside_tag("shop/URL", {TAG_INSTANCE: "a" * 32})
    tags = dict(world.remote.object("shop/USER").tags)
    world.remote.outside_delete("shop/USER", recovery_days=None)
    world.remote.outside_create("shop/USER", "theirs", tags=tags)

    done = remove(world)

    assert (done.scheduled, set(done.left_alone)) == ((), {"shop/URL", "shop/USER"})
    assert [one.name for one in world.remote.objects.values() if one.deleted_at] == []
    assert gone(world)


def test_copies_of_ours_go_first(world: World) -> None:
    world.configure(replicas={"us-east-1": AWS_MANAGED_KEY})
    world.run()
    world.remote.settle_replication()

    assert remove(world).scheduled == (NAME,)
    assert [one.region for one in world.remote.objects.values()] == ["eu-west-1"]


def test_copies_that_take_their_time_to_go_are_still_ours(world: World) -> None:
    """The command says to repeat it, and then it succeeds."""
    world.configure(replicas={"us-east-1": AWS_MANAGED_KEY})
    world.run()
    world.remote.settle_replication()
    copied = world.object.replicas["us-east-1"]

    def go_slowly(when: str, what: str) -> None:
        if (when, what) == ("after", "remove_replicas"):
            world.object.replicas["us-east-1"] = copied

    with world.steps(go_slowly):
        first = remove(world)
    assert "repeat the command" in first.blocked[NAME]
    world.object.replicas.clear()

    assert remove(world).scheduled == (NAME,)


def test_copies_of_others_keep_the_object_and_the_sync(world: World) -> None:
    """Paused, so that the command can be repeated; the hint names the line that corrects it."""
    two_objects(world)
    world.remote.outside_replicate("shop/URL", "us-east-1")

    first = remove(world)

    assert (first.scheduled, list(first.blocked)) == (("shop/USER",), ["shop/URL"])
    assert "remove-regions-from-replication" in first.blocked["shop/URL"]
    assert world.sync.paused is not None
    assert deletable_objects(world.context, "web") == ("shop/URL",)
    world.remote.remove_replicas(world.remote.object("shop/URL"), ["us-east-1"])
    assert remove(world).scheduled == ("shop/URL",)
    assert gone(world)


def test_a_refused_deletion_keeps_the_sync_and_a_lost_destination_ends_it(world: World) -> None:
    two_objects(world)
    world.destinations.fail("delete", error=PermissionDeniedError(action="secretsmanager:DeleteSecret"))

    refused = remove(world).blocked["shop/URL"]
    assert "secretsmanager:DeleteSecret" in refused
    assert "phasesync syncs update web --on-remove delete" in refused
    assert world.store.sync_states.state_of("web").journal[0].deletion_at is None

    world.destinations.fail("observe", error=DestinationUnavailableError("no network"))
    with pytest.raises(DestinationUnavailableError):
        remove(world)
    assert world.sync.paused is not None


def test_a_restored_database_deletes_nothing_on_anybodys_word(world: World) -> None:
    """What it does not know of came later; accepting it says that it is the one to go on with."""
    world.run()
    set_restore_mark(world.store.database)

    with pytest.raises(IllegalTransitionError):
        remove(world)
    with pytest.raises(IllegalTransitionError):
        force_delete(world.context, "aws", None, NAME, kind=KIND, actor=ACTOR)

    assert world.object.deleted_at is None
    assert world.sync.paused is None
    world.store.restore_mark.accept(ahead=10)
    assert remove(world).scheduled == (NAME,)


def test_a_create_whose_answer_was_lost_is_deleted_too(world: World) -> None:
    """The token shows that it is ours."""
    world.destinations.fail("create", when="after", error=OutcomeUnknownError("no answer"))
    world.run()

    assert remove(world).scheduled == (NAME,)


# --- one object, for good


def force(world: World, name: str = NAME) -> None:
    """Delete one object for good."""
    force_delete(world.context, "aws", None, name, kind=KIND, actor=ACTOR)


def test_a_forced_deletion_is_not_taken_for_drift(world: World) -> None:
    """It was asked for; the object is made anew because it is still wanted."""
    world.run()

    force(world)

    assert world.remote.objects == {}
    assert world.entry.deletion_at is not None
    prepared = world.reconciler.prepare(world.store.sync_states.state_of("web"))
    assert not prepared.plan.drifted
    assert world.run().outcome is Outcome.APPLIED
    assert world.entry.enforced_at == ()


def test_an_object_that_is_scheduled_already_can_be_deleted_for_good(world: World) -> None:
    world.run()
    world.remote.outside_delete(NAME)

    force(world)

    assert world.remote.objects == {}


def foreign(world: World) -> None:
    world.remote.outside_create(NAME, "theirs")


def marked_only(world: World) -> None:
    marks = {TAG_INSTANCE: world.store.instance_id, TAG_SYNC: world.sync_id}
    world.remote.outside_create(NAME, "theirs", tags=marks)


def of_an_unknown_sync(world: World) -> None:
    world.run()
    world.remote.outside_tag(NAME, {TAG_SYNC: "a" * 32})


def made_anew_by_others(world: World) -> None:
    world.run()
    tags = dict(world.object.tags)
    world.remote.outside_delete(NAME, recovery_days=None)
    world.remote.outside_create(NAME, "theirs", tags=tags)


def of_a_service(world: World) -> None:
    world.run()
    world.remote.outside_service(NAME)


def with_copies(world: World) -> None:
    world.run()
    world.remote.outside_replicate(NAME, "us-east-1")


@pytest.mark.parametrize(
    "scene", [foreign, marked_only, of_an_unknown_sync, made_anew_by_others, of_a_service, with_copies]
)
def test_anything_else_is_refused(world: World, scene: object) -> None:
    """Before anyone is asked, and nothing is called that writes."""
    scene(world)  # type: ignore[operator]
    calls = len(world.destinations.log)

    with pytest.raises(OwnershipConflictError):
        force(world)

    assert set(world.destinations.log[calls:]) == {"observe"}


def test_what_is_not_there_is_not_found(world: World) -> None:
    with pytest.raises(NotFoundError):
        force(world)


def test_a_refused_forced_deletion_leaves_the_journal_as_it_was(world: World) -> None:
    world.run()
    world.destinations.fail("delete", error=PermissionDeniedError(action="secretsmanager:DeleteSecret"))

    with pytest.raises(PermissionDeniedError):
        force(world)

    assert world.entry.deletion_at is None
