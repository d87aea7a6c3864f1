"""/metrics: every metric is in its document, and a scrape is answered whatever the database and the scraper do."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path

import pytest

from phasesync.adapters.telemetry.metrics import Metrics
from phasesync.core.chores import DaemonRole
from phasesync.core.sync import SyncStatus
from phasesync.daemon import http
from phasesync.daemon.health import HealthState
from phasesync.daemon.http import HealthServer, Page, ProbeResult
from phasesync.daemon.metrics import DaemonMetrics
from phasesync.store.figures import SyncFigures
from tests.daemon.conftest import settings_with
from tests.daemon.fakes import FakeSchema, World, a_figure
from tests.support.metrics import OPENMETRICS, Scrape, scrape
from tests.support.waiting import HANG_GUARD_S, wait_until

DOCUMENT = Path(__file__).parents[2] / "docs/metrics.md"
ROW = re.compile(r"^\| `(phasesync_\w+)` \| (\w+)(?:, database)? \|([^|]*)\| (.+) \|$", re.MULTILINE)
LABELS = {
    *("version", "python", "found", "expected", "purpose", "key_id", "status", "outcome", "trigger", "service"),
    *("operation", "result", "group", "sweep", "kind", "role", "against", "chore", "sync", "channel", "condition"),
    "le",
}
"""Every label. A new one needs a reason why its values are few."""


@dataclass(frozen=True)
class Documented:
    """One row of the document."""

    type: str
    labels: frozenset[str]
    meaning: str


def documented() -> dict[str, Documented]:
    return {
        name: Documented(type, frozenset(re.findall(r"`(\w+)`", labels)), meaning)
        for name, type, labels, meaning in ROW.findall(DOCUMENT.read_text())
    }


def everything() -> Scrape:
    """One of each metric that a daemon exports."""
    metrics = Metrics(version="1.2.3")
    state = HealthState()
    state.schema = FakeSchema()  # type: ignore[assignment]
    exported = DaemonMetrics(metrics, state, per_sync=lambda: True)
    at = a_figure().at
    each = (SyncFigures(name="web", status=SyncStatus.HELD, since=at, behind_since=at),)

    class Components:
        def __init__(self) -> None:
            self.key_ids = lambda: {"root": "root-1"}

        def read_figures(self, each_asked: bool) -> object:
            return replace(a_figure(), each=each if each_asked else ())

    exported.work_begins(Components())  # type: ignore[arg-type]
    metrics.aws_request("secretsmanager", "PutSecretValue", "throttled", 0.1)
    metrics.aws_clock(0.2)
    metrics.rate_limiter_waited("secretsmanager:write", 0.1)
    metrics.round_ended("beat", True)
    metrics.sweep_last_end.labels("full").set(1)
    metrics.messages_sent.labels("slack", "sent").inc()
    page = exported.page(OPENMETRICS, "")
    return Scrape(page.content.decode(), is_openmetrics=True)


def exported() -> dict[str, Documented]:
    found = {}
    for family in everything().families.values():
        if family.name.startswith("process_"):
            continue
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        found[f"{family.name}{suffix}"] = Documented(family.type, frozenset(labels), family.documentation)
    return found


def test_the_document_has_every_metric_with_its_type_and_its_labels() -> None:
    ours, theirs = exported(), documented()

    only_in_files = {"phasesync_daemon_up"}
    assert theirs.keys() - ours.keys() == only_in_files
    assert ours.keys() - theirs.keys() == set()
    for name, metric in ours.items():
        assert (name, metric.type, metric.labels) == (name, theirs[name].type, theirs[name].labels)


def test_names_follow_the_rules_of_prometheus() -> None:
    seen = everything()
    for family in seen.families.values():
        name = family.name
        assert re.fullmatch(r"(phasesync|process)_[a-z][a-z0-9_]*", name), name
        assert family.documentation.endswith("."), f"{name} says what it is in a sentence"
        assert family.type in ("counter", "gauge", "histogram", "info"), name
        assert not re.search(r"_(milliseconds|ms|minutes|hours|percent|kb|mb)(_|$)", name), f"{name}: base units"
        assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_info")), name
        assert family.type != "histogram" or name.endswith("_seconds"), name
        assert "timestamp" not in name or name.endswith("_timestamp_seconds"), name
        for sample in family.samples:
            assert sample.labels.keys() <= LABELS, name
    names = set(seen.families)
    assert not {f"{name}_{suffix}" for name in names for suffix in ("total", "info", "count", "sum")} & names


def test_a_daemon_serves_them_and_counts_its_rounds(run, world: World) -> None:
    running = run()
    running.wait_for("/readyz", 200)
    wait_until(lambda: world.polls > 2, what="polls")

    seen = scrape(running.service.http.address)

    assert seen.value("phasesync_role", role="active") == 1
    assert seen.value("phasesync_database_up") == 1
    assert seen.value("phasesync_schema_current") == 1
    assert seen.value("phasesync_workers") == world.load.threads
    assert (
        seen.value("phasesync_chore_last_success_timestamp_seconds", chore="poll") or 0
    ) > time.time() - HANG_GUARD_S
    assert seen.value("phasesync_chore_failures_total", chore="poll") == 0


def test_rounds_that_fail_are_counted_one_by_one(run, world: World) -> None:
    world.polls_succeed = False
    running = run()
    running.wait_for("/readyz", 200)

    wait_until(
        lambda: (scrape(running.service.http.address).value("phasesync_chore_failures_total", chore="poll") or 0) >= 3,
        what="failures",
    )


def test_they_are_served_while_the_daemon_waits_for_its_database(run, world: World) -> None:
    world.down = True
    running = run()

    seen = scrape(running.service.http.address)

    assert (seen.value("phasesync_database_up"), seen.value("phasesync_database_writable")) == (0, 0)
    assert seen.value("phasesync_role", role="active") == 0
    assert "phasesync_syncs" not in seen.families, "a former number would look like the present"
    assert seen.value("phasesync_build_info", version="test", python=_python(seen)) == 1


def _python(seen: Scrape) -> str:
    return next(iter(seen.families["phasesync_build_info"].samples)).labels["python"]


def test_a_database_that_goes_and_comes_back_shows(run, world: World) -> None:
    running = run()
    running.wait_for("/readyz", 200)
    address = running.service.http.address
    assert scrape(address).value("phasesync_syncs", status="held") == 0

    world.down, world.may_be_written = True, False
    wait_until(lambda: scrape(address).value("phasesync_database_up") == 0, what="the loss")
    wait_until(lambda: scrape(address).value("phasesync_database_writable") == 0, what="a heartbeat that fails")
    assert "phasesync_syncs" not in scrape(address).families

    world.down, world.may_be_written = False, True
    wait_until(lambda: scrape(address).value("phasesync_syncs", status="held") == 0, what="the figures")


def test_a_schema_of_another_release_shows(run, world: World) -> None:
    world.schema = FakeSchema(current="0001", expected="0002")
    running = run()
    wait_until(lambda: world.checks > 1, what="checks")

    seen = scrape(running.service.http.address)

    assert seen.value("phasesync_database_up") == 1, "it answers, and what it lacks is named"
    assert seen.value("phasesync_schema_info", found="0001", expected="0002") == 1
    assert seen.value("phasesync_schema_current") == 0


def test_series_of_single_syncs_begin_with_a_reload(run, world: World) -> None:
    asked: list[bool] = []
    world.each_asked = asked.append
    running = run()
    running.wait_for("/readyz", 200)
    scrape(running.service.http.address)
    assert asked == [False]

    running.reload(settings_with(metrics={"per_sync": True}))

    wait_until(lambda: scrape(running.service.http.address) is not None and asked[-1], what="figures of each")


# --- what the server guarantees holds for this page too


def page(_accept: str = "", _encoding: str = "") -> Page:
    return Page(content_type="text/plain", content=b"phasesync_workers 8\n" * 100, headers={"Vary": "Accept"})


@pytest.fixture
def server() -> Iterator[HealthServer]:
    made = HealthServer(
        host="127.0.0.1",
        port=0,
        health=lambda: ProbeResult(ok=True),
        ready=lambda: ProbeResult(ok=True),
        metrics=page,
    )
    made.start()
    yield made
    made.stop()


def ask(server: HealthServer, path: str = "/metrics", method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection(server.address, timeout=HANG_GUARD_S)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, dict(response.headers), body


@pytest.mark.parametrize(
    ("method", "path", "status", "length"),
    [
        ("GET", "/metrics", 200, 2000),
        ("GET", "/metrics?name[]=x", 200, 2000),
        ("HEAD", "/metrics", 200, 0),
        ("POST", "/metrics", 405, None),
        ("DELETE", "/metrics", 405, None),
        ("GET", "/metrics/", 404, None),
    ],
)
def test_it_is_asked_as_probes_are(server, method, path, status, length) -> None:
    answered, headers, body = ask(server, path, method)

    assert answered == status
    if length is not None:
        assert (len(body), headers["Content-Length"], headers["Vary"]) == (length, "2000", "Accept")


def test_without_metrics_there_is_no_such_page(server) -> None:
    server._server.metrics = None

    assert ask(server)[0] == 404


def test_metrics_that_cannot_be_made_are_an_error_that_says_nothing(server, logs) -> None:
    def broken(*_: str) -> Page:
        raise ValueError("canary")

    server._server.metrics = broken
    status, _, body = ask(server)

    assert status == 500 and b"canary" not in body
    assert [entry["event"] for entry in logs] == ["no metrics for a scrape"]


def test_a_scraper_that_reads_nothing_is_cut_and_keeps_nobody_waiting(server, monkeypatch) -> None:
    monkeypatch.setattr(http, "CONNECTION_LIFE_S", 0.3)
    server._server.metrics = lambda *_: Page(content_type="text/plain", content=b"x" * 50_000_000)
    slow = HTTPConnection(server.address, timeout=HANG_GUARD_S)
    slow.request("GET", "/metrics")

    assert ask(server, "/healthz")[0] == 200, "another request is answered meanwhile"
    wait_until(lambda: not server._server._open, what="the end of the slow connection")
    slow.close()


def test_a_scrape_that_waits_for_its_database_keeps_no_probe_waiting(server) -> None:
    gate, asked = threading.Event(), threading.Event()

    def waiting(*_: str) -> Page:
        asked.set()
        gate.wait(HANG_GUARD_S)
        return page()

    server._server.metrics = waiting
    answers: list[int] = []
    scraping = threading.Thread(target=lambda: answers.append(ask(server)[0]))
    scraping.start()
    assert asked.wait(HANG_GUARD_S)

    assert ask(server, "/healthz")[0] == 200

    gate.set()
    scraping.join()
    assert answers == [200]


def test_the_role_of_a_standby_is_its_own(run, world: World) -> None:
    world.role_to_give = DaemonRole.STANDBY
    running = run()
    running.wait_for("/readyz", 200)

    seen = scrape(running.service.http.address)

    assert (seen.value("phasesync_role", role="active"), seen.value("phasesync_role", role="standby")) == (0, 1)
