"""Protected environments from the command line: asking, approving, and what is shown of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import CommandLine, add_dynamic, users
from tests.support.aws import Aws

SECRET = "postgres://new-and-secret"


@pytest.fixture
def protected(shop: CommandLine) -> CommandLine:
    """shop/prod is protected and has the key URL."""
    shop.done("secrets", "set", "shop/prod", "URL", "-", stdin="postgres://db")
    shop.done("envs", "update", "shop/prod", "--protect")
    return shop


def held(shop: CommandLine, *args: str, stdin: str | None = None) -> dict[str, Any]:
    """Run a command that is held; return the request."""
    result = shop(*args, "-o", "json", stdin=stdin)
    assert result.exit_code == 4, result.stderr
    request: dict[str, Any] = json.loads(result.stdout)
    assert request["status"] == "open"
    assert request["command"] in result.stderr
    assert SECRET not in result.stdout + result.stderr
    return request


def approve(shop: CommandLine, request: dict[str, Any], actor: str = "grace") -> Any:
    """Type what the request says, as somebody else."""
    words = request["command"].split()
    assert words[0] == "phasesync"
    return shop.json("--actor", actor, *words[1:])


def value(shop: CommandLine) -> str:
    """Return URL."""
    return shop.done("secrets", "get", "shop/prod", "URL", "--reveal").stdout


def test_an_edit_is_held_listed_approved_and_in_the_history(protected: CommandLine) -> None:
    typed = protected("secrets", "set", "shop/prod", "URL", "-", stdin=SECRET)
    assert (typed.exit_code, typed.stdout) == (4, "")
    assert "shop/prod is protected" in typed.stderr
    assert "change URL (text)" in typed.stderr
    assert SECRET not in typed.stderr
    (request,) = protected.items("envs", "requests", "shop/prod")
    assert request["command"] == f"phasesync envs approve shop/prod --plan {request['digest']}"
    assert request["command"] in typed.stderr
    assert (request["needed"], request["approvals"], request["changes"]) == (1, [], ["change URL (text)"])
    assert value(protected) == "postgres://db"

    own = protected("envs", "approve", "shop/prod", "--plan", request["digest"])
    assert own.exit_code == 4
    assert "same person" in own.stderr
    assert value(protected) == "postgres://db"

    done = protected("--actor", "grace", *request["command"].split()[1:], "--reason", "OPS-12")
    assert done.exit_code == 0, done.stderr
    assert "carried out: change URL (text)" in done.stderr
    assert value(protected) == SECRET
    newest = protected.items("secrets", "history", "shop/prod", "URL")[0]
    assert newest["changed_by"] == request["asked_by"]
    assert newest["approved_by"].endswith(" as grace")
    assert protected.items("secrets", "list", "shop/prod")[0]["approved_by"] == newest["approved_by"]
    assert protected.items("envs", "requests") == []
    (past,) = protected.items("envs", "requests", "--all")
    assert (past["status"], past["approvals"][0]["reason"]) == ("applied", "OPS-12")


@pytest.mark.parametrize(
    ("command", "stdin"),
    [
        (["secrets", "set", "shop/prod", "URL", "-"], SECRET),
        (["secrets", "unset", "shop/prod", "URL"], None),
        (["secrets", "generate", "shop/prod", "URL"], None),
        (["secrets", "rollback", "shop/prod", "URL", "--to", "1"], None),
        (["secrets", "import", "shop/prod", "-", "--yes"], f"URL={SECRET}\nOTHER=x\n"),
        (["envs", "update", "shop/prod", "--name", "production"], None),
        (["envs", "update", "shop/prod", "--no-protect"], None),
        (["envs", "update", "shop/prod", "--protect", "--approvers", "3"], None),
        (["envs", "remove", "shop/prod", "--yes"], None),
        (["apps", "update", "shop", "--name", "store"], None),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_each_command_waits_and_says_for_what(protected: CommandLine, command: list[str], stdin: str | None) -> None:
    if "rollback" in command:
        second = held(protected, "secrets", "set", "shop/prod", "URL", "-", stdin="second")
        approve(protected, second)
    before = protected.json("envs", "list")
    request = held(protected, *command, stdin=stdin)
    assert protected.json("envs", "list") == before
    done = approve(protected, request)
    if done["status"] == "approved":
        protected.done(*done["command"].split()[1:], "--yes")
    assert protected.json("envs", "list") != before
    assert protected.items("envs", "requests") == []


def test_a_dry_run_shows_the_change_and_who_is_needed_and_asks_for_nothing(protected: CommandLine) -> None:
    edit = ("secrets", "set", "shop/prod", "URL", "-", "--dry-run")
    shown = protected.json(*edit, stdin=SECRET)
    assert (shown["dry_run"], shown["approval_needed_for"]) == (True, ["shop/prod"])
    assert "somebody else has to approve it" in protected.done(*edit, stdin=SECRET).stderr
    assert (value(protected), protected.items("envs", "requests", "--all")) == ("postgres://db", [])


DOCUMENT = """apiVersion: phasesync/v1
kind: Project
name: shop
apps: [shop]
environments: [{name: shop/prod, approvers: 1}, shop/dev]
credentials: [{name: host, type: ambient, region: eu-west-1}]
syncs:
  - {name: "web-{env}", for: [prod, dev], credential: host, secret_name: "shop/{env}"}
"""


def test_a_project_waits_as_a_whole_and_is_applied_with_its_digest(protected: CommandLine, aws: Aws) -> None:
    file = protected.directory / "project.yaml"
    file.write_text(DOCUMENT)
    request = held(protected, "apply", "-f", str(file))
    assert request["action"] == "project.apply"
    assert "add sync web-prod" in request["changes"]
    assert protected.items("syncs", "list") == []
    assert request["digest"] == protected.json("diff", "-f", str(file))["digest"]
    protected.done("apply", "-f", str(file), "--dry-run")
    command = approve(protected, request)["command"]
    assert command == f"phasesync apply -f {file} --plan {request['digest']}"
    protected.done(*command.split()[1:])
    assert {sync["name"] for sync in protected.items("syncs", "list")} == {"web-prod", "web-dev"}
    assert protected.items("envs", "requests") == []

    file.write_text(DOCUMENT.replace("approvers: 1", "approvers: 2"))
    stricter = held(protected, "apply", "-f", str(file))
    assert stricter["changes"] == ["update environment shop/prod: approvers: 1 -> 2"]
    protected.done("envs", "reject", "shop/prod", "--plan", stricter["digest"])

    protected.json("syncs", "run", "web-prod")
    file.write_text(DOCUMENT.replace("[prod, dev]", "[dev]"))
    removal = held(protected, "apply", "-f", str(file), "--prune", "--remote", "delete", "--yes")
    keeping = held(protected, "apply", "-f", str(file), "--prune", "--yes")
    assert removal["digest"] != keeping["digest"]
    assert "DeletedDate" not in aws.boto("secretsmanager").describe_secret(SecretId="shop/prod")
    command = approve(protected, removal)["command"]
    protected.done(*command.split()[1:], "--yes")
    assert "DeletedDate" in aws.boto("secretsmanager").describe_secret(SecretId="shop/prod")


def test_two_approvers_and_the_setting_that_counts_users_alone(
    protected: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve(protected, held(protected, "envs", "update", "shop/prod", "--protect", "--approvers", "2"))
    request = held(protected, "secrets", "set", "shop/prod", "URL", "-", stdin=SECRET)
    assert approve(protected, request)["status"] == "open"
    monkeypatch.setenv("PHASESYNC_APPROVALS__BY", "os-user")
    refused = protected("--actor", "linus", *request["command"].split()[1:])
    assert refused.exit_code == 4
    monkeypatch.delenv("PHASESYNC_APPROVALS__BY")
    assert approve(protected, request, "linus")["status"] == "applied"
    assert value(protected) == SECRET


def test_a_request_is_withdrawn_and_an_unknown_one_is_not_found(protected: CommandLine) -> None:
    request = held(protected, "secrets", "set", "shop/prod", "URL", "-", stdin=SECRET)
    ended = protected.json("envs", "reject", "shop/prod", "--plan", request["digest"], "--reason", "a mistake")
    assert (ended["status"], ended["note"]) == ("withdrawn", "a mistake")
    assert protected("envs", "approve", "shop/prod", "--plan", request["digest"]).exit_code == 5
    assert protected("envs", "requests", "shop/nope").exit_code == 5


def test_status_lists_what_waits_with_its_command(protected: CommandLine) -> None:
    assert protected.json("status")["waiting_for_approval"] == []
    request = held(protected, "secrets", "set", "shop/prod", "URL", "-", stdin=SECRET)
    (waiting,) = protected.json("status")["waiting_for_approval"]
    assert (waiting["command"], waiting["asked_by"]) == (request["command"], request["asked_by"])
    assert request["command"] in protected.done("status").stdout


def test_a_copy_of_a_protected_environment_is_not_protected_and_that_is_said(protected: CommandLine) -> None:
    assert "shop/copy is not protected" in protected.done("envs", "clone", "shop/prod", "copy").stderr
    assert {one["env"]: one["approvers"] for one in protected.items("envs", "list")} == {
        "shop/prod": 1,
        "shop/copy": None,
    }


@pytest.mark.parametrize("options", [[], ["--approvers", "2"], ["--name", "x", "--protect"], ["--approvers", "0"]])
def test_wrong_usage_of_update(shop: CommandLine, options: list[str]) -> None:
    assert shop("envs", "update", "shop/prod", *options).exit_code == 2


def test_syncs_are_added_and_shown_and_approve_takes_the_digest_too(shop: CommandLine, aws: Aws) -> None:
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    shop.done("secrets", "set", "shop/prod", "URL", "-", stdin="postgres://db")
    shop.done("envs", "update", "shop/prod", "--protect")
    add = ("syncs", "add", "web", "--env", "shop/prod", "--credential", "host", "--secret-name", "shop/web")
    dry = shop(*add, "--dry-run")
    assert dry.exit_code == 0, "a dry run writes nothing, so there is nothing to ask for"
    assert shop.items("envs", "requests") == []
    approve(shop, held(shop, *add))
    assert shop.json("syncs", "run", "web")["outcome"] == "applied"

    request = held(shop, "secrets", "set", "shop/prod", "URL", "-", stdin=SECRET)
    assert shop.json("syncs", "show", "web")["waiting_for_approval"][0]["digest"] == request["digest"]
    assert f"({request['digest']}, asked by " in shop.done("syncs", "show", "web").stdout
    assert request["command"] in shop.done("syncs", "why", "web").stdout
    assert shop.json("syncs", "run", "web")["outcome"] == "unchanged"
    shop.done("--actor", "grace", "syncs", "approve", "web", "--plan", request["digest"])
    run = shop.json("syncs", "run", "web")
    (approved,) = shop.json("runs", "show", run["id"])["approved"]
    assert approved["asked_by"] == request["asked_by"]
    assert approved["approved_by"][0].endswith(" as grace")
    assert "asked by" in shop.done("runs", "show", run["id"]).stderr

    removal = held(shop, "syncs", "remove", "web", "--remote", "delete", "--yes")
    assert approve(shop, removal)["command"] == "phasesync syncs remove web --remote delete"
    shop.done("syncs", "remove", "web", "--remote", "delete", "--yes")
    assert "DeletedDate" in aws.boto("secretsmanager").describe_secret(SecretId="shop/web")


def test_no_lease_is_revoked_for_a_removal_that_waits(ci: CommandLine, aws: Aws) -> None:
    ci.done("envs", "update", "shop/prod", "--protect")
    ci.done("leases", "issue", "ci", "-o", "json")
    whole = held(ci, "envs", "remove", "shop/prod", "--revoke", "--yes")
    held(ci, "dynamic", "remove", "ci", "--revoke", "--yes")
    held(ci, "credentials", "remove", "host", "--revoke", "--yes")
    assert len(users(aws)) == 1
    ci.done("envs", "reject", "shop/prod", "--plan", whole["digest"])
    (removal,) = ci.items("envs", "requests")
    assert approve(ci, removal)["command"] == "phasesync dynamic remove ci --revoke"
    ci.done("dynamic", "remove", "ci", "--revoke", "--yes")
    assert users(aws) == set()
    with pytest.raises(AssertionError, match="is protected"):
        add_dynamic(ci, "cd")


REFERRING = """apiVersion: phasesync/v1
kind: Project
name: shop
apps: [shop]
environments: [shop/prod, shop/dev]
syncs:
  - {name: "web-{env}", for: [prod], credential: good, secret_name: "shop/{env}"}
"""


def test_an_approved_plan_is_for_the_objects_that_its_names_meant(protected: CommandLine) -> None:
    def add_good(account: str) -> str:
        role = f"arn:aws:iam::{account}:role/x"
        kind = ("--type", "assume-role", "--region", "eu-west-1", "--external-id", "phasesync-1234")
        protected.done("credentials", "add", "good", *kind, "--role-arn", role)
        return f"assume-role, role {role}, with an External ID"

    file = protected.directory / "project.yaml"
    file.write_text(REFERRING)
    ours = add_good("111111111111")
    request = held(protected, "apply", "-f", str(file))
    assert ours in "\n".join(request["changes"])
    command = approve(protected, request)["command"].split()[1:]
    protected.done("credentials", "remove", "good", "--yes")
    theirs = add_good("666666666666")
    again = held(protected, *command)
    assert again["digest"] == request["digest"], "a digest of a plan covers names"
    assert (theirs in "\n".join(again["changes"]), again["approvals"]) == (True, [])
    assert protected.items("syncs", "list") == []
    lapsed = next(one for one in protected.items("envs", "requests", "--all") if one["status"] == "lapsed")
    assert "the credential good (it is another one now)" in lapsed["note"]
    approve(protected, again)
    protected.done(*command)
    assert [sync["name"] for sync in protected.items("syncs", "list")] == ["web-prod"]


def test_what_a_strict_document_refuses_is_not_asked_for(shop: CommandLine) -> None:
    file = shop.directory / "project.yaml"
    file.write_text(DOCUMENT.replace("apps:", "manage: strict\napps:", 1))
    shop.done("secrets", "set", "shop/prod", "URL", "-", stdin="postgres://db")
    shop.done("apply", "-f", str(file))
    for command in (("syncs", "rename", "web-prod", "site"), ("envs", "update", "shop/prod", "--no-protect")):
        refused = shop(*command)
        assert refused.exit_code == 4
        assert "strictly" in refused.stderr
    assert shop.items("envs", "requests", "--all") == []
