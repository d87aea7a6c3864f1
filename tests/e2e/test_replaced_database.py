"""A daemon whose database file is taken away or replaced under it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from phasesync.store.backup import backup
from phasesync.store.migrate import upgrade
from tests.e2e.conftest import values_of
from tests.support.aws import Aws
from tests.support.daemon import Daemon
from tests.support.installation import Installation
from tests.support.stores import open_test_store
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True),
]


@pytest.fixture
def path(installation: Installation) -> Path:
    return Path(str(sa.make_url(installation.database_url).database))


def copy_of(installation: Installation, path: Path) -> Path:
    copy = path.with_name("copy.db")
    backup(installation.database_url, copy)
    return copy


def reason(daemon: Daemon) -> str:
    status, body = daemon.get("/readyz")
    return str(body["reason"]) if status == 503 else ""


def test_a_daemon_waits_for_a_database_that_is_gone_and_goes_on_with_its_copy(
    installation: Installation, aws: Aws, path: Path
) -> None:
    installation.add_syncs("web")
    daemon = installation.start_daemon()
    installation.wait_for("web")
    copy = copy_of(installation, path)

    path.unlink()

    wait_until(lambda: "is gone: it was moved or deleted" in reason(daemon), what="not ready, with the reason")
    assert daemon.get("/healthz")[0] == 200, "a restart would not help"
    assert not path.exists()

    os.replace(copy, path)

    assert daemon.wait_until_ready() == "active"
    installation.edit("web", URL="postgres://after")
    wait_until(lambda: values_of(aws, "shop/web")["URL"] == "postgres://after", what="the edit at AWS")
    assert daemon.stop() == 0


def test_two_daemons_are_not_both_active_after_the_file_was_replaced(
    installation: Installation, aws: Aws, path: Path
) -> None:
    installation.configure(daemon__claim_ttl_s=6)
    installation.add_syncs("web")
    first = installation.start_daemon()
    installation.wait_for("web")
    os.replace(copy_of(installation, path), path)

    second = installation.start_daemon()

    assert second.get("/readyz") == (200, {"ok": True, "role": "standby"})
    installation.edit("web", URL="postgres://after")
    wait_until(lambda: values_of(aws, "shop/web")["URL"] == "postgres://after", what="the edit at AWS")
    assert first.find("run finished", outcome="applied")
    assert not second.find("run finished", outcome="applied")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT role FROM daemons WHERE role = 'active'").fetchall() == [("active",)]


def test_the_database_of_another_installation_ends_a_daemon(
    installation: Installation, path: Path, tmp_path: Path
) -> None:
    installation.add_syncs("web")
    daemon = installation.start_daemon()
    installation.wait_for("web")
    other = tmp_path / "other.db"
    upgrade(f"sqlite:///{other}")
    open_test_store(f"sqlite:///{other}").close()

    os.replace(other, path)

    assert daemon.ends() == 6
    assert "by the database of another installation" in daemon.log.read_text()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM daemons").fetchone() == (0,), "nothing was written to it"
