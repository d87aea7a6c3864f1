"""Names that the DNS does not know for a while, and name servers that never answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.hostile.conftest import arrives, assert_versions, measures, says
from tests.support.aws import Aws
from tests.support.certificates import server_context
from tests.support.installation import Installation
from tests.support.name_server import NameServer, asks
from tests.support.relay import Relay
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

AWS, DATABASE = "aws.hostile.test", "db.hostile.test"


FAILURES = {"refusing": "the DNS does not know the name of the host", "silent": "the DNS does not answer"}


@pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True)
def test_aws_without_names(installation: Installation, aws: Aws, tmp_path: Path) -> None:
    context, authority = server_context(tmp_path, AWS)
    installation.configure(aws__max_attempts=1, daemon__drain_s=1)
    installation.add_syncs("web")
    with NameServer() as names, Relay(aws.server.url, tls=context) as relay:
        daemon = installation.start_daemon(
            first=asks(tmp_path), AWS_ENDPOINT_URL=f"https://{AWS}:{relay.port}", AWS_CA_BUNDLE=str(authority)
        )
        installation.wait_for("web")

        for mode, reason in FAILURES.items():
            setattr(names, mode, True)
            relay.pass_on()  # Connections that are open need no name.
            installation.edit("web", URL=f"postgres://{mode}")
            installation.wait_for("web", status="failing")
            with installation.application() as application:
                run = application.store.runs.list_runs(sync="web")[0]
            assert run.error is not None and reason in run.error.message
            assert [daemon.get(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
            measures(daemon, "phasesync_syncs", 1, status="failing")
            setattr(names, mode, False)
            arrives(aws, "shop/web", f"postgres://{mode}")
        assert_versions(aws, "shop/web", 3)

        names.silent = True
        relay.pass_on()
        asked = names.questions
        installation.edit("web", URL="postgres://late")
        wait_until(lambda: names.questions > asked, what="a lookup that never ends")
        assert daemon.stop(within_s=5) == 0, "it ends in time, whatever hangs"


@pytest.mark.parametrize("database_backend", ["postgresql"], indirect=True)
def test_a_database_without_names(installation: Installation, aws: Aws, tmp_path: Path) -> None:
    installation.configure(daemon__claim_ttl_s=6, daemon__drain_s=1)
    installation.add_syncs("web")
    url = sa.make_url(installation.database_url)
    with NameServer() as names, Relay(f"{url.query['host']}/.s.PGSQL.5432") as relay:
        by_name = f"postgresql://{url.username}@{DATABASE}:{relay.port}/{url.database}"
        daemon = installation.start_daemon(first=asks(tmp_path), PHASESYNC_DATABASE_URL=by_name)
        installation.wait_for("web")

        names.silent = True
        relay.pass_on()
        installation.edit("web", URL="postgres://during")
        says(daemon, "the role has expired", "cannot be reached: the DNS does not answer")
        says(daemon, "cannot be reached: the DNS does not answer")
        measures(daemon, "phasesync_database_up", 0)
        names.silent = False

        assert daemon.wait_until_ready() == "active"
        arrives(aws, "shop/web", "postgres://during")
        assert_versions(aws, "shop/web", 2)
        names.silent = True
        relay.pass_on()
        asked = names.questions
        wait_until(lambda: names.questions > asked, what="a lookup that never ends")
        assert daemon.stop(within_s=5) == 0, "it ends in time, whatever hangs"
