"""Restoring a backup into PostgreSQL: all of it or nothing, and what was there is kept as a file."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from phasesync.errors import (
    DatabaseCopyError,
    IllegalTransitionError,
    KeyUnavailableError,
    SchemaMismatchError,
    SettingsError,
    StoreUnavailableError,
)
from phasesync.store import open_database
from phasesync.store import restore as restore_module
from phasesync.store.authenticity import authenticate_all
from phasesync.store.backup import backup
from phasesync.store.backup_check import verify_backup
from phasesync.store.backup_manifest import manifest_of
from phasesync.store.migrate import downgrade, status
from phasesync.store.raw_writes import insert_rows
from phasesync.store.restore import Consent, preview_restore, restore
from phasesync.store.tables import runs
from tests.support.databases import fresh_postgres_database
from tests.support.stores import (
    OTHER_ROOT_KEY,
    ROOT_KEY,
    add_sync,
    claim_one,
    open_test_store,
    opens_with,
    put,
    settle,
    values_of,
    write,
)

pytestmark = pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def saved(migrated_database_url: str, tmp_path: Path) -> Path:
    """A backup with the value a; the database went on to b."""
    with closing(open_test_store(migrated_database_url)) as store:
        put(store, write("URL", "a"))
        add_sync(store, "web")
        settle(store, claim_one(store))
        backup(migrated_database_url, tmp_path / "saved.db", open_keys=opens_with())
        put(store, write("URL", "b"))
    return tmp_path / "saved.db"


@pytest.fixture
def empty_url(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from fresh_postgres_database(request, template=None)


def value_in(database_url: str) -> str:
    with closing(open_test_store(database_url)) as store:
        return values_of(store)["URL"]


def restored(url: str, file: Path, keep_in: Path, **changes: object) -> Path | None:
    arguments: dict[str, object] = {"open_keys": opens_with(ROOT_KEY), "at": AT, "keep_in": keep_in}
    return restore(url, file, **(arguments | changes)).kept  # type: ignore[arg-type]


def test_the_backup_takes_the_place_and_the_former_is_kept(
    migrated_database_url: str, saved: Path, tmp_path: Path
) -> None:
    preview = preview_restore(migrated_database_url, saved, open_keys=opens_with(), at=AT, keep_in=tmp_path)
    kept = restored(migrated_database_url, saved, tmp_path)

    assert kept == tmp_path / "before-restore-20300102T030405Z.db" == preview.kept
    assert value_in(migrated_database_url) == "a"
    assert verify_backup(kept, open_keys=opens_with()).signed
    assert value_in(f"sqlite:///{kept}") == "b"
    with closing(open_test_store(migrated_database_url)) as store:
        assert store.restore_mark.is_set()
        authenticate_all(store.database, store.keys)
        store.restore_mark.accept(ahead=10)
        put(store, write("URL", "c"))
        settle(store, claim_one(store))
        with store.database.read() as connection:
            assert connection.scalar(sa.select(sa.func.max(runs.c.number))) == 2


def test_an_empty_database_gets_it_all(saved: Path, empty_url: str, tmp_path: Path) -> None:
    """Everything was lost but the backup and the root key."""
    assert restored(empty_url, saved, tmp_path) is None
    assert value_in(empty_url) == "a"
    assert not list(tmp_path.glob("before-restore*"))


def test_a_backup_goes_to_the_other_kind_of_database(saved: Path, empty_url: str, tmp_path: Path) -> None:
    sqlite_url = f"sqlite:///{tmp_path / 'new' / 'phasesync.db'}"
    restored(sqlite_url, saved, tmp_path)
    assert value_in(sqlite_url) == "a"

    backup(sqlite_url, tmp_path / "second.db", open_keys=opens_with())
    restored(empty_url, tmp_path / "second.db", tmp_path)
    assert value_in(empty_url) == "a"


def test_a_backup_under_another_root_key_changes_nothing(
    migrated_database_url: str, saved: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyUnavailableError):
        restored(migrated_database_url, saved, tmp_path, open_keys=opens_with(OTHER_ROOT_KEY))
    assert value_in(migrated_database_url) == "b"


def test_what_is_no_backup_changes_nothing(migrated_database_url: str, saved: Path, tmp_path: Path) -> None:
    saved.write_bytes(b"garbage" * 4096)
    with pytest.raises(SettingsError):
        restored(migrated_database_url, saved, tmp_path)
    assert value_in(migrated_database_url) == "b"


def test_a_row_that_postgresql_does_not_take_changes_nothing(
    migrated_database_url: str, saved: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(saved)) as altered:
        altered.execute("UPDATE apps SET description = 'a' || char(0) || 'b'")
        altered.commit()
    manifest_of(saved).unlink()
    with pytest.raises(DatabaseCopyError, match=r"apps\.description .* text with a NUL") as caught:
        restored(migrated_database_url, saved, tmp_path, consent=Consent(without_manifest=True))
    assert "another backup" in str(caught.value.hint)
    assert value_in(migrated_database_url) == "b"


def test_never_under_a_daemon_that_works(migrated_database_url: str, saved: Path, tmp_path: Path) -> None:
    with closing(open_test_store(migrated_database_url)) as store:
        store.daemons.beat("daemon-1", host="here", pid=7, ttl=timedelta(minutes=1))
    with pytest.raises(IllegalTransitionError, match="pid 7"):
        restored(migrated_database_url, saved, tmp_path)
    assert value_in(migrated_database_url) == "b"


def test_a_database_of_an_older_schema_is_migrated_first(
    migrated_database_url: str, saved: Path, tmp_path: Path
) -> None:
    downgrade(migrated_database_url, "0006")
    with pytest.raises(SchemaMismatchError) as caught:
        restored(migrated_database_url, saved, tmp_path)
    assert "phasesync db migrate" in str(caught.value.hint)
    assert status(migrated_database_url).current == "0006"


class Killed(BaseException):
    """The process died here."""


def test_a_restore_that_died_changed_nothing_and_is_repeated(
    migrated_database_url: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    for step in ("backup", "insert_rows", "set_last_number"):
        with monkeypatch.context() as patched:
            patched.setattr(restore_module, step, die)
            with pytest.raises(Killed):
                restored(migrated_database_url, saved, tmp_path)
        assert value_in(migrated_database_url) == "b"
    restored(migrated_database_url, saved, tmp_path)
    assert value_in(migrated_database_url) == "a"


def test_an_edit_meanwhile_waits_and_is_not_lost_in_between(
    migrated_database_url: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the database that is kept, or in the one that was restored: never in neither."""
    begun, done = threading.Event(), threading.Event()

    def slow(*arguments: object) -> None:
        begun.set()
        insert_rows(*arguments)  # type: ignore[arg-type]

    def edit() -> None:
        begun.wait(30)
        with closing(open_test_store(migrated_database_url)) as store:
            put(store, write("EDIT", "x"))
        done.set()

    monkeypatch.setattr(restore_module, "insert_rows", slow)
    editor = threading.Thread(target=edit)
    editor.start()
    restored(migrated_database_url, saved, tmp_path)
    editor.join()
    assert done.is_set()
    with closing(open_test_store(migrated_database_url)) as store:
        assert values_of(store) == {"URL": "a", "EDIT": "x"}
        authenticate_all(store.database, store.keys)


def test_of_a_database_that_holds_nothing_nothing_is_kept(saved: Path, database_url: str, tmp_path: Path) -> None:
    with closing(open_database(database_url)) as database, database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE theirs (note text)")
    assert restored(database_url, saved, tmp_path) is None
    assert value_in(database_url) == "a"


def test_what_was_edited_between_two_attempts_is_kept(
    migrated_database_url: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database may end an attempt for a conflict: its lock is gone until the next one."""
    attempts: list[int] = []

    def conflicting(*arguments: object) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise StoreUnavailableError("the database ended one of two transactions", code="40P01")
        insert_rows(*arguments)  # type: ignore[arg-type]

    def edit(_: float) -> None:
        with closing(open_test_store(migrated_database_url)) as store:
            put(store, write("URL", "c"))

    monkeypatch.setattr(restore_module, "insert_rows", conflicting)
    monkeypatch.setattr("phasesync.store.database.time", SimpleNamespace(sleep=edit, monotonic=time.monotonic))
    kept = restored(migrated_database_url, saved, tmp_path)

    assert value_in(migrated_database_url) == "a"
    assert value_in(f"sqlite:///{kept}") == "c"
