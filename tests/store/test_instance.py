"""The first start: keys and id are made once, and the keys of another root key are refused."""

import threading
from functools import partial

import pytest
import sqlalchemy as sa

from phasesync.errors import KeyUnavailableError, SchemaMismatchError
from phasesync.store import initialise, open_database, open_store, read_wrapped_keys
from phasesync.store.key_ring import KeyRing
from phasesync.store.tables import data_keys, instance
from tests.support.stores import OTHER_ROOT_KEY, ROOT_KEY, open_test_store, put, values_of, write


@pytest.fixture
def database(migrated_database_url):
    """Migrated, and without any key."""
    opened = open_database(migrated_database_url)
    with opened.write() as connection:
        connection.execute(data_keys.delete())
        connection.execute(instance.delete())
    yield opened
    opened.close()


def ring(database, root_key=ROOT_KEY):
    return KeyRing([root_key], partial(read_wrapped_keys, database))


def purposes(database):
    with database.read() as connection:
        return list(connection.scalars(sa.select(data_keys.c.purpose).order_by(data_keys.c.purpose)))


def test_it_is_safe_to_repeat(database):
    first = initialise(database, ring(database))
    assert initialise(database, ring(database)) == first == open_store(database, ring(database)).instance_id
    assert len(first) == 32
    assert int(first, 16)
    assert purposes(database) == ["credentials", "digest"]


def test_what_was_stored_is_still_read_afterwards(migrated_database_url):
    store = open_test_store(migrated_database_url)
    put(store, write("URL", "a"))
    store.close()
    again = open_test_store(migrated_database_url)
    assert values_of(again) == {"URL": "a"}
    again.close()


def test_another_root_key_is_refused_and_changes_nothing(database):
    initialise(database, ring(database))
    for attempt in (initialise, open_store):
        with pytest.raises(KeyUnavailableError, match=f"{ROOT_KEY.id}.*{OTHER_ROOT_KEY.id}"):
            attempt(database, ring(database, OTHER_ROOT_KEY))
    assert purposes(database) == ["credentials", "digest"]


def test_a_database_without_init_says_so(database):
    with pytest.raises(SchemaMismatchError) as caught:
        open_store(database, ring(database))
    assert caught.value.hint == "phasesync init"


def test_a_database_without_tables_says_so(database_url):
    database = open_database(database_url, create=True)
    with pytest.raises(SchemaMismatchError):
        initialise(database, ring(database))
    database.close()


def test_two_first_starts_at_once_make_one_set_of_keys(database):
    instance_ids: list[str] = []

    def start() -> None:
        instance_ids.append(initialise(database, ring(database)))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(instance_ids) == 4
    assert len(set(instance_ids)) == 1
    assert purposes(database) == ["credentials", "digest"]
