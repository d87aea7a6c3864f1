"""PostgreSQL that has crashed, and one that takes connections and never answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from phasesync.emulator import Answer, Operation
from tests.e2e.conftest import assert_no_value_was_read
from tests.hostile.conftest import arrives, assert_versions, measures, says
from tests.support.aws import Aws
from tests.support.databases import migrate_template
from tests.support.installation import Installation
from tests.support.postgres import PostgresServer, start_server
from tests.support.waiting import HANG_GUARD_S, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


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


GONE_S = 8.0
"""Longer than a role of 6 s lasts, so that the daemon has to learn its role anew."""


def test_a_server_that_crashes_and_comes_back(on_server: Installation, server: PostgresServer, aws: Aws) -> None:
    """It crashes while AWS carries out a write, and recovers later."""
    on_server.configure(daemon__claim_ttl_s=6)
    on_server.add_syncs("web")
    daemon = on_server.start_daemon()
    on_server.wait_for("web")
    crashed = threading.Event()

    def crash(_operation: Operation) -> Answer | None:
        server.crash()
        crashed.set()
        return None

    aws.server.do("PutSecretValue", crash)
    on_server.edit("web", URL="postgres://before")
    assert crashed.wait(HANG_GUARD_S)
    began = time.monotonic()
    says(daemon, "the database cannot be reached")
    measures(daemon, "phasesync_database_up", 0)
    wait_until(lambda: time.monotonic() > began + GONE_S, what="the end of its role")
    says(daemon, "the database cannot be reached")
    server.resume()

    assert daemon.wait_until_ready() == "active"
    on_server.wait_for("web")
    arrives(aws, "shop/web", "postgres://before")
    assert_versions(aws, "shop/web", 2)
    on_server.edit("web", URL="postgres://after")
    arrives(aws, "shop/web", "postgres://after")
    assert_versions(aws, "shop/web", 3)
    assert daemon.stop() == 0


def test_a_server_that_never_answers(on_server: Installation, server: PostgresServer, aws: Aws) -> None:
    """All of its processes are frozen: connections stay, new ones are taken by the kernel, and nothing comes back."""
    on_server.configure(daemon__claim_ttl_s=6, daemon__drain_s=1)
    on_server.add_syncs("api")
    daemon = on_server.start_daemon()
    on_server.wait_for("api")
    frozen = threading.Event()

    def freeze(_operation: Operation) -> Answer | None:
        server.freeze()
        frozen.set()
        return None

    aws.server.do("PutSecretValue", freeze)
    on_server.edit("api", URL="postgres://before")
    assert frozen.wait(HANG_GUARD_S)
    try:
        says(daemon, "the role has expired", "the database cannot be reached")
        # Rounds that hang in a statement have stalled; so may the check of the database, which then is silent.
        says(daemon, "the database cannot be reached", "have stalled", healthy=None)
        measures(daemon, "phasesync_database_up", 0)
    finally:
        server.thaw()

    assert daemon.wait_until_ready() == "active"
    on_server.wait_for("api")
    arrives(aws, "shop/api", "postgres://before")
    assert_versions(aws, "shop/api", 2)

    server.freeze()
    try:
        assert daemon.stop(within_s=5) == 0, "it ends in time, whatever hangs"
    finally:
        server.thaw()
