"""Places and schemas that cannot be used: exit 6 and what helps, never talk of a bug."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine


@pytest.mark.parametrize("command", [("apps", "list"), ("db", "status"), ("db", "migrate"), ("init",)])
def test_a_data_directory_that_cannot_be_looked_into_is_named(
    phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """A name that is too long stands for every reason why the operating system says no, to root as well."""
    monkeypatch.setenv("PHASESYNC_DATA_DIR", f"/{'x' * 300}")

    done = phasesync(*command)

    assert done.exit_code == 6
    assert "cannot be made or read: File name too long" in done.stderr
    assert "PHASESYNC_DATA_DIR" in done.stderr


def test_half_an_address_in_the_database_url_is_no_bug(phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the URL, which may hold a password, is not repeated."""
    monkeypatch.setenv("PHASESYNC_DATABASE_URL", "postgresql://user:canary@[::1")

    done = phasesync("apps", "list")

    assert done.exit_code == 6
    assert "canary" not in done.stderr


def test_a_schema_newer_than_the_release_asks_for_a_newer_release(phasesync: CommandLine) -> None:
    """Migrating would not help."""
    _sql(phasesync, "update alembic_version set version_num = '9999'")
    _sql(phasesync, "update schema_compatibility set works_with = '9999'")

    done = phasesync("db", "status")

    assert done.exit_code == 6
    assert "upgrade phasesync" in done.stderr
    assert "db migrate" not in done.stderr


def test_tables_without_a_schema_number_are_a_schema_problem(phasesync: CommandLine) -> None:
    """Someone emptied the table of versions: nothing is made on top."""
    _sql(phasesync, "delete from alembic_version")

    done = phasesync("db", "migrate")

    assert done.exit_code == 6
    assert "does not say which schema they are" in done.stderr


def test_a_root_key_that_cannot_be_written_says_where_else_to_put_it(
    phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The hint names the setting."""
    monkeypatch.setenv("PHASESYNC_DATA_DIR", str(tmp_path / "new"))
    monkeypatch.setenv("PHASESYNC_ROOT_KEY_FILE", str(tmp_path / "root.key" / "inside"))

    done = phasesync("init")

    assert done.exit_code == 6
    assert "PHASESYNC_ROOT_KEY_FILE" in done.stderr


def test_a_database_that_everybody_may_write_is_a_warning_of_every_command(phasesync: CommandLine) -> None:
    """With the command that corrects it."""
    (phasesync.directory / "data" / "phasesync.db").chmod(0o666)
    for command in (("apps", "list"), ("status",), ("init",)):
        done = phasesync.done(*command)
        assert "everyone on this machine may write the database" in done.stderr, command
        assert f"chmod 600 {phasesync.directory}/data/phasesync.db" in done.stderr


def test_status_says_how_large_the_log_is_and_why(phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader keeps it; the limit is lowered here, since a log of 64 MB takes long to write."""
    assert phasesync.json("status")["database_log_bytes"] < 1_000_000
    assert "-wal" not in phasesync.done("status").stderr
    monkeypatch.setattr("phasesync.engine.status_summary.LARGE_LOG_BYTES", 10_000)
    path = phasesync.directory / "data" / "phasesync.db"
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN").execute("SELECT * FROM instance").fetchall()
        for name in "abcdef":
            phasesync.done("apps", "add", name)
        size = path.with_name("phasesync.db-wal").stat().st_size
        assert phasesync.json("status")["database_log_bytes"] == size > 10_000
        assert f"{size:,} bytes" in phasesync.done("status").stdout
        assert f"the log beside the database (-wal) has {size:,} bytes" in phasesync.done("status").stderr


def _sql(phasesync: CommandLine, statement: str) -> None:
    connection = sqlite3.connect(phasesync.directory / "data" / "phasesync.db")
    with connection:
        connection.execute(statement)
    connection.close()


def test_a_missing_database_beside_what_an_old_one_left_is_not_to_be_made_anew(phasesync: CommandLine) -> None:
    """`init` would make an empty one, which looks right: a backup, or another place, is what helps."""
    data = phasesync.directory / "data"
    (data / "phasesync.db").rename(data / "phasesync.db.old")

    done = phasesync("apps", "list")

    assert done.exit_code == 6
    assert (
        f"error: there is no database at {data}/phasesync.db; in its folder there is: phasesync.db.old" in done.stderr
    )
    assert "hint: bring it back from a backup: phasesync db restore FILE; or set PHASESYNC_DATABASE_URL" in done.stderr


def test_a_missing_database_where_nothing_is_is_made_by_init(phasesync: CommandLine) -> None:
    (phasesync.directory / "data" / "phasesync.db").unlink()

    done = phasesync("apps", "list")

    assert done.exit_code == 6
    assert "the folder is empty" in done.stderr
    assert "hint: phasesync init makes a new one" in done.stderr


def test_a_folder_that_is_not_there_may_be_a_disk_that_is_not_mounted(
    phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASESYNC_DATA_DIR", str(phasesync.directory / "gone"))

    done = phasesync("apps", "list")

    assert done.exit_code == 6
    assert f"there is no folder {phasesync.directory}/gone" in done.stderr
    assert "is a disk not mounted?" in done.stderr
