"""`phasesync db copy` and `db unretire`, with the documents and exit codes that they promise."""

from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine

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
    assert phasesync("db", "unretire").exit_code == 2
    assert phasesync.json("db", "unretire", "--yes")["retired_to"] == target
    phasesync.done("secrets", "list", "shop/production")
    assert phasesync("db", "unretire", "--yes").exit_code == 4


def test_a_password_is_no_argument(phasesync: CommandLine, target: str) -> None:
    refused = phasesync("db", "copy", "--to", "postgresql://ada:hunter2@db/phasesync")
    assert (refused.exit_code, "hunter2" in refused.output) == (2, False)
    assert phasesync.json("db", "copy", "--to", "-", stdin=f"{target}\n")["to"] == target
