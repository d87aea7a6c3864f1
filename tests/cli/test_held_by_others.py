"""Managed external secrets and copies between accounts, typed in, on AWS on loopback: who holds them is always told."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import CommandLine
from tests.support.aws import ACCOUNT, Aws

NAME = "shop/web"
THEIR_ACCOUNT = "222222222222"
WRITES = {"CreateSecret", "PutSecretValue", "UpdateSecret", "TagResource", "UntagResource", "DeleteSecret"}


@pytest.fixture
def syncs(shop: CommandLine, aws: Aws) -> CommandLine:
    """A command line with a credential and an environment of one key."""
    shop.done("credentials", "add", "host", "--type", "ambient", "--region", "eu-west-1")
    shop.done("secrets", "import", "shop/prod", "-", "--yes", stdin="URL=postgres://db\n")
    return shop


@pytest.fixture(params=["external", "copy"])
def holder(request: pytest.FixtureRequest, aws: Aws) -> str:
    """A secret that others hold stands at the name of the sync; what names who holds it."""
    value = json.dumps({"URL": "theirs"})
    if request.param == "external":
        aws.server.outside.create_external(NAME, "DatadogApiKey", value)
        return "DatadogApiKey"
    theirs = aws.server.outside.at(account=THEIR_ACCOUNT)
    arn = theirs.create(NAME, value)
    theirs.copy_to(ACCOUNT, NAME)
    return arn


def add(syncs: CommandLine, *options: str) -> str:
    """Add the sync `web`; return all that is said."""
    done = syncs("syncs", "add", "web", "--env", "shop/prod", "--credential", "host", "--secret-name", NAME, *options)
    return done.stdout + done.stderr


@pytest.mark.reads_values("syncs verify")
def test_every_command_that_looks_names_who_holds_it_and_none_writes(syncs: CommandLine, aws: Aws, holder: str) -> None:
    added = add(syncs)
    assert holder in added
    assert "phasesync syncs adopt" not in added
    assert "NAME" not in added
    for command in (("plan", "web"), ("run", "web"), ("adopt", "web", "--yes"), ("why", "web"), ("verify", "web")):
        done = syncs("syncs", *command)
        assert holder in done.stdout + done.stderr, command
    assert not WRITES & set(aws.server.names())
    assert json.loads(aws.secret_text(NAME)) == {"URL": "theirs"}


def test_a_refused_adoption_says_what_helps(syncs: CommandLine, holder: str) -> None:
    add(syncs)
    helps = "phasesync syncs update web, with --secret-name" if holder == "DatadogApiKey" else "stop-replication-to-"
    for options in ((), ("--import", "prefer-aws")):
        refused = syncs("syncs", "adopt", "web", "--yes", *options)
        assert refused.exit_code == 4
        assert helps in refused.stderr.partition("hint: ")[2]


def test_adoption_at_the_beginning_is_refused_as_well(syncs: CommandLine, aws: Aws, holder: str) -> None:
    assert holder in add(syncs, "--adopt", "overwrite")
    syncs("syncs", "run", "web")
    assert not WRITES & set(aws.server.names())


@pytest.mark.reads_values("secrets import --from-aws")
def test_the_value_can_be_imported_and_the_warning_names_who_holds_it(
    syncs: CommandLine, aws: Aws, holder: str
) -> None:
    done = syncs.done("secrets", "import", "shop/prod", "--from-aws", NAME, "--credential", "host", "--yes")
    assert holder in done.stderr
    assert json.loads(syncs.done("secrets", "export", "shop/prod", "--format", "json").stdout) == {"URL": "theirs"}


def test_lists_show_the_type(syncs: CommandLine, aws: Aws) -> None:
    """AWS's lists do not show copies between accounts."""
    aws.server.outside.create("plain")
    aws.server.outside.create_external(NAME, "DatadogApiKey")
    listed = syncs.json("aws", "list-secrets", "--credential", "host")["items"]
    assert {one["name"]: one["type"] for one in listed} == {NAME: "DatadogApiKey", "plain": None}
    assert "DatadogApiKey" in syncs.done("aws", "list-secrets", "--credential", "host").stdout


def test_the_deletion_of_a_primary_names_the_command_that_ends_its_replication(syncs: CommandLine, aws: Aws) -> None:
    add(syncs)
    syncs.done("syncs", "run", "web")
    arn = aws.server.outside.copy_to(THEIR_ACCOUNT, NAME)
    command = f"disassociate-cross-account-replica --secret-id {NAME} --cross-account-replica-arn {arn} "

    refused = syncs("syncs", "remove", "web", "--remote", "delete", "--yes")
    forced = syncs("aws", "force-delete", NAME, "--credential", "host", "--yes")

    assert command in refused.stdout + refused.stderr
    assert (forced.exit_code, command in forced.stderr) == (4, True)
    aws.server.outside.end_copies(NAME)
    syncs.done("syncs", "remove", "web", "--remote", "delete", "--yes")
    assert json.loads(aws.server.outside.at(account=THEIR_ACCOUNT).text(NAME)) == {"URL": "postgres://db"}


def test_why_says_that_a_copy_stays_behind_for_lack_of_a_right(syncs: CommandLine, aws: Aws) -> None:
    add(syncs)
    syncs.done("syncs", "run", "web")
    aws.server.outside.copy_to(THEIR_ACCOUNT, NAME)
    aws.server.deny("kms:Encrypt")
    syncs.done("secrets", "set", "shop/prod", "URL", "-", stdin="postgres://new")

    syncs.done("syncs", "run", "web")

    why = syncs.done("syncs", "why", "web").stdout
    assert f"copy in {THEIR_ACCOUNT}: Failed" in why
    assert "--copy-key ARN" in why
