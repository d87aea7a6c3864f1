"""The main job from end to end, typed as an operator types it: a store is set up, and AWS follows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import values_of, versions_of
from tests.support.aws import ACCOUNT, Aws
from tests.support.installation import ACCESS_KEY_ID, REGION, Installation
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "shop/production"


class Operator:
    """Who types the commands."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation

    def set_up(self) -> None:
        """Make everything that a sync needs."""
        done = self.installation.done
        done("apps", "add", "shop")
        done("envs", "add", "shop/production")
        done(
            "secrets",
            "import",
            "shop/production",
            "-",
            "--format",
            "dotenv",
            "--yes",
            stdin="URL=postgres://db\nUSER=shop\n",
        )
        key = ("--access-key-id", ACCESS_KEY_ID, "--region", REGION)
        done("credentials", "add", "aws", "--type", "access-key", *key, stdin="not-a-real-secret-access-key\n")
        tested = self.installation.json("credentials", "test", "aws")
        assert (tested["status"], tested["identity"]["account"]) == ("verified", ACCOUNT)
        added = self.installation.json(
            *("syncs", "add", "web", "--env", "shop/production", "--credential", "aws", "--secret-name", NAME),
            *("--interval", "1s"),
        )
        assert added["status"] == "pending"

    def set(self, key: str, value: str, *options: str) -> None:
        """Set a secret."""
        self.installation.done("secrets", "set", "shop/production", key, "-", *options, stdin=value)

    def sync(self) -> Any:
        """Return the sync as `syncs show` prints it."""
        return self.installation.json("syncs", "show", "web")

    def runs(self) -> list[Any]:
        """Return the log, oldest first."""
        items: list[Any] = self.installation.json("runs", "list", "--sync", "web", "--limit", "1000")["items"]
        return items[::-1]


@pytest.fixture
def installation(database_url: str, tmp_path: Path, aws: Aws) -> Iterator[Installation]:
    """
    Nothing yet; at the end no daemon is left, however the test ends.

    On SQLite each command is a process: the installed command until everything is set up, then one that begins after
    its imports.
    """
    made = Installation(tmp_path, database_url, aws.environ)
    made.in_process = "postgresql" in database_url
    yield made
    made.close()


def test_aws_follows_the_store(installation: Installation, aws: Aws) -> None:
    installation.done("init")
    operator = Operator(installation)
    operator.set_up()
    daemon = installation.start_daemon(installed=True)
    installation.preloaded = True

    # Created, and tagged as ours.
    installation.done("syncs", "wait", "web", "--for", "in-sync", "--timeout", "20s")
    assert values_of(aws, NAME) == {"URL": "postgres://db", "USER": "shop"}
    tags = {tag["Key"] for tag in aws.boto("secretsmanager").describe_secret(SecretId=NAME)["Tags"]}
    assert tags == {"phasesync:instance", "phasesync:sync"}

    # An edit arrives; `--wait` returns no sooner.
    operator.set("URL", "postgres://new", "--wait")
    assert values_of(aws, NAME)["URL"] == "postgres://new"
    assert len(versions_of(aws, NAME)) == 2

    # What someone else wrote is repaired at the interval.
    aws.boto("secretsmanager").put_secret_value(SecretId=NAME, SecretString='{"URL": "theirs"}')
    wait_until(lambda: values_of(aws, NAME).get("URL") == "postgres://new", what="the repair")

    # A pause holds edits back, checks too; resume sends them.
    installation.done("syncs", "pause", "web", "--reason", "a migration")
    operator.set("URL", "postgres://later")
    writes = aws.server.count("PutSecretValue")
    paused = operator.sync()
    assert (paused["status"], paused["paused"]["reason"]) == ("paused", "a migration")
    assert installation.run("syncs", "run", "web").exit_code == 4
    assert values_of(aws, NAME)["URL"] == "postgres://new"
    assert aws.server.count("PutSecretValue") == writes
    installation.done("syncs", "resume", "web")
    installation.wait_for("web")
    assert values_of(aws, NAME)["URL"] == "postgres://later"

    # Emptying waits for someone who has seen what would be lost.
    installation.done("secrets", "unset", "shop/production", "URL")
    wait_until(lambda: values_of(aws, NAME) == {"USER": "shop"}, what="the smaller value")
    installation.done("secrets", "unset", "shop/production", "USER")
    installation.wait_for("web", status="held")
    assert values_of(aws, NAME) == {"USER": "shop"}
    plan = installation.json("syncs", "plan", "web")
    assert plan["held"] == [NAME]
    installation.done("syncs", "approve", "web", "--plan", plan["digest"])
    installation.wait_for("web")
    assert values_of(aws, NAME) == {}

    assert daemon.stop() == 0
    check_log(operator.runs(), aws)
    status = installation.json("status")
    assert (status["syncs"], status["needs_attention"], status["daemons"]) == ({"in-sync": 1}, [], [])


def check_log(runs: list[Any], aws: Aws) -> None:
    """The log shows what happened, and its figures are those of AWS."""
    told = [(run["trigger"], run["outcome"]) for run in runs if run["outcome"] != "unchanged"]
    assert [trigger for trigger, outcome in told if outcome == "applied"] == [
        *("change", "change", "drift", "resume", "change", "manual")
    ], told
    assert ("change", "held") in told
    mine = [one.name for one in aws.server.operations if one.access_key_id == ACCESS_KEY_ID]
    assert not {"GetSecretValue", "BatchGetSecretValue"} & set(mine)
    written = sum(run["versions_written"] for run in runs)
    assert written == mine.count("CreateSecret") + mine.count("PutSecretValue") == len(versions_of(aws, NAME)) - 1
    first = runs[0]
    assert (first["counts"], first["revisions"], first["error"]) == ({"create": 1}, {"shop/production": 1}, None)
    assert json.dumps(runs).count("postgres://") == 0
