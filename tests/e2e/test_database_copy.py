"""A store with a history moves to PostgreSQL and back: daemons write nothing at AWS because of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from phasesync.core.sync import Layout
from tests.e2e.conftest import versions_of
from tests.support.aws import Aws
from tests.support.databases import fresh_postgres_database
from tests.support.installation import Installation
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WRITES = ("Create", "Put", "Update", "Delete", "Tag", "Untag", "Attach", "Restore", "Replicate")


@pytest.fixture
def other_url(database_backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of the other kind."""
    if database_backend == "postgresql":
        yield f"sqlite:///{tmp_path / 'copy.db'}"
    else:
        yield from fresh_postgres_database(request, template=None)


def move(installation: Installation, url: str) -> None:
    """Copy the database, and change the setting."""
    document = installation.json("db", "copy", "--to", url, "--verify")
    assert document["verified"] is True
    installation.database_url = installation.environ["PHASESYNC_DATABASE_URL"] = url


def everything(installation: Installation) -> list[object]:
    """What an operator sees, apart from what a daemon does by itself."""
    return [
        installation.json("syncs", "list"),
        installation.json("runs", "list"),
        installation.json("secrets", "history", "shop/web", "URL"),
        installation.json("leases", "list", "--all"),
        installation.json("dynamic", "list"),
        installation.json("credentials", "list"),
    ]


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_a_daemon_on_the_copy_rewrites_nothing(
    installation: Installation, aws: Aws, other_url: str, tmp_path: Path
) -> None:
    installation.in_process = True
    installation.add_dynamic("ci")
    installation.done("leases", "issue", "ci", "-o", "json")
    (lease,) = installation.leases()
    installation.add_syncs("web", "frozen")
    installation.add_syncs("keys", layout=Layout.PER_KEY, remote_name=None, name_template="shop/keys/{key}")
    installation.reconcile("web", "frozen", "keys")
    installation.edit("web", URL="postgres://newer")
    installation.reconcile("web")
    installation.edit("frozen", URL="postgres://waits")
    installation.done("syncs", "pause", "frozen", "--reason", "freeze")
    before = everything(installation)
    versions = {name: versions_of(aws, name) for name in ("shop/web", "shop/frozen", "shop/keys/URL")}

    def works_without_writing() -> None:
        assert everything(installation) == before
        seen = len(aws.server.operations)
        installation.done("syncs", "trigger", "web")
        installation.done("syncs", "trigger", "keys")
        daemon = installation.start_daemon()
        for sync in ("web", "keys"):
            daemon.wait_for_line("run finished", sync=sync, outcome="unchanged")
        assert daemon.stop() == 0
        assert [one.name for one in aws.server.operations[seen:] if one.name.startswith(WRITES)] == []
        assert {name: versions_of(aws, name) for name in versions} == versions
        assert installation.sync("frozen").paused is not None

    move(installation, other_url)
    works_without_writing()
    before = everything(installation)
    move(installation, f"sqlite:///{tmp_path / 'back.db'}")
    works_without_writing()
    installation.done("leases", "revoke", lease)
    assert installation.leases()[lease]["status"] == "revoked"


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_a_daemon_that_stood_still_meanwhile_writes_nothing_and_ends(
    installation: Installation, aws: Aws, other_url: str
) -> None:
    installation.in_process = True
    installation.add_syncs("web")
    daemon = installation.start_daemon()
    installation.wait_for("web")
    while True:
        daemon.freeze()
        if installation.nobody_holds_a_lock():
            break
        daemon.thaw()
    installation.edit("web", URL="postgres://newer")
    refused = installation.run("db", "copy", "--to", other_url)
    assert (refused.exit_code, f"pid {daemon.pid}" in refused.stderr) == (4, True)
    installation.let_time_pass_for(daemon)
    installation.done("db", "copy", "--to", other_url)
    puts = aws.server.count("PutSecretValue")

    daemon.thaw()

    wait_until(lambda: daemon.ended, what="its end")
    assert daemon.process.poll() == 6
    assert "this database is retired" in daemon.log.read_text()
    assert aws.server.count("PutSecretValue") == puts
    late = installation.start_daemon(ready=False)
    wait_until(lambda: late.ended, what="the end of one that starts later")
    assert (late.process.poll(), "it was copied to sqlite:///" in late.log.read_text()) == (6, True)
