"""That nothing arrived is no value, and no list without members: a failed command before a pipe leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.support.aws import Aws


def value(shop: CommandLine, key: str) -> bytes:
    return shop.done("secrets", "get", "shop/prod", key, "--reveal").stdout_bytes


def keys(shop: CommandLine) -> list[str]:
    return [item["key"] for item in shop.items("secrets", "list", "shop/prod")]


@pytest.mark.parametrize("type_", ["text", "json", "binary"])
@pytest.mark.parametrize("stdin", [b"", b"\n", b"\r\n"])
def test_nothing_on_stdin_changes_no_value(shop: CommandLine, stdin: bytes, type_: str) -> None:
    shop.done("secrets", "set", "shop/prod", "K", "-", stdin="kept")
    refused = shop("secrets", "set", "shop/prod", "K", "-", "--type", type_, stdin=stdin)
    assert refused.exit_code == 2
    assert "nothing arrived on stdin" in refused.stderr
    assert "--allow-empty" in refused.stderr
    assert value(shop, "K") == b"kept"


def test_an_empty_file_changes_no_value(shop: CommandLine) -> None:
    file = shop.directory / "empty"
    file.touch()
    refused = shop("secrets", "set", "shop/prod", "K", "--from-file", str(file))
    assert (refused.exit_code, "--allow-empty" in refused.stderr) == (2, True)
    assert keys(shop) == []


def test_enter_alone_changes_no_value(shop: CommandLine, answer) -> None:
    answer()
    refused = shop("secrets", "set", "shop/prod", "K", stdin="\n")
    assert (refused.exit_code, "--allow-empty" in refused.stderr) == (2, True)
    assert keys(shop) == []


def test_an_empty_value_that_is_meant_is_stored(shop: CommandLine) -> None:
    shop.done("secrets", "set", "shop/prod", "K", "-", "--allow-empty", stdin="")
    assert value(shop, "K") == b""


@pytest.mark.parametrize("stdin", ["", "\n \n", "ignored"])
def test_a_secret_access_key_that_did_not_arrive_is_refused(shop: CommandLine, stdin: str) -> None:
    add = ("credentials", "add", "keys", "--type", "access-key", "--access-key-id", "AKIAIOSFODNN7EXAMPLE")
    done = shop(*add, "--region", "eu-west-1", stdin=stdin)
    assert (done.exit_code, "nothing arrived" in done.stderr) == ((0, False) if stdin.strip() else (2, True))


NOTHING = [
    ("x.env", ""),
    ("x.env", "# a comment\n\n   \n"),
    ("x.env", "\ufeff"),
    ("x.json", ""),
    ("x.json", " \n"),
    ("x.json", "{}"),
]


@pytest.mark.parametrize(("name", "text"), NOTHING)
def test_a_file_without_keys_is_warned_of_and_prunes_nothing(shop: CommandLine, name: str, text: str) -> None:
    shop.done("secrets", "import", "shop/prod", "-", "--yes", stdin="A=1\nB=2\n")
    file = shop.directory / name
    file.write_text(text, encoding="utf-8")

    done = shop.done("secrets", "import", "shop/prod", str(file), "--yes")
    assert "has no keys" in done.stderr
    refused = shop("secrets", "import", "shop/prod", str(file), "--prune", "--yes")
    assert refused.exit_code == 2
    assert "would remove every key" in refused.stderr
    assert "--allow-empty" in refused.stderr
    assert keys(shop) == ["A", "B"]

    shop.done("secrets", "import", "shop/prod", str(file), "--prune", "--yes", "--allow-empty")
    assert keys(shop) == []


def test_where_there_is_nothing_to_remove_an_empty_file_with_prune_is_a_warning(shop: CommandLine) -> None:
    assert "has no keys" in shop.done("secrets", "import", "shop/prod", "-", "--prune", "--yes", stdin="").stderr


@pytest.mark.reads_values("secrets import --from-aws")
def test_an_aws_secret_without_members_prunes_nothing(shop: CommandLine, aws: Aws) -> None:
    aws.boto("secretsmanager").create_secret(Name="empty", SecretString="{}")
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    shop.done("secrets", "set", "shop/prod", "K", "-", stdin="kept")

    refused = shop("secrets", "import", "shop/prod", "--from-aws", "empty", "--credential", "host", "--prune", "--yes")

    assert (refused.exit_code, "empty has no keys" in refused.stderr) == (2, True)
    assert keys(shop) == ["K"]


def test_null_is_what_a_program_did_not_find(shop: CommandLine) -> None:
    shop.done("secrets", "set", "shop/prod", "K", "-", stdin="kept")
    document = '{"K": null, "L": {"inner": null}}'
    refused = shop("secrets", "import", "shop/prod", "-", "--format", "json", "--yes", stdin=document)
    assert (refused.exit_code, "of K is null" in refused.stderr, "--allow-empty" in refused.stderr) == (2, True, True)
    assert value(shop, "K") == b"kept"

    shop.done("secrets", "import", "shop/prod", "-", "--format", "json", "--yes", "--allow-empty", stdin=document)
    assert (value(shop, "K"), value(shop, "L")) == (b"null", b'{"inner":null}')


def test_values_that_a_file_empties_are_named(shop: CommandLine) -> None:
    done = shop.done("secrets", "import", "shop/prod", "-", "--yes", stdin="A=\nB=x\nC=''\n")
    assert "warning: empty in the file, and so in the store: A, C" in done.stderr


def test_a_document_that_was_cut_off_changes_nothing(shop: CommandLine, tmp_path: Path) -> None:
    shop.done("secrets", "set", "shop/prod", "K", "-", stdin="kept")
    for text in ('{"A": "x", "B": "', '{"A": "x"', "{"):
        assert shop("secrets", "import", "shop/prod", "-", "--format", "json", "--yes", stdin=text).exit_code == 2
    assert keys(shop) == ["K"]
