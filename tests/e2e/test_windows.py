"""A daemon keeps edits back while a window is closed, runs once for all of them, and writes when the window is gone."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.conftest import values_of
from tests.support.aws import Aws
from tests.support.installation import Installation

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True),
]


def test_a_daemon_heeds_the_windows_of_its_settings(installation: Installation, aws: Aws) -> None:
    installation.add_syncs("billing")
    installation.reconcile("billing")
    freeze = f"deny: {datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}..{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}"
    installation.configure(daemon__windows=freeze)
    daemon = installation.start_daemon()
    daemon.wait_until_ready()

    installation.edit("billing", URL="postgres://first")
    run = daemon.wait_for_line("run finished", sync="billing", trigger="change")
    for number in range(5):
        installation.edit("billing", URL=f"postgres://{number}")

    assert (run["status"], run["outcome"]) == ("pending", "unchanged")
    assert f"{freeze} UTC; of all syncs" in run["window"]
    assert values_of(aws, "shop/billing")["URL"] == "postgres://db"
    installation.configure(daemon__windows="")
    daemon.signal(signal.SIGHUP)
    written = daemon.wait_for_line("run finished", sync="billing", outcome="applied")
    assert written["versions_written"] == 1
    assert values_of(aws, "shop/billing")["URL"] == "postgres://4"
    assert len(daemon.find("run finished", status="pending")) == 1
    assert daemon.stop() == 0
