"""What the tests of incidents start with. The engine decides all of it, so one database is enough: the fast one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from phasesync.core.sync import Layout, OnRemove
from phasesync.store import Store
from tests.support.stores import open_test_store
from tests.support.world import World


@pytest.fixture
def database_backend() -> str:
    """Whoever asks for a database gets this one."""
    return "sqlite"


@pytest.fixture
def store(migrated_database_url: str) -> Iterator[Store]:
    """An initialised store with nothing in it."""
    opened = open_test_store(migrated_database_url)
    yield opened
    opened.close()


@pytest.fixture
def per_key(store: Store) -> Callable[..., World]:
    """Makes a world with a sync that writes one object a key: shop/production/KEY."""

    def make(**config: Any) -> World:
        layout = {"layout": Layout.PER_KEY, "remote_name": None, "name_template": "{app}/{env}/{key}"}
        return World(store, **{**layout, **config})

    return make


@pytest.fixture
def keyed(per_key: Callable[..., World]) -> World:
    """One object a key; keys URL and USER."""
    return per_key()


@pytest.fixture
def deleting(per_key: Callable[..., World]) -> World:
    """Six keys, in step; what is removed from the store is deleted an hour later."""
    world = per_key(on_remove=OnRemove.DELETE)
    world.edit(A="a", B="b", C="c", D="d")
    world.run()
    return world
