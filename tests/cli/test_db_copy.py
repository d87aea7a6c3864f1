"""`phasesync db copy` and `db unretire`, with the documents and exit codes that they promise."""

import base64
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.support.stores import OTHER_ROOT_KEY

PROJECT = """\
apiVersion: phasesync/v1
kind: Project
name: mine
apps:
  - name: blog
    windows: ['deny: 08:00-18:00 Mon-Fri Europe/Berlin']
"""


@pytest.fixture
def target(phasesync: CommandLine, tmp_path: Path) -> str:
    """Where a copy goes; the original has a value."""
    phasesync.done("apps", "add", "shop")
    phasesync.done("envs", "add", "shop/production")
    phasesync.done("secrets", "set", "shop/production", "URL", "-", stdin="kept")
    return f"sqlite:///{tmp_path / 'copy.db'}"


def test_it_prints_what_was_copied(phasesync: CommandLine, target: str, tmp_path: Path) -> None:
    phasesync.done("apply", "-f", "-", "--yes", stdin=PROJECT)
    document = phasesync.json("db", "copy", "--to", target, "--verify")

    assert list(document) == ["from", "to", "instance_id", "tables", "verified"]
    assert (document["from"], document["to"]) == (f"sqlite:///{tmp_path / 'data' / 'phasesync.db'}", target)
    assert document["verified"] is True
    assert len({table["table"] for table in document["tables"]}) > 15
    rows = {table["table"]: table["rows"] for table in document["tables"]}
    assert (rows["secret_versions"], rows["projects"], rows["owned_objects"]) == (1, 1, 1)
    assert all(len(table["digest"]) == 64 for table in document["tables"])


def test_without_the_right_root_key_it_ends_before_anything_is_retired(
    phasesync: CommandLine, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(base64.b64encode(OTHER_ROOT_KEY.material))
    other.chmod(0o600)
    for file in (other, tmp_path / "missing.key"):
        with monkeypatch.context() as patch:
            patch.setenv("PHASESYNC_ROOT_KEY_FILE", str(file))
            for more in ([], ["--dry-run"]):
                assert phasesync("db", "copy", "--to", target, "--verify", *more).exit_code == 6
    assert not (tmp_path / "copy.db").exists()
    phasesync.done("secrets", "list", "shop/production")


def test_every_command_refuses_a_retired_database_and_says_where_the_copy_is(
    phasesync: CommandLine, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = phasesync.done("db", "copy", "--to", target)
    assert "TABLE" in done.stdout
    assert f"copied to {target}" in done.stderr

    for command in (["secrets", "list", "shop/production"], ["apps", "add", "other"], ["init"]):
        refused = phasesync(*command)
        assert refused.exit_code == 6, refused.output
        assert f"it was copied to {target}" in refused.stderr
    shown = phasesync("db", "status", "-o", "json")
    assert (shown.exit_code, f'"retired_to": "{target}"' in shown.stdout) == (6, True)
    refused = phasesync("db", "restore", str(tmp_path / "data" / "phasesync.db"))
    assert (refused.exit_code, "this database is retired" in refused.stderr) == (4, True)
    phasesync.done("db", "backup", str(tmp_path / "backup.db"))

    monkeypatch.setenv("PHASESYNC_DATABASE_URL", target)
    assert "kept" in phasesync.done("secrets", "get", "shop/production", "URL", "--reveal").stdout


def test_it_is_taken_back_after_a_confirmation(phasesync: CommandLine, target: str) -> None:
    phasesync.done("db", "copy", "--to", target)
    refused = phasesync("db", "unretire")
    assert refused.exit_code == 2
    assert f"that nobody has ever worked with its copy at {target}" in refused.stderr
    assert phasesync.json("db", "unretire", "--yes")["retired_to"] == target
    phasesync.done("secrets", "list", "shop/production")
    for answer in ([], ["--yes"]):  # What is refused is not asked first.
        assert phasesync("db", "unretire", *answer).exit_code == 4


def test_a_password_is_no_argument(phasesync: CommandLine, target: str) -> None:
    refused = phasesync("db", "copy", "--to", "postgresql://ada:hunter2@db/phasesync")
    assert (refused.exit_code, "hunter2" in refused.output) == (2, False)
    assert phasesync.json("db", "copy", "--to", "-", stdin=f"{target}\n")["to"] == target
