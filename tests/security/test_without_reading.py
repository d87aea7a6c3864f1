"""
The whole main job under a role that may not read a value: no GetSecretValue, BatchGetSecretValue or ListSecrets.

The role has the trust policy and the policy that phasesync prints, exactly as printed, and AWS enforces both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.accounts import REGION, Account, Key, allow
from tests.support.aws import environ_of
from tests.support.installation import Installation
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    # What is stored where makes no difference to AWS.
    pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True),
]

NAME = "shop/production"


@pytest.fixture
def installation(tmp_path: Path, database_url: str, home: Account, host: Key) -> Iterator[Installation]:
    """Nothing yet; at the end no daemon is left."""
    made = Installation(tmp_path, database_url, environ_of(home.ministack.url) | host.environ())
    yield made
    made.close()


def test_the_main_job_needs_no_right_to_read(
    installation: Installation, home: Account, host: Key, target: Account
) -> None:
    done, show = installation.done, installation.json
    key_arn = target.client("kms").create_key()["KeyMetadata"]["Arn"]

    # The credential first, since its External ID stands in the role's trust policy.
    done("init")
    added = show("credentials", "add", "aws", "--type", "assume-role", "--region", REGION)
    assert added["status"] == "incomplete"
    trust = done("aws", "trust-policy", "aws").stdout
    policy = done("aws", "policy", "--starter", "sync", "--no-sweep", "--region", REGION, "--kms-key", key_arn).stdout
    role = put_in_place(target, trust, policy)
    done("credentials", "update", "aws", "--role-arn", role)
    tested = show("credentials", "test", "aws")
    assert (tested["status"], tested["account"]) == ("verified", target.number)
    assert (tested["findings"], tested["open_without_external_id"]) == ([], False)

    # Created.
    done("apps", "add", "shop")
    done("envs", "add", "shop/production")
    done(
        "secrets", "import", "shop/production", "-", "--format", "dotenv", "--yes", stdin="URL=postgres://db\nUSER=u\n"
    )
    where = ("--env", "shop/production", "--credential", "aws", "--secret-name", NAME, "--interval", "1s")
    done("syncs", "add", "web", *where)
    daemon = installation.start_daemon()
    done("syncs", "wait", "web", "--for", "in-sync", "--timeout", "20s")
    assert target.secret_values(NAME) == {"URL": "postgres://db", "USER": "u"}
    assert {tag["Key"] for tag in target.secret(NAME)["Tags"]} == {"phasesync:instance", "phasesync:sync"}
    assert home.secret_names() == []
    installation.in_process = True  # commands only; the daemon is the one that calls AWS from here on

    # An edit; then someone else's, which is repaired without being read.
    done("secrets", "set", "shop/production", "URL", "-", stdin="postgres://new")
    wait_until(lambda: target.secret_values(NAME)["URL"] == "postgres://new", what="the edit")
    installation.wait_for("web")
    target.client("secretsmanager").put_secret_value(SecretId=NAME, SecretString='{"URL":"theirs"}')
    wait_until(lambda: target.secret_values(NAME).get("URL") == "postgres://new", what="the repair")

    # A pause holds back, resume sends.
    done("syncs", "pause", "web")
    done("secrets", "set", "shop/production", "URL", "-", stdin="postgres://later")
    assert installation.run("syncs", "run", "web").exit_code == 4
    assert target.secret_values(NAME)["URL"] == "postgres://new"
    done("syncs", "resume", "web")
    wait_until(lambda: target.secret_values(NAME)["URL"] == "postgres://later", what="the value held back")

    # Another key, and a fresh version under it. ministack checks neither the key nor our right to it.
    before = current_version(target)
    done("syncs", "update", "web", "--kms-key", key_arn)
    wait_until(lambda: current_version(target) != before, what="a version under the new key")
    installation.wait_for("web")
    assert target.secret(NAME)["KmsKeyId"] == key_arn
    assert target.secret_values(NAME) == {"URL": "postgres://later", "USER": "u"}

    assert daemon.stop() == 0
    runs = show("runs", "list", "--sync", "web", "--limit", "1000")["items"]
    assert {run["outcome"] for run in runs} <= {"applied", "unchanged"}, runs
    assert_reading_is_refused(installation, target, host, role, added["external_id"])


def put_in_place(target: Account, trust: str, policy: str) -> str:
    """Make the role of two documents as they were printed; return its ARN."""
    iam = target.client("iam")
    made = iam.create_policy(PolicyName="phasesync", PolicyDocument=policy)["Policy"]
    role = iam.create_role(RoleName="phasesync", AssumeRolePolicyDocument=trust)["Role"]
    iam.attach_role_policy(RoleName="phasesync", PolicyArn=made["Arn"])
    return str(role["Arn"])


def current_version(target: Account) -> str:
    stages = target.secret(NAME)["VersionIdsToStages"]
    return next(version for version, labels in stages.items() if "AWSCURRENT" in labels)


def assert_reading_is_refused(
    installation: Installation, target: Account, host: Key, role: str, external_id: str
) -> None:
    """The role could not have read a value, had phasesync tried; with these rights alone someone else can."""
    ours = target.client("secretsmanager", key=target.assume(role, by=host, external_id=external_id))
    reader = target.client("secretsmanager", key=target.add_user("reader", allow(*READS)))
    for action, arguments in READS.items():
        operation = OPERATIONS[action]
        getattr(reader, operation)(**arguments)
        with pytest.raises(ClientError) as caught:
            getattr(ours, operation)(**arguments)
        assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    listed = installation.run("aws", "list-secrets", "--credential", "aws", "-o", "json")
    assert listed.exit_code == 7
    error = json.loads(listed.stderr.splitlines()[-1])["error"]
    assert error["class"] == "PermissionDeniedError" and "secretsmanager:ListSecrets" in error["message"]


READS: dict[str, dict[str, Any]] = {
    "secretsmanager:GetSecretValue": {"SecretId": NAME},
    "secretsmanager:BatchGetSecretValue": {"SecretIdList": [NAME]},
    "secretsmanager:ListSecrets": {},
}
OPERATIONS = {
    "secretsmanager:GetSecretValue": "get_secret_value",
    "secretsmanager:BatchGetSecretValue": "batch_get_secret_value",
    "secretsmanager:ListSecrets": "list_secrets",
}
