"""Giving remote objects back: as they were before they were ours, and no business of ours afterwards."""

from datetime import timedelta

import pytest

from phasesync.core.remote import TAG_DELETION, TAG_INSTANCE
from phasesync.core.run import Outcome
from phasesync.core.sync import Adopt, Layout, OnRemove, TagMode
from phasesync.engine.removal import RELEASED, ReleaseResult, release_sync
from phasesync.errors import PermissionDeniedError
from tests.support.operator import accept, preview
from tests.support.stores import ACTOR
from tests.support.world import NAME, World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"])


def give_back(world: World) -> ReleaseResult:
    """Release the sync."""
    return release_sync(world.context, "web", actor=ACTOR)


def take_over(world: World, **tags: str) -> None:
    """Someone's object with these tags becomes ours."""
    world.remote.outside_create(NAME, "theirs", tags=tags)
    accept(world, preview(world, Adopt.OVERWRITE))
    world.run()


def test_an_object_that_was_taken_over_gets_its_tags_back(world: World) -> None:
    """Ours go, what we wrote over comes back, what someone else set since stays; the value stays."""
    world.configure(tags={"team": "shop", "tier": "1", "same": "x", "later": "ours"})
    take_over(world, team="other", keep="this", same="x", aws="no")
    world.remote.outside_tag(NAME, {"later": "theirs"})

    done = give_back(world)

    assert done == ReleaseResult(given_back=(NAME,), kept={})
    assert world.object.tags == {"team": "other", "keep": "this", "same": "x", "aws": "no", "later": "theirs"}
    assert "postgres://db" in world.text


def test_an_object_that_we_made_keeps_the_tags_of_its_sync(world: World) -> None:
    """There is no one to give them back to; only our marks go."""
    world.configure(tags={"team": "shop"})
    world.run()

    give_back(world)

    assert world.object.tags == {"team": "shop"}


def test_the_mark_of_an_earlier_deletion_goes_too(world: World) -> None:
    """It was deleted with its key, and came back with it."""
    world.configure(
        layout=Layout.PER_KEY,
        remote_name=None,
        name_template="shop/{key}",
        on_remove=OnRemove.DELETE,
        grace=timedelta(0),
    )
    world.run()
    world.edit(USER=None)
    world.run()
    world.edit(USER="shop")
    world.run()
    assert TAG_DELETION in world.remote.object("shop/USER").tags

    assert give_back(world).kept == {}

    assert world.remote.object("shop/USER").tags == {}


def test_a_released_sync_is_paused_and_writes_nothing_when_it_is_resumed(world: World) -> None:
    world.run()
    give_back(world)

    assert world.sync.paused is not None
    assert (world.sync.paused.by, world.sync.paused.reason) == (ACTOR, RELEASED)
    assert not world.due()
    assert world.entry.arn is None

    world.store.sync_requests.resume("web", actor=ACTOR)
    writes = len(world.writes())
    assert world.run().outcome is Outcome.REFUSED
    assert len(world.writes()) == writes


def test_a_released_object_can_be_taken_over_again(world: World) -> None:
    """No token comes twice: the value arrives, also the one that was there before."""
    world.run()
    world.edit(URL="postgres://new")
    world.run()
    give_back(world)
    world.edit(URL="postgres://db")
    world.store.sync_requests.resume("web", actor=ACTOR)

    accept(world, preview(world, Adopt.OVERWRITE))

    assert world.run().outcome is Outcome.APPLIED
    assert "postgres://db" in world.text
    assert world.entry.former_tags == {}
    assert len(world.entry.versions_at) == 3


def test_what_aws_refuses_is_told_and_stays_ours(world: World) -> None:
    """The command can be repeated."""
    world.configure(layout=Layout.PER_KEY, remote_name=None, name_template="shop/{key}")
    world.run()
    refused = PermissionDeniedError(action="secretsmanager:UntagResource")
    world.destinations.fail("update_metadata", error=refused)

    first = give_back(world)
    second = give_back(world)

    assert list(first.kept) == ["shop/URL"]
    assert "secretsmanager:UntagResource" in first.kept["shop/URL"]
    assert first.given_back == ("shop/USER",)
    assert second == ReleaseResult(given_back=("shop/URL",), kept={})
    assert all(TAG_INSTANCE not in one.tags for one in world.remote.objects.values())


def test_a_destination_that_is_gone_is_not_asked_for_every_object(world: World) -> None:
    """What was not tried is reported, and stays ours until the command is repeated."""
    world.configure(layout=Layout.PER_KEY, remote_name=None, name_template="shop/{key}")
    world.run()
    world.destinations.log.clear()
    world.destinations.fail("observe")

    first = give_back(world)

    assert first.kept == {"shop/URL": "no connection", "shop/USER": "not tried: no connection"}
    assert world.destinations.log == ["observe"]
    assert give_back(world).given_back == ("shop/URL", "shop/USER")


def test_what_is_not_ours_any_more_is_left_alone(world: World) -> None:
    """Someone took our marks off and set their own, or made another object of that name."""
    world.configure(tags={"team": "shop"}, tag_mode=TagMode.UPSERT)
    world.run()
    world.remote.outside_tag(NAME, {TAG_INSTANCE: "a" * 32})
    writes = len(world.writes())

    assert give_back(world).given_back == (NAME,)

    assert len(world.writes()) == writes
    assert world.entry.arn is None


def test_an_object_in_another_account_than_the_credentials_stays(world: World) -> None:
    world.run()
    world.destinations.accounts[world.sync.credential_id] = "999999999999"

    assert "999999999999" in give_back(world).kept[NAME]
    assert world.entry.arn is not None
