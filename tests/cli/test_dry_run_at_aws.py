"""`--dry-run` of commands that call AWS, beside the calls that the commands then make."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from phasesync.store import migrate
from tests.cli.conftest import CommandLine
from tests.support.aws import REGION, Aws
from tests.support.stores import OTHER_ROOT_KEY

POLICY_ARN = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"


# --- what is said is what happens


def writes(aws: Aws, since: int) -> list[str]:
    """Return the writing calls that arrived since then, without those of keys that STS was asked with."""
    operations = aws.server.operations[since:]
    return [
        f"{operation.service}:{operation.name}"
        for operation in operations
        if not operation.name.startswith(("Describe", "List", "Get"))
    ]


def test_a_lease_is_issued_renewed_and_revoked_by_the_calls_that_were_said(ci: CommandLine, aws: Aws) -> None:
    ci.done("dynamic", "update", "ci", "--policy-arn", POLICY_ARN)
    lease = ""
    for line in ("issue ci --no-probe", "renew LEASE --ttl 2h", "revoke LEASE"):
        command = ("leases", *line.replace("LEASE", lease).split())
        said = ci.json(*command, "--dry-run")
        since = len(aws.server.operations)

        done = ci.json(*command)

        assert [call["action"] for call in said["aws"]] == writes(aws, since)
        lease = lease or done["id"]
        name = done["principal"].rpartition("/")[2]
        told = {call["object"] for call in said["aws"]}
        assert told == ({"ci-{{random}}"} if line.startswith("issue") else {name})
        if line.startswith("renew"):
            assert said["would"]["expires_at"][:16] == done["expires_at"][:16]


def test_a_kept_lease_is_said_to_be_issued_again(ci: CommandLine) -> None:
    assert ci.json("leases", "issue", "ci", "--keep", "--no-probe", "--dry-run")["would"]["reused"] is None
    kept = ci.json("leases", "issue", "ci", "--keep", "--no-probe")["id"]

    said = ci.json("leases", "issue", "ci", "--keep", "--dry-run")

    assert (said["would"]["reused"], said["aws"]) == (kept, [])


def test_a_dynamic_secret_that_has_all_its_leases_is_refused_as_ever(ci: CommandLine) -> None:
    ci.done("dynamic", "update", "ci", "--max-leases", "1")
    ci.done("leases", "issue", "ci", "--no-probe")

    assert ci("leases", "issue", "ci", "--dry-run").exit_code == 4


@pytest.fixture
def syncs(shop: CommandLine, aws: Aws) -> CommandLine:
    """A sync `web` of two keys that has run, one secret a key; of the first one somebody made the secret."""
    boto = aws.boto("secretsmanager")
    boto.create_secret(Name="shop/URL", SecretString="theirs", Tags=[{"Key": "team", "Value": "other"}])
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", REGION)
    shop.done("secrets", "import", "shop/prod", "-", "--yes", stdin="URL=postgres://db\nUSER=shop\n")
    shop.done(
        *("syncs", "add", "web", "--env", "shop/prod", "--credential", "host", "--name-template", "shop/{key}"),
        *("--adopt", "overwrite", "--tag", "team=shop"),
    )
    shop.done("syncs", "run", "web")
    return shop


@pytest.mark.parametrize("line", ["release web", "remove web", "remove web --remote delete"])
def test_a_sync_is_ended_by_the_calls_that_were_said(syncs: CommandLine, aws: Aws, line: str) -> None:
    command = ("syncs", *line.split())
    said = syncs.json(*command, "--dry-run")
    since = len(aws.server.operations)

    done = syncs.json(*command, *(["--yes"] if line.startswith("remove") else []))

    operations = [one for one in aws.server.operations[since:] if not one.name.startswith(("Describe", "Get"))]
    names: dict[str, set[str]] = {}
    for one in operations:
        names.setdefault((one.secret_id or "").rpartition(":")[2][:-7], set()).add(one.name)
    expected = {}
    for call in said["aws"]:
        details = call["details"]
        wanted = {"DeleteSecret"} if call["action"] == "delete" else set()
        wanted |= {"TagResource"} if details.get("tags") else set()
        expected[call["object"]] = wanted | ({"UntagResource"} if details.get("untag") else set())
    assert expected == names
    assert {"shop/URL", "shop/USER"} == expected.keys()
    shared = said["would"].keys() & done.keys() - {"paused", "status", "retry_at"}
    assert {name: said["would"][name] for name in shared} == {name: done[name] for name in shared}


@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        ("denied", "release web"),
        ("denied", "remove web --remote delete"),
        ("deleted", "release web"),
        ("deleted", "remove web"),
        ("deleted", "remove web --remote delete"),
        ("restored", "release web"),
        ("restored", "remove web --remote delete"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_exit_code_of_the_command(
    syncs: CommandLine, aws: Aws, line: str, trouble: str
) -> None:
    if trouble == "denied":
        aws.server.deny("secretsmanager:DescribeSecret")
    elif trouble == "deleted":
        aws.boto("secretsmanager").delete_secret(SecretId="shop/USER")
    else:
        backup = str(syncs.directory / "backup.db")
        syncs.done("db", "backup", backup)
        syncs.done("db", "restore", backup)
    command = ("syncs", *line.split())

    said = syncs(*command, "--dry-run", "-o", "json")
    done = syncs(*command, *([] if "release" in line else ["--yes"]), "-o", "json")

    assert said.exit_code == done.exit_code, (said.stderr, done.stderr)
    if said.stdout and done.stdout:
        would, document = json.loads(said.stdout)["would"], json.loads(done.stdout)
        for member in ("kept", "released", "scheduled", "left_alone", "blocked"):
            assert set(would.get(member) or ()) == set(document.get(member, would.get(member)) or ())


MOVING = {"next_due_at", "retry_at", "changed_at"}
"""Members that are about now."""


def changes(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a plan or a run changes."""
    return sorted((one["action"], one["remote_name"]) for one in document["changes"] if one["action"] != "noop")


@pytest.mark.parametrize(
    "line",
    [
        "secrets import shop/prod - --prune",
        "syncs update web --description text --tag team=web",
        "secrets unset shop/prod USER",
    ],
)
def test_the_next_run_does_what_was_said(syncs: CommandLine, line: str) -> None:
    command, stdin = line.split(), "URL=postgres://db/2\nPORT=5432\n"
    said = syncs.json(*command, "--dry-run", stdin=stdin)

    done = syncs.json(*command, *(["--yes"] if "import" in line else []), stdin=stdin)

    assert {name: said["would"][name] for name in done if name not in MOVING} == {
        name: done[name] for name in done if name not in MOVING
    }
    (plan,) = said["syncs"]
    assert changes(plan) == changes(syncs.json("syncs", "run", "web"))


@pytest.mark.reads_values("syncs adopt --import")
def test_the_first_run_of_a_sync_does_what_was_said_when_it_was_added(syncs: CommandLine, aws: Aws) -> None:
    """The members that `syncs add --dry-run` has had from the beginning are still there."""
    aws.boto("secretsmanager").create_secret(Name="shop/all", SecretString=json.dumps({"URL": "theirs", "EXTRA": "1"}))
    given = ("--env", "shop/prod", "--credential", "host", "--secret-name", "shop/all", "--adopt", "prefer-aws")
    said = syncs.json("syncs", "add", "all", *given, "--dry-run")

    assert said["added"] is False
    assert syncs("syncs", "show", "all").exit_code == 5
    added = syncs.json("syncs", "add", "all", *given)

    assert said["warnings"] == said["would"].get("warnings", said["warnings"])
    assert said["would"]["imported"] == added["imported"]
    plans = {plan["sync"]: changes(plan) for plan in said["syncs"]}
    runs = {name: changes(syncs.json("syncs", "run", name)) for name in ("all", "web")}
    assert plans == runs
    assert ("create", "shop/EXTRA") in plans["web"]


def test_a_sync_that_cannot_be_added_is_refused_as_ever(syncs: CommandLine) -> None:
    given = ("--env", "shop/prod", "--credential", "host", "--secret-name", "shop/all")

    assert syncs("syncs", "add", "web", *given, "--dry-run").exit_code == 4
    assert syncs("syncs", "add", "all", *given, "--region", "mars-1", "--dry-run").exit_code == 2


# --- the database


def test_nothing_is_made_by_a_dry_run_of_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phasesync = CommandLine(tmp_path)
    for name, value in {"HOME": tmp_path, "PHASESYNC_DATA_DIR": tmp_path / "data"}.items():
        monkeypatch.setenv(name, str(value))

    said = phasesync.json("init", "--dry-run")["would"]

    assert list(tmp_path.iterdir()) == []
    assert (said["root_key_made"], said["data_dir_made"], said["schema"]["current"]) == (True, True, None)
    assert phasesync.done("db", "migrate", "--dry-run").stderr.startswith("dry run: would bring the database from")
    assert list(tmp_path.iterdir()) == []
    done = phasesync.json("init")
    assert (done["root_key_made"], done["root_key"]) == (True, said["root_key"])
    again = phasesync.json("init", "--dry-run")["would"]
    assert (again["instance_id"], again["schema"]["revisions"]) == (done["instance_id"], [])


@pytest.mark.parametrize("key", ["right", "another"])
def test_a_migration_is_shown_and_refused_as_it_would_be(phasesync: CommandLine, key: str) -> None:
    phasesync.done("init")
    url = f"sqlite:///{phasesync.directory / 'data' / 'phasesync.db'}"
    migrate.downgrade(url, "0002")
    if key == "another":
        (phasesync.directory / "root.key").write_bytes(base64.b64encode(OTHER_ROOT_KEY.material))

    shown = phasesync("db", "migrate", "--dry-run", "-o", "json")

    assert migrate.status(url).current == "0002"
    assert shown.exit_code == (0 if key == "right" else 6)
    if key == "right":
        would = json.loads(shown.stdout)["would"]
        assert (would["current"], would["revisions"]) == ("0002", list(migrate.REVISIONS[2:]))
    assert phasesync("db", "migrate").exit_code == shown.exit_code


def test_a_restore_says_what_is_lost(syncs: CommandLine) -> None:
    backup = str(syncs.directory / "backup.db")
    syncs.done("db", "backup", backup)
    syncs.done("syncs", "add", "later", *("--env", "shop/prod", "--credential", "host", "--secret-name", "shop/later"))

    said = syncs.json("db", "restore", backup, "--dry-run")["would"]

    assert said["syncs"] == {"lost": ["later"], "added": []}
    assert said["contents"]["syncs"] == {"now": 2, "then": 1}
    assert said["contents"]["objects"]["then"] == 2
    assert syncs.json("status")["restored"] is False
    assert {file.suffix for file in (syncs.directory / "data").iterdir()} <= {".db", ".db-wal", ".db-shm"}


def test_a_copy_and_its_end_are_shown_first(phasesync: CommandLine) -> None:
    phasesync.done("apps", "add", "shop")
    target = f"sqlite:///{phasesync.directory / 'copy.db'}"

    said = phasesync.json("db", "copy", "--to", target, "--dry-run")["would"]
    done = phasesync.json("db", "copy", "--to", target)

    assert said["tables"] == [{"table": one["table"], "rows": one["rows"]} for one in done["tables"]]
    assert (said["from"], said["to"], said["instance_id"]) == (done["from"], done["to"], done["instance_id"])
    assert phasesync.json("db", "unretire", "--dry-run")["would"]["retired_to"] == done["to"]
    assert phasesync("apps", "add", "late").exit_code != 0
    phasesync.done("db", "unretire", "--yes")
    phasesync.done("apps", "add", "late")


def test_what_accepting_a_restored_database_writes_is_shown_first(syncs: CommandLine) -> None:
    backup = str(syncs.directory / "backup.db")
    syncs.done("db", "backup", backup)
    syncs.done("secrets", "set", "shop/prod", "USER", "-", stdin="newer")
    syncs.done("syncs", "run", "web")
    syncs.done("db", "restore", backup)

    said = syncs.json("db", "accept-restore", "--dry-run")
    assert syncs.json("status")["restored"] is True
    done = syncs.json("db", "accept-restore", "--yes")

    assert said["would"] == done
    (plan,) = said["syncs"]
    assert changes(plan) == [("put", "shop/USER")] == changes(syncs.json("syncs", "run", "web"))
