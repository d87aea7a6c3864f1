"""Canaries go through the main job, and are found nowhere but where they were meant to be."""

from __future__ import annotations

import pytest

from phasesync.demo.canary import (
    CANARY_ACCESS_KEY_ID,
    CANARY_COMMENT,
    CANARY_KEY,
    CANARY_SECRET_ACCESS_KEY,
    CANARY_VALUE,
    find,
    find_in_tree,
)
from phasesync.emulator import Answer
from tests.e2e.conftest import dump, values_of
from tests.support.aws import Aws
from tests.support.installation import REGION, Installation

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "shop/production"
VALUES = [CANARY_VALUE, CANARY_SECRET_ACCESS_KEY]
ALL = [*VALUES, CANARY_KEY, CANARY_COMMENT]
"""Nothing of these is in the database or in the log of the daemon."""


def test_nothing_leaks(installation: Installation, aws: Aws) -> None:
    installation.in_process = True
    installation.configure(log__level="debug")
    key = ("--access-key-id", CANARY_ACCESS_KEY_ID, "--region", REGION)
    outputs = [
        installation.done("apps", "add", "shop"),
        installation.done("envs", "add", "shop/production"),
        installation.done(
            *("secrets", "set", "shop/production", CANARY_KEY, "-", "--comment", CANARY_COMMENT), stdin=CANARY_VALUE
        ),
        installation.done("credentials", "add", "aws", "--type", "access-key", *key, stdin=CANARY_SECRET_ACCESS_KEY),
        installation.done(
            *("syncs", "add", "web", "--env", "shop/production", "--credential", "aws", "--secret-name", NAME)
        ),
    ]
    daemon = installation.start_daemon()
    installation.wait_for("web")
    assert values_of(aws, NAME) == {CANARY_KEY: CANARY_VALUE}, "otherwise there is nothing to find"

    # A second version, a write that AWS refuses with a text that repeats the value, and a drop in the middle.
    aws.server.fail("PutSecretValue", Answer("InvalidParameterException", message=f"bad value: {CANARY_VALUE}"))
    installation.done("secrets", "set", "shop/production", CANARY_KEY, "-", stdin=f"{CANARY_VALUE} again")
    daemon.wait_for_line("run finished", outcome="failed")
    aws.server.fail("PutSecretValue", times=3)
    outputs.append(installation.run("syncs", "run", "web"))
    outputs.append(installation.run("syncs", "run", "web"))
    assert [one.exit_code for one in outputs[-2:]] == [1, 0]
    assert values_of(aws, NAME) == {CANARY_KEY: f"{CANARY_VALUE} again"}
    # What people get wrong; in processes of their own, where Python might have the last word.
    installation.in_process = "postgresql" in installation.database_url
    outputs += [
        installation.run("secrets", "set", "shop/production", CANARY_KEY, CANARY_VALUE),
        installation.run("secrets", "set", "shop/production", CANARY_KEY, "-", "--type", "json", stdin=CANARY_VALUE),
        installation.run("secrets", "set", "shop/staging", CANARY_KEY, "-", stdin=CANARY_VALUE),
        installation.run("credentials", "add", "aws", "--type", "access-key", *key, stdin=CANARY_SECRET_ACCESS_KEY),
        installation.run("apps", "list", PHASESYNC_ROOT_KEY=CANARY_VALUE, PHASESYNC_ROOT_KEY_FILE=""),
        installation.run("apps", "list", PHASESYNC_DATABASE_URL=f"mysql://root:{CANARY_VALUE}@localhost/db"),
    ]
    assert all(one.exit_code not in (0, 130) for one in outputs[-6:]), [one.exit_code for one in outputs[-6:]]
    outputs.append(installation.done("runs", "list", "-o", "json"))
    outputs.append(installation.done("syncs", "show", "web", "-o", "json"))

    # The WAL is still there while the daemon works, and everything is in one file after it.
    for moment in ("at work", "stopped"):
        assert find_in_tree(installation.folder, ALL) == [], moment
        if not daemon.ended:
            assert daemon.stop() == 0
    if "postgresql" in installation.database_url:
        for table, content in dump(installation.database_url):
            assert find(content, ALL, where=table) == []
    assert find(daemon.log.read_bytes(), ALL) == []
    for number, one in enumerate(outputs):
        assert find(one.stdout + one.stderr, VALUES, where=f"command {number}") == []
    arrived = b"".join(one.body for one in aws.server.operations)
    assert find(arrived, [CANARY_VALUE]) != [], "the search works"
