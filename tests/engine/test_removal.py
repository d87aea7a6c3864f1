"""Removing a sync that keeps its remote objects: our marks come off, or a line says where they stay."""

from phasesync.core.remote import TAG_INSTANCE
from phasesync.core.sync import Layout
from phasesync.engine.removal import remove_sync
from tests.support.databases import on_each_database
from tests.support.world import NAME, World

pytestmark = on_each_database


def test_our_marks_come_off_an_object_whose_creation_was_never_answered(world: World) -> None:
    """It is at AWS all the same, and no one would look for it later."""
    world.destinations.fail("create", when="after")
    world.run()
    assert TAG_INSTANCE in world.object.tags

    lines = remove_sync(world.context, "web", actor="ada")

    assert lines == ()
    assert TAG_INSTANCE not in world.object.tags


def test_a_destination_that_is_gone_is_not_asked_for_every_object(world: World) -> None:
    """Each question would last until its time-outs; the sync goes all the same."""
    world.configure(layout=Layout.PER_KEY, remote_name=None, name_template="shop/{key}")
    world.edit(MORE="x")
    world.run()
    world.destinations.log.clear()
    world.destinations.fail("observe", times=9)

    (line,) = remove_sync(world.context, "web", actor="ada")

    assert line == "shop/MORE keeps our tags, as do 2 more that were not tried: no connection"
    assert world.destinations.log == ["observe"]
    assert world.store.syncs.list_syncs() == []


def test_marks_that_stay_in_another_account_are_told(world: World) -> None:
    """Not finding the name there says nothing of the object that we wrote."""
    world.run()
    world.destinations.accounts[world.sync.credential_id] = "444455556666"

    (line,) = remove_sync(world.context, "web", actor="ada")

    assert line == f"{NAME} keeps our tags: it is in account {world.object.arn.split(':')[4]}, not in 444455556666"
    assert TAG_INSTANCE in world.object.tags
