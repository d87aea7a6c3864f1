"""Renames: what they change at AWS is shown first, and only then asked for."""

from pathlib import Path

import pytest

from tests.cli.conftest import LIVES, POLICY, CommandLine

SYNC = ("--env", "shop/production", "--credential", "aws", "--no-verify")


@pytest.fixture
def filled(phasesync: CommandLine) -> CommandLine:
    """A command line with a sync of either layout and a dynamic secret, nothing of it at AWS."""
    phasesync.done("apps", "add", "shop")
    phasesync.done("envs", "add", "shop/production")
    phasesync.done("secrets", "set", "shop/production", "URL", "-", stdin="x")
    phasesync.done("secrets", "set", "shop/production", "USER", "-", stdin="y")
    phasesync.done("credentials", "add", "aws", "--type", "ambient", "--region", "eu-west-1")
    phasesync.done("syncs", "add", "web", *SYNC, "--secret-name", "shop/web")
    return phasesync


def add_per_key(phasesync: CommandLine, template: str, *options: str) -> None:
    phasesync.done("syncs", "add", "keys", *SYNC, "--layout", "per-key", "--name-template", template, *options)


def test_names_of_our_own_change_without_a_question(filled: CommandLine) -> None:
    assert filled.json("syncs", "rename", "web", "site")["name"] == "site"
    assert filled.json("credentials", "rename", "aws", "live")["name"] == "live"
    (credential,) = filled.items("credentials", "list")
    assert (credential["name"], credential["used_by"]) == ("live", ["site"])
    refused = filled("syncs", "rename", "missing", "new")
    assert (refused.exit_code, filled("credentials", "rename", "live", "-x").exit_code) == (5, 2)
    # No template names app or environment.
    assert filled.json("apps", "update", "shop", "--name", "store")["renamed"] == []
    assert filled.json("envs", "update", "store/production", "--name", "live")["renamed"] == []


def test_new_names_at_aws_are_shown_and_need_a_confirmation(filled: CommandLine) -> None:
    add_per_key(filled, "{app}/{env}/{key}")

    refused = filled("apps", "update", "shop", "--name", "store")

    assert refused.exit_code == 2
    assert "2 objects at AWS will be written under new names" in refused.stderr
    lines = [line.split() for line in refused.stderr.splitlines()]
    assert ["keys", "shop/production/URL", "store/production/URL"] in lines
    assert "the old objects stay at AWS" in refused.stderr
    assert [app["name"] for app in filled.items("apps", "list")] == ["shop"]
    renamed = filled.json("apps", "update", "shop", "--name", "store", "--yes")["renamed"]
    assert renamed == [
        {"sync": "keys", "old": f"shop/production/{key}", "new": f"store/production/{key}"} for key in ("URL", "USER")
    ]
    assert filled("envs", "update", "store/production", "--name", "live").exit_code == 2
    assert len(filled.json("envs", "update", "store/production", "--name", "live", "--yes")["renamed"]) == 2


def test_what_becomes_of_the_old_objects_is_said(filled: CommandLine) -> None:
    add_per_key(filled, "{env}-{key}", "--on-remove", "delete", "--grace", "2h")

    refused = filled("envs", "update", "shop/production", "--name", "live")

    assert (refused.exit_code, "the old objects stay at AWS as they are" in refused.stderr) == (2, True)


def test_a_name_that_another_sync_has_is_refused_before_anything_is_changed(filled: CommandLine) -> None:
    add_per_key(filled, "{app}/{env}/{key}")
    filled.done("syncs", "add", "taken", *SYNC, "--secret-name", "store/production/URL")

    refused = filled("apps", "update", "shop", "--name", "store", "--yes")

    assert refused.exit_code == 4
    assert "the sync taken already writes to store/production/URL" in refused.stderr
    assert [app["name"] for app in filled.items("apps", "list")] == ["shop"]


def test_users_of_later_leases_are_named(filled: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(POLICY)
    recipe = ("--credential", "aws", "--inline-policy", str(tmp_path / "policy.json"), *LIVES)
    filled.done("dynamic", "add", "ci", "--env", "shop/production", *recipe)

    done = filled.done("dynamic", "rename", "ci", "deploy")

    assert "new leases of ci get users or sessions named deploy-..., up to now ci-..." in done.stderr
    assert filled.json("dynamic", "show", "deploy")["name"] == "deploy"
    # The template has no name of the app: nothing to say.
    assert "note" not in filled.done("apps", "update", "shop", "--name", "store").stderr
    long = "x" * 64
    assert filled("dynamic", "rename", "deploy", long).exit_code == 2, "AWS takes names of 64 characters"


def test_a_rehearsal_shows_them_and_changes_nothing(filled: CommandLine) -> None:
    add_per_key(filled, "{app}/{env}/{key}")
    filled.done("syncs", "pause", "web", "keys", "--reason", "no calls of AWS")

    would = filled.json("apps", "update", "shop", "--name", "store", "--dry-run")["would"]

    assert [each["new"] for each in would["renamed"]] == ["store/production/URL", "store/production/USER"]
    assert [app["name"] for app in filled.items("apps", "list")] == ["shop"]
    assert filled.json("syncs", "rename", "web", "site", "--dry-run")["would"]["name"] == "site"
    assert filled.json("syncs", "show", "web")
