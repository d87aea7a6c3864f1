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
from tests.support.installation import REGION, Done, Installation
from tests.support.metrics import scrape
from tests.support.receivers import HttpReceiver
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "cnry-remote-n4me-61f0"
PATH_OF_CHANNEL = "cnry-ch4nnel-2b7e90"
VALUES = [CANARY_VALUE, CANARY_SECRET_ACCESS_KEY]
ALL = [*VALUES, CANARY_KEY, CANARY_COMMENT]
"""Nothing of these is in the database or in the log of the daemon."""
UNWATCHED = [*ALL, NAME, PATH_OF_CHANNEL]
"""Nothing of these is in a metric, a span, a notification or a log line."""


def test_nothing_leaks(installation: Installation, aws: Aws) -> None:
    installation.in_process = True
    installation.configure(log__level="debug", metrics__per_sync=True)
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
    with HttpReceiver() as receiver, HttpReceiver() as collector:
        channel = f"http://127.0.0.1:{receiver.port}/{PATH_OF_CHANNEL}"
        added = installation.done("notifications", "add", "ops", "--to", "-", stdin=channel)
        outputs.append(added)
        work_and_fail(installation, aws, receiver, collector, outputs, key)
    assert find(b"".join(one.body for one in receiver.requests), UNWATCHED, where="notifications") == []
    assert {one.path for one in receiver.requests} == {f"/{PATH_OF_CHANNEL}"}, "otherwise there is nothing to find"
    assert collector.requests
    assert find(b"".join(one.body for one in collector.requests), UNWATCHED, where="spans") == []
    secret = added.stdout.rpartition("whsec_")[2].strip()
    assert len(secret) > 20
    assert find_in_tree(installation.folder, [secret]) == []
    for one in outputs:
        assert one is added or secret not in one.stdout + one.stderr


def work_and_fail(
    installation: Installation,
    aws: Aws,
    receiver: HttpReceiver,
    collector: HttpReceiver,
    outputs: list[Done],
    key: tuple[str, ...],
) -> None:
    """Have a daemon work, fail and report it; nothing of the canaries is in files, tables, log, metrics or outputs."""
    daemon = installation.start_daemon(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}")
    installation.wait_for("web")
    assert values_of(aws, NAME) == {CANARY_KEY: CANARY_VALUE}, "otherwise there is nothing to find"

    # A second version, a write that AWS refuses with a text that repeats the value, and a drop in the middle.
    aws.server.fail("PutSecretValue", Answer("InvalidParameterException", message=f"bad value: {CANARY_VALUE}"))
    installation.done("secrets", "set", "shop/production", CANARY_KEY, "-", stdin=f"{CANARY_VALUE} again")
    daemon.wait_for_line("run finished", outcome="failed")
    wait_until(lambda: receiver.requests, what="the notification of it")
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

    metrics = scrape(daemon.address).text
    assert 'sync="web"' in metrics, "otherwise there is nothing to find"
    assert find(metrics.encode(), UNWATCHED, where="metrics") == []
    assert find(metrics.encode() + f'a_leak{{key="{CANARY_KEY}"}} 1'.encode(), UNWATCHED) != [], "the search works"

    # The WAL is still there while the daemon works, and everything is in one file after it.
    for moment in ("at work", "stopped"):
        assert find_in_tree(installation.folder, ALL) == [], moment
        if not daemon.ended:
            assert daemon.stop() == 0
    if "postgresql" in installation.database_url:
        for table, content in dump(installation.database_url):
            assert find(content, ALL, where=table) == []
    assert find(daemon.log.read_bytes(), UNWATCHED) == []
    for number, one in enumerate(outputs):
        assert find(one.stdout + one.stderr, VALUES, where=f"command {number}") == []
    arrived = b"".join(one.body for one in aws.server.operations)
    assert find(arrived, [CANARY_VALUE]) != [], "the search works"
