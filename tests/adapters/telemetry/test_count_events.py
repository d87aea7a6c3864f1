"""Events are counted, and each scraper gets them in its form."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

import pytest

from phasesync.adapters.telemetry.count_events import CountEvents
from phasesync.adapters.telemetry.exposition import expose
from phasesync.adapters.telemetry.metrics import Metrics
from phasesync.adapters.telemetry.several_sinks import SeveralSinks
from phasesync.core.chores import Chore
from phasesync.core.events import (
    ChoreFailed,
    ClaimExpired,
    ClaimLost,
    ClockJumped,
    DriftMissedByIncrementalSweep,
    Event,
    LeaseRevoked,
    MessageFailed,
    MessageSent,
    RunFinished,
    SweepFinished,
    SyncUnreadable,
)
from phasesync.core.lease import Cause, LeaseStatus
from phasesync.core.notification_message import Condition, Step
from phasesync.core.run import Outcome
from phasesync.core.sync import SyncStatus, Trigger
from tests.support.metrics import OPENMETRICS, Scrape

RUN = RunFinished(
    sync="web",
    run_id="01a22652a25077f0b505edcf",
    trigger=Trigger.CHANGE,
    outcome=Outcome.APPLIED,
    status=SyncStatus.IN_SYNC,
    revision=3,
    duration_ms=40,
    aws_calls=2,
    versions_written=1,
    counts={"put": 1},
    error=None,
    code=None,
    next_attempt_at=None,
    lag_ms=700,
)
SWEEP = SweepFinished(
    account="111122223333", region="eu-central-1", full=True, objects=9, suspects=2, syncs=4, calls=1, duration_ms=8
)
REVOKED = LeaseRevoked(
    dynamic="ci",
    lease_id="lease-1",
    status=LeaseStatus.REVOKED,
    cause=Cause.EXPIRY,
    error=None,
    code=None,
    failures=0,
    aws_calls=3,
    late_ms=900,
    retry_at=None,
)


SENT = MessageSent(
    notification="ops",
    channel="slack",
    message_id="m-1",
    step=Step.FIRST,
    condition=Condition.HELD,
    subjects=1,
    attempts=1,
    age_ms=900,
)
NOT_SENT = MessageFailed(
    notification="ops",
    channel="slack",
    message_id="m-1",
    step=Step.FIRST,
    condition=Condition.HELD,
    attempts=1,
    error="ChannelUnavailableError",
    code=None,
    retry_in_s=30.0,
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="1.2.3")


def read(metrics: Metrics) -> Scrape:
    return Scrape(expose(metrics.registry, accept="", accept_encoding="").content.decode())


@pytest.mark.parametrize(
    ("event", "name", "labels", "value"),
    [
        (RUN, "phasesync_runs_total", {"outcome": "applied", "trigger": "change"}, 1),
        (RUN, "phasesync_run_duration_seconds_sum", {"outcome": "applied"}, 0.04),
        (RUN, "phasesync_versions_written_total", {}, 1),
        (RUN, "phasesync_sync_lag_seconds_sum", {}, 0.7),
        (RUN, "phasesync_drift_found_total", {"sweep": "run"}, 0),
        (replace(RUN, found_drift=True), "phasesync_drift_found_total", {"sweep": "run"}, 1),
        (replace(RUN, lag_ms=None), "phasesync_sync_lag_seconds_count", {}, 0),
        (replace(RUN, lag_ms=0), "phasesync_sync_lag_seconds_count", {}, 1),
        (
            SyncUnreadable(sync_id="s", run_id="r", trigger=Trigger.RETRY, error="CiphertextError"),
            "phasesync_runs_total",
            {"outcome": "failed", "trigger": "retry"},
            1,
        ),
        (ClaimExpired(sync="web"), "phasesync_claims_expired_total", {}, 1),
        (ClaimLost(sync_id="s"), "phasesync_claims_lost_total", {}, 1),
        (ClockJumped(back_s=3600, leases=0), "phasesync_clock_set_back_total", {}, 1),
        (SWEEP, "phasesync_sweeps_total", {"kind": "full"}, 1),
        (SWEEP, "phasesync_drift_found_total", {"sweep": "full"}, 2),
        (replace(SWEEP, full=False), "phasesync_drift_found_total", {"sweep": "incremental"}, 2),
        (
            DriftMissedByIncrementalSweep(account="1", region="r", listed=2, unlisted=3),
            "phasesync_drift_missed_total",
            {},
            5,
        ),
        (REVOKED, "phasesync_lease_revocations_total", {"result": "ended"}, 1),
        (
            replace(REVOKED, status=LeaseStatus.REVOKE_FAILED, error="ThrottledError"),
            "phasesync_lease_revocations_total",
            {"result": "failed"},
            1,
        ),
        (
            replace(REVOKED, status=LeaseStatus.REVOKING),
            "phasesync_lease_revocations_total",
            {"result": "unsettled"},
            1,
        ),
        (SENT, "phasesync_messages_sent_total", {"channel": "slack", "result": "sent"}, 1),
        (NOT_SENT, "phasesync_messages_sent_total", {"channel": "slack", "result": "failed"}, 1),
        (
            replace(NOT_SENT, retry_in_s=None),
            "phasesync_messages_sent_total",
            {"channel": "slack", "result": "given-up"},
            1,
        ),
        (
            ChoreFailed(chore=Chore.RECONCILE, error="StoreUnavailableError", message="down"),
            "phasesync_chore_failures_total",
            {"chore": "reconcile"},
            1,
        ),
        (
            # Its rounds are counted one by one; the event comes only when the failure changes.
            ChoreFailed(chore=Chore.POLL, error="StoreUnavailableError", message="down"),
            "phasesync_chore_failures_total",
            {"chore": "poll"},
            0,
        ),
    ],
)
def test_an_event_is_counted(metrics: Metrics, event: Event, name: str, labels: dict[str, str], value: float) -> None:
    CountEvents(metrics).emit(event)

    assert read(metrics).value(name, **labels) == pytest.approx(value)


def test_every_series_with_known_labels_begins_at_zero(metrics: Metrics) -> None:
    before = read(metrics)

    assert before.value("phasesync_runs_total", outcome="failed", trigger="schedule") == 0
    assert before.value("phasesync_drift_found_total", sweep="incremental") == 0
    assert before.value("phasesync_chore_failures_total", chore="beat") == 0
    assert before.value("phasesync_chore_failures_total", chore="heartbeat") is None, "a step of beat"


def test_a_round_is_counted_by_its_result(metrics: Metrics) -> None:
    metrics.round_ended("poll", False)
    metrics.round_ended("poll", False)
    metrics.round_ended("beat", True)

    seen = read(metrics)
    assert seen.value("phasesync_chore_failures_total", chore="poll") == 2
    assert seen.value("phasesync_chore_last_success_timestamp_seconds", chore="poll") is None
    at = seen.value("phasesync_chore_last_success_timestamp_seconds", chore="beat")
    assert at is not None and at > 1_700_000_000


def test_openmetrics_has_ids_of_runs_as_exemplars(metrics: Metrics) -> None:
    CountEvents(metrics).emit(RUN)

    answer = expose(metrics.registry, accept=OPENMETRICS, accept_encoding="")
    assert answer.content_type.startswith("application/openmetrics-text")
    seen = Scrape(answer.content.decode(), is_openmetrics=True)
    exemplars: list[Any] = [
        sample.exemplar
        for name in ("phasesync_sync_lag_seconds", "phasesync_runs", "phasesync_run_duration_seconds")
        for sample in seen.families[name].samples
        if sample.exemplar is not None
    ]
    assert [one.labels for one in exemplars] == [{"run_id": RUN.run_id}] * 3
    assert "run_id" not in read(metrics).text, "the older form has no place for them"


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("gzip, deflate", True), ("br;q=1.0, GZIP;q=0.5", True), ("gzip;q=0", False), ("", False)],
)
def test_an_answer_is_compressed_for_those_who_accept_it(metrics: Metrics, accepted: str, compressed: bool) -> None:
    answer = expose(metrics.registry, accept="", accept_encoding=accepted)

    assert (answer.encoding == "gzip") is compressed
    text = gzip.decompress(answer.content) if compressed else answer.content
    assert b"phasesync_build_info{" in text and b'version="1.2.3"' in text


def test_several_sinks_get_every_event_in_order() -> None:
    seen: list[tuple[str, Event]] = []

    class Sink:
        def __init__(self, name: str) -> None:
            self.name = name

        def emit(self, event: Event) -> None:
            seen.append((self.name, event))

    SeveralSinks(Sink("log"), Sink("count")).emit(RUN)

    assert seen == [("log", RUN), ("count", RUN)]
