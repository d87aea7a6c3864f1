"""A host whose clock is set an hour forwards and back under a daemon, and forwards again."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from phasesync.emulator import Answer
from tests.hostile.conftest import arrives, assert_versions, counts
from tests.support.aws import Aws
from tests.support.daemon import Daemon
from tests.support.installation import Installation
from tests.support.metrics import scrape
from tests.support.shifted_clock import ShiftedClock
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HOUR = timedelta(hours=1)


def is_skewed(daemon: Daemon, by: timedelta) -> bool:
    """Return whether the metrics have the difference between the host's clock and AWS's."""
    skew = scrape(daemon.address).value("phasesync_clock_skew_seconds", against="aws")
    return skew is not None and abs(skew - by.total_seconds()) < 5


SIGNATURE_EXPIRED = Answer("InvalidSignatureException", "Signature expired: 20261129T083017Z is now earlier than …")
"""What AWS says to a host whose clock is off."""


def test_a_clock_that_is_set_delays_no_edit(installation: Installation, aws: Aws, tmp_path: Path) -> None:
    """On SQLite it is the database's clock as well, on PostgreSQL the daemon's alone."""
    clock = ShiftedClock(tmp_path)
    installation.configure(daemon__claim_ttl_s=6)
    installation.add_syncs("web")
    installation.environ |= clock.environ  # Commands have the same clock: it is the host's.
    daemon = installation.start_daemon(installed=True)
    installation.wait_for("web")

    def edit(value: str) -> None:
        installation.done("secrets", "set", "shop/web", "URL", "-", stdin=value)

    for number, by in enumerate((HOUR, -HOUR, timedelta(0))):
        clock.set(by)
        edit(f"postgres://{number}")
        began = time.monotonic()
        arrives(aws, "shop/web", f"postgres://{number}")
        assert time.monotonic() - began < 30
        assert [daemon.get(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
        wait_until(partial(is_skewed, daemon, by), what=f"a clock that is {by} ahead of AWS's")

    if installation.database_url.startswith("sqlite"):
        counts(daemon, "phasesync_clock_set_back_total")
    clock.set(-HOUR)
    aws.server.fail("*", SIGNATURE_EXPIRED, times=None)
    edit("postgres://refused")
    installation.wait_for("web", status="failing")
    with installation.application() as application:
        error = application.store.runs.list_runs(sync="web")[0].error
    assert error is not None and "clock" in str(error.hint)
    aws.server.faults.clear()
    clock.set(timedelta(0))
    began = time.monotonic()
    arrives(aws, "shop/web", "postgres://refused")
    assert time.monotonic() - began < 30, "what was refused for its keys would wait for minutes"

    assert_versions(aws, "shop/web", 5)
    assert daemon.stop() == 0
