"""`phasesync diff`, `apply`, `dump`: what they show, what they do to the store, and what they refuse."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CommandLine
from tests.support.aws import Aws

HEAD = "apiVersion: phasesync/v1\nkind: Project\nname: {name}\n"
ROLE = "arn:aws:iam::{account}:role/phasesync"
BASE = """
apps: [shop]
environments: [shop/production, shop/staging]
credentials:
  - {name: aws, type: assume-role, region: eu-central-1, role_arn: "arn:aws:iam::111122223333:role/phasesync"}
syncs:
  - {name: "web-{env}", for: [production, staging], credential: aws, secret_name: "shop/{env}"}
"""


class Documents:
    """Documents in a directory, and the commands that read them."""

    def __init__(self, shell: CommandLine, folder: Path) -> None:
        self.shell = shell
        self.folder = folder
        folder.mkdir()

    def write(self, text: str, *, name: str = "shop", file: str = "shop.yaml") -> Path:
        """Write a document."""
        path = self.folder / file
        path.write_text(HEAD.format(name=name) + text)
        return path

    def diff(self, *words: str) -> Any:
        """Return what diff shows of the directory."""
        return self.shell.json("diff", "-f", str(self.folder), *words)

    def apply(self, *words: str) -> Any:
        """Apply the directory."""
        return self.shell.json("apply", "-f", str(self.folder), *words)

    def refused(self, code: int, *words: str) -> str:
        """Run a command that ends with an exit code; return what it says."""
        done = self.shell(*words, "-f", str(self.folder))
        assert done.exit_code == code, done.stderr
        return done.stderr


@pytest.fixture
def documents(phasesync: CommandLine, tmp_path: Path) -> Documents:
    return Documents(phasesync, tmp_path / "documents")


def named(document: Any) -> list[tuple[str, str, str]]:
    """Return action, kind and name of every change."""
    return [(change["action"], change["kind"], change["name"]) for change in document["changes"]]


def names(shell: CommandLine, group: str, member: str = "name") -> set[str]:
    """Return the names that a list shows."""
    return {item[member] for item in shell.items(group, "list")}


def test_a_document_is_shown_applied_and_then_in_step(documents: Documents) -> None:
    documents.write(BASE)
    shown = documents.diff()
    assert named(shown) == [
        ("add", "app", "shop"),
        ("add", "environment", "shop/production"),
        ("add", "environment", "shop/staging"),
        ("add", "credential", "aws"),
        ("add", "sync", "web-production"),
        ("add", "sync", "web-staging"),
    ]
    assert shown["owner"] == "shop"
    assert names(documents.shell, "syncs") == set()
    assert documents.shell("diff", "-f", str(documents.folder), "--exit-code").exit_code == 3

    applied = documents.apply("--plan", shown["digest"])

    assert applied["applied"]
    assert names(documents.shell, "syncs") == {"web-production", "web-staging"}
    assert documents.shell("diff", "-f", str(documents.folder), "--exit-code").exit_code == 0
    assert documents.diff()["changes"] == []
    sync = documents.shell.json("syncs", "show", "web-production")
    assert sync["destination"]["remote_name"] == "shop/production"
    assert len(documents.shell.json("credentials", "show", "aws")["external_id"]) == 64


def test_an_edit_of_a_document_changes_only_what_differs(documents: Documents) -> None:
    documents.write(BASE)
    documents.apply()
    external_id = documents.shell.json("credentials", "show", "aws")["external_id"]
    documents.write(BASE.replace("credential: aws,", "credential: aws, interval: 10m,"))

    shown = documents.diff()

    assert [(change["name"], change["before"], change["after"]) for change in shown["changes"]] == [
        ("web-production", {"interval": "5m"}, {"interval": "10m"}),
        ("web-staging", {"interval": "5m"}, {"interval": "10m"}),
    ]
    documents.apply("--plan", shown["digest"])
    assert documents.shell.json("syncs", "show", "web-staging")["interval_s"] == 600
    assert documents.shell.json("credentials", "show", "aws")["external_id"] == external_id


def test_another_digest_than_the_approved_one_changes_nothing(documents: Documents) -> None:
    documents.write(BASE)
    digest = documents.diff()["digest"]
    documents.write(BASE.replace("shop/{env}", "store/{env}"))
    said = documents.refused(4, "apply", "--plan", digest)
    assert digest in said
    assert documents.diff()["digest"] in said
    assert names(documents.shell, "apps") == set()


def test_apply_is_one_transaction(documents: Documents) -> None:
    """The second sync writes to the name of the first: nothing of the document is there."""
    text = BASE.replace('"shop/{env}"', '"shop/same"')
    documents.write(text)
    said = documents.refused(4, "apply")
    assert "shop/same" in said
    assert "shop.yaml:" in said
    assert names(documents.shell, "apps") == set()
    assert names(documents.shell, "credentials") == set()


def test_what_exists_is_adopted_by_the_document(documents: Documents) -> None:
    documents.shell.done("apps", "add", "shop", "--description", "by hand")
    documents.write("apps: [{name: shop, description: by hand}]\n")
    shown = documents.diff()
    assert named(shown) == [("adopt-ownership", "app", "shop")]
    assert shown["changes"][0]["after"] == {}
    documents.apply()
    assert documents.diff()["changes"] == []


def test_two_owners_are_an_error_that_names_both_files(documents: Documents) -> None:
    documents.write(BASE)
    documents.apply()
    other = documents.folder.parent / "other.yaml"
    other.write_text(HEAD.format(name="other") + "apps: [shop]\n")
    done = documents.shell("apply", "-f", str(other))
    assert done.exit_code == 4
    assert str(other) in done.stderr
    assert "shop.yaml" in done.stderr


def test_an_object_moves_between_documents_that_are_given_together(documents: Documents) -> None:
    documents.write("apps: [shop, blog]\n")
    documents.apply()
    documents.write("apps: [shop]\n")
    documents.write("apps: [blog]\n", name="blog", file="blog.yaml")
    assert named(documents.diff()) == [("adopt-ownership", "app", "blog")]
    documents.apply("--prune", "--yes")
    assert names(documents.shell, "apps") == {"shop", "blog"}
    assert documents.diff("--prune")["changes"] == []


# --- pruning


def test_prune_removes_what_the_document_owned_and_nothing_else(documents: Documents) -> None:
    documents.write(BASE)
    documents.apply()
    documents.shell.done("apps", "add", "other")
    documents.write(BASE.replace("[production, staging]", "[production]").replace(", shop/staging", ""))
    kept = documents.diff()
    assert kept["changes"] == []
    assert {(each["kind"], each["name"]) for each in kept["unlisted"]} == {
        ("environment", "shop/staging"),
        ("sync", "web-staging"),
    }
    shown = documents.diff("--prune")
    assert named(shown) == [("remove", "sync", "web-staging"), ("remove", "environment", "shop/staging")]
    documents.apply("--prune", "--plan", shown["digest"], "--yes")

    assert names(documents.shell, "syncs") == {"web-production"}
    assert names(documents.shell, "envs", "env") == {"shop/production"}
    assert names(documents.shell, "apps") == {"shop", "other"}


def test_many_removals_need_the_digest(documents: Documents) -> None:
    documents.write("apps: [a, b, c, d, e]\n")
    documents.apply()
    documents.write("apps: [a, b]\n")
    assert "3 of the 5 objects" in documents.refused(4, "apply", "--prune", "--yes")
    assert names(documents.shell, "apps") == {"a", "b", "c", "d", "e"}
    documents.apply("--prune", "--yes", "--plan", documents.diff("--prune")["digest"])
    assert names(documents.shell, "apps") == {"a", "b"}


def test_one_removed_object_needs_a_confirmation_only(documents: Documents) -> None:
    documents.write("apps: [a, b, c, d, e, f, g, h]\n")
    documents.apply()
    documents.write("apps: [a, b, c, d, e, f, g]\n")
    assert "confirmation" in documents.refused(2, "apply", "--prune")
    documents.apply("--prune", "--yes")
    assert "h" not in names(documents.shell, "apps")


@pytest.mark.parametrize("text", ["", "apps: []\n", "environments: []\nsyncs: []\n"])
def test_a_document_without_objects_removes_nothing(documents: Documents, text: str) -> None:
    documents.write(BASE)
    documents.apply()
    documents.write(text)
    refused = documents.refused(2, "apply", "--prune", "--yes")
    assert "no objects" in refused
    assert "phasesync envs remove NAME, phasesync apps remove NAME" in refused
    assert names(documents.shell, "apps") == {"shop"}


def test_a_file_that_cannot_be_read_removes_nothing(documents: Documents) -> None:
    documents.write("apps: [a]\n", file="a.yaml")
    documents.write("apps: [b]\n", file="b.yaml")
    documents.apply()
    (documents.folder / "b.yaml").write_text("apps: [")
    assert "b.yaml:" in documents.refused(2, "apply", "--prune", "--yes")
    assert names(documents.shell, "apps") == {"a", "b"}


def test_removed_syncs_give_their_secrets_back(documents: Documents, aws: Aws) -> None:
    filled(documents, aws)
    documents.write(AMBIENT.replace("secret_name: kept}", "secret_name: kept}\n").replace(GONE, ""))
    shown = documents.diff("--prune")
    documents.apply("--prune", "--plan", shown["digest"], "--yes")
    tags = {
        tag["Key"]
        for tag in aws.boto("secretsmanager", region="eu-west-1").describe_secret(SecretId="gone").get("Tags", [])
    }
    assert not any(tag.startswith("phasesync:") for tag in tags)


def test_removed_syncs_delete_their_secrets_if_asked_to(documents: Documents, aws: Aws) -> None:
    filled(documents, aws)
    documents.write(AMBIENT.replace(GONE, ""))
    assert documents.diff("--prune")["deletions"] == {}
    shown = documents.diff("--prune", "--remote", "delete")
    assert shown["deletions"] == {"gone": ["gone"]}
    assert "--prune --remote delete --plan" in shown["command"]
    kept = documents.diff("--prune")["digest"]
    assert kept in documents.refused(4, "apply", "--prune", "--remote", "delete", "--yes", "--plan", kept)
    applied = documents.apply("--prune", "--remote", "delete", "--plan", shown["digest"], "--yes")
    assert applied["scheduled"] == ["gone"]
    assert "DeletedDate" in aws.boto("secretsmanager", region="eu-west-1").describe_secret(SecretId="gone")
    assert "DeletedDate" not in aws.boto("secretsmanager", region="eu-west-1").describe_secret(SecretId="kept")


GONE = "  - {name: gone, env: shop/production, credential: host, secret_name: gone}\n"
AMBIENT = f"""
apps: [shop]
environments: [shop/production]
credentials: [{{name: host, type: ambient, region: eu-west-1}}]
syncs:
  - {{name: kept, env: shop/production, credential: host, secret_name: kept}}
{GONE}"""


def filled(documents: Documents, aws: Aws) -> None:
    """Apply two syncs, and run them."""
    documents.write(AMBIENT)
    documents.apply()
    documents.shell.done("secrets", "set", "shop/production", "A", "-", stdin="value")
    documents.shell.done("syncs", "run", "kept")
    documents.shell.done("syncs", "run", "gone")


# --- changes by hand


def test_a_change_by_hand_is_drift_from_code(documents: Documents) -> None:
    documents.write(BASE)
    documents.apply()
    documents.shell.done("syncs", "update", "web-staging", "--interval", "1m")
    status = documents.shell.json("status")
    assert [(each["kind"], each["name"], each["owner"]) for each in status["drift_from_code"]] == [
        ("sync", "web-staging", "shop")
    ]
    (change,) = documents.diff()["changes"]
    assert (change["name"], change["drift"]) == ("web-staging", ["interval"])
    documents.apply()
    assert documents.shell.json("status")["drift_from_code"] == []
    assert documents.shell.json("syncs", "show", "web-staging")["interval_s"] == 300


def test_a_strict_document_refuses_changes_by_hand(documents: Documents) -> None:
    documents.write("manage: strict\n" + BASE)
    documents.apply()
    for words in (
        ("syncs", "update", "web-staging", "--interval", "1m"),
        ("syncs", "remove", "web-staging", "--yes"),
        ("apps", "update", "shop", "--description", "x"),
        ("envs", "update", "shop/staging", "--name", "stage"),
        ("credentials", "update", "aws", "--region", "eu-west-1"),
    ):
        done = documents.shell(*words)
        assert done.exit_code == 4, words
        assert "shop.yaml" in done.stderr
    documents.shell.done("syncs", "pause", "web-staging")
    documents.shell.done("secrets", "set", "shop/staging", "A", "-", stdin="x")
    documents.write(BASE)
    documents.apply()
    documents.shell.done("syncs", "update", "web-staging", "--interval", "1m")


def test_an_environment_that_was_renamed_by_hand_is_the_same_one(documents: Documents) -> None:
    documents.write(BASE)
    documents.apply()
    documents.shell.done("secrets", "set", "shop/staging", "A", "-", stdin="x")
    documents.shell.done("envs", "update", "shop/staging", "--name", "stage")
    shown = documents.diff()
    assert ("update", "environment", "shop/staging") in named(shown)
    documents.apply()
    assert [secret["key"] for secret in documents.shell.items("secrets", "list", "shop/staging")] == ["A"]


# --- secrets


def test_a_secret_access_key_comes_from_where_the_document_says(
    documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "credentials:\n  - {name: keys, type: access-key, region: eu-west-1, access_key_id: AKIAIOSFODNN7EXAMPLE, "
        "secret_access_key: {env: KEY_OF_TEST}}\n"
    )
    documents.write(text)
    digest = documents.diff()["digest"]
    assert "KEY_OF_TEST" in documents.refused(2, "apply")
    monkeypatch.setenv("KEY_OF_TEST", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    done = documents.shell("apply", "-f", str(documents.folder), "--plan", digest)
    assert done.exit_code == 0, done.stderr
    assert "EXAMPLEKEY" not in done.stdout + done.stderr
    monkeypatch.delenv("KEY_OF_TEST")
    assert documents.diff()["changes"] == []
    monkeypatch.setenv("KEY_OF_TEST", "aJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    (change,) = documents.diff()["changes"]
    assert change["after"] == {"secret_access_key": "(hidden)"}


@pytest.fixture
def sops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `sops` that decrypts by printing the file as it is."""
    program = tmp_path / "bin" / "sops"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor file; do :; done\ncat "$file"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


SOPS = "apps: [shop]\nenvironments: [{name: shop/production, values: {sops: secrets/production.enc.json}}]\n"


@pytest.mark.usefixtures("sops")
def test_values_of_a_file_are_set_and_nobody_types_them(documents: Documents) -> None:
    documents.write(SOPS)
    file = documents.folder / "secrets" / "production.enc.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"A": "one", "B": "two", "C": "three", "sops": {}}))
    shown = documents.diff()
    assert named(shown)[-1] == ("add", "values", "shop/production")
    assert "three" not in json.dumps(shown)
    documents.apply()
    assert documents.shell.done("secrets", "get", "shop/production", "B", "--reveal").stdout == "two"
    assert documents.diff()["changes"] == []

    done = documents.shell("secrets", "set", "shop/production", "A", "-", stdin="x")
    assert done.exit_code == 4
    assert "secrets/production.enc.json" in done.stderr
    assert documents.shell("secrets", "edit", "shop/production").exit_code == 4, "before an editor is started"

    file.write_text(json.dumps({"A": "other", "B": "two", "C": "three", "sops": {}}))
    (change,) = documents.diff()["changes"]
    assert change["after"] == {"A": "(hidden)"}
    documents.apply()
    assert documents.shell.done("secrets", "get", "shop/production", "A", "--reveal").stdout == "other"

    file.write_text(json.dumps({"A": "other", "sops": {}}))
    assert "2 of the 3 keys" in documents.refused(4, "apply")
    documents.apply("--plan", documents.diff()["digest"])
    assert [secret["key"] for secret in documents.shell.items("secrets", "list", "shop/production")] == ["A"]

    documents.write("apps: [shop]\nenvironments: [shop/production]\n")
    documents.apply()
    documents.shell.done("secrets", "set", "shop/production", "A", "-", stdin="x")


def test_keys_that_must_exist_are_named(documents: Documents) -> None:
    documents.write("apps: [shop]\nenvironments: [{name: shop/production, keys: [A, /db/B]}]\n")
    assert documents.apply()["missing_keys"] == {"shop/production": ["A", "/db/B"]}
    documents.shell.done("secrets", "set", "shop/production", "A", "-", stdin="x")
    assert documents.diff()["missing_keys"] == {"shop/production": ["/db/B"]}


# --- looking before, and other forms


def test_a_dry_run_shows_what_happens_at_aws_and_changes_nothing(documents: Documents, aws: Aws) -> None:
    documents.write(AMBIENT)
    documents.apply()
    documents.shell.done("secrets", "set", "shop/production", "A", "-", stdin="value")
    documents.write(AMBIENT.replace("secret_name: kept", "secret_name: kept, description: new"))
    shown = documents.apply("--dry-run")
    assert shown["dry_run"]
    (sync,) = shown["syncs"]
    assert (sync["sync"], [change["action"] for change in sync["changes"]]) == ("kept", ["create"])
    assert len(documents.diff()["changes"]) == 1
    assert documents.diff("--plan-aws")["syncs"] == shown["syncs"]


def test_a_diff_is_printed_for_a_pull_request(documents: Documents) -> None:
    documents.write(BASE)
    text = documents.shell.done("diff", "-f", str(documents.folder), "-o", "markdown").stdout
    assert text.startswith("### phasesync shop: 6 add\n")
    assert "| add | sync <code>web-production</code> |" in text
    assert documents.diff()["digest"] in text


def test_another_account_takes_one_changed_line(documents: Documents) -> None:
    documents.write(BASE)
    documents.apply()
    documents.write(BASE.replace("111122223333", "444455556666"))
    (change,) = documents.diff()["changes"]
    assert change["after"] == {"role_arn": ROLE.format(account="444455556666"), "account": "444455556666"}
    documents.apply()
    assert documents.shell.json("syncs", "show", "web-staging")["destination"]["account"] == "444455556666"


def test_a_dump_changes_nothing_and_recreates_everything(documents: Documents) -> None:
    documents.write("manage: strict\n" + BASE)
    documents.apply()
    dumped = documents.shell.done("dump").stdout
    assert documents.shell("diff", "-f", "-", "--exit-code", stdin=dumped).exit_code == 0
    as_json = documents.shell.done("dump", "-o", "json").stdout
    assert documents.shell("diff", "-f", "-", "--exit-code", stdin=as_json).exit_code == 0


def test_windows_of_apps_and_syncs_are_applied_compared_and_dumped(documents: Documents) -> None:
    """In any form that is read; what is compared and dumped is the canonical one."""
    text = BASE.replace("apps: [shop]", "apps: [{name: shop, windows: [deny: 8:00-18:00 Mon]}]")
    documents.write(text.replace("credential: aws,", "credential: aws, windows: ['allow: 22:00-04:00 sun,sat'],"))
    documents.apply()

    sync = documents.shell.json("syncs", "show", "web-staging")
    assert (sync["windows"], sync["app_windows"]) == (
        ["allow: 22:00-04:00 Sat,Sun UTC"],
        ["deny: 08:00-18:00 Mon UTC"],
    )
    assert documents.diff()["changes"] == []
    assert documents.shell("diff", "-f", "-", "--exit-code", stdin=documents.shell.done("dump").stdout).exit_code == 0
    documents.write(BASE)
    assert {name for _, _, name in named(documents.diff())} == {"shop", "web-production", "web-staging"}
    documents.apply()
    assert documents.shell.json("syncs", "show", "web-staging")["app_windows"] == []


def test_a_dump_names_what_nobody_owns_after_the_app(documents: Documents) -> None:
    shell = documents.shell
    shell.done("apps", "add", "shop")
    shell.done("envs", "add", "shop/prod")
    shell.done("secrets", "set", "shop/prod", "A", "-", stdin="x")
    dumped = shell.done("dump", "--app", "shop").stdout
    assert "name: shop\n" in dumped
    assert {change["action"] for change in shell.json("diff", "-f", "-", stdin=dumped)["changes"]} == {
        "adopt-ownership"
    }
    shell.done("apply", "-f", "-", stdin=dumped)
    assert shell.done("dump", "--app", "shop").stdout == dumped
    assert shell("dump", "--app", "nothing").exit_code == 5


def test_the_schema_is_printed(phasesync: CommandLine) -> None:
    assert json.loads(phasesync.done("schema").stdout)["title"] == "Project"


# --- what must not happen


def test_a_strict_document_keeps_aws_as_it_is_too(documents: Documents, aws: Aws) -> None:
    filled(documents, aws)
    documents.write("manage: strict\n" + AMBIENT)
    documents.apply()
    done = documents.shell("syncs", "remove", "gone", "--remote", "delete", "--yes")
    assert done.exit_code == 4
    assert "strictly" in done.stderr
    secret = aws.boto("secretsmanager", region="eu-west-1").describe_secret(SecretId="gone")
    assert "DeletedDate" not in secret
    assert documents.shell.json("syncs", "show", "gone")["paused"] is None


def test_an_environment_with_secrets_is_not_pruned_without_the_digest(documents: Documents) -> None:
    documents.write("apps: [a, b, c, d, e, f, shop]\nenvironments: [shop/production]\n")
    documents.apply()
    documents.shell.done("secrets", "set", "shop/production", "A", "-", stdin="x")
    documents.write("apps: [a, b, c, d, e, f, shop]\n")
    (change,) = documents.diff("--prune")["changes"]
    assert change["before"]["secrets"] == 1
    assert "shop/production with its 1 secret" in documents.refused(4, "apply", "--prune", "--yes")
    assert names(documents.shell, "envs", "env") == {"shop/production"}


def test_a_consent_is_part_of_the_digest(documents: Documents) -> None:
    documents.write(BASE)
    digest = documents.diff()["digest"]
    documents.write(BASE.replace("credential: aws,", "credential: aws, adopt: overwrite,"))
    shown = documents.diff()
    assert shown["digest"] != digest
    assert {change["after"].get("adopt") for change in shown["changes"] if change["kind"] == "sync"} == {"overwrite"}
    documents.apply()
    assert documents.diff()["changes"] == []


def test_how_a_document_is_managed_is_part_of_the_digest(documents: Documents) -> None:
    documents.write(BASE)
    documents.apply()
    documents.write("manage: strict\n" + BASE)
    (change,) = documents.diff()["changes"]
    assert (change["kind"], change["after"]) == ("project", {"manage": "strict"})
    documents.apply()
    assert documents.diff()["changes"] == []


def test_a_source_is_added_before_the_credential_that_needs_it(documents: Documents) -> None:
    role = f"role_arn: {ROLE.format(account='111122223333')}"
    documents.write(
        "credentials:\n"
        f"  - {{name: a, type: assume-role, region: eu-west-1, source: z, {role}}}\n"
        "  - {name: z, type: ambient, region: eu-west-1}\n"
    )
    documents.apply()
    assert documents.shell.json("credentials", "show", "a")["owner"] == {
        "project": "shop",
        "file": str(documents.folder / "shop.yaml"),
    }


def test_sources_in_a_circle_are_found_by_diff(documents: Documents) -> None:
    documents.write(
        "credentials:\n"
        "  - {name: a, type: assume-role, region: eu-west-1, source: b}\n"
        "  - {name: b, type: assume-role, region: eu-west-1, source: a}\n"
    )
    assert "circle" in documents.refused(2, "diff")


def test_a_project_is_not_taken_over_by_its_name_in_another_case(documents: Documents) -> None:
    documents.write("apps: [a, b]\n")
    documents.apply()
    documents.write("apps: [a, b]\n", name="SHOP")
    assert "write name: shop" in documents.refused(2, "apply", "--prune", "--yes")


def test_a_removal_by_hand_is_drift_too(documents: Documents) -> None:
    documents.write(BASE)
    documents.apply()
    documents.shell.done("syncs", "remove", "web-staging", "--yes")
    (drift,) = documents.shell.json("status")["drift_from_code"]
    assert (drift["name"], drift["change"]) == ("web-staging", "removed")
    (change,) = documents.diff()["changes"]
    assert (change["action"], change["drift"]) == ("add", ["removed"])
    documents.apply()
    assert documents.shell.json("status")["drift_from_code"] == []


def test_a_protection_by_hand_is_drift_and_stays_where_the_document_says_nothing(documents: Documents) -> None:
    documents.write("apps: [shop]\nenvironments: [shop/production, {name: shop/staging, approvers: 1}]\n")
    documents.apply()
    documents.shell.done("envs", "update", "shop/production", "--protect")
    assert [each["name"] for each in documents.shell.json("status")["drift_from_code"]] == ["shop/production"]
    assert documents.diff()["changes"] == []
    listed = {item["env"]: item["approvers"] for item in documents.shell.items("envs", "list")}
    assert listed == {"shop/production": 1, "shop/staging": 1}


def test_one_of_several_documents_may_say_how_the_project_is_managed(documents: Documents) -> None:
    documents.write("manage: strict\napps: [a]\n", file="a.yaml")
    documents.write("apps: [b]\n", file="b.yaml")
    documents.apply()
    done = documents.shell("apps", "update", "b", "--description", "x")
    assert done.exit_code == 4
    assert "b.yaml" in done.stderr
    assert f"phasesync apply -f {documents.folder}" in done.stderr


def test_tags_that_look_like_a_file_hide_no_document(documents: Documents) -> None:
    text = BASE.replace("[production, staging]", "[shop/production]")
    documents.write(text.replace("credential: aws,", "credential: aws, tags: {file: more.yaml},"))
    documents.write("apps: [more]\n", file="more.yaml")
    (documents.folder / "linked").symlink_to(documents.folder.parent / "elsewhere")
    (documents.folder.parent / "elsewhere").mkdir()
    (documents.folder.parent / "elsewhere" / "linked.yaml").write_text(HEAD.format(name="shop") + "apps: [linked]\n")
    documents.apply()
    assert names(documents.shell, "apps") == {"shop", "more", "linked"}


@pytest.mark.usefixtures("sops")
def test_a_dump_names_the_file_of_values_from_where_it_was_applied(
    documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(documents.folder.parent)
    documents.write(SOPS)
    (documents.folder / "secrets").mkdir()
    (documents.folder / "secrets" / "production.enc.json").write_text(json.dumps({"A": "one", "sops": {}}))
    documents.shell.done("apply", "-f", "documents")
    dumped = documents.shell.done("dump").stdout
    assert "sops: documents/secrets/production.enc.json" in dumped
    assert documents.shell("diff", "-f", "-", "--exit-code", stdin=dumped).exit_code == 0


def test_a_paused_sync_is_shown_in_markdown_too(documents: Documents, aws: Aws) -> None:
    filled(documents, aws)
    documents.shell.done("syncs", "pause", "gone")
    documents.write(AMBIENT.replace("secret_name: gone", "secret_name: gone, description: new"))
    text = documents.shell.done("diff", "-f", str(documents.folder), "--plan-aws", "-o", "markdown").stdout
    assert "would not run" in text


def test_a_new_name_of_a_sync_is_hinted_at(documents: Documents) -> None:
    documents.write(BASE)
    documents.apply()
    documents.write(BASE.replace('"web-{env}"', '"site-{env}"'))
    assert "phasesync syncs rename OLD site-production" in documents.refused(4, "apply")
