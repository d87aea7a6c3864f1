"""A value that was typed as an argument is refused where that can be known, and repeated nowhere."""

from __future__ import annotations

import pytest

from phasesync.bootstrap import open_application
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.names import check_stored_key
from phasesync.settings import load_settings
from tests.cli.conftest import CommandLine

ODD = "K\u200b"


@pytest.mark.parametrize("words", [("KEY=canary",), ("KEY=canary", "-"), ("KEY", "canary"), ("KEY", "-", "canary")])
@pytest.mark.parametrize("command", ["set", "generate"])
def test_a_value_is_never_taken_from_an_argument(shop: CommandLine, command: str, words: tuple[str, ...]) -> None:
    refused = shop("secrets", command, "shop/prod", *words, stdin="x")
    assert (refused.exit_code, shop.items("secrets", "list", "shop/prod")) == (2, [])
    assert "canary" not in refused.output
    if command == "set" or "=" in words[0]:
        assert "a value is never taken from an argument" in refused.stderr


@pytest.mark.parametrize(
    "command",
    [
        "secrets get shop/prod KEY=canary",
        "secrets get shop/prod KEY=canary -o json",
        "secrets unset shop/prod KEY=canary",
        "secrets history shop/prod KEY=canary",
        "secrets rollback shop/prod KEY=canary --to 1",
        "secrets get shop/prod KEY canary",
        "secrets set KEY=canary -",
        "secrets set shop/prod/KEY=canary -",
        "secrets set shop/prod KEY - --type KEY=canary",
        "secrets set shop/prod KEY - --type=KEY=canary",
        "secrets set shop/prod KEY - --path KEY=canary",
        "secrets set shop/prod KEY - --timeout KEY=canary",
        "secrets set shop/prod KEY --value=canary",
        "secrets set shop/prod KEY --from-file KEY=canary",
        "secrets generate shop/prod KEY --length KEY=canary",
        "secrets import shop/prod KEY=canary",
        "secrets import shop/prod - --key KEY=canary",
        "secrets export shop/prod --format KEY=canary",
        "secrets KEY=canary",
        "KEY=canary secrets",
        "run --env shop/prod -- KEY=canary true",
        "run --env KEY=canary -- true",
    ],
)
def test_what_stands_after_an_equals_sign_is_in_no_message(shop: CommandLine, command: str) -> None:
    refused = shop(*command.split(), stdin="A=b")
    assert refused.exit_code not in {0, 1}
    assert "canary" not in refused.output


def test_pairs_that_options_take_are_named_in_errors(shop: CommandLine) -> None:
    refused = shop("dynamic", "update", "ci", "--tag", "=value")
    assert "'=value' is not KEY=VALUE" in refused.stderr


def add_odd_key(key: str) -> None:
    """What an earlier release let in."""
    with open_application(load_settings(None).settings) as application, pytest.MonkeyPatch.context() as patch:
        patch.setattr("phasesync.store.secrets.check_key", check_stored_key)
        write = SecretWrite(path="/", key=key, value=SecretValue("old"))
        application.store.secrets.edit("shop", "prod", actor="t", origin="set", writes=[write])


@pytest.mark.parametrize("key", [ODD, " K ", "KEY=canary"])
def test_a_key_from_before_the_rule_can_be_read_exported_changed_and_removed(shop: CommandLine, key: str) -> None:
    add_odd_key(key)
    exported = shop.done("secrets", "export", "shop/prod", "--format", "json").stdout
    assert shop.done("secrets", "get", "shop/prod", key, "--reveal").stdout == "old"
    if "=" not in key:
        shop.done("secrets", "set", "shop/prod", key, "-", stdin="new")
    shop.done("secrets", "import", "shop/prod", "-", "--format", "json", "--yes", stdin=exported)
    shop.done("envs", "clone", "shop/prod", "copy")
    shop.done("secrets", "unset", "shop/prod", key)
    shop.done("secrets", "rollback", "shop/prod", key, "--to", "1")
    assert shop.done("secrets", "get", "shop/copy", key, "--reveal").stdout == "old"


def test_a_key_from_before_that_no_variable_can_have_is_left_out_without_its_value(shop: CommandLine) -> None:
    add_odd_key("KEY=canary")
    refused = shop("run", "--env", "shop/prod", "--", "/nonexistent")
    assert (refused.exit_code, "KEY=… is left out" in refused.stderr) == (127, True)
    assert "canary" not in refused.output


@pytest.mark.parametrize(
    ("args", "stdin"),
    [
        (("set", "shop/prod", ODD, "-"), "x"),
        (("generate", "shop/prod", ODD), ""),
        (("import", "shop/prod", "-", "--yes"), f"A=1\n{ODD}=2\n"),
        (("import", "shop/prod", "-", "--yes", "--format", "json"), '{"A": "1", "K\\u200b": "2"}'),
    ],
)
def test_a_new_key_follows_the_rule_whichever_way_it_comes(
    shop: CommandLine, args: tuple[str, ...], stdin: str
) -> None:
    refused = shop("secrets", *args, stdin=stdin)
    assert (refused.exit_code, shop.items("secrets", "list", "shop/prod")) == (2, [])
    assert "U+200B (ZERO WIDTH SPACE)" in refused.stderr


def test_a_key_of_a_dynamic_secret_follows_the_rule(ci: CommandLine) -> None:
    refused = ci("dynamic", "update", "ci", "--key-map", f"username={ODD}")
    assert (refused.exit_code, "U+200B" in refused.stderr) == (2, True)
