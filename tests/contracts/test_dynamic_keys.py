"""A key of a folder has one owner: a secret, or the dynamic secret that issues values under it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from phasesync.errors import AlreadyExistsError
from phasesync.store import Store
from tests.support.stores import ACTOR, add_dynamic, at_once, dynamic_draft, put, values_of, write
from tests.support.values import dynamic_config

CONFIG = dynamic_config(keys={"access_key_id": "KEY_ID", "secret_access_key": "SECRET_KEY"})


def unset(store: Store, key: str) -> int:
    edited = store.secrets.edit("shop", "production", actor=ACTOR, origin="unset", unsets=[("/", key)])
    return edited.revision


def add_and_remove(store: Store) -> None:
    add_dynamic(store, "other", keys=CONFIG.keys)
    store.dynamics.remove("other")


TAKEN: dict[str, tuple[Callable[[Store], object], str]] = {
    "secret": (lambda store: put(store, write("SECRET_KEY")), "SECRET_KEY is a secret of shop/production / already"),
    "secret set again": (
        lambda store: (put(store, write("KEY_ID")), unset(store, "KEY_ID"), put(store, write("KEY_ID"))),
        "KEY_ID is a secret of shop/production / already",
    ),
    "dynamic secret": (
        lambda store: add_dynamic(store, "other", keys={"username": "KEY_ID"}),
        "KEY_ID of shop/production / is issued by other already",
    ),
}


@pytest.mark.parametrize(("taken_by", "message"), TAKEN.values(), ids=TAKEN)
def test_a_key_of_the_same_folder_is_not_handed_out(
    store: Store, taken_by: Callable[[Store], object], message: str
) -> None:
    add_dynamic(store, "first")
    taken_by(store)
    count = len(store.dynamics.list_all())

    with pytest.raises(AlreadyExistsError, match=message) as caught:
        store.dynamics.add(dynamic_draft(config=CONFIG))

    assert "--key-map" in str(caught.value.hint)
    assert len(store.dynamics.list_all()) == count


@pytest.mark.parametrize(("taken_by", "message"), TAKEN.values(), ids=TAKEN)
def test_neither_is_it_by_an_update(store: Store, taken_by: Callable[[Store], object], message: str) -> None:
    before = add_dynamic(store)
    taken_by(store)

    with pytest.raises(AlreadyExistsError, match=message):
        store.dynamics.update("ci", credential="aws", config=CONFIG)

    assert store.dynamics.get("ci") == before


FREE: dict[str, Callable[[Store], object]] = {
    "unset": lambda store: (put(store, write("KEY_ID")), unset(store, "KEY_ID")),
    "another folder": lambda store: put(store, write("KEY_ID", path="/db")),
    "another environment": lambda store: put(store, write("KEY_ID"), environment="staging"),
    "another case": lambda store: put(store, write("key_id")),
    "another folder's dynamic secret": lambda store: add_dynamic(store, "other", path="/db", keys=CONFIG.keys),
    "another environment's dynamic secret": lambda store: add_dynamic(
        store, "other", environment="staging", keys=CONFIG.keys
    ),
    "a removed dynamic secret": add_and_remove,
    "a dynamic secret that has other keys now": lambda store: (
        add_dynamic(store, "other", keys=CONFIG.keys),
        store.dynamics.update("other", credential="aws", config=replace(CONFIG, keys={"username": "USER"})),
    ),
}


@pytest.mark.parametrize("happening", FREE.values(), ids=FREE)
def test_a_key_that_nobody_has_in_this_folder_is_free(store: Store, happening: Callable[[Store], object]) -> None:
    add_dynamic(store, "first")
    happening(store)
    assert store.dynamics.add(dynamic_draft(config=CONFIG)).config == CONFIG


def test_its_own_keys_are_no_hindrance_to_an_update(store: Store) -> None:
    add_dynamic(store, keys=CONFIG.keys)
    swapped = replace(CONFIG, keys={"access_key_id": "SECRET_KEY", "secret_access_key": "KEY_ID"})
    assert store.dynamics.update("ci", credential="aws", config=swapped).config == swapped


# --- the other way round: secrets


def test_a_new_secret_does_not_take_a_key_that_is_handed_out(store: Store) -> None:
    add_dynamic(store, keys=CONFIG.keys)
    before = put(store)

    with pytest.raises(AlreadyExistsError, match="KEY_ID of shop/production / is issued by the dynamic secret ci"):
        put(store, write("FREE"), write("KEY_ID"))

    assert (values_of(store), put(store)) == ({}, before), "an edit is whole or not at all"


def test_secrets_of_another_folder_and_environment_are_not_concerned(store: Store) -> None:
    add_dynamic(store, keys=CONFIG.keys)
    put(store, write("FREE"), write("KEY_ID", path="/db"))
    put(store, write("KEY_ID"), environment="staging")
    assert set(values_of(store)) == {"FREE", "KEY_ID"}
    assert set(values_of(store, "staging")) == {"KEY_ID"}


def test_a_secret_may_take_a_key_that_is_not_handed_out_any_more(store: Store) -> None:
    add_dynamic(store, keys=CONFIG.keys)
    store.dynamics.remove("ci")
    put(store, write("KEY_ID", "mine"))
    assert values_of(store) == {"KEY_ID": "mine"}


def test_of_a_secret_and_a_dynamic_secret_that_want_a_key_at_once_one_gets_it(store: Store) -> None:
    add_dynamic(store, "first")

    results = at_once(
        lambda: store.dynamics.add(dynamic_draft(config=CONFIG)).name,
        lambda: put(store, write("KEY_ID")),
        lambda: store.dynamics.add(dynamic_draft("cd", config=CONFIG)).name,
    )

    assert sum(isinstance(result, AlreadyExistsError) for result in results) == 2, results
    owners = len(values_of(store)) + len([dynamic for dynamic in store.dynamics.list_all() if dynamic.name != "first"])
    assert owners == 1
