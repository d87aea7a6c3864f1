"""Backups of a database that is in use: one SQLite file and its manifest, of either database."""

import json
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from phasesync.errors import (
    AlreadyExistsError,
    IllegalTransitionError,
    PhasesyncError,
    SchemaMismatchError,
    SettingsError,
)
from phasesync.store import backup as backup_module
from phasesync.store import open_database
from phasesync.store.backup import backup, preview_backup
from phasesync.store.backup_check import verify_backup
from phasesync.store.backup_manifest import manifest_of, read_manifest
from phasesync.store.database_copy import COPIED
from phasesync.store.migrate import EXPECTED, REVISIONS, downgrade, status, upgrade
from phasesync.store.raw_rows import digest_of
from phasesync.store.tables import instance, runs
from tests.support.stores import add_sync, claim_one, open_test_store, opens_with, put, settle, values_of, write

OnSqlite = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
OnPostgresql = pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)


def values_in(file: Path) -> dict[str, str]:
    with closing(open_test_store(f"sqlite:///{file}")) as store:
        return values_of(store)


def test_a_backup_holds_what_was_committed_while_others_write(migrated_database_url: str, tmp_path: Path) -> None:
    with closing(open_test_store(migrated_database_url)) as store:
        put(store, write("URL", "a"))
        with store.database.write():  # a write is under way elsewhere
            backup(migrated_database_url, tmp_path / "copy.db")
        put(store, write("URL", "b"))

    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "copy.db.manifest.json").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.glob("*copy*")) == ["copy.db", "copy.db.manifest.json"]
    assert values_in(tmp_path / "copy.db") == {"URL": "a"}


def test_it_is_of_one_moment(migrated_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edits between the tables: each of them changes an environment and its secrets, which a MAC binds together."""
    with closing(open_test_store(migrated_database_url)) as store:
        put(store, write("URL", "before"))
        parts = 0

        def edit() -> None:
            nonlocal parts
            parts += 1
            put(store, write("URL", f"during-{parts}"))

        backup(migrated_database_url, tmp_path / "copy.db", checkpoint=edit, open_keys=opens_with())

    assert parts >= 3
    assert verify_backup(tmp_path / "copy.db", open_keys=opens_with()).signed
    assert values_in(tmp_path / "copy.db") == {"URL": "before"}


def test_every_row_is_in_it(migrated_database_url: str, tmp_path: Path) -> None:
    with closing(open_test_store(migrated_database_url)) as store:
        put(store, write("URL", "größer ✓"), write("LINES", "1\n2"))
        add_sync(store, "web")
        settle(store, claim_one(store))
    manifest = backup(migrated_database_url, tmp_path / "copy.db", open_keys=opens_with())

    with (
        closing(open_database(migrated_database_url)) as original,
        closing(open_database(f"sqlite:///{tmp_path / 'copy.db'}")) as copy,
    ):
        for table in (instance, *COPIED):
            expected = digest_of(original, table)
            assert digest_of(copy, table) == expected
            assert (manifest.rows[table.name], manifest.digests[table.name]) == (expected.rows, expected.digest)


def test_numbers_go_on_where_they_were(migrated_database_url: str, tmp_path: Path) -> None:
    """Also if the rows with the highest ones are gone."""
    with closing(open_test_store(migrated_database_url)) as store:
        add_sync(store, "web")
        settle(store, claim_one(store))
        with store.database.write() as connection:
            last = connection.scalar(sa.select(runs.c.number)) or 0
            connection.execute(runs.delete())
    backup(migrated_database_url, tmp_path / "copy.db")

    with closing(open_test_store(f"sqlite:///{tmp_path / 'copy.db'}")) as copy:
        put(copy, write("URL", "newer"))
        settle(copy, claim_one(copy))
        with copy.database.read() as connection:
            assert connection.scalar(sa.select(runs.c.number)) == last + 1


def test_its_manifest_says_what_it_is_and_holds_no_name(migrated_database_url: str, tmp_path: Path) -> None:
    with closing(open_test_store(migrated_database_url)) as store:
        put(store, write("SECRET_NAME", "hidden"))
        instance_id, root_key_id = store.instance_id, store.keys.root_key_id
    manifest = backup(migrated_database_url, tmp_path / "copy.db", open_keys=opens_with())

    assert read_manifest(tmp_path / "copy.db") == manifest
    document = json.loads(manifest_of(tmp_path / "copy.db").read_bytes())
    assert (document["instance_id"], document["schema"]) == (instance_id, EXPECTED)
    assert document["root_key_ids"] == [root_key_id]
    assert document["file"]["bytes"] == (tmp_path / "copy.db").stat().st_size
    text = json.dumps(document)
    assert not [name for name in ("SECRET_NAME", "hidden", "shop", "production") if name in text]


def test_without_the_root_key_the_manifest_has_no_mac(migrated_database_url: str, tmp_path: Path) -> None:
    assert backup(migrated_database_url, tmp_path / "copy.db", open_keys=lambda _: None).mac is None
    verified = verify_backup(tmp_path / "copy.db", open_keys=opens_with(), without_manifest=True)
    assert (verified.signed, verified.made_at) == (False, None)


def test_a_backup_never_overwrites(migrated_database_url: str, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("precious")
    for refused in (backup, preview_backup):
        with pytest.raises(AlreadyExistsError):
            refused(migrated_database_url, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_what_took_its_name_meanwhile_stays(migrated_database_url: str, tmp_path: Path) -> None:
    def somebody_else() -> None:
        (tmp_path / "copy.db").write_text("precious")

    with pytest.raises(AlreadyExistsError):
        backup(migrated_database_url, tmp_path / "copy.db", checkpoint=somebody_else)
    assert (tmp_path / "copy.db").read_text() == "precious"


class Killed(BaseException):
    """The process died here."""


def test_a_backup_that_died_anywhere_is_made_by_repeating_it(
    migrated_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No incomplete file ever has the name of the backup."""
    with closing(open_test_store(migrated_database_url)) as store:
        put(store, write("URL", "a"))
    folder = tmp_path / "backups"
    folder.mkdir()
    left: dict[str, bytes] = {}

    def die() -> None:
        # A process that was killed tidies nothing up: what it left is put back below.
        left.update({file.name: file.read_bytes() for file in folder.iterdir()})
        raise Killed

    def die_at(step: int) -> Callable[[], None]:
        calls = iter(range(1, 100))
        return lambda: die() if next(calls) == step else None

    def put_back() -> None:
        assert "copy.db" not in left
        for name, content in left.items():
            (folder / name).write_bytes(content)

    for step in (1, 2, 3):
        with pytest.raises(Killed):
            backup(migrated_database_url, folder / "copy.db", checkpoint=die_at(step))
        put_back()
    with monkeypatch.context() as patched:
        patched.setattr(backup_module, "_rename_new", lambda *_: die())
        with pytest.raises(Killed):
            backup(migrated_database_url, folder / "copy.db")
    put_back()
    assert left.keys() >= {".copy.db.partial", "copy.db.manifest.json"}

    backup(migrated_database_url, folder / "copy.db", open_keys=opens_with())
    assert sorted(file.name for file in folder.iterdir()) == ["copy.db", "copy.db.manifest.json"]
    assert verify_backup(folder / "copy.db", open_keys=opens_with()).signed


def test_two_at_once_make_one(migrated_database_url: str, tmp_path: Path) -> None:
    results: list[object] = []
    begun = threading.Event()

    def make() -> None:
        try:
            results.append(
                backup(migrated_database_url, tmp_path / "copy.db", open_keys=opens_with(), checkpoint=begun.set)
            )
        except PhasesyncError as error:
            results.append(type(error))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [result for result in results if isinstance(result, type)]
    assert len(refused) == 1
    assert issubclass(refused[0], (IllegalTransitionError, AlreadyExistsError))
    verify_backup(tmp_path / "copy.db", open_keys=opens_with())


@OnSqlite
def test_a_backup_that_fails_leaves_nothing(migrated_database_url: str, tmp_path: Path) -> None:
    database = Path(migrated_database_url.removeprefix("sqlite:///"))
    database.write_bytes(b"garbage" * 1000)
    with pytest.raises(SettingsError):
        backup(migrated_database_url, tmp_path / "copy.db")
    assert not list(tmp_path.glob("*copy*"))


@OnSqlite
@pytest.mark.parametrize("place", ["nowhere/copy.db", "phasesync.db/copy.db", f"{'n' * 250}.db"])
def test_a_place_that_cannot_be_written_is_named(migrated_database_url: str, tmp_path: Path, place: str) -> None:
    with pytest.raises(SettingsError, match="cannot be written to"):
        backup(migrated_database_url, tmp_path / place)


@pytest.mark.parametrize("revision", REVISIONS[2:-1])
def test_before_a_migration_the_old_schema_is_kept(database_url: str, tmp_path: Path, revision: str) -> None:
    """The backup that an operator makes before `db migrate`: its rows are brought to the new schema by a restore."""
    upgrade(database_url)
    with closing(open_test_store(database_url)) as store:
        put(store, write("URL", "a"))
    downgrade(database_url, revision)
    manifest = backup(database_url, tmp_path / "copy.db")

    assert manifest.schema == revision
    assert manifest.rows["secret_versions"] == 1
    assert status(f"sqlite:///{tmp_path / 'copy.db'}").current == revision


def test_a_database_without_an_installation_has_no_backup(database_url: str, tmp_path: Path) -> None:
    upgrade(database_url)
    with pytest.raises(SchemaMismatchError, match="is not initialised"):
        backup(database_url, tmp_path / "copy.db")
    assert not list(tmp_path.glob("*copy*"))


@OnPostgresql
def test_the_database_is_only_read(migrated_database_url: str, tmp_path: Path) -> None:
    with closing(open_test_store(migrated_database_url)) as store, store.database.read() as connection:
        before = connection.exec_driver_sql("SELECT pg_current_wal_insert_lsn()").scalar()
        backup(migrated_database_url, tmp_path / "copy.db", open_keys=opens_with())
        assert preview_backup(migrated_database_url, tmp_path / "other.db") > 0
        ours = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ).scalar()
    assert before is not None
    assert ours == 1, "no connection is left"


@OnSqlite
def test_it_is_one_file_that_any_sqlite_opens(migrated_database_url: str, tmp_path: Path) -> None:
    backup(migrated_database_url, tmp_path / "copy.db")
    with closing(sqlite3.connect(f"file:{tmp_path / 'copy.db'}?mode=ro&immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("SELECT count(*) FROM instance").fetchone() == (1,)
