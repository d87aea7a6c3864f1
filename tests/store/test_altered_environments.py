"""An attacker with write access and no key cannot restore or hide a secret, nor read it under another name."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from phasesync.core.model import EnvironmentSnapshot
from phasesync.errors import CiphertextError, NotFoundError, PhasesyncError
from phasesync.store import Store, tables
from tests.support.stores import ACTOR, alter, at_once, put, values_of, write

VERSIONS = tables.secret_versions


def secret_id(store: Store, version: int) -> str:
    """The id of the one secret with this current version."""
    with store.database.read() as connection:
        found = connection.scalars(sa.select(tables.secrets.c.id).where(tables.secrets.c.version == version)).all()
    (only,) = found
    return str(only)


def rolled_back(store: Store) -> None:
    alter(store, tables.secrets, secret_id(store, 2), version=1)


def called_unset(store: Store) -> None:
    alter(store, tables.secrets, secret_id(store, 2), is_set=False)


def called_set(store: Store) -> None:
    alter(store, tables.secrets, is_set=True)


def without_its_value(store: Store) -> None:
    """As a key that was unset looks in the log of versions."""
    with store.database.write() as connection:
        connection.execute(VERSIONS.update().where(VERSIONS.c.version == 2).values(value=None, origin="unset"))


def without_its_version(store: Store) -> None:
    with store.database.write() as connection:
        connection.execute(VERSIONS.delete().where(VERSIONS.c.version == 2))


def without_its_row(store: Store) -> None:
    with store.database.write() as connection:
        connection.execute(tables.secrets.delete().where(tables.secrets.c.id == secret_id(store, 2)))


def at_an_older_revision(store: Store) -> None:
    alter(store, tables.environments, revision=1)


def in_no_order(store: Store) -> None:
    """Each of two is found under the other's name."""
    with store.database.write() as connection:
        one, other, _ = connection.execute(sa.select(tables.secrets.c.id, tables.secrets.c.lookup)).all()
        for row_id, lookup in ((one.id, b"between"), (other.id, one.lookup), (one.id, other.lookup)):
            connection.execute(tables.secrets.update().where(tables.secrets.c.id == row_id).values(lookup=lookup))


ALTERED = (
    rolled_back,
    called_unset,
    called_set,
    without_its_value,
    without_its_version,
    without_its_row,
    at_an_older_revision,
    in_no_order,
)


def snapshot(store: Store) -> EnvironmentSnapshot:
    with store.secrets.snapshot() as reader:
        return reader.load([("shop", "production")])["shop", "production"]


READS: dict[str, Callable[[Store], object]] = {
    "list": values_of,
    "get": lambda store: store.secrets.get_secret("shop", "production", "/", "URL"),
    "history": lambda store: store.secrets.history("shop", "production", "/", "URL"),
    "run": snapshot,
    "clone": lambda store: store.secrets.clone_environment("shop", "production", "copy", actor=ACTOR),
}
EDITS: dict[str, Callable[[Store], object]] = {
    "edit": lambda store: put(store, write("OTHER", "x")),
    "rename": lambda store: store.apps.update_environment("shop", "production", new_name="prod"),
    "rename its app": lambda store: store.apps.update_app("shop", new_name="store"),
}


@pytest.fixture
def whole(store: Store) -> Store:
    """URL is at its second version, EXTRA at its first, and GONE was unset by its third."""
    put(store, write("URL", "old"), write("EXTRA", "e"))
    put(store, write("URL", "new"))
    for value in ("1", "2"):
        put(store, write("GONE", value))
    store.secrets.edit("shop", "production", actor=ACTOR, origin="unset", unsets=[("/", "GONE")])
    assert values_of(store) == {"URL": "new", "EXTRA": "e"}
    return store


def is_refused(attempt: Callable[[Store], object], store: Store) -> bool:
    try:
        attempt(store)
    except CiphertextError:
        return True
    return False


@pytest.mark.parametrize("happening", ALTERED)
@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_nothing_of_an_altered_environment_is_read(whole: Store, happening: Callable[[Store], None]) -> None:
    happening(whole)
    assert [name for name, read in READS.items() if not is_refused(read, whole)] == []


@pytest.mark.parametrize("happening", [one for one in ALTERED if one not in (without_its_value, without_its_version)])
@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_no_edit_vouches_for_an_altered_environment(whole: Store, happening: Callable[[Store], None]) -> None:
    happening(whole)
    assert [name for name, edit in EDITS.items() if not is_refused(edit, whole)] == []


@pytest.mark.parametrize("happening", [without_its_value, without_its_version])
@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_an_edit_of_another_key_does_not_hide_a_value_that_is_missing(
    whole: Store, happening: Callable[[Store], None]
) -> None:
    happening(whole)
    put(whole, write("EXTRA", "x"))
    assert [name for name, read in READS.items() if not is_refused(read, whole)] == []


@pytest.mark.parametrize("table", [tables.apps, tables.environments], ids=lambda table: table.name)
@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_a_name_that_was_altered_is_not_called_unknown(store: Store, table: sa.Table) -> None:
    """A list shows it; whoever then types it reads what happened, and no advice to add it."""
    put(store, write("URL", "x"))
    alter(store, table, name="Other")
    app, environment = ("other", "production") if table is tables.apps else ("shop", "other")
    with pytest.raises(CiphertextError, match=f"in table {table.name} .* altered outside phasesync"):
        store.apps.get_environment(app, environment)
    with pytest.raises(NotFoundError, match="there is no app third"):
        store.apps.get_environment("third", environment)


def test_an_environment_that_was_altered_can_be_removed(store: Store) -> None:
    put(store, write("URL", "x"))
    alter(store, tables.environments, revision=9)
    store.apps.remove_environment("shop", "production")
    assert store.apps.list_environments("shop") == []


# --- what several do at once leaves MACs that fit


def outcomes(done: list[Any]) -> list[str]:
    return [type(result).__name__ for result in done if isinstance(result, PhasesyncError)]


def test_edits_and_renames_at_once_leave_what_authenticates(store: Store) -> None:
    for name in ("a", "b", "c"):
        put(store, write("URL", "x"), environment=name)

    def edit(name: str, value: str) -> Callable[[], object]:
        return lambda: store.secrets.edit(
            "shop", name, actor=ACTOR, origin="set", writes=[write("URL", value), write(f"KEY_{value}", "y")]
        )

    for turn in range(4):
        app = "SHOP" if turn % 2 == 0 else "shop"
        done = at_once(
            *(edit(name, f"{turn}{number}") for name in ("a", "b", "c") for number in range(2)),
            partial(store.apps.update_app, "shop", new_name=app),
            partial(store.apps.add_environment, "shop", f"new-{turn}"),
            partial(store.secrets.clone_environment, "shop", "a", f"copy-{turn}", actor=ACTOR),
            lambda: store.apps.update_environment("shop", "b", new_name="B"),
        )
        assert outcomes(done) == []
        names = [environment.name for environment in store.apps.list_environments("shop")]
        assert len(names) == 3 + 2 * (turn + 1)
        for name in names:
            store.secrets.list_secrets("shop", name)


def test_a_rename_that_an_edit_waited_for_is_not_missed(store: Store) -> None:
    """The lock is granted on the newest row, and the app's new name is read with it."""
    put(store, write("URL", "x"))
    for turn in range(6):
        former, new = ("shop", "store") if turn % 2 == 0 else ("store", "shop")
        writes = [[write("URL", f"{turn}{number}")] for number in range(3)]
        done = at_once(
            partial(store.apps.update_app, former, new_name=new),
            *(
                partial(store.secrets.edit, former, "production", actor=ACTOR, origin="set", writes=one)
                for one in writes
            ),
        )
        assert set(outcomes(done)) <= {"NotFoundError"}, "who came late finds the name gone"
        store.secrets.list_secrets(new, "production")
