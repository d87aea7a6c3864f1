"""Traces of a whole daemon, at a collector that takes them, and at one that never answers."""

from __future__ import annotations

import time

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from phasesync.demo.canary import CANARY_KEY, CANARY_VALUE
from tests.contracts.test_channels import say_nothing
from tests.support.installation import Installation
from tests.support.raw_http import TcpServer
from tests.support.receivers import HttpReceiver

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.parametrize("database_backend", ["sqlite"], indirect=True),
]

TOKEN = "kanarienvogel-token"
"""Of the collector, as operators give it."""


def test_runs_arrive_at_the_collector_with_their_calls_and_without_secrets(installation: Installation) -> None:
    """The last ones at the stop of the daemon: by default a batch is sent every five seconds."""
    installation.add_syncs("web", values={CANARY_KEY: CANARY_VALUE})
    with HttpReceiver() as collector:
        collector.status = 200
        daemon = installation.start_daemon(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}",
            OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{TOKEN}",
            OTEL_BSP_SCHEDULE_DELAY="60000",
        )
        installation.wait_for("web")
        assert daemon.stop() == 0

    assert {request.path for request in collector.requests} == {"/v1/traces"}
    assert collector.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    batches = [ExportTraceServiceRequest.FromString(request.body) for request in collector.requests]
    of_resources = [resource for batch in batches for resource in batch.resource_spans]
    names = {
        attribute.key: attribute.value.string_value
        for resource in of_resources
        for attribute in resource.resource.attributes
    }
    spans = [span for resource in of_resources for scope in resource.scope_spans for span in scope.spans]
    roots = [span for span in spans if span.name == "run"]
    within = {span.name for span in spans if span.trace_id == roots[0].trace_id}
    text = b"".join(request.body for request in collector.requests)

    assert names["service.name"] == "phasesync"
    assert {"run", "claim", "read", "observe", "plan", "apply", "record"} <= within
    assert {"secretsmanager/DescribeSecret", "secretsmanager/CreateSecret"} <= within
    assert b"web" in text
    for secret in (CANARY_VALUE, CANARY_KEY, "shop/web"):
        assert secret.encode() not in text
    assert TOKEN not in daemon.log.read_text()


def test_a_collector_that_never_answers_costs_spans_and_nothing_else(installation: Installation) -> None:
    """The sync comes in step, the stop is clean and in time, and the log has no secret of the collector."""
    installation.add_syncs("web")
    with TcpServer(say_nothing) as collector:
        daemon = installation.start_daemon(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://user:{TOKEN}@127.0.0.1:{collector.port}",
            OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{TOKEN}",
            OTEL_BSP_SCHEDULE_DELAY="100",
        )
        installation.wait_for("web")
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < 7, "shorter than a call in hand may take"

        assert collector.connections
    assert TOKEN not in daemon.log.read_text()
