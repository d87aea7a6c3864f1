"""PostgreSQL that cannot be written, or takes no more connections, for a while."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from phasesync.core.sync import SyncStatus
from tests.e2e.conftest import values_of
from tests.hostile.conftest import measures
from tests.support.aws import Aws
from tests.support.daemon import Daemon
from tests.support.installation import Installation
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True),
]


def at_the_server(server: PostgresServer, *statements: str) -> None:
    with server.connect() as connection:
        for statement in statements:
            connection.execute(statement)


def is_not_ready(daemon: Daemon, reason: str) -> bool:
    status, body = daemon.get("/readyz")
    return status == 503 and reason in body["reason"]


def test_syncs_go_on_by_themselves_after_a_server_that_only_answered_reads(
    installation: Installation, aws: Aws, postgres_server: PostgresServer
) -> None:
    """As a standby does in the place of the primary, on connections that are open already and on new ones."""
    names = [f"s{number}" for number in range(4)]
    installation.add_syncs(*names)
    daemon = installation.start_daemon()
    installation.wait_for(*names)
    database = sa.make_url(installation.database_url).database
    for name in names:
        installation.edit(name, URL="postgres://edited")

    at_the_server(
        postgres_server,
        f"ALTER DATABASE {database} SET default_transaction_read_only = on",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'",
    )
    wait_until(lambda: is_not_ready(daemon, "cannot be written now"), what="not ready, with the reason")
    assert daemon.get("/healthz")[0] == 200, "a restart would not help"
    measures(daemon, "phasesync_database_up", 0)
    refused = installation.run("secrets", "set", "shop/s0", "KEY", "-", stdin="value")
    assert (refused.exit_code, "cannot be written now" in refused.stderr) == (7, True)
    at_the_server(postgres_server, f"ALTER DATABASE {database} RESET default_transaction_read_only")

    daemon.wait_until_ready()
    installation.wait_for(*names)
    assert {values_of(aws, f"shop/{name}")["URL"] for name in names} == {"postgres://edited"}
    ends: list[dict[str, Any]] = daemon.find("run finished")
    assert SyncStatus.HALTED not in {line["status"] for line in ends}
    measures(daemon, "phasesync_database_up", 1)
    assert daemon.stop() == 0


def test_a_daemon_waits_for_a_server_without_connections_left(
    installation: Installation, postgres_server: PostgresServer
) -> None:
    """Its text names a role, like that of a role which does not exist."""
    role = f"role_{sa.make_url(installation.database_url).database}"
    at_the_server(postgres_server, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
    at_the_server(postgres_server, f"GRANT pg_read_all_data, pg_write_all_data TO {role}")
    installation.environ["PHASESYNC_DATABASE_URL"] = installation.database_url.replace("postgres@", f"{role}@") + "\n"

    daemon = installation.start_daemon(ready=False)

    wait_until(lambda: is_not_ready(daemon, "53300"), what="not ready, with the reason")
    assert installation.run("apps", "list").exit_code == 7
    at_the_server(postgres_server, f"ALTER ROLE {role} CONNECTION LIMIT -1")
    daemon.wait_until_ready()
    assert daemon.stop() == 0
    at_the_server(postgres_server, f"DROP ROLE {role}")
