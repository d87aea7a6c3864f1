"""Root keys that take each other's place, on each database: who may wrap what, and what an altered row does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from phasesync.errors import CiphertextError, IllegalTransitionError, KeyUnavailableError, StoreUnavailableError
from phasesync.store import Store, open_database, open_store, read_wrapped_keys, tables
from phasesync.store.key_ring import CURRENT, FORMER, NEXT, KeyRing, RootKey, insert_key, read_root_statuses
from phasesync.store.root_keys import NewRootKey, read_current_root
from tests.support.stores import OTHER_ROOT_KEY, ROOT_KEY, TTL, alter, open_test_store, put, values_of, write

OLD, NEW = ROOT_KEY, OTHER_ROOT_KEY
THIRD = RootKey(material=bytes(range(2, 34)), source="a test")
BOTH = (OLD.id, NEW.id)


def opened(database_url: str, *roots: RootKey, later: tuple[RootKey, ...] = ()) -> Store:
    """Open the store with root keys at hand, and some that come later."""
    database = open_database(database_url, synchronous="OFF")
    keys = KeyRing(
        roots,
        partial(read_wrapped_keys, database),
        load_roots=lambda _: later,
        read_statuses=partial(read_root_statuses, database),
        read_current=partial(read_current_root, database),
    )
    try:
        return open_store(database, keys)
    except BaseException:
        database.close()
        raise


@pytest.fixture
def store(migrated_database_url: str) -> Iterator[Store]:
    """A store with a secret, and both root keys at hand."""
    open_test_store(migrated_database_url).close()
    made = opened(migrated_database_url, OLD, NEW)
    put(made, write("URL", "first"))
    yield made
    made.close()


def new(root: RootKey = NEW) -> NewRootKey:
    return NewRootKey(id=root.id, kind=root.kind)


def rotate(store: Store, root: RootKey = NEW) -> None:
    store.root_keys.begin(new(root), kind_of_current="file")
    store.root_keys.switch(root.id)
    while store.root_keys.rewrap(most=2):
        pass


def statuses(store: Store) -> dict[str, str]:
    return {root.id: root.status for root in store.root_keys.list_all()}


def test_a_root_key_is_registered_then_in_use_then_former(store: Store, migrated_database_url: str) -> None:
    assert statuses(store) == {OLD.id: CURRENT}
    store.root_keys.begin(new(), kind_of_current="file")
    assert statuses(store) == {NEW.id: NEXT, OLD.id: CURRENT}
    store.root_keys.switch(NEW.id)
    assert statuses(store) == {NEW.id: CURRENT, OLD.id: FORMER}
    assert store.root_keys.rewrap(most=2) == 2
    with pytest.raises(KeyUnavailableError, match=NEW.id):
        opened(migrated_database_url, OLD)
    with pytest.raises(KeyUnavailableError, match=OLD.id):
        opened(migrated_database_url, NEW)
    while store.root_keys.rewrap(most=2):
        pass
    assert {root.id: root.data_keys for root in store.root_keys.list_all()}[OLD.id] == 0
    opened(migrated_database_url, NEW).close()


def test_the_former_one_is_refused_and_the_error_says_which_took_its_place(
    store: Store, migrated_database_url: str
) -> None:
    rotate(store)
    with pytest.raises(KeyUnavailableError, match=f"{OLD.id} was replaced by {NEW.id}") as refused:
        opened(migrated_database_url, OLD)
    assert refused.value.exit_code == 6


def test_a_process_that_had_only_the_old_one_goes_on_with_the_new_one_once_it_is_there(
    store: Store, migrated_database_url: str
) -> None:
    other = opened(migrated_database_url, OLD, later=(NEW,))
    try:
        rotate(store)
        put(other, write("URL", "second"), environment="staging")
        assert values_of(other, "staging") == {"URL": "second"}
        assert other.keys.root_key_id == NEW.id
    finally:
        other.close()
    assert values_of(store, "staging") == {"URL": "second"}
    assert {root.id: root.data_keys for root in store.root_keys.list_all()}[OLD.id] == 0


def test_no_data_key_comes_under_a_former_one(store: Store) -> None:
    under_old = KeyRing([OLD], partial(read_wrapped_keys, store.database)).new_data_key("environment")
    rotate(store)
    before = read_wrapped_keys(store.database)
    with pytest.raises(StoreUnavailableError, match="was replaced meanwhile"), store.database.write() as connection:
        insert_key(connection, under_old)
    assert read_wrapped_keys(store.database) == before


def test_values_stay_and_are_readable_at_every_moment(store: Store) -> None:
    store.root_keys.begin(new(), kind_of_current="file")
    assert values_of(store) == {"URL": "first"}
    store.root_keys.switch(NEW.id)
    put(store, write("URL", "second"))
    while store.root_keys.rewrap(most=1):
        assert values_of(store) == {"URL": "second"}
    put(store, write("URL", "third"), environment="staging")
    assert values_of(store, "staging") == {"URL": "third"}


def test_what_was_registered_by_mistake_is_forgotten_with_the_next_one(store: Store) -> None:
    store.keys.add_root(THIRD)
    store.root_keys.begin(new(), kind_of_current="file")
    store.root_keys.begin(new(THIRD), kind_of_current="file")
    assert statuses(store) == {THIRD.id: NEXT, OLD.id: CURRENT}
    with pytest.raises(IllegalTransitionError, match="not the next one any more"):
        store.root_keys.switch(NEW.id)


@pytest.mark.parametrize("root", [OLD, NEW], ids=["former", "current"])
def test_a_root_key_is_used_once(root: RootKey, store: Store) -> None:
    rotate(store)
    with pytest.raises(IllegalTransitionError, match=f"{root.id} cannot be the next one"):
        store.root_keys.begin(new(root), kind_of_current="file")


def test_a_rotation_that_is_not_finished_is_finished_first(store: Store) -> None:
    store.root_keys.begin(new(), kind_of_current="file")
    store.root_keys.switch(NEW.id)
    with pytest.raises(IllegalTransitionError, match="still wrapped under the former"):
        store.root_keys.begin(new(THIRD), kind_of_current="file")


# --- daemons


def test_it_waits_for_every_live_daemon(store: Store) -> None:
    def beat(owner: str, *root_keys: str, ttl: timedelta = TTL) -> None:
        store.daemons.beat(owner, host=f"host of {owner}", pid=7, ttl=ttl, root_keys=root_keys)

    beat("a", *BOTH)
    beat("b", OLD.id)
    beat("dead", OLD.id, ttl=timedelta(seconds=-1))
    store.root_keys.begin(new(), kind_of_current="file")
    with pytest.raises(IllegalTransitionError, match="daemon b does not have"):
        store.root_keys.switch(NEW.id)
    assert statuses(store)[NEW.id] == NEXT
    assert {one.owner: one.root_keys for one in store.root_keys.daemons()} == {
        "a": frozenset(BOTH),
        "b": frozenset({OLD.id}),
    }
    beat("b", *BOTH)
    store.root_keys.switch(NEW.id)


def test_a_daemon_that_does_not_say_which_it_has_keeps_the_old_one_in_use(store: Store) -> None:
    store.daemons.beat("former release", host="here", pid=7, ttl=TTL)
    store.root_keys.begin(new(), kind_of_current="file")
    with pytest.raises(IllegalTransitionError):
        store.root_keys.switch(NEW.id)
    (daemon,) = store.root_keys.daemons()
    assert daemon.root_keys is None


def test_a_daemon_loads_the_next_one_and_reports_it(store: Store, migrated_database_url: str) -> None:
    other = opened(migrated_database_url, OLD, later=(NEW,))
    try:
        other.daemons.beat("b", host="there", pid=7, ttl=TTL, root_keys=other.keys.root_key_ids)
        other.root_keys.follow("b")
        assert other.keys.root_key_ids == (OLD.id,)
        store.root_keys.begin(new(), kind_of_current="file")
        other.root_keys.follow("b")
        assert {one.owner: one.root_keys for one in store.root_keys.daemons()} == {"b": frozenset(BOTH)}
        store.root_keys.switch(NEW.id)
        other.root_keys.follow("b")
        assert other.keys.root_key_id == NEW.id
    finally:
        other.close()


def test_a_daemon_without_the_next_one_says_so_and_works_on(store: Store, migrated_database_url: str) -> None:
    other = opened(migrated_database_url, OLD)
    try:
        store.root_keys.begin(new(), kind_of_current="file")
        with pytest.raises(KeyUnavailableError, match=f"{NEW.id}.* not at hand here"):
            other.root_keys.follow("b")
        assert values_of(other) == {"URL": "first"}
    finally:
        other.close()


# --- rows that were altered


@pytest.mark.parametrize("column", ["source", "status", "wrapped", "wrapped_by", "mac"])
def test_nobody_without_a_root_key_has_one_of_theirs_become_the_next(column: str, store: Store) -> None:
    store.root_keys.begin(new(), kind_of_current="file")
    values = {"wrapped": b"theirs", "mac": b"theirs", "status": NEXT}
    row = OLD.id if column == "status" else NEW.id
    alter(store, tables.root_keys, row, **{column: values.get(column, "theirs")})
    assert [root.id for root in store.root_keys.list_all() if not root.authentic] == [row]
    with pytest.raises((CiphertextError, KeyUnavailableError)):
        store.root_keys.switch(NEW.id)


def test_a_next_one_that_was_altered_is_registered_anew(store: Store) -> None:
    store.root_keys.begin(new(), kind_of_current="file")
    alter(store, tables.root_keys, NEW.id, wrapped=b"theirs", wrapped_by="theirs")
    rotate(store)
    (current, *_) = store.root_keys.list_all()
    assert (current.id, current.wrapped, current.authentic) == (NEW.id, None, True)


def test_who_has_a_former_root_key_cannot_make_it_the_current_one_again(store: Store) -> None:
    """Whatever they write into the database: nothing is wrapped under it, and nothing new is made under it."""
    before = rows_of(store)
    rotate(store)
    store.apps.add_environment("shop", "after")
    now = rows_of(store)
    swapped = [row | {"status": FORMER if row["status"] == CURRENT else CURRENT} for row in now]
    both = [row | {"status": CURRENT} for row in now]
    for written in (swapped, both, before, [*before, *(row for row in now if row["id"] == NEW.id)]):
        with store.database.write() as connection:
            connection.execute(tables.root_keys.delete())
            for row in written:
                connection.execute(tables.root_keys.insert().values(**row))
        with pytest.raises(CiphertextError):
            store.apps.add_environment("shop", "new")
        for refused in (partial(store.root_keys.rewrap, most=9), partial(store.root_keys.switch, OLD.id)):
            with pytest.raises(CiphertextError):
                refused()
        with pytest.raises(CiphertextError):
            store.root_keys.begin(new(THIRD), kind_of_current="file")
        assert {key.root_key_id for key in read_wrapped_keys(store.database)} == {NEW.id}


def rows_of(store: Store) -> list[dict[str, object]]:
    """Return what is registered, as the database has it."""
    if not any(root.since for root in store.root_keys.list_all()):
        store.root_keys.begin(new(), kind_of_current="file")
    with store.database.read() as connection:
        rows = connection.execute(sa.select(tables.root_keys).where(tables.root_keys.c.status != NEXT))
        return [row._asdict() for row in rows]


def test_the_same_data_key_opens_under_either_root_key(store: Store) -> None:
    (key, *_) = read_wrapped_keys(store.database)
    again = store.keys.rewrap(key, NEW.id)
    assert (again.id, again.root_key_id) == (key.id, NEW.id)
    assert again.wrapped != key.wrapped
    with pytest.raises(CiphertextError):
        store.keys.rewrap(replace(again, purpose="other"), OLD.id)
