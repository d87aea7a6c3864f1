"""Tags that we wrote are known as ours for as long as they are there, whatever happened on the way."""

from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC
from phasesync.core.sync import TagMode
from tests.support.world import World


def own_tags(world: World) -> dict[str, str]:
    """The object's tags without our owner marks."""
    return {key: value for key, value in world.object.tags.items() if key not in (TAG_INSTANCE, TAG_SYNC)}


def test_a_tag_that_was_left_there_goes_when_the_mode_changes(world: World) -> None:
    """Mode upsert leaves it; replace-own still knows that we once wrote it."""
    world.configure(tags={"a": "1"}, tag_mode=TagMode.UPSERT)
    world.run()
    world.configure(tags={"b": "1"}, tag_mode=TagMode.UPSERT)
    world.run()
    assert own_tags(world) == {"a": "1", "b": "1"}

    world.configure(tags={"b": "1"}, tag_mode=TagMode.REPLACE_OWN)
    world.run()

    assert own_tags(world) == {"b": "1"}


def test_a_tag_whose_answer_was_lost_is_ours(world: World) -> None:
    """It landed before the journal could say so."""
    world.configure(tags={"a": "1"}, tag_mode=TagMode.REPLACE_OWN)
    world.run()
    world.configure(tags={"a": "1", "b": "1"})
    world.destinations.fail("update_metadata", when="after")
    world.run()
    world.run()
    world.configure(tags={"a": "1"})
    world.run()

    assert own_tags(world) == {"a": "1"}


def test_a_tag_of_a_create_whose_answer_was_lost_is_ours(world: World) -> None:
    """The next run finds the object there and takes the write for landed, tags included."""
    world.configure(tags={"a": "1"}, tag_mode=TagMode.REPLACE_OWN)
    world.destinations.fail("create", when="after")
    world.run()
    world.run()
    world.configure(tags={})
    world.run()

    assert own_tags(world) == {}


def test_a_foreign_tag_is_never_taken_off(world: World) -> None:
    """Neither beside ours, nor after one of ours went."""
    world.configure(tags={"a": "1"}, tag_mode=TagMode.REPLACE_OWN)
    world.run()
    world.remote.outside_tag(world.name, {"team": "other"})
    world.configure(tags={})
    world.run()

    assert own_tags(world) == {"team": "other"}


def test_a_tag_that_was_there_as_wanted_is_not_ours(world: World) -> None:
    """Someone had set the very same; it stays when we no longer want it."""
    world.run()
    world.remote.outside_tag(world.name, {"team": "shop"})
    world.configure(tags={"team": "shop", "b": "1"}, tag_mode=TagMode.REPLACE_OWN)
    world.run()
    world.configure(tags={})
    world.run()

    assert own_tags(world) == {"team": "shop"}
