"""PostgreSQL that has crashed, and one that takes connections and never answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from phasesync.emulator import Answer, Operation
from tests.e2e.conftest import assert_no_value_was_read
from tests.hostile.conftest import arrives, assert_versions, says
from tests.support.aws import Aws
from tests.support.installation import Installation
from tests.support.postgres import start_server, PostgresServer
from tests.support.stores import migrate_template
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "shop/web"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this module's own: what happens to it happens to no other test."""
    with start_server() as started:
        started.create_database("phasesync")
        with started.connect() as connection:
            # What is committed survives a crash of the server, as everywhere but in tests.
            connection.execute("ALTER ROLE postgres SET synchronous_commit = on")
        migrate_template(started.url("phasesync"))
        yield started


@pytest.fixture
def on_server(tmp_path: Path, server: PostgresServer, aws: Aws) -> Iterator[Installation]:
    made = Installation(tmp_path, server.url("phasesync"), aws.environ)
    made.initialise()
    yield made
    made.close()
    assert_no_value_was_read(aws)


def test_crash(on_server: Installation, server: PostgresServer, aws: Aws) -> None:
    on_server.configure(daemon__claim_ttl_s=6)
    on_server.add_syncs("web")
    daemon = on_server.start_daemon()
    on_server.wait_for("web")

    def crash(_operation: Operation) -> Answer | None:
        server.crash()
        return None

    aws.server.do("PutSecretValue", crash)
    on_server.edit("web", URL="postgres://before")
    print(says(daemon, "the database cannot be reached"))
    began = time.monotonic()
    seen: list = []
    while time.monotonic() < began + 20:
        answer = daemon.get("/readyz"), daemon.get("/healthz")
        if not seen or seen[-1][1] != answer[0]:
            seen.append((round(time.monotonic() - began, 1), answer[0], answer[1][0]))
        time.sleep(0.2)
    print(*seen, sep="\n")
    server.start_again()

    began = time.monotonic()
    assert daemon.wait_until_ready() == "active"
    print(time.monotonic() - began)
    on_server.wait_for("web")
    print(time.monotonic() - began)
    arrives(aws, NAME, "postgres://before")
    print(time.monotonic() - began)
    assert_versions(aws, NAME, 2)
    on_server.edit("web", URL="postgres://after")
    arrives(aws, NAME, "postgres://after")
    assert_versions(aws, NAME, 3)

    def freeze(_operation: Operation) -> Answer | None:
        server.freeze()
        return None
    aws.server.do("PutSecretValue", freeze)
    on_server.edit("web", URL="postgres://frozen")
    began = time.monotonic()
    seen: list = []
    while time.monotonic() < began + 50:
        answer = daemon.get("/readyz"), daemon.get("/healthz")
        if not seen or seen[-1][1] != answer[0]:
            seen.append((round(time.monotonic() - began, 1), answer[0], answer[1]))
        time.sleep(0.2)
    print(*seen, sep="\n")
    server.thaw()
    began = time.monotonic()
    assert daemon.wait_until_ready() == "active"
    print(time.monotonic() - began)
    arrives(aws, NAME, "postgres://frozen")
    print(time.monotonic() - began)

    server.freeze()
    began = time.monotonic()
    print("exit", daemon.stop(), time.monotonic()-began)
    server.thaw()
    print(daemon.log.read_text())
