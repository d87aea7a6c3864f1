"""Backups of a database that is in use."""

import stat
from pathlib import Path

import pytest

from phasesync.errors import AlreadyExistsError, SettingsError
from phasesync.store.backup import backup
from tests.support.stores import open_test_store, put, values_of, write

on_sqlite = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)


@on_sqlite
def test_a_backup_holds_what_was_committed_while_others_write(migrated_database_url, tmp_path):
    store = open_test_store(migrated_database_url)
    put(store, write("URL", "a"))
    with store.database.write():  # a write is under way elsewhere
        backup(migrated_database_url, tmp_path / "copy.db")
    put(store, write("URL", "b"))
    store.close()
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]
    copy = open_test_store(f"sqlite:///{tmp_path}/copy.db")
    assert values_of(copy) == {"URL": "a"}
    copy.close()


@on_sqlite
def test_a_backup_never_overwrites(migrated_database_url, tmp_path):
    (tmp_path / "copy.db").write_text("precious")
    with pytest.raises(AlreadyExistsError):
        backup(migrated_database_url, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "precious"


@on_sqlite
def test_a_backup_that_fails_leaves_nothing(migrated_database_url, tmp_path):
    database = Path(migrated_database_url.removeprefix("sqlite:///"))
    database.write_bytes(b"garbage" * 1000)
    with pytest.raises(SettingsError):
        backup(migrated_database_url, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


@on_sqlite
def test_a_place_that_cannot_be_written_is_named(migrated_database_url, tmp_path):
    with pytest.raises(SettingsError, match="nowhere"):
        backup(migrated_database_url, tmp_path / "nowhere" / "copy.db")


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_postgresql_has_its_own_tool(migrated_database_url, tmp_path):
    with pytest.raises(SettingsError) as caught:
        backup(migrated_database_url, tmp_path / "copy.db")
    assert "pg_dump" in str(caught.value.hint)
    assert not (tmp_path / "copy.db").exists()
