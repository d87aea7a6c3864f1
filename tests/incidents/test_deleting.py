"""Incidents in which something was deleted, emptied, or could not be deleted."""

import pytest

from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC
from phasesync.core.run import Outcome
from phasesync.core.sync import AWS_MANAGED_KEY, OnRemove
from tests.fakes.remote import FakeObject
from tests.support.stores import ACTOR
from tests.support.world import NAME, World

FIRST = "shop/production/A"


def standing(world: World) -> list[str]:
    """Names of the objects at AWS that are not scheduled for deletion."""
    return sorted(there.name for there in world.remote.objects.values() if there.deleted_at is None)


def looks(there: FakeObject) -> tuple[object, ...]:
    """All that someone else could miss."""
    return there.text(), dict(there.tags), there.description, there.deleted_at, sorted(there.versions)


def pass_the_grace(world: World) -> None:
    """A run notes that the keys are gone; then their grace ends."""
    world.run()
    world.clock.pass_(hours=2)


def test_a_first_sync_touches_nothing_that_it_did_not_make(per_key) -> None:
    """What the source does not know is someone else's, also under the same prefix and with deletion switched on."""
    world = per_key(on_remove=OnRemove.DELETE)
    theirs = [
        world.remote.outside_create("shop/production/OLD", "theirs"),
        world.remote.outside_create("unrelated", "theirs", tags={"team": "other"}),
        world.remote.outside_create("shop/production/MARKED", "theirs", tags={TAG_INSTANCE: world.store.instance_id}),
    ]
    before = [looks(there) for there in theirs]

    pass_the_grace(world)
    run = world.run()

    assert "delete" not in run.counts
    assert [looks(there) for there in theirs] == before


def test_an_empty_source_empties_nothing_unattended(world: World) -> None:
    """Neither at a first run nor later."""
    world.run()
    text = world.text
    world.edit(URL=None, USER=None)

    assert world.run().outcome is Outcome.HELD
    assert world.text == text


def test_nothing_is_deleted_unless_the_sync_says_so(keyed: World) -> None:
    keyed.run()
    keyed.edit(URL=None, USER=None)
    pass_the_grace(keyed)

    assert "delete" not in keyed.run().counts
    assert standing(keyed) == ["shop/production/URL", "shop/production/USER"]


def test_one_object_for_all_keys_is_the_only_one_that_is_touched(world: World) -> None:
    others = [world.remote.outside_create(name, "theirs") for name in (f"{NAME}/URL", f"{NAME}2", "URL")]
    before = [looks(there) for there in others]
    world.run()
    world.edit(URL="postgres://new", USER=None)
    world.run()

    assert [looks(there) for there in others] == before


@pytest.mark.parametrize("template", ["{key}", "/{key}", "shop/{path}/{key}"])
def test_a_sync_of_the_root_folder_deletes_what_it_wrote_and_nothing_else(per_key, template: str) -> None:
    """Whatever the names have in common with those of others, and whatever other folders hold."""
    world = per_key(on_remove=OnRemove.DELETE, name_template=template)
    folder = [SecretWrite(path="/db", key="PASSWORD", value=SecretValue("x"))]
    world.store.secrets.edit("shop", "production", actor=ACTOR, origin="set", writes=folder)
    for name in ("OTHER", "/OTHER", "shop/OTHER", "shop/db/PASSWORD"):
        world.remote.outside_create(name, "theirs")
    world.edit(A="a", B="b", C="c", D="d")
    world.run()
    world.edit(A=None)
    pass_the_grace(world)

    assert world.run().counts["delete"] == 1
    gone = [there.name for there in world.remote.objects.values() if there.deleted_at is not None]
    assert gone == [template.replace("{path}/", "").format(key="A")]


def test_a_key_that_returns_within_the_window_is_restored_under_its_arn(deleting: World) -> None:
    """Neither a wait of days for the name, nor a forced deletion."""
    arn = deleting.remote.object(FIRST).arn
    deleting.edit(A=None)
    pass_the_grace(deleting)
    deleting.run()
    assert deleting.remote.object(FIRST).deleted_at is not None
    deleting.edit(A="again")
    deleting.run()

    back = deleting.remote.object(FIRST)
    assert (back.arn, back.deleted_at, back.text()) == (arn, None, "again")


@pytest.mark.parametrize("elsewhere", [{"name_template": "{env}/{key}"}, {"region": "eu-west-2"}])
def test_pointing_a_sync_elsewhere_deletes_nothing(deleting: World, elsewhere: dict[str, str]) -> None:
    """What stays behind is shown, and what is new waits for an approval."""
    before = standing(deleting)
    sync, region = deleting.sync, elsewhere.pop("region", deleting.sync.region)
    deleting.configure(**elsewhere)
    deleting.store.syncs.update_sync(
        "web", config=deleting.sync.config, path="/", credential=sync.credential, region=region, adopt=None
    )

    run = deleting.run()
    assert run.outcome is Outcome.HELD
    assert run.error is not None and "stay behind" in run.error.message
    pass_the_grace(deleting)
    deleting.run()
    assert standing(deleting) == before


def test_copies_go_before_their_primary_is_deleted(per_key) -> None:
    """AWS refuses to delete a primary; nothing hangs, and nothing waits inside of a run."""
    world = per_key(on_remove=OnRemove.DELETE, replicas={"us-east-1": AWS_MANAGED_KEY})
    world.edit(A="a", B="b", C="c", D="d")
    world.run()
    world.remote.settle_replication()
    world.edit(A=None)
    pass_the_grace(world)

    first = world.run()
    assert first.outcome is Outcome.APPLIED
    assert world.remote.find(FIRST, region="us-east-1") is None
    second = world.run()

    assert second.counts["delete"] == 1
    assert world.remote.object(FIRST).deleted_at is not None


def test_many_deletions_wait_for_an_approval_of_exactly_these(deleting: World) -> None:
    """No blanket force: the digest is of what was shown."""
    deleting.edit(A=None, B=None, C=None)
    pass_the_grace(deleting)
    held = deleting.run()
    assert held.outcome is Outcome.HELD
    digest = deleting.reconciler.prepare(deleting.store.sync_states.state_of("web")).guarded.digest
    assert digest is not None
    deleting.edit(D=None)
    pass_the_grace(deleting)
    deleting.store.sync_requests.approve("web", digest, actor=ACTOR)

    assert deleting.run().outcome is Outcome.HELD
    assert len(standing(deleting)) == 6


def test_an_update_never_passes_through_a_deletion(world: World) -> None:
    """New values, a new key and new tags leave the object in place."""
    world.run()
    arn = world.object.arn
    world.edit(URL="postgres://new")
    world.configure(kms_key=AWS_MANAGED_KEY, tags={"team": "shop"}, description="ours")
    world.remote.outside_describe(NAME, kms_key="arn:aws:kms:eu-west-1:111122223333:key/other")
    world.run()

    assert world.object.arn == arn
    assert not {"delete", "restore"} & set(world.destinations.log)
    assert world.object.tags[TAG_SYNC] == world.sync_id
