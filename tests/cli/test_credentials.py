"""`phasesync credentials`, typed in."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import CommandLine


@pytest.mark.parametrize("wrong", ["AKIA...", "AKIA SHORT", "x" * 129])
def test_a_mistyped_access_key_id_is_refused_and_not_repeated(phasesync: CommandLine, wrong: str) -> None:
    """It may be the secret key, in the wrong place."""
    given = ("--type", "access-key", "--region", "eu-west-1", "--access-key-id", wrong)
    refused = phasesync("credentials", "add", "keys", *given, stdin="secret")
    assert refused.exit_code == 2
    assert "that is not an access key id" in refused.stderr
    assert wrong not in refused.stderr
    assert phasesync.items("credentials", "list") == []


def test_a_key_that_is_not_given_is_asked_for_by_name(phasesync: CommandLine) -> None:
    """The hint is the option that is missing."""
    refused = phasesync("credentials", "add", "keys", "--type", "access-key", "--region", "eu-west-1")
    assert refused.exit_code == 2
    assert "hint: add --access-key-id ID" in refused.stderr


# --- AWS's rules, on input

ROLE = ("--type", "assume-role", "--region", "eu-west-1")
KEY_ID = "AKIAIOSFODNN7EXAMPLE"
KEY = ("--type", "access-key", "--region", "eu-west-1", "--access-key-id")


def without(usual: tuple[str, ...], options: tuple[str, ...]) -> tuple[str, ...]:
    """The usual options, without that which is given another way."""
    at = usual.index(options[0]) if options[0] in usual else len(usual)
    return (*usual[:at], *usual[at + 2 :])


@pytest.mark.parametrize("command", ["add", "update"])
@pytest.mark.parametrize(
    ("options", "why", "hint"),
    [
        (("--external-id", ""), "an External ID is not empty", "--no-external-id"),
        (("--external-id", "a b"), "an External ID has letters and digits", "the role's trust policy"),
        (("--role-arn", ""), "is not the ARN of an IAM role", "aws iam get-role prints it"),
        (("--role-arn", "arn:aws-cn:iam::111122223333:role/x"), "is in the partition aws-cn", "arn:aws:iam::"),
        (("--region", ""), "is not an AWS Region", "looks like"),
        (("--region", "eu-west-1a"), "is not an AWS Region", "the Region of that zone is eu-west-1"),
    ],
)
def test_what_aws_would_not_take_is_refused(
    phasesync: CommandLine, command: str, options: tuple[str, ...], why: str, hint: str
) -> None:
    if command == "update":
        phasesync.done("credentials", "add", "aws", *ROLE)
    refused = phasesync("credentials", command, "aws", *(without(ROLE, options) if command == "add" else ()), *options)
    assert refused.exit_code == 2
    assert why in refused.stderr
    assert hint in refused.stderr


@pytest.mark.parametrize("account", ["", "1234", "arn:aws:iam::1:root"])
def test_what_is_no_account_is_not_pinned(phasesync: CommandLine, account: str) -> None:
    phasesync.done("credentials", "add", "aws", *ROLE)
    assert phasesync("credentials", "update", "aws", "--account", account).exit_code == 2
    assert phasesync.json("credentials", "show", "aws")["account"] is None


def test_a_key_that_was_pasted_with_white_space_is_stored_without_it(phasesync: CommandLine) -> None:
    phasesync.done("credentials", "add", "keys", *KEY, f"{KEY_ID}\r", stdin=b"  the-secret/key+\r\n")
    assert phasesync.json("credentials", "show", "keys")["access_key_id"] == KEY_ID[-4:]


@pytest.mark.parametrize("command", ["add", "update"])
def test_temporary_keys_are_refused_before_their_secret_is_asked_for(phasesync: CommandLine, command: str) -> None:
    options: tuple[str, ...] = KEY
    if command == "update":
        phasesync.done("credentials", "add", "keys", *KEY, KEY_ID, stdin=b"secret")
        options = ("--access-key-id",)
    refused = phasesync("credentials", command, "keys", *options, "ASIAIOSFODNN7EXAMPLE", stdin=b"")
    assert refused.exit_code == 2
    assert "session token" in refused.stderr
    assert "--type ambient" in refused.stderr


@pytest.mark.parametrize("secret", [b"a b", b"a\rb", "schl\u00fcssel".encode()])
def test_a_secret_key_that_is_none_is_refused_and_not_repeated(phasesync: CommandLine, secret: bytes) -> None:
    refused = phasesync("credentials", "add", "keys", *KEY, KEY_ID, stdin=secret)
    assert refused.exit_code == 2
    assert "not a secret access key" in refused.stderr
    assert secret.decode() not in refused.stderr
    assert phasesync.items("credentials", "list") == []


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--tag", "team=R&D"), "the character '&'"),
        (("--tag", "AWS:x=y"), "the prefix aws: is reserved"),
        (("--region", "cn-north-1"), "the Region cn-north-1 is in the partition aws-cn"),
        (("--region", ""), "is not an AWS Region"),
        (("--replica", "us-gov-west-1"), "the Region us-gov-west-1 is in the partition aws-us-gov"),
        (("--secret-name", "arn:aws:secretsmanager:eu-west-1:111122223333:secret:web-a1b2c3"), "is an ARN, not a name"),
    ],
)
@pytest.mark.parametrize("command", ["add", "update"])
def test_a_sync_is_checked_by_the_same_rules(
    shop: CommandLine, command: str, options: tuple[str, ...], why: str
) -> None:
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    new: tuple[str, ...] = ("--env", "shop/prod", "--credential", "host", "--secret-name", "web", "--no-verify")
    if command == "update":
        shop.done("syncs", "add", "web", *new)
        new = ()
    refused = shop("syncs", command, "web", *without(new, options), *options)
    assert refused.exit_code == 2
    assert why in refused.stderr


@pytest.mark.parametrize(
    ("secret", "options", "why"),
    [
        ("arn:aws:secretsmanager:eu-west-1:111122223333:secret:web", (), "is not the full ARN of a secret"),
        ("", (), "there is no secret without a name"),
        ("arn:aws:secretsmanager:eu-west-1:1:secret:web-a1b2c3", (), "the account has 1 characters"),
        (
            "arn:aws:secretsmanager:us-east-1:111122223333:secret:web-a1b2c3",
            ("--region", "eu-west-1"),
            "the ARN names a secret in us-east-1",
        ),
        ("arn:aws-cn:secretsmanager:cn-north-1:111122223333:secret:web-a1b2c3", (), "is in the partition aws-cn"),
        ("web", ("--region", "cn-north-1"), "is in the partition aws-cn"),
    ],
)
@pytest.mark.parametrize("command", [("secrets", "import", "shop/prod", "--from-aws"), ("aws", "force-delete")])
def test_a_part_of_an_arn_or_one_of_another_region_is_refused(
    shop: CommandLine, command: tuple[str, ...], secret: str, options: tuple[str, ...], why: str
) -> None:
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    refused = shop(*command, secret, "--credential", "host", *options, "--yes")
    assert refused.exit_code == 2
    assert why in refused.stderr


def test_a_credential_does_not_leave_the_partition_of_what_uses_it(shop: CommandLine) -> None:
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    shop.done("credentials", "update", "host", "--region", "cn-north-1")
    refused = shop("credentials", "add", "far", *ROLE, "--source", "host")
    assert refused.exit_code == 2
    assert "the source host, in cn-north-1, is in aws-cn" in refused.stderr
    shop.done("credentials", "update", "host", "--region", "eu-west-1")

    shop.done("credentials", "add", "near", *ROLE, "--source", "host")
    lives = ("--default-ttl", "1h", "--max-ttl", "8h")
    shop.done("dynamic", "add", "ci", "--env", "shop/prod", "--credential", "host", *lives)
    where = ("--env", "shop/prod", "--credential", "host", "--secret-name", "web")
    shop.done("syncs", "add", "web", *where, "--no-verify")
    refused = shop("credentials", "update", "host", "--region", "cn-north-1")
    assert refused.exit_code == 2
    assert "what uses the credential host is in aws: ci, near, web" in refused.stderr
    assert "phasesync credentials add NAME --type ambient --region cn-north-1" in refused.stderr
    assert shop.json("credentials", "show", "host")["region"] == "eu-west-1"
    shop.done("credentials", "update", "host", "--region", "us-east-1")


def test_what_makes_the_role_is_in_the_document_too(phasesync: CommandLine) -> None:
    added = phasesync.done("credentials", "add", "aws", *ROLE, "-o", "json")
    setup = json.loads(added.stdout)["setup"]
    assert setup["trust_policy"] == json.loads(phasesync.done("aws", "trust-policy", "aws").stdout)
    assert setup["policy"] == json.loads(
        phasesync.done("aws", "policy", "--starter", "sync", "--credential", "aws").stdout
    )
    assert [line.split()[2] for line in setup["commands"]] == ["create-policy", "create-role", "attach-role-policy"]
    assert "Statement" not in added.stderr


def test_a_person_is_told_how_to_make_the_role_and_how_to_print_each_document(phasesync: CommandLine) -> None:
    added = phasesync.done("credentials", "add", "aws", *ROLE)
    assert added.stdout == ""
    for line in (
        "aws iam create-role",
        "aws trust-policy aws prints",
        "--starter sync --credential aws prints",
    ):
        assert line in added.stderr
