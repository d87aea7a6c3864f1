"""What a daemon does at its start and at SIGHUP: waits, refuses, reads settings again."""

from __future__ import annotations

import base64
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import values_of
from tests.support.aws import Aws
from tests.support.installation import Installation
from tests.support.waiting import HANG_GUARD_S, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

on_sqlite = pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)


def test_it_waits_for_the_schema_and_goes_on_after_the_migration(database_url: str, tmp_path: Path, aws: Aws) -> None:
    installation = Installation(tmp_path, database_url, aws.environ)
    made = installation.json("init")
    assert made["root_key_made"]
    installation.add_syncs("web")
    with installation.database() as connection:
        (current,) = connection.exec_driver_sql("SELECT version_num FROM alembic_version").one()
        # As if the release were newer than the database: what it would find there is older than what it wants.
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    try:
        daemon = installation.start_daemon(ready=False, installed=True)
        daemon.wait_for_line("waiting for the database schema")
        status, answer = daemon.get("/readyz")
        assert (status, answer["command"], answer["expected"]) == (503, "phasesync db migrate", current)
        assert daemon.get("/healthz")[0] == 200
        assert aws.server.names() == []

        with installation.database() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{current}'")
        installation.done("db", "migrate")

        daemon.wait_until_ready()
        installation.wait_for("web")
        assert values_of(aws, "shop/web") == {"URL": "postgres://db", "USER": "shop"}
        assert daemon.stop() == 0
    finally:
        installation.close()


def test_a_wrong_root_key_ends_the_start(installation: Installation, aws: Aws) -> None:
    installation.add_syncs("web")
    key = installation.folder / "root.key"
    key.write_bytes(base64.b64encode(bytes(range(7, 39))))

    daemon = installation.start_daemon(ready=False, installed=True)

    assert daemon.ends(within_s=HANG_GUARD_S) == 6
    *_, hint = daemon.log.read_text().splitlines()
    assert "root key" in daemon.log.read_text()
    assert hint.startswith("hint: ")
    assert aws.server.names() == []


@on_sqlite
def test_sighup_reads_the_settings_again_and_keeps_them_where_they_are_wrong(installation: Installation) -> None:
    installation.configure(log__level="warning")
    daemon = installation.start_daemon(ready=False, installed=True)
    installation.in_process = True
    wait_until(lambda: installation.json("status")["daemons"], what="the daemon's sign of life")
    assert daemon.lines() == []

    installation.configure(log__level="info")
    daemon.signal(signal.SIGHUP)
    assert daemon.wait_for_line("settings reloaded")["applied"] == ["log.level"]

    installation.write_config('log.level = "loud"\n')
    daemon.signal(signal.SIGHUP)
    kept = daemon.wait_for_line("settings not reloaded; the former ones stay")
    assert kept["reason"].startswith("log.level: must be ")
    assert "loud" not in daemon.log.read_text()

    # At info still, and at work: a run is one line.
    installation.configure()
    installation.add_syncs("web")
    daemon.wait_for_line("run finished", outcome="applied")
    assert daemon.stop() == 0


# --- a queue that distributes the work


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_it_waits_for_the_tables_of_the_queue_that_the_settings_ask_for(installation: Installation, aws: Aws) -> None:
    installation.add_syncs("web")
    installation.configure(daemon__dispatch="procrastinate")
    status = installation.run("db", "status")
    assert (status.exit_code, "phasesync db migrate" in status.stderr) == (6, True)
    daemon = installation.start_daemon(ready=False)
    waiting = daemon.wait_for_line("waiting for the database schema")
    assert (waiting["command"], "without a queue" in waiting["found"]) == ("phasesync db migrate", True)
    assert daemon.get("/readyz")[0] == 503
    assert aws.server.names() == []

    installation.done("db", "migrate")

    daemon.wait_until_ready()
    installation.wait_for("web")
    assert installation.json("db", "status")["is_current"]
    assert daemon.stop() == 0
    assert installation.database_url.partition("?")[2] not in daemon.log.read_text()


@on_sqlite
def test_a_queue_needs_postgresql_and_whoever_would_use_it_says_so(installation: Installation) -> None:
    installation.configure(daemon__dispatch="procrastinate")

    daemon = installation.start_daemon(ready=False, installed=True)

    assert daemon.ends(within_s=HANG_GUARD_S) == 6
    error, hint = daemon.log.read_text().splitlines()[-2:]
    assert error == 'error: daemon.dispatch = "procrastinate" needs PostgreSQL, and the database is SQLite'
    assert hint.startswith('hint: daemon.dispatch = "threads"')
    for command in (("init",), ("db", "migrate"), ("db", "status")):
        refused = installation.run(*command)
        assert (refused.exit_code, "needs PostgreSQL" in refused.stderr) == (6, True)
    installation.done("apps", "list")


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_a_queue_needs_its_package_and_the_error_names_the_extra(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.configure(daemon__dispatch="procrastinate")
    installation.in_process = True
    monkeypatch.setattr("phasesync.store.queue_schema.find_spec", lambda name: None)

    for command in (("db", "migrate"), ("db", "status")):
        refused = installation.run(*command)
        assert (refused.exit_code, "pip install 'phasesync[distributed]'" in refused.stderr) == (6, True)
