"""Restoring a backup: it is checked before, replaced atomically, and marked as older."""

import os
import resource
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from phasesync.errors import (
    CiphertextError,
    ConfirmationRequiredError,
    IllegalTransitionError,
    KeyUnavailableError,
    NotFoundError,
    SchemaMismatchError,
    SettingsError,
    StoreUnavailableError,
)
from phasesync.store import restore as restore_module
from phasesync.store.backup import backup
from phasesync.store.backup_check import copy_checked, verify_backup
from phasesync.store.backup_manifest import Manifest, manifest_of
from phasesync.store.database_url import sqlite_url
from phasesync.store.key_ring import RootKey
from phasesync.store.migrate import upgrade
from phasesync.store.restore import Consent, preview_restore, restore
from tests.support.stores import (
    OTHER_ROOT_KEY,
    ROOT_KEY,
    add_sync,
    claim_one,
    open_test_store,
    opens_with,
    put,
    values_of,
    write,
)

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def saved(migrated_database_url: str, tmp_path: Path) -> Path:
    """A backup with the value a; the database went on to b."""
    store = open_test_store(migrated_database_url)
    put(store, write("URL", "a"))
    backup(migrated_database_url, tmp_path / "saved.db", open_keys=opens_with())
    put(store, write("URL", "b"))
    store.close()
    return tmp_path / "saved.db"


def value_in(database_url: str) -> dict[str, str]:
    store = open_test_store(database_url)
    try:
        return values_of(store)
    finally:
        store.close()


def test_the_backup_takes_the_place_and_the_former_is_kept(migrated_database_url: str, saved: Path) -> None:
    before = saved.read_bytes()

    kept = restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT).kept

    assert kept is not None and kept.name.endswith(".before-restore-20300102T030405Z")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert value_in(migrated_database_url) == {"URL": "a"}
    assert value_in(f"sqlite:///{kept}") == {"URL": "b"}
    assert saved.read_bytes() == before
    assert not list(kept.parent.glob("*.restoring*"))


def test_it_counts_as_older_until_somebody_accepts_it(migrated_database_url: str, saved: Path) -> None:
    restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT)
    store = open_test_store(migrated_database_url)
    assert store.restore_mark.is_set()

    store.restore_mark.accept(ahead=10)

    assert not store.restore_mark.is_set()
    store.close()


def test_a_machine_that_lost_its_database_gets_it_back(migrated_database_url: str, saved: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'phasesync.db'}"

    assert restore(url, saved, open_keys=opens_with(ROOT_KEY), at=AT).kept is None
    assert value_in(url) == {"URL": "a"}


def garbage(file: Path) -> None:
    file.write_bytes(b"garbage" * 4096)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def of_something_else(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE songs (title TEXT)")


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[8192:65536] = b"\xff" * (65536 - 8192)
    file.write_bytes(content)


@pytest.mark.parametrize("spoil", [garbage, emptied, of_something_else, damaged])
def test_what_is_no_good_backup_changes_nothing(
    migrated_database_url: str, saved: Path, spoil: Callable[[Path], None]
) -> None:
    manifest_of(saved).unlink()
    spoil(saved)
    with pytest.raises(SettingsError):
        restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT)
    assert value_in(migrated_database_url) == {"URL": "b"}


def test_a_backup_under_another_root_key_changes_nothing(migrated_database_url: str, saved: Path) -> None:
    with pytest.raises(KeyUnavailableError):
        restore(migrated_database_url, saved, open_keys=opens_with(OTHER_ROOT_KEY), at=AT)
    assert value_in(migrated_database_url) == {"URL": "b"}


def test_a_file_that_is_not_there_is_named(migrated_database_url: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.db"):
        restore(migrated_database_url, tmp_path / "gone.db", open_keys=opens_with(ROOT_KEY), at=AT)


def test_a_database_with_a_name_as_long_as_can_be_is_restored(saved: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/{'ä' * 123}b"
    restore(url, saved, open_keys=opens_with(ROOT_KEY), at=AT)
    kept = restore(url, saved, open_keys=opens_with(ROOT_KEY), at=AT).kept
    assert value_in(url) == {"URL": "a"}
    assert kept is not None
    assert kept.name.endswith(".before-restore-20300102T030405Z")
    assert [path.name for path in tmp_path.glob("*restor*.db*")] == []
    assert len(list(tmp_path.glob("*restor*"))) == 2, "it and its manifest"


def test_a_database_in_a_folder_of_any_name_is_restored(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "a%20b?c" / "phasesync.db"
    restore(sqlite_url(target), saved, open_keys=opens_with(ROOT_KEY), at=AT)
    assert value_in(sqlite_url(target)) == {"URL": "a"}


@pytest.mark.parametrize("name", ["n" * 300, "folder", "fifo"])
def test_what_can_be_no_backup_is_named(migrated_database_url: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SettingsError, match=r"cannot be read|a regular file is needed"):
        restore(migrated_database_url, tmp_path / name, open_keys=opens_with(ROOT_KEY), at=AT)


def execute(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)


def test_what_its_manifest_is_not_of_changes_nothing(migrated_database_url: str, saved: Path) -> None:
    execute(saved, "DELETE FROM secrets")
    with pytest.raises(SettingsError, match="is not the file that its manifest is of"):
        restore(migrated_database_url, saved, open_keys=opens_with(), at=AT)
    assert value_in(migrated_database_url) == {"URL": "b"}


def test_an_altered_row_changes_nothing(migrated_database_url: str, saved: Path) -> None:
    manifest_of(saved).unlink()
    execute(saved, "UPDATE secrets SET version = 7")
    with pytest.raises(CiphertextError, match="does not authenticate"):
        restore(migrated_database_url, saved, open_keys=opens_with(), at=AT, consent=Consent(without_manifest=True))
    assert value_in(migrated_database_url) == {"URL": "b"}


def test_without_a_manifest_it_needs_consent(migrated_database_url: str, saved: Path) -> None:
    manifest_of(saved).unlink()
    with pytest.raises(CiphertextError, match="nothing proves") as refused:
        restore(migrated_database_url, saved, open_keys=opens_with(), at=AT)
    assert "--without-manifest" in str(refused.value.hint)
    assert value_in(migrated_database_url) == {"URL": "b"}

    done = restore(migrated_database_url, saved, open_keys=opens_with(), at=AT, consent=Consent(without_manifest=True))

    assert (value_in(migrated_database_url), done.verified.signed) == ({"URL": "a"}, False)


def test_a_trigger_neither_runs_nor_comes_along(migrated_database_url: str, saved: Path) -> None:
    manifest_of(saved).unlink()
    execute(saved, "CREATE TRIGGER gone AFTER UPDATE ON instance BEGIN DELETE FROM secrets; END")

    done = restore(migrated_database_url, saved, open_keys=opens_with(), at=AT, consent=Consent(without_manifest=True))

    assert done.verified.left_out == ("trigger gone",)
    assert value_in(migrated_database_url) == {"URL": "a"}
    with closing(sqlite3.connect(migrated_database_url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall() == []


def test_what_is_kept_is_proved_and_can_be_restored(migrated_database_url: str, saved: Path) -> None:
    done = restore(migrated_database_url, saved, open_keys=opens_with(), at=AT)

    assert done.signed
    assert done.kept is not None and verify_backup(done.kept, open_keys=opens_with()).signed
    restore(migrated_database_url, done.kept, open_keys=opens_with(), at=AT)
    assert value_in(migrated_database_url) == {"URL": "b"}


def of_another(url: str, *, root_key: RootKey = ROOT_KEY, app: str | None = "theirs") -> None:
    """Put the database of another installation in its place."""
    file = Path(url.removeprefix("sqlite:///"))
    file.unlink()
    upgrade(url)
    with closing(open_test_store(url, root_key=root_key)) as store:
        if app is not None:
            store.apps.add_app(app)


def test_another_installation_is_not_replaced_without_consent(migrated_database_url: str, saved: Path) -> None:
    of_another(migrated_database_url, root_key=OTHER_ROOT_KEY)
    for attempt in (restore, preview_restore):
        with pytest.raises(ConfirmationRequiredError, match="is of another installation") as refused:
            attempt(migrated_database_url, saved, open_keys=opens_with(), at=AT)
        assert "--other-installation" in str(refused.value.hint)
    with closing(open_test_store(migrated_database_url, root_key=OTHER_ROOT_KEY)) as store:
        assert [app.name for app in store.apps.list_apps()] == ["theirs"]

    done = restore(
        migrated_database_url, saved, open_keys=opens_with(), at=AT, consent=Consent(other_installation=True)
    )

    assert value_in(migrated_database_url) == {"URL": "a"}
    assert done.kept is not None and not done.signed, "the root key of the backup does not open it"


def test_a_database_that_init_has_just_made_is_replaced(migrated_database_url: str, saved: Path) -> None:
    of_another(migrated_database_url, app=None)
    restore(migrated_database_url, saved, open_keys=opens_with(), at=AT)
    assert value_in(migrated_database_url) == {"URL": "a"}


@pytest.mark.parametrize(
    "statement", ["INSERT INTO alembic_version VALUES ('0001')", "UPDATE alembic_version SET version_num = 7"]
)
def test_a_backup_whose_schema_was_altered_changes_nothing(
    migrated_database_url: str, saved: Path, statement: str
) -> None:
    manifest_of(saved).unlink()
    execute(saved, statement)
    with pytest.raises(SchemaMismatchError, match=str(saved)):
        restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT)
    assert value_in(migrated_database_url) == {"URL": "b"}


def test_never_under_a_daemon_that_works(migrated_database_url: str, saved: Path) -> None:
    store = open_test_store(migrated_database_url)
    store.daemons.beat("daemon-1", host="here", pid=7, ttl=timedelta(minutes=1))
    with pytest.raises(IllegalTransitionError, match="pid 7"):
        restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT)
    assert values_of(store) == {"URL": "b"}
    store.close()


@pytest.mark.parametrize("kept_pages", [0, 1, 40])
def test_what_a_damaged_database_needs_is_said(migrated_database_url: str, saved: Path, kept_pages: int) -> None:
    """Nothing of it can be kept by us, so nothing of it is thrown away either."""
    file = Path(migrated_database_url.removeprefix("sqlite:///"))
    content = bytearray(file.read_bytes())
    content[kept_pages * 4096 :] = b"\xff" * (len(content) - kept_pages * 4096)
    file.write_bytes(content)

    with pytest.raises(SettingsError, match="is damaged") as caught:
        restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT)

    assert f"move {file}, " in str(caught.value.hint)
    file.rename(file.with_suffix(".damaged"))
    restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT)
    assert value_in(migrated_database_url) == {"URL": "a"}


def test_a_full_disk_is_no_fault_of_the_backup(migrated_database_url: str, saved: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (saved.stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(StoreUnavailableError, match=r"full|failed"):
            restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert value_in(migrated_database_url) == {"URL": "b"}


def test_a_backup_on_a_read_only_disk_works(migrated_database_url: str, saved: Path) -> None:
    saved.chmod(0o400)
    folder = saved.parent / "disk"
    folder.mkdir()
    for file in (saved, manifest_of(saved)):
        shutil.move(file, folder / file.name)
    folder.chmod(0o500)
    try:
        restore(migrated_database_url, folder / "saved.db", open_keys=opens_with(ROOT_KEY), at=AT)
    finally:
        folder.chmod(0o700)
    assert value_in(migrated_database_url) == {"URL": "a"}


def test_an_edit_meanwhile_waits_and_is_not_lost_in_between(
    migrated_database_url: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the database that is kept, or in the one that was restored: never in neither."""
    kept_already, done = threading.Event(), threading.Event()

    def slow(*arguments: Any, **options: Any) -> Manifest:
        manifest = backup(*arguments, **options)
        kept_already.set()
        assert not done.wait(0.3), "nobody can write from now on"
        return manifest

    def edit() -> None:
        kept_already.wait(30)
        with closing(open_test_store(migrated_database_url)) as store:
            put(store, write("EDIT", "x"))
        done.set()

    monkeypatch.setattr(restore_module, "backup", slow)
    editor = threading.Thread(target=edit)
    editor.start()
    restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT)
    editor.join()
    assert done.is_set()
    assert value_in(migrated_database_url) == {"URL": "a", "EDIT": "x"}


def test_a_daemon_that_starts_meanwhile_stops_it(
    migrated_database_url: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*arguments: Any, **options: Any) -> None:
        with closing(open_test_store(migrated_database_url)) as store:
            store.daemons.beat("daemon-1", host="here", pid=7, ttl=timedelta(minutes=1))
        copy_checked(*arguments, **options)

    monkeypatch.setattr(restore_module, "copy_checked", late)
    with pytest.raises(IllegalTransitionError, match="pid 7"):
        restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT)
    assert value_in(migrated_database_url) == {"URL": "b"}


def test_never_under_a_command_that_works(migrated_database_url: str, saved: Path) -> None:
    with closing(open_test_store(migrated_database_url)) as store:
        add_sync(store, "web")
        claim_one(store)
    with pytest.raises(IllegalTransitionError, match="a sync is being reconciled"):
        restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT)
    assert value_in(migrated_database_url) == {"URL": "b"}


def test_two_restores_of_one_second_keep_both(migrated_database_url: str, saved: Path) -> None:
    first = restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT).kept
    second = restore(migrated_database_url, saved, open_keys=opens_with(ROOT_KEY), at=AT).kept
    assert first is not None and value_in(f"sqlite:///{first}") == {"URL": "b"}
    assert second is not None and value_in(f"sqlite:///{second}") == {"URL": "a"}
