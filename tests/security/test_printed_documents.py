"""What phasesync prints for AWS, put in place exactly as printed, is enough for a sync and for nothing more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from phasesync.adapters.aws.policies import sync_policy, trust_policy
from tests.support.accounts import REGION, Account, Key, allow
from tests.support.aws import environ_of
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
    """Add a sync with the credential `aws`, whatever comes of it."""
    where = ("--env", "shop/production", "--credential", "aws", "--secret-name", NAME)
    return installation.run("syncs", "add", "web", *where, *options)


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
    role = target.add_role("open", trust_policy(principal_arn=host.arn, external_id=None), sync_policy(region=REGION))
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
    role = target.add_role("phasesync", trust, sync_policy(region=REGION))
    installation.done("credentials", "add", "aws", "--type", "assume-role", "--region", REGION, "--role-arn", role)

    assert installation.run("credentials", "test", "aws").exit_code == 7
    assert installation.json("credentials", "show", "aws")["status"] == "rejected"
    assert add_sync(installation).exit_code == 7
    assert (installation.json("syncs", "list")["items"], target.secret_names()) == ([], [])


def test_a_role_without_rights_adds_no_sync_and_the_missing_action_is_named(
    installation: Installation, target: Account, host: Key
) -> None:
    external_id = "external-id-of-ours"
    role = target.add_role("phasesync", trust_policy(principal_arn=host.arn, external_id=external_id))
    given = ("--region", REGION, "--role-arn", role, "--external-id", external_id)
    installation.done("credentials", "add", "aws", "--type", "assume-role", *given)

    refused = add_sync(installation, "-o", "json")

    assert refused.exit_code == 7
    assert "secretsmanager:DescribeSecret" in error_of(refused)
    assert installation.json("syncs", "list")["items"] == []


def test_a_right_that_is_taken_away_stops_the_sync_until_it_is_given_back(
    installation: Installation, target: Account, host: Key
) -> None:
    external_id = "external-id-of-ours"
    trust = trust_policy(principal_arn=host.arn, external_id=external_id)
    role = target.add_role("phasesync", trust, sync_policy(region=REGION))
    given = ("--region", REGION, "--role-arn", role, "--external-id", external_id)
    installation.done("credentials", "add", "aws", "--type", "assume-role", *given)
    assert add_sync(installation).exit_code == 0
    installation.done("syncs", "run", "web")

    target.set_role_policies("phasesync", allow("secretsmanager:DescribeSecret"))
    installation.done("secrets", "set", "shop/production", "URL", "-", stdin="postgres://new")
    run = json.loads(installation.run("syncs", "run", "web", "-o", "json").stdout)

    assert (run["outcome"], run["error"]["class"]) == ("failed", "PermissionDeniedError")
    assert "secretsmanager:PutSecretValue" in run["error"]["message"]
    assert installation.json("syncs", "show", "web")["status"] == "failing"
    assert target.secret_values(NAME) == {"URL": "postgres://db"}

    target.set_role_policies("phasesync", sync_policy(region=REGION))
    installation.done("syncs", "run", "web")

    assert installation.json("syncs", "show", "web")["status"] == "in-sync"
    assert target.secret_values(NAME) == {"URL": "postgres://new"}
