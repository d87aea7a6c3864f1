"""`phasesync db backup`, `verify`, `drill` and `restore`: documents, messages and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.support.aws import REGION, Aws
from tests.support.stores import OTHER_ROOT_KEY


@pytest.fixture
def filled(phasesync: CommandLine, aws: Aws) -> CommandLine:
    """Two syncs in step."""
    phasesync.done("apps", "add", "shop")
    phasesync.done("credentials", "add", "host", "--type", "ambient", "--region", REGION)
    for name in ("web", "api"):
        phasesync.done("envs", "add", f"shop/{name}")
        phasesync.done("secrets", "set", f"shop/{name}", "URL", "-", stdin="kept")
        arguments = ("--env", f"shop/{name}", "--credential", "host", "--secret-name", f"shop/{name}")
        phasesync.done("syncs", "add", name, *arguments)
        phasesync.done("syncs", "run", name)
    return phasesync


def test_a_backup_is_made_proved_tried_out_and_restored(filled: CommandLine, aws: Aws, tmp_path: Path) -> None:
    file = tmp_path / "monday.db"
    made = filled.json("db", "backup", str(file))
    filled.done("secrets", "set", "shop/web", "URL", "-", stdin="newer")
    filled.done("syncs", "run", "web")

    verified = filled.json("db", "verify", str(file))
    assert (made["signed"], made["bytes"], verified["manifest"]) == (True, file.stat().st_size, "authentic")
    assert (verified["made_at"], verified["authentic"]["syncs"]) == (made["made_at"], 2)

    before = len(aws.server.operations)
    tried = filled.json("db", "drill", str(file))
    assert tried["states"] == {"behind-aws": 1, "in-step": 1}
    assert {sync["sync"]: sync["state"] for sync in tried["syncs"]} == {"web": "behind-aws", "api": "in-step"}
    assert set(tried["took_s"]) == {"verify", "plan", "total"}
    assert {one.name for one in aws.server.operations[before:]} <= {"DescribeSecret", "GetCallerIdentity"}
    assert filled.json("secrets", "get", "shop/web", "URL", "--reveal")["value"] == "newer", "nothing was restored"

    restored = filled.json("db", "restore", str(file))
    assert Path(restored["kept"]).exists()
    kept = filled.json("db", "verify", restored["kept"])
    assert (kept["manifest"], kept["rows"]["secret_versions"]) == ("authentic", 3)
    assert filled.json("secrets", "get", "shop/web", "URL", "--reveal")["value"] == "kept"
    filled.done("db", "accept-restore", "--yes")
    filled.done("syncs", "run", "web")
    assert json.loads(aws.secret_text("shop/web")) == {"URL": "kept"}


def test_a_drill_for_people_says_what_would_change_and_why_not_planned(
    filled: CommandLine, aws: Aws, tmp_path: Path
) -> None:
    filled.done("secrets", "set", "shop/api", "NEW", "-", stdin="pending")
    filled.done("db", "backup", str(tmp_path / "monday.db"))
    shown = filled.done("db", "drill", str(tmp_path / "monday.db"))
    assert "would-change" in shown.stdout
    assert "1 put" in shown.stdout
    assert "can be restored: 1 in-step, 1 would-change" in shown.stderr

    aws.server.fail("DescribeSecret", times=100)
    failed = filled("db", "drill", str(tmp_path / "monday.db"))
    assert failed.exit_code == 7
    assert "not-planned" in failed.stdout


def test_without_the_root_key_there_is_a_backup_that_nothing_proves(
    filled: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PHASESYNC_ROOT_KEY_FILE", str(tmp_path / "missing.key"))
        made = filled.done("db", "backup", str(tmp_path / "monday.db"))
        assert "the manifest has no MAC" in made.stderr
        for command in ("verify", "drill", "restore"):
            assert filled("db", command, str(tmp_path / "monday.db")).exit_code == 6
    file = str(tmp_path / "monday.db")
    for command in ("verify", "drill", "restore"):
        refused = filled("db", command, file)
        assert (refused.exit_code, "monday.db.manifest.json has no MAC" in refused.stderr) == (6, True)
        assert "--without-manifest" in refused.stderr
    assert filled.json("db", "verify", file, "--without-manifest")["manifest"] == "unsigned"
    (tmp_path / "monday.db.manifest.json").unlink()
    for command in ("verify", "drill", "restore"):
        assert filled("db", command, file).exit_code == 6
        assert "rows may be missing" in filled.done("db", command, file, "--without-manifest").stderr


def test_a_restore_refuses_what_verify_refuses_and_its_rehearsal_too(filled: CommandLine, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    file = tmp_path / "monday.db"
    filled.done("db", "backup", str(file))
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DELETE FROM secret_versions")
    for arguments in (("verify",), ("drill",), ("restore", "--dry-run"), ("restore",)):
        refused = filled("db", arguments[0], str(file), *arguments[1:])
        assert (refused.exit_code, "is not the file that its manifest is of" in refused.stderr) == (6, True)
    assert filled.json("secrets", "get", "shop/web", "URL", "--reveal")["value"] == "kept"
    (tmp_path / "monday.db.manifest.json").unlink()
    refused = filled("db", "restore", str(file), "--without-manifest")
    assert (refused.exit_code, "are missing in table secret_versions" in refused.stderr) == (6, True)
    assert "hint: take another backup" in refused.stderr


def test_what_can_be_saved_of_an_altered_backup_is_copied(
    filled: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/backup.md: if there is no other backup."""
    import sqlite3
    from contextlib import closing

    file = tmp_path / "monday.db"
    filled.done("db", "backup", str(file))
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DELETE FROM secret_versions WHERE rowid = 1")

    monkeypatch.setenv("PHASESYNC_DATABASE_URL", f"sqlite:///{file}")
    filled.done("db", "copy", "--to", f"sqlite:///{tmp_path}/saved.db")

    monkeypatch.setenv("PHASESYNC_DATABASE_URL", f"sqlite:///{tmp_path}/saved.db")
    assert filled.json("secrets", "get", "shop/api", "URL", "--reveal")["value"] == "kept"
    assert filled("secrets", "get", "shop/web", "URL", "--reveal").exit_code == 6


def test_a_trigger_in_a_backup_is_named_and_left_out(filled: CommandLine, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    file = tmp_path / "monday.db"
    with closing(sqlite3.connect(filled.directory / "data" / "phasesync.db")) as connection, connection:
        connection.execute("CREATE TRIGGER theirs AFTER UPDATE ON journal BEGIN DELETE FROM runs; END")
    filled.done("db", "backup", str(file))

    shown = filled("db", "verify", str(file), "-o", "json")

    assert json.loads(shown.stdout)["left_out"] == ["trigger theirs"]
    assert "has the trigger theirs, which phasesync did not make: a restore leaves it out" in shown.stderr
    filled.done("db", "restore", str(file))
    with closing(sqlite3.connect(filled.directory / "data" / "phasesync.db")) as connection:
        assert connection.execute("SELECT * FROM sqlite_schema WHERE type = 'trigger'").fetchall() == []


def test_the_backup_of_another_installation_replaces_nothing_without_being_asked(
    filled: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "monday.db")
    filled.done("db", "backup", file)
    mine = filled.json("db", "verify", file)["instance_id"]
    monkeypatch.setenv("PHASESYNC_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")
    filled.done("init")
    filled.done("apps", "add", "theirs")

    for options in ((), ("--dry-run",), ("--yes",)):
        refused = filled("db", "restore", file, *options)
        assert (refused.exit_code, f"of another installation ({mine})" in refused.stderr) == (2, True)
    assert [app["name"] for app in filled.items("apps", "list")] == ["theirs"]

    rehearsed = filled.json("db", "restore", file, "--other-installation", "--dry-run")
    assert rehearsed["would"]["instance_id"] == mine
    filled.done("db", "restore", file, "--other-installation")
    assert [app["name"] for app in filled.items("apps", "list")] == ["shop"]


def test_another_root_key_and_an_altered_file_end_with_exit_6(
    filled: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import base64

    file = tmp_path / "monday.db"
    filled.done("db", "backup", str(file))
    other = tmp_path / "other.key"
    other.write_bytes(base64.b64encode(OTHER_ROOT_KEY.material))
    other.chmod(0o600)
    with monkeypatch.context() as patch:
        patch.setenv("PHASESYNC_ROOT_KEY_FILE", str(other))
        assert "root key" in (refused := filled("db", "verify", str(file))).stderr
        assert refused.exit_code == 6
    file.write_bytes(file.read_bytes()[:-1])
    assert "is not the file that its manifest is of" in (damaged := filled("db", "verify", str(file))).stderr
    assert damaged.exit_code == 6
    assert filled("db", "verify", str(tmp_path / "gone.db")).exit_code == 5


# --- schedules


def test_a_schedule_is_set_shown_and_ended(phasesync: CommandLine, tmp_path: Path) -> None:
    assert phasesync.json("db", "status")["backups"] == []
    phasesync.done("credentials", "add", "store", "--type", "ambient", "--region", REGION)
    folder = phasesync.done("db", "backup", "--every", "6h", "--to", str(tmp_path / "backups"))
    bucket = ("--every", "1d", "--keep", "7", "--to", "s3://acme/phasesync", "--credential", "store")
    document = phasesync.json("db", "backup", *bucket)

    assert "no daemon is running" in folder.stderr
    assert (document["place"], document["every"], document["keep"]) == ("s3://acme/phasesync", "1d", 7)
    assert (document["credential"], document["region"]) == ("store", REGION)
    listed = phasesync.json("db", "status")["backups"]
    assert [(one["place"], one["every"]) for one in listed] == [
        (str(tmp_path / "backups"), "6h"),
        ("s3://acme/phasesync", "1d"),
    ]
    assert "s3://acme/phasesync" in phasesync.done("db", "status").stdout
    refused = phasesync("credentials", "remove", "store", "--yes")
    assert (refused.exit_code, "backups to s3://acme/phasesync" in refused.stderr) == (4, True)
    assert phasesync("db", "backup", "--every", "off").exit_code == 2
    phasesync.done("db", "backup", "--every", "off", "--to", "s3://acme/phasesync")
    phasesync.done("credentials", "remove", "store", "--yes")
    phasesync.done("db", "backup", "--every", "off")
    assert phasesync.json("db", "status")["backups"] == []


@pytest.mark.parametrize(("keep", "said"), [("1", "the newest one stays"), ("2", "the newest 2 stay")])
def test_how_many_stay_is_said(phasesync: CommandLine, keep: str, said: str) -> None:
    assert said in phasesync.done("db", "backup", "--every", "6h", "--keep", keep, "--to", "/backups").stderr


def test_a_dry_run_sets_nothing(phasesync: CommandLine) -> None:
    shown = phasesync.json("db", "backup", "--every", "6h", "--to", "/backups", "--dry-run")
    assert shown["would"]["place"] == "/backups"
    assert phasesync.json("db", "status")["backups"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a file, or say how often"),
        (("FILE", "--every", "6h"), "go without a FILE"),
        (("FILE", "--to", "/backups"), "go without a FILE"),
        (("s3://acme/x.db",), "only the daemon makes backups in Amazon S3"),
        (("--every", "6h"), "where to?"),
        (("--every", "6h", "--to", "backups"), "no absolute path"),
        (("--every", "1m", "--to", "/backups"), "every 5m at most"),
        (("--every", "6h", "--keep", "0", "--to", "/backups"), "from 1 to"),
        (("--every", "6h", "--to", "s3://acme/x"), "in which Region"),
        (("--every", "6h", "--to", "/backups", "--region", "eu-west-1"), "a folder needs no credential"),
        (("--every", "soon", "--to", "/backups"), "is not a duration"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_does(
    phasesync: CommandLine, arguments: tuple[str, ...], said: str
) -> None:
    refused = phasesync("db", "backup", *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr


def test_an_altered_schedule_is_named_and_others_are_shown(phasesync: CommandLine) -> None:
    import sqlite3
    from contextlib import closing

    phasesync.done("db", "backup", "--every", "6h", "--to", "/backups")
    with closing(sqlite3.connect(phasesync.directory / "data" / "phasesync.db")) as connection:
        # As text that is no UTF-8: SQLite stores that in a column of bytes, too.
        connection.execute("UPDATE backup_schedules SET sealed = substr(sealed, 1, 30) || x'00' || substr(sealed, 32)")
        connection.commit()
    shown = phasesync.done("db", "status")
    assert "a schedule of backups does not authenticate" in shown.stderr


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("monday.db", "--region", "eu-west-1"), "a file needs no credential and no Region"),
        (("s3://acme-backups",), "names no backup"),
        (("s3://acme-backups/phasesync/",), "names no backup"),
        (("s3://No/monday.db",), "is not the name of a bucket"),
        (("s3://acme-backups/monday.db",), "in which Region is the bucket?"),
    ],
)
@pytest.mark.parametrize("command", ["verify", "drill", "restore"])
def test_an_address_that_is_none_is_refused(
    phasesync: CommandLine, monkeypatch: pytest.MonkeyPatch, command: str, args: tuple[str, ...], why: str
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    refused = phasesync("db", command, *args)
    assert (refused.exit_code, why in refused.stderr) == (2, True)


def test_an_altered_audit_log_is_named_and_the_backup_can_be_restored(phasesync: CommandLine, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    for name in ("shop", "blog"):
        phasesync.done("apps", "add", name)
    with closing(sqlite3.connect(phasesync.directory / "data" / "phasesync.db")) as connection:
        connection.execute("UPDATE audit SET actor = 'mallory' WHERE number = 2")
        connection.commit()
    file = tmp_path / "monday.db"
    phasesync.done("db", "backup", str(file))

    verified = phasesync("db", "verify", str(file), "-o", "json")

    assert verified.exit_code == 6
    assert [(one["what"], one["first"]) for one in json.loads(verified.stdout)["tampered"]] == [("altered", 2)]
    assert "the audit log in it was altered" in verified.stderr
    phasesync.done("db", "restore", str(file))
