"""AWS's own command line uses leases through `credential-process`, on an AWS that enforces what their policy says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts import REGION, Account, Key, allow
from tests.support.aws import environ_of
from tests.support.awscli import AwsCli, Said
from tests.support.daemon import PHASESYNC
from tests.support.installation import Installation
from tests.support.ministack import Ministack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True),
]

READER = {"Version": "2012-10-17", "Statement": allow("secretsmanager:ListSecrets")["Statement"]}


@pytest.fixture
def maker(home: Account) -> Key:
    """Who makes the users. What our printed policy allows is tried elsewhere: ministack's users have no path."""
    return home.add_user("phasesync", allow("iam:*", "sts:*"))


@pytest.fixture
def installation(
    tmp_path: Path, migrated_database_url: str, ministack: Ministack, maker: Key, home: Account
) -> Iterator[Installation]:
    """A database with a dynamic secret for users that may list secrets, and nothing else."""
    made = Installation(tmp_path, migrated_database_url, environ_of(ministack.url) | maker.environ())
    made.initialise()
    made.in_process = True  # What the command line of AWS starts is a process of its own.
    made.done("apps", "add", "shop")
    made.done("envs", "add", "shop/production")
    made.done("credentials", "add", "aws", "--type", "ambient", "--region", REGION)
    policy = tmp_path / "reader.json"
    policy.write_text(json.dumps(READER))
    lives = ("--default-ttl", "1h", "--max-ttl", "8h")
    recipe = ("--env", "shop/production", "--credential", "aws", "--inline-policy", str(policy), *lives)
    made.done("dynamic", "add", "ci", *recipe)
    home.add_secret("shop/web")
    yield made
    made.close()


@pytest.fixture
def aws(tmp_path: Path, ministack: Ministack, installation: Installation) -> AwsCli:
    """The command line, with a profile that asks phasesync for its keys."""
    # phasesync runs with the environment of who calls it, so a configuration of AWS must not lead back to itself.
    ours = {name: installation.environ[name] for name in installation.environ if name.startswith("PHASESYNC_")}
    cli = AwsCli(tmp_path, environ_of(ministack.url) | ours | {"PATH": installation.environ["PATH"]})
    wrapper = tmp_path / "credentials.sh"
    keys = " ".join(f"{name}={installation.environ[name]}" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    wrapper.write_text(f'#!/bin/sh\n{keys} exec {PHASESYNC} leases issue ci --format credential-process --keep "$@"\n')
    wrapper.chmod(0o700)
    cli.configure("ci", credential_process=str(wrapper), region=REGION)
    return cli


def refused(said: Said, code: str) -> None:
    assert said.exit_code != 0
    assert code in said.stderr, said.stderr


def test_a_profile_may_what_the_policy_allows_and_nothing_else(aws: AwsCli, installation: Installation) -> None:
    listed = aws.run("--profile", "ci", "secretsmanager", "list-secrets")
    caller = aws.run("--profile", "ci", "sts", "get-caller-identity")

    assert [one["Name"] for one in json.loads(listed.stdout)["SecretList"]] == ["shop/web"], listed.stderr
    (lease,) = installation.json("leases", "list")["items"]
    assert json.loads(caller.stdout)["Arn"] == lease["principal"], "one lease serves both calls: it is kept"
    refused(aws.run("--profile", "ci", "secretsmanager", "get-secret-value", "--secret-id", "shop/web"), "AccessDenied")
    refused(aws.run("--profile", "ci", "iam", "create-user", "--user-name", "theirs"), "AccessDenied")


def test_after_its_revocation_the_same_keys_are_refused(aws: AwsCli, installation: Installation, home: Account) -> None:
    issued = installation.json("leases", "issue", "ci")
    keys = issued["credentials"]
    before = aws.run("secretsmanager", "list-secrets", **keys)

    installation.done("leases", "revoke", issued["id"])

    assert before.exit_code == 0, before.stderr
    refused(aws.run("secretsmanager", "list-secrets", **keys), "")
    refused(aws.run("sts", "get-caller-identity", **keys), "InvalidClientTokenId")
    assert [user["UserName"] for user in home.client("iam").list_users()["Users"]] == ["phasesync"]


def test_a_profile_gets_another_lease_once_its_own_is_revoked(aws: AwsCli, installation: Installation) -> None:
    first = aws.run("--profile", "ci", "sts", "get-caller-identity")
    (lease,) = installation.json("leases", "list")["items"]
    installation.done("leases", "revoke", lease["id"])

    second = aws.run("--profile", "ci", "sts", "get-caller-identity")

    assert second.exit_code == 0, second.stderr
    assert json.loads(second.stdout)["Arn"] != json.loads(first.stdout)["Arn"] == lease["principal"]
