"""Storing an edited folder while others edit the environment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from phasesync.core.model import SecretValue
from phasesync.core.secret_json import FileEntry
from phasesync.engine.folder_edits import CollidedEdit, StoredEdit, read_for_edit, store_edit
from phasesync.errors import StalePlanError
from phasesync.store import Store
from tests.support.databases import on_each_database
from tests.support.stores import ACTOR, open_test_store, put, values_of, write

pytestmark = on_each_database

WHERE = ("shop", "production", "/")


@pytest.fixture
def store(migrated_database_url: str) -> Iterator[Store]:
    opened = open_test_store(migrated_database_url)
    put(opened, write("A", "1"), write("B", "1"))
    yield opened
    opened.close()


def entry(value: str) -> FileEntry:
    return FileEntry(value=SecretValue(value), comment="")


def edited_in_between(store: Store, monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    """Have somebody else set B just before each attempt to store."""
    left, edit = list(values), store.secrets.edit

    def late(*args: Any, **kwargs: Any) -> Any:
        if left:
            edit(*WHERE[:2], actor="bob", origin="set", writes=[write("B", left.pop(0))])
        return edit(*args, **kwargs)

    monkeypatch.setattr(store.secrets, "edit", late)


def test_an_edit_of_another_key_in_between_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_for_edit(store, *WHERE)
    edited_in_between(store, monkeypatch, "theirs")
    stored = store_edit(store, before, before.entries | {"A": entry("ours")}, actor=ACTOR)
    assert isinstance(stored, StoredEdit)
    assert (stored.changes.changed, stored.environment.revision) == (("A",), 3)
    assert values_of(store) == {"A": "ours", "B": "theirs"}
    assert store.secrets.get_secret(*WHERE, "A").origin == "edit"


def test_an_edit_of_the_same_key_in_between_is_not_overwritten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_for_edit(store, *WHERE)
    edited_in_between(store, monkeypatch, "theirs")
    collided = store_edit(store, before, {"A": entry("1"), "B": entry("ours")}, actor=ACTOR)
    assert isinstance(collided, CollidedEdit)
    assert collided.merged.conflicts == ("B",)
    assert collided.now.entries["B"] == entry("theirs")
    assert values_of(store) == {"A": "1", "B": "theirs"}


def test_an_environment_that_is_edited_all_the_time_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_for_edit(store, *WHERE)
    edited_in_between(store, monkeypatch, *map(str, range(2, 20)))
    with pytest.raises(StalePlanError, match="shop/production was edited meanwhile"):
        store_edit(store, before, before.entries | {"A": entry("ours")}, actor=ACTOR)
    assert values_of(store)["A"] == "1"
