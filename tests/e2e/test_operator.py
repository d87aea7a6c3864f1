"""One secret a key, from what others made to the end: typed as an operator types it, while a daemon works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws import Aws
from tests.support.installation import ACCESS_KEY_ID, REGION, Installation
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

KEYS = ("A", "B", "C", "D", "E")


@pytest.fixture
def installation(migrated_database_url: str, tmp_path: Path, aws: Aws) -> Iterator[Installation]:
    """A database with keys and nothing in it. An operator may read from AWS; no daemon is left at the end."""
    made = Installation(tmp_path, migrated_database_url, aws.environ)
    made.initialise()
    made.in_process = True
    yield made
    made.close()


@pytest.mark.reads_values("syncs adopt --import")
@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_secrets_are_taken_over_deleted_restored_and_removed(installation: Installation, aws: Aws) -> None:
    done = installation.done
    for key in KEYS:
        aws.boto("secretsmanager").create_secret(Name=f"shop/{key}", SecretString=f"their {key}")

    # An empty environment is filled from AWS, and the sync takes the secrets over.
    done("apps", "add", "shop")
    done("envs", "add", "shop/production")
    access = ("--access-key-id", ACCESS_KEY_ID, "--region", REGION)
    done("credentials", "add", "aws", "--type", "access-key", *access, stdin="not-a-real-secret-access-key\n")
    added = installation.json(
        *("syncs", "add", "keys", "--env", "shop/production", "--credential", "aws", "--name-template", "shop/{key}"),
        *("--adopt", "prefer-aws", "--on-remove", "delete", "--grace", "1s", "--interval", "1s", "--on-drift", "hold"),
    )
    assert added["imported"]["added"] == list(KEYS)
    daemon = installation.start_daemon()
    installation.wait_for("keys")
    assert {name: value_of(aws, name) for name in KEYS} == {name: f"their {name}" for name in KEYS}
    assert installation.json("syncs", "verify", "keys")["objects"][0] == {
        "remote_name": "shop/A",
        "result": "same",
        "reason": None,
    }
    arn = describe(aws, "A")["ARN"]

    # One key goes: its secret is scheduled for deletion after the grace. It comes back under the same ARN.
    done("secrets", "unset", "shop/production", "A")
    wait_until(lambda: "DeletedDate" in describe(aws, "A"), what="the deletion")
    done("secrets", "set", "shop/production", "A", "-", stdin="new A")
    wait_until(lambda: "DeletedDate" not in describe(aws, "A"), what="the restoration")
    installation.wait_for("keys")
    assert (describe(aws, "A")["ARN"], value_of(aws, "A")) == (arn, "new A")

    # Many keys go: that waits for someone who has seen how many.
    for name in ("A", "B", "C"):
        done("secrets", "unset", "shop/production", name)
    wait_until(lambda: len(installation.json("syncs", "plan", "keys")["held"]) == 3, what="the end of the grace of all")
    installation.wait_for("keys", status="held")
    plan = installation.json("syncs", "plan", "keys")
    held = [one for one in installation.json("syncs", "why", "keys")["objects"] if one["held"]]
    assert {one["held"] for one in held} == {"deletions"}
    assert plan["held"] == [one["remote_name"] for one in held]
    done("syncs", "approve", "keys", "--plan", plan["digest"])
    installation.wait_for("keys")
    assert all("DeletedDate" in describe(aws, one.removeprefix("shop/")) for one in plan["held"])

    # Someone else writes: held as well, until approved.
    aws.boto("secretsmanager").put_secret_value(SecretId="shop/E", SecretString="changed by others")
    installation.wait_for("keys", status="held")
    assert value_of(aws, "E") == "changed by others"
    (drifted,) = [one for one in installation.json("syncs", "why", "keys")["objects"] if one["held"]]
    assert (drifted["remote_name"], drifted["held"]) == ("shop/E", "drift")
    done("syncs", "approve", "keys", "--plan", installation.json("syncs", "plan", "keys")["digest"])
    installation.wait_for("keys")
    assert value_of(aws, "E") == "their E"

    # The sync goes with everything that it has at AWS.
    removed = installation.json("syncs", "remove", "keys", "--remote", "delete", "--yes")
    assert (removed["removed"], removed["left_alone"]) == ("keys", {})
    assert all("DeletedDate" in describe(aws, name) for name in KEYS)
    assert daemon.stop() == 0
    log = daemon.log.read_text()
    assert not any(text in log for text in ("their ", "new A", "changed by others"))


def describe(aws: Aws, key: str) -> Any:
    """What AWS says of the secret of a key."""
    return aws.boto("secretsmanager").describe_secret(SecretId=f"shop/{key}")


def value_of(aws: Aws, key: str) -> str:
    """What readers of the secret of a key get."""
    return aws.secret_text(f"shop/{key}")
