"""What phasesync prints for AWS, put in place exactly as printed, is enough for a sync and for nothing more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from phasesync.core.iam.document import Document
from phasesync.core.iam.role_setup import trust_policy
from phasesync.core.iam.sync_policy import starter_sync_policy
from tests.support.accounts import REGION, Account, Key, allow
from tests.support.aws import environ_of
from tests.support.aws_builders import EXTERNAL_ID
from tests.support.installation import Done, Installation

pytestmark = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)

NAME = "shop/production"


@pytest.fixture
def installation(tmp_path: Path, migrated_database_url: str, host: Key, home: Account) -> Iterator[Installation]:
    """A store with one environment, and nothing about AWS; the shell is the user `host`."""
    made = Installation(tmp_path, migrated_database_url, environ_of(home.ministack.url) | host.environ())
    made.in_process = True
    made.initialise()
    made.done("apps", "add", "shop")
    made.done("envs", "add", "shop/production")
    made.done("secrets", "set", "shop/production", "URL", "-", stdin="postgres://db")
    yield made
    made.close()


def add_sync(installation: Installation, *options: str) -> Done:
    """Add a sync with the credential `aws`, whatever the result."""
    where = ("--env", "shop/production", "--credential", "aws", "--secret-name", NAME)
    return installation.run("syncs", "add", "web", *where, *options)


def add_credential(installation: Installation, target: Account, host: Key, *policies: Document) -> str:
    """Add the credential `aws` for a role that may do this; return the role's ARN."""
    role = target.add_role("phasesync", trust_policy(principal_arn=host.arn, external_id=EXTERNAL_ID), *policies)
    given = ("--region", REGION, "--role-arn", role, "--external-id", EXTERNAL_ID)
    installation.done("credentials", "add", "aws", "--type", "assume-role", *given)
    return role


def error_of(done: Done) -> str:
    """Return what a command that failed with JSON output said."""
    return str(json.loads(done.stderr.splitlines()[-1])["error"]["message"])


def test_the_lines_that_adding_a_credential_prints_make_its_role(installation: Installation, target: Account) -> None:
    printed = installation.done("credentials", "add", "aws", "--type", "assume-role", "--region", REGION)
    lines = [line for line in printed.stderr.splitlines() if line.startswith("aws iam ")]

    for line in lines:
        target.type_line(line)

    assert len(lines) == 3
    role = f"arn:aws:iam::{target.number}:role/phasesync-aws"
    installation.done("credentials", "update", "aws", "--role-arn", role)
    tested = installation.json("credentials", "test", "aws")
    assert (tested["status"], tested["account"], tested["findings"]) == ("verified", target.number, [])
    assert add_sync(installation).exit_code == 0
    installation.done("syncs", "run", "web")
    assert target.secret_values(NAME) == {"URL": "postgres://db"}


def test_what_a_test_of_the_credential_says_is_so(installation: Installation, target: Account, host: Key) -> None:
    role = target.add_role(
        "open", trust_policy(principal_arn=host.arn, external_id=None), starter_sync_policy(region=REGION)
    )
    installation.done("credentials", "add", "aws", "--type", "assume-role", "--region", REGION, "--role-arn", role)

    tested = installation.json("credentials", "test", "aws")
    assert (tested["status"], tested["open_without_external_id"]) == ("verified", True)
    assert "can also be assumed without the External ID" in tested["findings"][0]
    added = add_sync(installation)
    assert (added.exit_code, "without the External ID" in added.stderr) == (0, True)

    trust = installation.done("aws", "trust-policy", "aws").stdout
    target.client("iam").update_assume_role_policy(RoleName="open", PolicyDocument=trust)

    tested = installation.json("credentials", "test", "aws")
    assert (tested["findings"], tested["open_without_external_id"]) == ([], False)


def test_a_rejected_credential_adds_no_sync(installation: Installation, target: Account, host: Key) -> None:
    trust = trust_policy(principal_arn=host.arn, external_id="of-somebody-else")
    role = target.add_role("phasesync", trust, starter_sync_policy(region=REGION))
    installation.done("credentials", "add", "aws", "--type", "assume-role", "--region", REGION, "--role-arn", role)

    assert installation.run("credentials", "test", "aws").exit_code == 7
    assert installation.json("credentials", "show", "aws")["status"] == "rejected"
    assert add_sync(installation).exit_code == 7
    assert (installation.json("syncs", "list")["items"], target.secret_names()) == ([], [])


def test_a_role_without_rights_adds_no_sync_and_the_missing_action_is_named(
    installation: Installation, target: Account, host: Key
) -> None:
    add_credential(installation, target, host)

    refused = add_sync(installation, "-o", "json")

    assert refused.exit_code == 7
    assert "secretsmanager:DescribeSecret" in error_of(refused)
    assert installation.json("syncs", "list")["items"] == []


def test_a_right_that_is_taken_away_stops_the_sync_until_it_is_given_back(
    installation: Installation, target: Account, host: Key
) -> None:
    add_credential(installation, target, host, starter_sync_policy(region=REGION))
    assert add_sync(installation).exit_code == 0
    installation.done("syncs", "run", "web")

    target.set_role_policies("phasesync", allow("secretsmanager:DescribeSecret"))
    installation.done("secrets", "set", "shop/production", "URL", "-", stdin="postgres://new")
    run = json.loads(installation.run("syncs", "run", "web", "-o", "json").stdout)

    assert (run["outcome"], run["error"]["class"]) == ("failed", "PermissionDeniedError")
    assert "secretsmanager:PutSecretValue" in run["error"]["message"]
    assert installation.json("syncs", "show", "web")["status"] == "failing"
    assert target.secret_values(NAME) == {"URL": "postgres://db"}

    target.set_role_policies("phasesync", starter_sync_policy(region=REGION))
    installation.done("syncs", "run", "web")

    assert installation.json("syncs", "show", "web")["status"] == "in-sync"
    assert target.secret_values(NAME) == {"URL": "postgres://new"}


def test_the_policy_of_a_sync_creates_and_changes_what_is_ours_and_nothing_else(
    installation: Installation, target: Account, host: Key
) -> None:
    """The role may do exactly what `aws policy SYNC` prints, from before its secret exists."""
    role = add_credential(installation, target, host)
    assert add_sync(installation, "--no-verify").exit_code == 0
    target.set_role_policies("phasesync", printed_policy(installation))
    theirs = [target.add_secret(name) for name in (f"{NAME}-of-another", "shop", "other/production")]

    installation.done("syncs", "run", "web")
    assert target.secret_values(NAME) == {"URL": "postgres://db"}

    installation.done("secrets", "set", "shop/production", "URL", "-", stdin="postgres://new")
    installation.done("syncs", "run", "web")
    assert target.secret_values(NAME) == {"URL": "postgres://new"}

    session = target.client("secretsmanager", key=target.assume(role, by=host, external_id=EXTERNAL_ID))
    arn = target.secret(NAME)["ARN"]
    target.client("secretsmanager").untag_resource(SecretId=arn, TagKeys=["phasesync:instance"])
    refused = partial(pytest.raises, ClientError)
    for secret in (arn, *theirs):
        with refused(match="not authorized to perform: secretsmanager:PutSecretValue"):
            session.put_secret_value(SecretId=secret, SecretString="{}")
    for secret in theirs:
        with refused(match="not authorized to perform: secretsmanager:DescribeSecret"):
            session.describe_secret(SecretId=secret)
        with refused(match="not authorized to perform: secretsmanager:TagResource"):
            session.tag_resource(SecretId=secret, Tags=[{"Key": "phasesync:instance", "Value": "mine"}])
    with refused(match="not authorized to perform: secretsmanager:CreateSecret"):
        session.create_secret(Name=f"{NAME}-2", SecretString="{}")
    with refused(match="not authorized to perform: secretsmanager:GetSecretValue"):
        session.get_secret_value(SecretId=arn)
    with refused(match="not authorized to perform: secretsmanager:DeleteSecret"):
        session.delete_secret(SecretId=arn)
    assert target.secret_values(NAME) == {"URL": "postgres://new"}
    assert [target.secret_values(secret) for secret in theirs] == [{"KEY": "theirs"}] * 3
    assert target.secret_names() == sorted([NAME, f"{NAME}-of-another", "shop", "other/production"])


def test_the_policy_of_a_sync_of_many_secrets_creates_those(
    installation: Installation, target: Account, host: Key
) -> None:
    role = add_credential(installation, target, host)
    where = ("--env", "shop/production", "--credential", "aws", "--no-verify")
    installation.done("syncs", "add", "web", *where, "--layout", "per-key", "--name-template", "{app}/{env}/{key}")
    target.set_role_policies("phasesync", printed_policy(installation))
    theirs = target.add_secret("shop/staging/URL")

    installation.done("syncs", "run", "web")
    installation.done("secrets", "set", "shop/production", "USER", "-", stdin="shop")
    installation.done("syncs", "run", "web")

    assert target.secret_names() == ["shop/production/URL", "shop/production/USER", "shop/staging/URL"]
    session = target.client("secretsmanager", key=target.assume(role, by=host, external_id=EXTERNAL_ID))
    with pytest.raises(ClientError, match="not authorized to perform: secretsmanager:UntagResource"):
        session.untag_resource(SecretId=theirs, TagKeys=["theirs"])


def printed_policy(installation: Installation) -> Document:
    """Return what `aws policy` prints for the sync `web`."""
    printed: Document = json.loads(installation.done("aws", "policy", "web").stdout)
    return printed
