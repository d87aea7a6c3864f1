"""Apps and environments from the command line."""

from __future__ import annotations

import json

import pytest


def names(phasesync):
    return [item["name"] for item in phasesync.items("apps", "list")]


def labels(phasesync, *args):
    return [item["env"] for item in phasesync.items("envs", "list", *args)]


def test_an_app_is_added_without_environments(phasesync):
    assert phasesync.items("apps", "list") == []
    added = phasesync.json("apps", "add", "shop", "--description", "The shop")
    assert (added["name"], added["description"]) == ("shop", "The shop")
    assert phasesync.items("apps", "list") == [added]
    assert phasesync.items("envs", "list") == []


def test_a_name_in_another_case_exists_already(phasesync):
    phasesync.done("apps", "add", "shop")
    again = phasesync("apps", "add", "Shop", "-o", "json")
    assert again.exit_code == 4
    assert json.loads(again.stderr)["error"]["class"] == "AlreadyExistsError"


def test_an_app_is_renamed_and_described(shop):
    shop.done("apps", "update", "shop", "--name", "store", "--description", "x")
    assert shop.items("apps", "list")[0]["description"] == "x"
    assert labels(shop) == ["store/prod"]


def test_an_update_of_nothing_is_wrong_usage(shop):
    assert shop("apps", "update", "shop").exit_code == 2


def test_an_app_is_removed_when_its_environments_are(shop):
    assert shop("apps", "remove", "shop", "--yes").exit_code == 4
    shop.done("envs", "remove", "shop/prod", "--yes")
    shop.done("apps", "remove", "shop", "--yes")
    assert names(shop) == []


@pytest.mark.parametrize("command", [["apps", "remove", "shop"], ["envs", "remove", "shop/prod"]])
def test_removing_without_a_terminal_needs_yes(shop, command):
    refused = shop(*command)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert labels(shop) == ["shop/prod"]


def test_removing_asks_and_no_means_no(shop, answer):
    answer()
    shop.done("secrets", "generate", "shop/prod", "K")
    refused = shop("envs", "remove", "shop/prod", stdin="n\n")
    assert refused.exit_code == 1
    assert "with 1 secret and" in refused.stderr
    assert labels(shop) == ["shop/prod"]
    shop.done("envs", "remove", "shop/prod", stdin="y\n")
    assert labels(shop) == []


@pytest.mark.parametrize(
    "command",
    [
        ["apps", "remove", "nope", "--yes"],
        ["apps", "update", "nope", "--name", "x"],
        ["envs", "add", "nope/prod"],
        ["envs", "remove", "shop/nope", "--yes"],
        ["envs", "update", "shop/nope", "--name", "x"],
        ["envs", "clone", "shop/nope", "x"],
        ["envs", "list", "--app", "nope"],
    ],
)
def test_what_does_not_exist_is_not_found(shop, command):
    assert shop(*command).exit_code == 5


@pytest.mark.parametrize("command", [["apps", "add", "a/b"], ["envs", "add", "shop"], ["envs", "add", "shop/a b"]])
def test_a_name_that_is_none_is_wrong_usage_and_the_hint_says_what_is_allowed(shop, command):
    refused = shop(*command)
    assert refused.exit_code == 2
    assert "hint: " in refused.stderr


def test_environments_are_listed_of_one_app_or_of_all(shop):
    shop.done("apps", "add", "blog")
    shop.done("envs", "add", "blog/dev")
    assert labels(shop) == ["blog/dev", "shop/prod"]
    assert labels(shop, "--app", "shop") == ["shop/prod"]


def test_an_environment_counts_its_keys_and_revisions(shop):
    shop.done("secrets", "generate", "shop/prod", "A")
    shop.done("secrets", "generate", "shop/prod", "B", "--path", "/db")
    (item,) = shop.items("envs", "list")
    assert (item["keys"], item["revision"]) == (2, 2)


def test_an_environment_is_renamed(shop):
    assert shop.json("envs", "update", "shop/prod", "--name", "production")["env"] == "shop/production"
    assert labels(shop) == ["shop/production"]


def test_a_clone_has_the_secrets_of_its_original_and_lives_apart(shop):
    shop.done("secrets", "set", "shop/prod", "K", "-", stdin="one")
    shop.done("envs", "clone", "shop/prod", "staging")
    shop.done("secrets", "set", "shop/staging", "K", "-", stdin="two")
    assert shop.done("secrets", "get", "shop/prod", "K", "--reveal").stdout == "one"
    assert shop.done("secrets", "get", "shop/staging", "K", "--reveal").stdout == "two"


def test_without_json_stdout_has_tables_only(shop):
    added = shop.done("envs", "add", "shop/dev")
    assert added.stdout == ""
    assert "added the environment shop/dev" in added.stderr
    titles = shop.done("envs", "list").stdout.splitlines()[0].split()
    assert titles == ["ENV", "REVISION", "KEYS", "APPROVERS", "CREATED", "AT"]
