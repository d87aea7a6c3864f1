"""What a real daemon counts is what happened: at AWS, in the sync log, in the database. Nothing in it is a secret."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from phasesync import __version__
from phasesync.demo.canary import CANARY_KEY, CANARY_VALUE, find
from phasesync.emulator import Answer
from tests.daemon.test_metrics import documented
from tests.e2e.conftest import values_of
from tests.support.aws import Aws
from tests.support.daemon import Daemon
from tests.support.installation import ACCESS_KEY_ID, Installation
from tests.support.metrics import OPENMETRICS, Scrape, scrape
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

REMOTE = "shop/canary-remote-name"


def requests_counted(seen: Scrape) -> Counter[tuple[str, str]]:
    """Return (service, operation) -> requests, whatever their result."""
    found: Counter[tuple[str, str]] = Counter()
    for sample in seen.families["phasesync_aws_calls"].samples:
        found[sample.labels["service"], sample.labels["operation"]] += int(sample.value)
    return found


def requests_arrived(aws: Aws) -> Counter[tuple[str, str]]:
    """Return (service, operation) -> requests that phasesync made."""
    return Counter((one.service, one.name) for one in aws.server.operations if one.access_key_id == ACCESS_KEY_ID)


def scrape_at_rest(daemon: Daemon, aws: Aws) -> Scrape:
    """Return metrics of a moment at which no request was under way."""
    seen: list[Scrape] = []

    def agrees() -> bool:
        seen.append(scrape(daemon.address, accept=OPENMETRICS))
        in_step = seen[-1].value("phasesync_syncs", status="in-sync") == 2  # Figures are a second old at most.
        return in_step and requests_counted(seen[-1]) == requests_arrived(aws)

    wait_until(agrees, what="as many requests counted as arrived, and both syncs in step")
    return seen[-1]


def test_what_is_counted_is_what_happened(installation: Installation, aws: Aws) -> None:
    installation.in_process = True
    installation.configure(metrics__per_sync=1, daemon__coalesce_ms=0)
    installation.add_syncs("web", values={CANARY_KEY: CANARY_VALUE}, remote_name=REMOTE)
    installation.add_syncs("two")
    daemon = installation.start_daemon()
    installation.wait_for("web", "two")
    assert values_of(aws, REMOTE) == {CANARY_KEY: CANARY_VALUE}, "otherwise there is nothing to find"

    # The SDK repeats what AWS throttles; what it refuses stays behind until a later attempt.
    aws.server.fail("PutSecretValue", Answer("ThrottlingException"))
    installation.edit("web", **{CANARY_KEY: f"{CANARY_VALUE} again"})
    installation.wait_for("web")
    aws.server.fail("PutSecretValue", Answer("AccessDeniedException"))
    installation.edit("two", URL="postgres://other")
    daemon.wait_for_line("run finished", sync="two", outcome="failed")
    behind = scrape(daemon.address)
    assert behind.value("phasesync_syncs", status="failing") == 1
    assert behind.value("phasesync_syncs_behind") == 1
    assert (behind.value("phasesync_sync_behind_seconds", sync="two") or 0) > 0
    assert behind.value("phasesync_sync_status", sync="two", status="failing") == 1
    refused_at = time.monotonic()
    daemon.wait_for_line("sweep finished")
    refused_for_s = time.monotonic() - refused_at
    installation.done("syncs", "trigger", "two", "--wait")

    seen = scrape_at_rest(daemon, aws)

    # AWS
    assert seen.total("phasesync_aws_throttles_total", operation="PutSecretValue") == 1
    for result in ("throttled", "denied"):
        assert seen.total("phasesync_aws_calls_total", operation="PutSecretValue", result=result) == 1
    assert abs(seen.value("phasesync_clock_skew_seconds", against="aws") or 9) < 5
    # The sync log
    logged = Counter(run["outcome"] for run in installation.json("runs", "list")["items"])
    for outcome, count in logged.items():
        assert seen.total("phasesync_runs_total", outcome=outcome) == count
        assert seen.total("phasesync_run_duration_seconds_count", outcome=outcome) == count
    assert seen.value("phasesync_versions_written_total") == 4
    ids = {run["id"] for run in installation.json("runs", "list")["items"]}
    exemplars = [one.exemplar for one in seen.families["phasesync_sync_lag_seconds"].samples if one.exemplar]
    assert exemplars and {one.labels["run_id"] for one in exemplars} <= ids
    # The lag of the edit that AWS refused has all attempts in it.
    assert seen.value("phasesync_sync_lag_seconds_count") == 4
    lag_s = total(seen, "phasesync_sync_lag_seconds_sum") - total(behind, "phasesync_sync_lag_seconds_sum")
    assert refused_for_s < lag_s < refused_for_s + 10
    # The database
    assert seen.value("phasesync_syncs", status="in-sync") == 2
    assert seen.value("phasesync_syncs_behind") == 0
    assert seen.value("phasesync_version_budget_left") == 28
    assert seen.value("phasesync_daemons", role="active") == 1
    # Everything in it is in the document, and nothing else
    names = {sample.name for family in seen.families.values() for sample in family.samples}
    bare = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in names}
    assert {name for name in bare if not name.startswith("process_")} <= documented().keys()
    assert {name for name in bare if name.startswith("process_")} >= {"process_open_fds", "process_cpu_seconds_total"}
    # No secret, no key, no remote name
    assert find(seen.text, [CANARY_VALUE, CANARY_KEY, REMOTE]) == []
    assert find(seen.text + CANARY_KEY, [CANARY_KEY]) != [], "the search works"

    with locked(installation):
        began = time.monotonic()
        assert scrape(daemon.address).value("phasesync_build_info", **BUILD) == 1
        assert time.monotonic() - began < 5
    assert daemon.stop() == 0


BUILD = {"version": __version__, "python": platform.python_version()}


def total(seen: Scrape, name: str) -> float:
    """Return a value that is there."""
    value = seen.value(name)
    assert value is not None
    return value


@contextmanager
def locked(installation: Installation) -> Iterator[None]:
    """Hold the locks that stop every write, and on PostgreSQL every read of syncs too."""
    with installation.database() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("UPDATE syncs SET objects = objects")
        else:
            connection.exec_driver_sql("LOCK TABLE syncs IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()
