"""Taking over what somebody else made: what is shown, what is imported, what may be written over afterwards."""

import json
from dataclasses import replace

import pytest

from phasesync.core.model import SecretValue, SecretWrite, ValueType
from phasesync.core.planning.ownership import Ownership
from phasesync.core.remote import TAG_INSTANCE, TAG_SYNC, Action
from phasesync.core.run import Outcome
from phasesync.core.sync import Adopt, Layout, SyncConfig
from phasesync.engine.import_values import ImportResult
from phasesync.engine.rehearsal import rehearse
from phasesync.errors import (
    AccountMismatchError,
    AlreadyExistsError,
    IllegalTransitionError,
    InvalidInputError,
    PermissionDeniedError,
)
from tests.support.operator import accept, preview, values
from tests.support.stores import ACTOR, sync_draft
from tests.support.world import NAME, World

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"])

TEMPLATE = "{app}/{env}/{key}"
URL, USER, NEW = "shop/production/URL", "shop/production/USER", "shop/production/NEW"


def per_key(world: World) -> None:
    """Have the sync write one object a key."""
    world.configure(layout=Layout.PER_KEY, remote_name=None, name_template=TEMPLATE)


def adopt(world: World, mode: Adopt = Adopt.OVERWRITE) -> ImportResult | None:
    """Look at what is there and consent."""
    return accept(world, preview(world, mode))


# --- what is shown


def test_what_is_there_is_shown_without_reading_a_value(world: World) -> None:
    """Who owns it by its tags, how many versions it has; a look is a look."""
    world.remote.outside_create(NAME, "theirs", tags={"team": "other"})
    world.remote.outside_put(NAME, "theirs again")

    (one,) = preview(world, Adopt.PREFER_AWS).existing.foreign

    assert (one.remote_name, one.ownership, one.owner) == (
        NAME,
        Ownership.FOREIGN,
        "exists and was not made by phasesync",
    )
    assert (one.observed.tags, len(one.observed.versions)) == ({"team": "other"}, 2)
    assert world.destinations.log == ["observe"]


def test_an_object_of_another_phasesync_is_told(world: World) -> None:
    world.remote.outside_create(NAME, tags={TAG_INSTANCE: "a" * 32, TAG_SYNC: "b" * 32})

    (one,) = preview(world, Adopt.OVERWRITE).existing.foreign

    assert one.owner == "carries the tags of another phasesync"


def test_what_is_ours_and_what_is_missing_is_no_candidate(world: World) -> None:
    per_key(world)
    world.remote.outside_create(USER, "theirs")
    world.run()
    world.edit(MORE="x")

    found = preview(world, Adopt.OVERWRITE).existing

    assert [one.remote_name for one in found.foreign] == [USER]
    assert (found.ours, found.absent) == ((URL,), ("shop/production/MORE",))


def test_nothing_to_take_over_is_refused(world: World) -> None:
    """Neither what is missing, nor what AWS keeps for itself; the reason is shown."""
    with pytest.raises(IllegalTransitionError):
        adopt(world)

    world.remote.outside_create(NAME)
    world.remote.outside_service(NAME)
    with pytest.raises(IllegalTransitionError, match="managed by rds"):
        adopt(world)
    assert world.sync.adopt is None


def test_another_account_than_the_pinned_one_is_not_looked_at(world: World) -> None:
    world.run()
    world.destinations.accounts[world.sync.credential_id] = "999999999999"

    with pytest.raises(AccountMismatchError):
        preview(world, Adopt.OVERWRITE)


def test_a_consent_is_for_what_was_shown(world: World) -> None:
    """Not for what another key meets later, while the consent still waits for an object that AWS rotates."""
    per_key(world)
    for name in (URL, USER, NEW):
        world.remote.outside_create(name, f"their {name}")
    world.remote.outside_rotation(USER)
    adopt(world)
    assert world.run().outcome is Outcome.REFUSED
    assert world.remote.object(URL).text() == "postgres://db"

    world.edit(NEW="ours")
    run = world.run()

    assert world.remote.object(NEW).text() == f"their {NEW}"
    assert [one.remote_name for one in run.changes if one.action is Action.CONFLICT] == [NEW]


def test_a_consent_ends_with_another_folder(world: World) -> None:
    """Other keys have other names: what stands there was shown to no one."""
    world.configure(layout=Layout.PER_KEY, remote_name=None, name_template="{app}/{path}/{key}")
    for name in ("shop/URL", "shop/db/PASSWORD"):
        world.remote.outside_create(name, "theirs")
    adopt(world)
    write = SecretWrite(path="/db", key="PASSWORD", value=SecretValue("ours"))
    world.store.secrets.edit("shop", "production", actor=ACTOR, origin="set", writes=[write])
    world.configuration().update("web", change=lambda config: config, path="/db")

    assert world.sync.adopt is None
    assert world.run().outcome is Outcome.REFUSED
    assert world.remote.object("shop/db/PASSWORD").text() == "theirs"


def test_adding_with_overwrite_consents_to_the_names_that_there_are(world: World) -> None:
    config = SyncConfig(layout=Layout.PER_KEY, name_template="second/{key}")
    draft = sync_draft("second", region=world.sync.region, config=config, adopt=Adopt.OVERWRITE)

    added = world.configuration().add(draft, verify=False).sync

    assert added is not None
    assert (added.adopt, set(added.adopt_versions)) == (Adopt.OVERWRITE, {"second/URL", "second/USER"})


# --- one secret with all keys


def test_without_import_the_stores_value_is_written_over_it(world: World) -> None:
    world.remote.outside_create(NAME, "theirs", tags={"team": "other"})

    assert adopt(world) is None
    assert world.run().outcome is Outcome.APPLIED

    assert json.loads(world.text) == {"URL": "postgres://db", "USER": "shop"}
    assert world.entry.former_tags == {"team": "other"}
    assert "read_value" not in world.destinations.log


@pytest.mark.reads_values("syncs adopt --import")
@pytest.mark.parametrize(
    ("mode", "user", "changed", "kept"),
    [(Adopt.PREFER_STORE, "shop", (), ("USER",)), (Adopt.PREFER_AWS, "theirs", ("USER",), ())],
)
def test_an_import_merges_members_into_the_environment(
    world: World, mode: Adopt, user: str, changed: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    """As one revision; what both have is the store's or AWS's, what one has stays; a reference is literal."""
    world.remote.outside_create(NAME, '{"USER":"theirs","PRICE":"${5}","LIMITS":{"b":1.10,"a":[true]}}')

    taken = adopt(world, mode)

    assert taken is not None
    assert (taken.added, taken.changed, taken.kept) == (("LIMITS", "PRICE"), changed, kept)
    assert values(world) == {
        "LIMITS": '{"a":[true],"b":1.10}',
        "PRICE": "$${5}",
        "URL": "postgres://db",
        "USER": user,
    }
    assert taken.revision == world.sync.source_revision == 2
    history = world.store.secrets.history("shop", "production", "/", "PRICE")
    assert [(one.origin, one.changed_by) for one in history] == [("import", ACTOR)]
    assert world.run().outcome is Outcome.APPLIED
    assert json.loads(world.text) == {
        "LIMITS": {"a": [True], "b": 1.10},
        "PRICE": "${5}",
        "URL": "postgres://db",
        "USER": user,
    }


@pytest.mark.reads_values("syncs adopt --import")
def test_a_version_that_came_after_the_import_is_not_written_over(world: World) -> None:
    """It would be lost; importing once more corrects it."""
    world.remote.outside_create(NAME, '{"USER":"theirs"}')
    adopt(world, Adopt.PREFER_AWS)
    world.remote.outside_put(NAME, '{"USER":"later"}')

    run = world.run()

    assert run.outcome is Outcome.REFUSED
    assert world.text == '{"USER":"later"}'
    assert run.error is not None
    assert "--import prefer-aws" in (run.error.hint or "")
    adopt(world, Adopt.PREFER_AWS)
    assert world.run().outcome is Outcome.APPLIED
    assert json.loads(world.text)["USER"] == "later"


@pytest.mark.reads_values("syncs adopt --import")
@pytest.mark.parametrize("value", ["not json", "[1]", b"\x00\xff", '{"":"x"}'])
def test_a_value_that_is_no_object_of_keys_is_refused_and_nothing_happens(world: World, value: str | bytes) -> None:
    world.remote.outside_create(NAME, value)

    with pytest.raises(InvalidInputError, match=NAME) as caught:
        adopt(world, Adopt.PREFER_AWS)

    assert "not json" not in caught.value.message
    assert (world.sync.adopt, world.sync.source_revision) == (None, 1)


def test_a_refused_read_imports_nothing_and_consents_to_nothing(world: World) -> None:
    world.remote.outside_create(NAME, '{"USER":"theirs"}')
    refused = PermissionDeniedError(action="secretsmanager:GetSecretValue")
    world.destinations.fail("read_value", error=refused)

    with pytest.raises(PermissionDeniedError, match="GetSecretValue"):
        adopt(world, Adopt.PREFER_AWS)

    assert (world.sync.adopt, world.sync.source_revision) == (None, 1)


# --- one secret a key


@pytest.mark.reads_values("syncs adopt --import")
def test_each_object_becomes_the_value_of_its_key(world: World) -> None:
    """Text is literal, binary stays binary; keys that only AWS has come too."""
    per_key(world)
    world.remote.outside_create(URL, "${theirs}")
    world.remote.outside_create(NEW, b"\x00\xff")
    world.remote.outside_create("shop/other/KEY", "not of this template")

    taken = adopt(world, Adopt.PREFER_AWS)

    assert taken is not None
    assert (taken.added, taken.changed) == (("NEW",), ("URL",))
    new = world.store.secrets.get_secret("shop", "production", "/", "NEW")
    assert (new.type, new.value.reveal() if new.value else b"") == (ValueType.BINARY, b"\x00\xff")
    assert world.run().outcome is Outcome.APPLIED
    assert world.remote.object(URL).text() == "${theirs}"
    assert world.remote.object(USER).text() == "shop"
    assert world.run().outcome is Outcome.UNCHANGED


@pytest.mark.reads_values("syncs adopt --import")
def test_where_the_store_wins_only_missing_keys_are_read(world: World) -> None:
    per_key(world)
    world.remote.outside_create(URL, "theirs")
    world.remote.outside_create(NEW, "theirs")

    adopt(world, Adopt.PREFER_STORE)

    assert world.destinations.log.count("read_value") == 1
    assert values(world) == {"URL": "postgres://db", "USER": "shop", "NEW": "theirs"}
    assert set(world.sync.adopt_versions) == {URL, NEW}


def test_objects_that_the_store_has_no_keys_for_are_left_alone_without_import(world: World) -> None:
    """Nor are those that belong to someone's phasesync, to AWS, or are on their way out."""
    per_key(world)
    world.remote.outside_create(URL, "theirs")
    world.remote.outside_create(NEW, "theirs")
    world.remote.outside_create("shop/production/MARKED", tags={TAG_INSTANCE: "a" * 32})
    world.remote.outside_create("shop/production/ROTATED")
    world.remote.outside_rotation("shop/production/ROTATED")
    world.remote.outside_create("shop/production/GONE")
    world.remote.outside_delete("shop/production/GONE")

    plain = preview(world, Adopt.OVERWRITE).existing
    importing = preview(world, Adopt.PREFER_AWS).existing

    assert [one.remote_name for one in plain.foreign] == [URL]
    assert [one.remote_name for one in importing.foreign] == [NEW, URL]


def test_a_refused_list_is_told_and_the_known_keys_are_imported(world: World) -> None:
    per_key(world)
    world.remote.outside_create(URL, "theirs")
    world.destinations.fail("list_names", error=PermissionDeniedError(action="secretsmanager:ListSecrets"))

    found = preview(world, Adopt.PREFER_AWS).existing

    assert [one.remote_name for one in found.foreign] == [URL]
    assert any("secretsmanager:ListSecrets" in line for line in found.warnings)


# --- when a sync is added


@pytest.mark.reads_values("syncs adopt --import")
def test_an_import_when_a_sync_is_added_comes_before_its_first_run(world: World) -> None:
    world.remote.outside_create("shop/second", '{"TOKEN":"theirs"}')
    draft = sync_draft("second", region=world.sync.region, adopt=Adopt.PREFER_AWS)
    draft = replace(draft, config=replace(draft.config, remote_name="shop/second"))
    configuration = world.configuration()

    with rehearse(world.context) as rehearsal:
        configuration.add(draft, verify=False)
    assert [affected.state.sync.name for affected in rehearsal.affected] == ["second", "web"]
    assert "TOKEN" not in values(world)

    added = configuration.add(draft, verify=False, actor=ACTOR)

    assert added.imported is not None
    assert added.imported.added == ("TOKEN",)
    assert values(world)["TOKEN"] == "theirs"
    assert added.sync is not None
    assert (added.sync.adopt, set(added.sync.adopt_versions)) == (Adopt.PREFER_AWS, {"shop/second"})
    with pytest.raises(AlreadyExistsError):
        configuration.add(draft, verify=False, actor=ACTOR)
