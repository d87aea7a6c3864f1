"""`db verify`: whatever was done to a backup is found, and named; the backup itself is only read."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from phasesync.errors import (
    CiphertextError,
    KeyUnavailableError,
    NotFoundError,
    PhasesyncError,
    SchemaMismatchError,
    SettingsError,
)
from phasesync.store.backup import backup
from phasesync.store.backup_check import opened_copy, verify_backup
from phasesync.store.backup_manifest import manifest_of
from phasesync.store.database_url import sqlite_url
from tests.support.databases import copy_of_filled
from tests.support.stores import (
    OTHER_ROOT_KEY,
    add_dynamic,
    add_sync,
    claim_one,
    issue_lease,
    open_test_store,
    opens_with,
    put,
    settle,
    write,
)

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)


def fill(url: str) -> None:
    with closing(open_test_store(url)) as store:
        put(store, write("URL", "former"), write("LOG", "x"))
        put(store, write("URL", "a"))
        add_sync(store, "web")
        settle(store, claim_one(store))
        issue_lease(store, add_dynamic(store, "ci"))


@pytest.fixture
def saved(request: pytest.FixtureRequest, database_backend: str, tmp_path: Path) -> Iterator[Path]:
    for url in copy_of_filled(request, database_backend, tmp_path, "to_be_verified", fill):
        backup(url, tmp_path / "saved.db", open_keys=opens_with())
        yield tmp_path / "saved.db"


def run(statement: str) -> Callable[[Path], None]:
    def alter(file: Path) -> None:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.execute(statement)
            connection.commit()

    return alter


def without_manifest(alter: Callable[[Path], None]) -> Callable[[Path], None]:
    """Whoever alters the file removes its manifest, too."""

    def both(file: Path) -> None:
        alter(file)
        manifest_of(file).unlink()

    return both


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4096])


def doubled(file: Path) -> None:
    """The table has no constraints any more, and each app twice."""
    for statement in (
        "CREATE TABLE other AS SELECT * FROM apps UNION ALL SELECT * FROM apps",
        "DROP TABLE apps",
        "ALTER TABLE other RENAME TO apps",
    ):
        run(statement)(file)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def one_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def in_manifest(**changes: object) -> Callable[[Path], None]:
    def alter(file: Path) -> None:
        path = manifest_of(file)
        path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))

    return alter


def fitting_manifest(file: Path) -> None:
    """Rows are removed, and size and digest in the manifest are made to fit: only its MAC does not."""
    from phasesync.store.backup import digest_of_file

    run("DELETE FROM runs")(file)
    path = manifest_of(file)
    document = json.loads(path.read_bytes())
    document["file"] = {"bytes": file.stat().st_size, "sha256": digest_of_file(file)}
    for table in document["tables"]:
        if table["table"] == "runs":
            table |= {"rows": 0, "digest": None}
    path.write_text(json.dumps(document))


def without_mac(file: Path) -> None:
    """Rows are removed, and the manifest is made anew for what is left, by somebody without the root key."""
    manifest_of(file).unlink()
    run("DELETE FROM runs")(file)
    backup(sqlite_url(file), file.with_name("again.db"))
    for name in (file.name, manifest_of(file).name):
        file.with_name(name.replace("saved", "again")).rename(file.with_name(name))


VERSIONS_MISSING = "versions of 1 secret of the environment shop/production are missing in table secret_versions"


def test_a_good_backup_is_proved_and_not_touched(saved: Path) -> None:
    before = saved.read_bytes()
    verified = verify_backup(saved, open_keys=opens_with())

    assert verified.signed
    assert verified.made_at is not None
    assert (verified.authenticated.secret_versions, verified.authenticated.leases) == (3, 1)
    assert verified.rows["runs"] == verified.authenticated.runs == 1
    assert saved.read_bytes() == before
    assert sorted(file.name for file in saved.parent.glob("saved*")) == ["saved.db", "saved.db.manifest.json"]


@pytest.mark.parametrize(
    ("alter", "error", "message"),
    [
        (truncated, SettingsError, "is not the file that its manifest is of: it has .* bytes, not"),
        (one_bit, SettingsError, "is not the file that its manifest is of: it has other bytes"),
        (run("DELETE FROM runs"), SettingsError, "is not the file"),
        (fitting_manifest, CiphertextError, "the manifest of the backup does not authenticate"),
        (in_manifest(made_at="2020-01-01T00:00:00+00:00"), CiphertextError, "does not authenticate"),
        (in_manifest(instance_id="0" * 32), CiphertextError, "does not authenticate"),
        (in_manifest(mac="00"), CiphertextError, "does not authenticate"),
        (in_manifest(format="another"), SettingsError, "another form"),
        (in_manifest(tables=7), SettingsError, "is no manifest"),
        (without_manifest(run("UPDATE syncs SET path = '/other'")), CiphertextError, "the configuration of sync web"),
        (without_manifest(run("DELETE FROM secrets WHERE rowid = 1")), CiphertextError, "refer to nothing"),
        (without_manifest(run("DELETE FROM credentials")), PhasesyncError, "refer to nothing|missing"),
        (without_manifest(run("DELETE FROM secret_versions WHERE version = 2")), CiphertextError, VERSIONS_MISSING),
        (without_manifest(run("DELETE FROM secret_versions WHERE version = 1")), CiphertextError, "of 2 secrets"),
        (without_manifest(run("UPDATE alembic_version SET version_num = '0006'")), CiphertextError, "of a newer one"),
        (
            without_manifest(run("INSERT INTO alembic_version VALUES ('0006')")),
            SchemaMismatchError,
            "saved.db is altered",
        ),
        (without_manifest(run("DELETE FROM sync_reads")), CiphertextError, "row of sync web in table sync_reads"),
        (without_manifest(run("DELETE FROM leases")), CiphertextError, "the leases of the dynamic secret ci"),
        (without_manifest(run("DROP TABLE journal")), SettingsError, "schema 0007, and has no column journal.account"),
        (without_manifest(run("DELETE FROM runs")), CiphertextError, "no saved.db.manifest.json lies beside it"),
        (without_mac, CiphertextError, "has no MAC"),
        (without_manifest(doubled), CiphertextError, "has rows that its own schema refuses"),
        (without_manifest(emptied), SettingsError, "is empty"),
        (without_manifest(run("UPDATE data_keys SET wrapped = X'00'")), CiphertextError, "data key"),
    ],
)
def test_what_was_altered_is_found_and_named(
    saved: Path, alter: Callable[[Path], None], error: type[PhasesyncError], message: str
) -> None:
    alter(saved)
    with pytest.raises(error, match=message) as caught:
        verify_backup(saved, open_keys=opens_with())
    assert caught.value.exit_code in (1, 6)


def test_it_needs_the_root_key_of_the_installation(saved: Path) -> None:
    with pytest.raises(KeyUnavailableError):
        verify_backup(saved, open_keys=opens_with(OTHER_ROOT_KEY))


@pytest.mark.parametrize("alter", [lambda file: manifest_of(file).unlink(), without_mac])
def test_what_no_mac_proves_is_taken_if_somebody_asks_for_it(saved: Path, alter: Callable[[Path], None]) -> None:
    alter(saved)
    verified = verify_backup(saved, open_keys=opens_with(), without_manifest=True)
    assert (verified.signed, verified.made_at) == (False, None)
    assert verified.authenticated.secret_versions == 3


def test_consent_to_a_missing_manifest_is_none_to_an_altered_row(saved: Path) -> None:
    without_manifest(run("UPDATE syncs SET path = '/other'"))(saved)
    with pytest.raises(CiphertextError, match="the configuration of sync web"):
        verify_backup(saved, open_keys=opens_with(), without_manifest=True)


def test_what_is_not_ours_in_a_backup_is_named_and_left_out(saved: Path) -> None:
    """A trigger would run at the first write to the copy, and change what was proved."""
    for statement in (
        "CREATE TABLE theirs (note TEXT)",
        "CREATE VIEW seen AS SELECT * FROM syncs",
        "CREATE INDEX more ON runs (outcome)",
        "ALTER TABLE apps ADD COLUMN note TEXT",
        "CREATE TRIGGER gone AFTER UPDATE ON instance BEGIN DELETE FROM syncs; END",
    ):
        run(statement)(saved)
    manifest_of(saved).unlink()

    with (
        opened_copy(saved, open_keys=opens_with(), without_manifest=True) as (copy, verified),
        closing(sqlite3.connect(copy)) as connection,
    ):
        connection.execute("UPDATE instance SET server = NULL")
        assert connection.execute("SELECT count(*) FROM syncs").fetchone() == (1,)
        names = "SELECT count(*) FROM sqlite_schema WHERE name IN ('theirs', 'seen', 'more', 'gone')"
        assert connection.execute(names).fetchone() == (0,)

    found = ("column apps.note", "column theirs.note", "index more", "table theirs", "trigger gone", "view seen")
    assert verified.left_out == found


def test_a_file_that_is_not_there_is_named(saved: Path) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.db"):
        verify_backup(saved.with_name("gone.db"), open_keys=opens_with())
