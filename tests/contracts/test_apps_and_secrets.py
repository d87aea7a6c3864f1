"""Apps, environments and secrets: names, edits, history, clones and snapshots."""

import threading

import pytest

from phasesync.core.model import SecretValue, SecretWrite, ValueType
from phasesync.errors import AlreadyExistsError, IllegalTransitionError, InvalidInputError, NotFoundError
from phasesync.store import Store
from tests.support.stores import ACTOR, add_sync, put, values_of, write


def test_an_app_is_found_whatever_its_case(store):
    store.apps.add_app("Shop", description="sells things")
    assert [app.name for app in store.apps.list_apps()] == ["Shop"]
    assert store.apps.update_app("SHOP", new_name="Store").description == "sells things"
    assert store.apps.update_app("store", description="").name == "Store"


def test_names_that_differ_in_case_only_are_the_same(store):
    put(store)
    with pytest.raises(AlreadyExistsError, match="shop"):
        store.apps.add_app("SHOP")
    with pytest.raises(AlreadyExistsError, match="shop/production"):
        store.apps.add_environment("shop", "Production")


def test_a_name_may_change_its_case(store):
    put(store)
    assert store.apps.update_app("shop", new_name="SHOP").name == "SHOP"
    assert store.apps.update_environment("shop", "production", new_name="PRODUCTION").label == "SHOP/PRODUCTION"


def test_a_rename_onto_another_name_is_refused(store):
    put(store, environment="production")
    put(store, environment="staging")
    with pytest.raises(AlreadyExistsError):
        store.apps.update_environment("shop", "staging", new_name="Production")
    store.apps.add_app("other")
    with pytest.raises(AlreadyExistsError):
        store.apps.update_app("other", new_name="Shop")


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "a" * 65, "ü", "a\n"])
def test_a_bad_name_is_refused_everywhere(store, name):
    put(store)
    with pytest.raises(InvalidInputError):
        store.apps.add_app(name)
    with pytest.raises(InvalidInputError):
        store.apps.add_environment("shop", name)
    with pytest.raises(InvalidInputError):
        store.apps.update_app("shop", new_name=name)
    with pytest.raises(InvalidInputError):
        store.apps.update_environment("shop", "production", new_name=name)


@pytest.mark.parametrize("key", ["", "K\u200b", "\ufeffK", "K\u00a0", "K ", "\u202eK", "K\0", "A\u2011B"])
def test_a_new_key_that_cannot_be_seen_or_told_is_refused_and_changes_nothing(store, key):
    put(store, write("K", "1"))
    with pytest.raises(InvalidInputError):
        put(store, write("K", "2"), write(key))
    assert values_of(store) == {"K": "1"}


def test_what_is_missing_is_named_with_what_exists(store):
    put(store)
    with pytest.raises(NotFoundError, match="there is: shop"):
        store.apps.get_environment("blog", "production")
    with pytest.raises(NotFoundError, match="shop has: production"):
        store.apps.get_environment("shop", "staging")
    with pytest.raises(NotFoundError):
        store.apps.list_environments("blog")


def test_an_app_with_environments_stays(store):
    put(store)
    with pytest.raises(IllegalTransitionError, match="production"):
        store.apps.remove_app("shop")
    store.apps.remove_environment("shop", "production")
    store.apps.remove_app("shop")
    assert store.apps.list_apps() == []


def test_an_environment_that_a_sync_uses_stays(store):
    add_sync(store, "web")
    with pytest.raises(IllegalTransitionError, match="web"):
        store.apps.remove_environment("shop", "production")
    assert store.apps.get_environment("shop", "production")


def test_a_removed_environment_takes_its_secrets_along(store):
    put(store, write("URL", "old"))
    store.apps.remove_environment("shop", "production")
    put(store)
    assert values_of(store) == {}
    with pytest.raises(NotFoundError):
        store.secrets.history("shop", "production", "/", "URL")


def test_an_edit_is_one_revision(store):
    assert put(store) == 0
    assert put(store, write("URL", "a"), write("USER", "b")) == 1
    assert put(store, write("URL", "c")) == 2
    assert values_of(store) == {"URL": "c", "USER": "b"}
    assert store.apps.get_environment("shop", "production").keys == 2


def test_an_edit_that_changes_nothing_makes_no_revision(store):
    put(store, write("URL", "a", comment="the database"))
    assert put(store, write("URL", "a")) == 1
    assert put(store, write("URL", "a", comment="the database")) == 1
    assert len(store.secrets.history("shop", "production", "/", "URL")) == 1


def test_another_comment_or_another_type_is_a_change(store):
    put(store, write("URL", "1", comment="a"))
    assert put(store, write("URL", "1", comment="b")) == 2
    typed = SecretWrite(path="/", key="URL", value=SecretValue("1", ValueType.JSON))
    assert store.secrets.edit("shop", "production", actor=ACTOR, origin="set", writes=[typed]).revision == 3
    secret = store.secrets.get_secret("shop", "production", "/", "URL")
    assert (secret.type, secret.comment, secret.version) == (ValueType.JSON, "b", 3)


def test_an_unset_key_keeps_its_history_and_goes_on_counting(store):
    put(store, write("URL", "a", comment="note"))
    unset = store.secrets.edit("shop", "production", actor="bob", origin="set", unsets=[("/", "URL")])
    assert (unset.revision, unset.keys) == (2, 0)
    with pytest.raises(NotFoundError):
        store.secrets.get_secret("shop", "production", "/", "URL")
    put(store, write("URL", "b"))
    history = store.secrets.history("shop", "production", "/", "URL")
    assert [
        (version.version, version.value and version.value.reveal_text(), version.origin, version.changed_by)
        for version in history
    ] == [
        (3, "b", "set", ACTOR),
        (2, None, "unset", "bob"),
        (1, "a", "set", ACTOR),
    ]
    assert [version.comment for version in history] == ["", "", "note"]


def test_unsetting_what_is_not_set_undoes_the_whole_edit(store):
    put(store, write("URL", "a"))
    with pytest.raises(NotFoundError, match="NOPE"):
        store.secrets.edit(
            "shop", "production", actor=ACTOR, origin="set", writes=[write("URL", "b")], unsets=[("/", "NOPE")]
        )
    assert values_of(store) == {"URL": "a"}


def test_a_key_is_not_set_and_unset_in_one_edit(store):
    put(store, write("URL", "a"))
    with pytest.raises(InvalidInputError):
        store.secrets.edit(
            "shop", "production", actor=ACTOR, origin="set", writes=[write("URL", "b")], unsets=[("/", "URL")]
        )


def test_the_same_key_in_two_folders_is_two_keys(store):
    put(store, write("URL", "root"), write("URL", "deep", path="/db/replica/"))
    everything = store.secrets.list_secrets("shop", "production")
    assert [(version.path, version.key) for version in everything] == [("/", "URL"), ("/db/replica", "URL")]
    folder = store.secrets.list_secrets("shop", "production", path="db/replica")
    assert [version.path for version in folder] == ["/db/replica"]
    assert store.secrets.get_secret("shop", "production", "/db/replica", "URL").version == 1


@pytest.mark.parametrize(("path", "key"), [("/", ""), ("/", "a\x00b"), ("/", "k" * 256), ("/../x", "K"), ("//", "K")])
def test_a_bad_key_or_path_is_refused(store, path, key):
    put(store)
    if (path, key) == ("//", "K"):
        path = "/a//b"
    with pytest.raises(InvalidInputError):
        put(store, write(key, path=path))


def test_any_bytes_and_any_text_come_back_as_they_were(store):
    everything = bytes(range(256)) * 300
    put(
        store,
        SecretWrite(path="/", key="BIN", value=SecretValue(everything, ValueType.BINARY)),
        write("ключ 🔑", "значение\n\x00 end"),
        write("EMPTY", ""),
    )
    values = {version.key: version.value for version in store.secrets.list_secrets("shop", "production")}
    assert values["BIN"] == SecretValue(everything, ValueType.BINARY)
    assert values["ключ 🔑"] == SecretValue("значение\n\x00 end")
    assert values["EMPTY"] == SecretValue("")


def test_a_clone_has_the_values_and_a_life_of_its_own(store):
    put(store, write("URL", "a", comment="note"), write("GONE", "x"), write("DEEP", "d", path="/db"))
    store.secrets.edit("shop", "production", actor=ACTOR, origin="set", unsets=[("/", "GONE")])
    clone = store.secrets.clone_environment("shop", "production", "staging", actor="bob")
    assert (clone.revision, clone.keys) == (1, 2)
    assert values_of(store, "staging") == {"URL": "a", "DEEP": "d"}
    copied = store.secrets.get_secret("shop", "staging", "/", "URL")
    assert (copied.version, copied.comment, copied.changed_by) == (1, "note", "bob")
    put(store, write("URL", "b"), environment="staging")
    assert values_of(store)["URL"] == "a"
    with pytest.raises(AlreadyExistsError):
        store.secrets.clone_environment("shop", "production", "Staging", actor="bob")


def test_a_clone_of_an_empty_environment_is_empty(store):
    put(store)
    assert store.secrets.clone_environment("shop", "production", "staging", actor="bob").revision == 0


def test_a_snapshot_is_of_one_moment(store):
    put(store, write("URL", "before"))
    put(store, write("URL", "before"), environment="staging")
    with store.secrets.snapshot() as reader:
        first = reader.load([("SHOP", "Production")])
        put(store, write("URL", "after"), environment="staging")
        second = reader.load([("shop", "staging"), ("shop", "nowhere")])
    assert first["shop", "production"].secrets["/", "URL"].reveal_text() == "before"
    assert second["shop", "staging"].secrets["/", "URL"].reveal_text() == "before"
    assert set(second) == {("shop", "staging")}
    with store.secrets.snapshot() as reader:
        later = reader.load([("shop", "staging")])["shop", "staging"]
    assert (later.revision, later.secrets["/", "URL"].reveal_text()) == (2, "after")


def test_a_snapshot_leaves_out_what_was_unset(store):
    put(store, write("URL", "a"), write("USER", "b"))
    store.secrets.edit("shop", "production", actor=ACTOR, origin="set", unsets=[("/", "URL")])
    with store.secrets.snapshot() as reader:
        loaded = reader.load([("shop", "production")])["shop", "production"]
        assert reader.load([]) == {}
    assert set(loaded.secrets) == {("/", "USER")}


def test_edits_at_the_same_time_lose_nothing(store: Store):
    put(store)

    def edit(number: int) -> None:
        for step in range(5):
            put(store, write(f"KEY_{number}_{step}", "x"), write("SHARED", f"{number}-{step}"))

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    environment = store.apps.get_environment("shop", "production")
    assert (environment.revision, environment.keys) == (20, 21)
    assert len(store.secrets.history("shop", "production", "/", "SHARED")) == 20
