"""The file of a SQLite database that is moved, deleted or replaced while it is in use."""

import os
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from phasesync.errors import AnotherDatabaseError, KeyUnavailableError, StoreUnavailableError
from phasesync.store import Store, open_database
from phasesync.store.backup import backup
from phasesync.store.migrate import upgrade
from phasesync.store.restore import restore
from phasesync.store.tables import apps
from tests.support.stores import OTHER_ROOT_KEY, open_test_store, opens_with

AT = datetime(2026, 1, 2, tzinfo=UTC)

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)


@pytest.fixture
def store(migrated_database_url):
    opened = open_test_store(migrated_database_url)
    opened.apps.add_app("before")
    yield opened
    opened.close()


@pytest.fixture
def path(store: Store) -> Path:
    return Path(str(store.database.url.database))


def names_in(store: Store) -> list[str]:
    return [app.name for app in store.apps.list_apps()]


def names_at(path: Path) -> list[str]:
    """What another process finds there."""
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM apps ORDER BY name")]


def another(folder: Path, **key: object) -> Path:
    """The database of another installation."""
    path = folder / "other.db"
    upgrade(f"sqlite:///{path}")
    open_test_store(f"sqlite:///{path}", **key).close()  # type: ignore[arg-type]
    return path


def side_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + end) for end in ("-wal", "-shm")]


def test_a_deleted_database_is_waited_for_and_not_made_anew(store, path):
    for file in (path, *side_files(path)):
        file.unlink()

    for use in (store.database.check_writable, lambda: names_in(store), lambda: store.apps.add_app("lost")):
        with pytest.raises(StoreUnavailableError, match="is gone"):
            use()

    assert not path.exists()


def test_a_database_that_was_renamed_is_not_written_under_its_new_name(store, path):
    moved = path.with_name("moved.db")
    path.rename(moved)
    with pytest.raises(StoreUnavailableError, match="is gone"):
        store.apps.add_app("lost")

    moved.rename(path)

    store.apps.add_app("after")
    assert names_in(store) == ["after", "before"]


def test_a_copy_of_the_same_installation_is_gone_on_with(store, path):
    backup(str(store.database.url), path.with_name("copy.db"))
    os.replace(path.with_name("copy.db"), path)

    store.apps.add_app("after")

    assert names_in(store) == ["after", "before"] == names_at(path)


def test_every_connection_of_the_pool_follows(store, path):
    """Several are open at once, and go back into the pool."""
    with store.database.read(), store.database.read(), store.database.read():
        pass
    backup(str(store.database.url), path.with_name("copy.db"))
    os.replace(path.with_name("copy.db"), path)

    for number in range(6):
        store.apps.add_app(f"after{number}")

    assert len(names_at(path)) == 7


def test_what_is_committed_to_a_file_that_was_just_replaced_is_not_reported_as_stored(store, path):
    backup(str(store.database.url), path.with_name("copy.db"))

    def replace_while_it_is_written() -> None:
        with store.database.write() as connection:
            connection.execute(apps.insert().values(id="a", name="a", name_key="a", description="", created_at=AT))
            os.replace(path.with_name("copy.db"), path)

    with pytest.raises(StoreUnavailableError, match="may be lost"):
        replace_while_it_is_written()
    assert names_at(path) == ["before"]


def test_the_database_of_another_installation_is_refused_for_good(store, path, tmp_path):
    os.replace(another(tmp_path), path)
    for _ in range(2):
        with pytest.raises(AnotherDatabaseError) as caught:
            store.apps.add_app("astray")
        assert caught.value.exit_code == 6
    assert names_at(path) == []


def test_a_copy_under_another_root_key_is_refused(store, path, tmp_path):
    other = another(tmp_path, root_key=OTHER_ROOT_KEY)
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("UPDATE instance SET instance_id = ?", [store.instance_id])
    os.replace(other, path)
    with pytest.raises(KeyUnavailableError, match="another root key"):
        names_in(store)


@pytest.mark.parametrize("content", [b"", b"half a copy of something", bytes(8192)])
def test_a_file_that_is_no_database_yet_is_waited_for(store, path, content):
    backup(str(store.database.url), path.with_name("copy.db"))
    (path.with_name("new")).write_bytes(content)
    os.replace(path.with_name("new"), path)
    with pytest.raises(StoreUnavailableError):
        names_in(store)

    for file in side_files(path):
        file.unlink(missing_ok=True)
    os.replace(path.with_name("copy.db"), path)

    assert names_in(store) == ["before"]


def test_what_stands_only_in_a_log_that_was_deleted_is_not_lost(store, path):
    store.apps.add_app("in-the-log")
    for file in side_files(path):
        file.unlink()

    store.apps.add_app("after")

    assert names_in(store) == ["after", "before", "in-the-log"]
    store.close()
    assert names_at(path) == ["after", "before", "in-the-log"]


def test_a_log_of_the_former_file_is_not_applied_to_the_next_one(store, path):
    """SQLite would: a log says nothing of the file that it belongs to."""
    with store.database.read() as reader:
        reader.execute(sa.select(apps)).all()  # in use, so that the log cannot be emptied
        store.apps.add_app("in-the-log")
        other = path.with_name("next.db")
        backup(str(store.database.url), other)
        with closing(sqlite3.connect(other)) as connection, connection:
            connection.execute("DELETE FROM apps")
        os.replace(other, path)
        with pytest.raises(StoreUnavailableError, match="-wal is the log"):
            names_in(store)
    assert names_in(store) == []


def test_a_restored_backup_is_the_same_file(store, path):
    """It is put into the file, and a store that is open goes on with it."""
    file = path.with_name("backup.db")
    backup(str(store.database.url), file, open_keys=opens_with())
    store.apps.add_app("later")
    inode = path.stat().st_ino

    restore(str(store.database.url), file, open_keys=opens_with(), at=AT)

    assert path.stat().st_ino == inode
    assert names_in(store) == ["before"]


def test_a_connection_never_makes_a_file(migrated_database_url):
    database = open_database(migrated_database_url)
    path = Path(str(database.url.database))
    path.unlink()
    with suppress(Exception), database.read() as connection:
        connection.execute(sa.select(apps))
    assert not path.exists()
    database.close()


@pytest.mark.parametrize("name", ["100%.db", "a b#c.db", "ü&x=1.db"])
def test_a_path_of_odd_characters_is_opened_as_it_is(migrated_database_url, tmp_path, name):
    path = Path(str(sa.make_url(migrated_database_url).database)).rename(tmp_path / name)
    database = open_database(f"sqlite:///{path}")
    with database.read() as connection:
        assert connection.execute(sa.select(apps)).all() == []
    assert sorted(file.name for file in tmp_path.iterdir()) == [name, f"{name}-shm", f"{name}-wal"]
    database.close()
