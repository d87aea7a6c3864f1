"""`phasesync audit`: who did what, whether the log is whole, rows for a SIEM; and what commands write to the log."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CommandLine

PRODUCTION = "shop/prod"


def rows(shop: CommandLine, *options: str) -> list[dict[str, Any]]:
    """The rows of the log, oldest first."""
    return list(reversed(shop.items("audit", "list", *options)))


def actions(shop: CommandLine, *options: str) -> list[tuple[str, str, str]]:
    return [(row["action"], row["object"], row["outcome"]) for row in rows(shop, *options)]


def tamper(shop: CommandLine, statement: str) -> None:
    with closing(sqlite3.connect(shop.directory / "data" / "phasesync.db")) as connection, connection:
        connection.execute(statement)


def test_a_row_says_who_did_what_where_from_and_when(shop: CommandLine) -> None:
    shop.done("--actor", "deployer", "apps", "add", "blog")
    (row,) = rows(shop, "--object", "blog")
    assert row["actor"].endswith(" as deployer")
    assert row["source"].startswith("cli@")
    assert (row["action"], row["object"], row["outcome"], row["kind"]) == ("app.add", "blog", "done", "change")
    assert row["at"].endswith("Z")
    assert row["before"] is None
    assert row["after"]


def test_a_client_of_sshd_is_named_by_its_address(shop: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 51324 10.0.0.1 22")
    shop.done("apps", "add", "blog")
    monkeypatch.setenv("SSH_CONNECTION", "not an address")
    shop.done("apps", "add", "site")
    assert [" from 192.0.2.7" in row["source"] for row in rows(shop, "--action", "app.add")[-2:]] == [True, False]


def test_an_edit_names_its_keys_and_no_value(shop: CommandLine) -> None:
    shop.done("secrets", "set", PRODUCTION, "TOKEN", "-", stdin="canary-value")
    shop.done("secrets", "unset", PRODUCTION, "TOKEN")
    added, removed = rows(shop, "--action", "secret.set,secret.unset")
    assert (added["object"], added["details"]) == (PRODUCTION, {"revision": 1, "added": ["/TOKEN"]})
    assert removed["details"] == {"revision": 2, "removed": ["/TOKEN"]}
    assert added["after"] == removed["before"] != removed["after"]
    assert "canary" not in shop.done("audit", "list", "-o", "json").stdout


def test_what_is_revealed_is_written_before_it_is_shown(shop: CommandLine) -> None:
    shop.done("secrets", "set", PRODUCTION, "TOKEN", "-", stdin="canary-value")
    shop.done("secrets", "get", PRODUCTION, "TOKEN")
    assert rows(shop, "--kind", "reveal") == [], "nothing was shown"
    shop.done("secrets", "get", PRODUCTION, "TOKEN", "--reveal")
    shop.done("secrets", "export", PRODUCTION)
    reveal, export = rows(shop, "--kind", "reveal")
    assert (reveal["action"], reveal["object"], reveal["details"]["keys"]) == ("secret.reveal", PRODUCTION, ["TOKEN"])
    assert (export["action"], export["details"]) == ("secret.export", {"path": "/", "keys": ["TOKEN"], "count": 1})
    tamper(shop, "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'no'); END")
    refused = shop("secrets", "get", PRODUCTION, "TOKEN", "--reveal")
    assert refused.exit_code != 0
    assert "canary" not in refused.stdout


def test_a_refused_attempt_is_written_whatever_the_command(shop: CommandLine) -> None:
    shop.done("envs", "update", PRODUCTION, "--protect")
    shop("secrets", "set", PRODUCTION, "TOKEN", "-", stdin="canary-value")
    digest = shop.items("envs", "requests")[0]["digest"]
    shop("envs", "approve", PRODUCTION, "--plan", digest)
    shop("secrets", "get", PRODUCTION, "NO_SUCH", "--reveal")
    shop("secrets", "get", PRODUCTION, "NO_SUCH")
    shop("apps", "remove", "shop", "--yes")
    shop("envs", "list", "--app", "nothing")
    shop("apps", "add", "shop", "--dry-run")
    assert actions(shop, "--kind", "refusal") == [
        ("secret.set", PRODUCTION, "held"),
        ("environment.approve", PRODUCTION, "refused"),
        ("secret.reveal", PRODUCTION, "refused"),
        ("app.remove", "shop", "refused"),
    ]
    _, approval, reveal, _ = rows(shop, "--kind", "refusal")
    assert approval["details"] == {"error": "IllegalTransitionError"}
    assert reveal["details"] == {"error": "NotFoundError", "path": "/", "keys": ["NO_SUCH"], "count": 1}


def test_what_was_done_under_a_claimed_name_is_found_by_it(shop: CommandLine) -> None:
    shop.done("--actor", "ada", "apps", "add", "hers")
    shop.done("--actor", "adamant", "apps", "add", "his")
    for name in ("ada", rows(shop, "--object", "hers")[0]["actor"]):
        assert [row["object"] for row in rows(shop, "--actor", name)] == ["hers"]


def test_refused_work_with_the_whole_database_is_written(shop: CommandLine, tmp_path: Path) -> None:
    shop.done("db", "backup", str(tmp_path / "monday.db"))
    for command in (
        ("restore", str(tmp_path / "gone.db")),
        ("backup", str(tmp_path / "monday.db")),
        ("copy", "--to", f"sqlite:///{tmp_path}/monday.db"),
        ("unretire", "--yes"),
    ):
        assert shop("db", *command).exit_code != 0
        assert shop("db", *command, "--dry-run").exit_code != 0
    (tmp_path / "junk.db").write_bytes(b"junk")
    assert shop("db", "restore", str(tmp_path / "junk.db")).exit_code != 0

    written = [(row["action"], row["object"], row["details"]["error"]) for row in rows(shop, "--kind", "refusal")]
    assert [action for action, _, _ in written] == ["db.restore", "db.backup", "db.copy", "db.unretire", "db.restore"]
    assert {name for _, name, _ in written} == {"database"}
    assert written[0][2] == "NotFoundError"


def test_of_several_syncs_those_that_were_left_alone_are_written_one_by_one(shop: CommandLine) -> None:
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    for name in ("a", "b"):
        shop.done(
            "syncs", "add", name, "--env", PRODUCTION, "--credential", "host", "--secret-name", name, "--no-verify"
        )
    shop.done("syncs", "pause", "a")
    assert shop("syncs", "trigger", "a", "b").exit_code == 4
    assert actions(shop, "--action", "sync.trigger") == [
        ("sync.trigger", "b", "done"),
        ("sync.trigger", "a", "refused"),
    ]


def test_an_approval_and_what_it_lets_through_are_written_together(shop: CommandLine) -> None:
    shop.done("envs", "update", PRODUCTION, "--protect")
    shop("--actor", "ada", "secrets", "set", PRODUCTION, "TOKEN", "-", stdin="canary-value")
    digest = shop.items("envs", "requests")[0]["digest"]
    shop.done("--actor", "grace", "envs", "approve", PRODUCTION, "--plan", digest)
    assert actions(shop, "--object", PRODUCTION)[-4:] == [
        ("environment.request", PRODUCTION, "held"),
        ("environment.approve", PRODUCTION, "done"),
        ("secret.set", PRODUCTION, "done"),
        ("environment.apply", PRODUCTION, "done"),
    ]
    request, approval = rows(shop, "--action", "environment.request,environment.approve")
    assert request["actor"].endswith("as ada")
    assert approval["actor"].endswith("as grace")
    assert approval["details"]["digest"] == digest


def test_a_whole_chain_verifies_and_an_altered_one_exits_1(shop: CommandLine) -> None:
    head = shop.json("audit", "verify")["head"]
    shop.done("apps", "add", "blog")
    assert "is whole" in shop.done("audit", "verify", "--head", head).stderr
    tamper(shop, "UPDATE audit SET actor = 'eve' WHERE number = 2")
    broken = shop("audit", "verify", "-o", "json")
    assert broken.exit_code == 1
    (finding,) = json.loads(broken.stdout)["findings"]
    assert (finding["tampering"], finding["first"], finding["last"]) == ("altered", 2, 2)
    table = shop("audit", "verify")
    assert (table.exit_code, "altered    row 2: altered outside phasesync" in table.stdout) == (1, True)
    assert "row 2 is not what was written" in shop.done("audit", "list").stderr


def test_a_cut_tail_is_found_by_the_head_that_was_kept(shop: CommandLine) -> None:
    database = shop.directory / "data" / "phasesync.db"
    former = database.read_bytes()
    shop.done("apps", "add", "blog")
    head = shop.json("audit", "verify")["head"]
    database.write_bytes(former)
    assert shop.json("audit", "verify")["verified"] is True
    cut = shop("audit", "verify", "--head", head)
    assert (cut.exit_code, "cut" in cut.stdout) == (1, True)


def exported(shop: CommandLine, *options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shop.done("audit", "export", *options).stdout.splitlines()]


def test_an_export_goes_on_where_the_former_one_ended(shop: CommandLine, tmp_path: Path) -> None:
    state = tmp_path / "siem.state"
    first = exported(shop, "--format", "jsonl", "--state", str(state))
    assert [line["action"] for line in first] == ["app.add", "environment.add"]
    assert "details" not in first[0]
    shop.done("secrets", "set", PRODUCTION, "TOKEN", "-", stdin="canary-value")
    second = exported(shop, "--state", str(state), "--details")
    assert [(line["number"], line["action"]) for line in second] == [(3, "audit.export"), (4, "secret.set")]
    assert second[1]["details"]["added"] == ["/TOKEN"]
    assert [line["number"] for line in exported(shop, "--state", str(state))] == [5]
    assert exported(shop, "--state", str(state)) == []
    assert [line["number"] for line in exported(shop, "--after", first[-1]["head"])] == [3, 4, 5]
    assert state.stat().st_mode & 0o777 == 0o600


def test_an_export_goes_on_before_a_row_that_others_inserted_behind_all(shop: CommandLine, tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "siem.state"))
    columns = "at, kind, actor, source, action, object, outcome, details, digest, mac"
    tamper(shop, f"INSERT INTO audit SELECT {2**63 - 1}, {columns} FROM audit WHERE number = 1")
    first = [line["number"] for line in exported(shop, *state)]
    assert shop("apps", "add", "blog").exit_code == 0
    second = [line["number"] for line in exported(shop, *state)]
    assert second == [first[-2] + 1, first[-2] + 2, 2**63 - 1], "the row of the export itself, and the new app"


def test_an_export_that_cannot_note_where_it_ended_prints_nothing(shop: CommandLine, tmp_path: Path) -> None:
    refused = shop("audit", "export", "--state", str(tmp_path / "missing" / "siem.state"))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "siem.state cannot be written" in refused.stderr


def test_an_export_of_nothing_but_exports_adds_no_row(shop: CommandLine, tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "siem.state"))
    for _ in range(3):
        exported(shop, *state)
    assert [row["action"] for row in rows(shop)].count("audit.export") == 1


def test_an_export_refuses_to_go_on_in_a_log_that_was_cut(shop: CommandLine, tmp_path: Path) -> None:
    database, state = shop.directory / "data" / "phasesync.db", tmp_path / "siem.state"
    former = database.read_bytes()
    shop.done("apps", "add", "blog")
    exported(shop, "--state", str(state))
    kept = state.read_text()
    database.write_bytes(former)
    refused = shop("audit", "export", "--state", str(state))
    assert (refused.exit_code, refused.stdout) == (4, "")
    for name in ("a", "b", "c", "d"):
        shop.done("apps", "add", name)
    assert "written anew" in shop("audit", "export", "--state", str(state)).stderr
    assert state.read_text() == kept


@pytest.mark.parametrize("text", ["", "12", "12:xyz", "x:0f3a5c0d9b1e4f7a8c2d6e5b4a3f2e1d"])
def test_what_is_no_head_is_refused(shop: CommandLine, text: str) -> None:
    refused = shop("audit", "verify", "--head", text)
    assert refused.exit_code == 2
    assert "NUMBER:DIGEST" in refused.stderr


def test_the_first_row_says_that_the_installation_was_made(
    phasesync: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASESYNC_DATA_DIR", str(tmp_path / "new"))
    phasesync.done("init")
    phasesync.done("init")
    (row,) = rows(phasesync)
    assert (row["action"], row["details"]["root_key_made"]) == ("installation.init", False)


def test_a_siem_gets_the_class_of_an_error_without_the_details(shop: CommandLine) -> None:
    assert shop("db", "backup", "--every", "6h", "--to", "relative").exit_code == 2
    (line,) = [json.loads(text) for text in shop.done("audit", "export").stdout.splitlines() if "refusal" in text]
    assert (line["action"], line["error"]) == ("db.schedule-backup", "InvalidInputError")
    assert "details" not in line
