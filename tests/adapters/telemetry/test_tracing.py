"""Traces: when they are on, what a run looks like in them, and that they hold nobody up and tell no secret."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from phasesync.adapters.telemetry import tracing
from phasesync.adapters.telemetry.tracing import OpenTelemetryTracer, is_asked_for, open_tracer
from phasesync.core.sync import Trigger
from phasesync.errors import PermissionDeniedError
from tests.support.receivers import HttpReceiver
from tests.support.world import NAME, World

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the machine that tests run on."""
    import os

    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


# --- on and off


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", **ENDPOINT}, False),
        ({"OTEL_SDK_DISABLED": "true", **ENDPOINT}, False),
        ({"OTEL_SDK_DISABLED": "false", **ENDPOINT}, True),
        ({"OTEL_SERVICE_NAME": "phasesync"}, False),
    ],
)
def test_traces_are_on_if_the_standard_variables_ask_for_them(environ: dict[str, str], asked: bool) -> None:
    """An exporter or an endpoint."""
    assert is_asked_for(environ) is asked


def test_without_being_asked_nothing_of_opentelemetry_is_imported() -> None:
    """Nobody pays for what is off: neither for the tracer nor for a run."""
    program = (
        "import sys\n"
        "import phasesync.engine.reconcile, phasesync.daemon.build\n"
        "from phasesync.adapters.telemetry.tracing import open_tracer\n"
        "assert open_tracer({}) is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_the_extra_one_warning_names_it(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """The daemon works without traces."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    assert open_tracer(ENDPOINT) is None
    (line,) = lines()
    assert line["level"] == "warning"
    assert "pip install 'phasesync[otel]'" in line["event"]


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER has to be otlp or none"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", **ENDPOINT}, "OTEL_EXPORTER_OTLP_PROTOCOL has to be http/protobuf"),
    ],
)
def test_what_is_not_supported_is_told_and_the_daemon_works_without(
    environ: dict[str, str], says: str, lines: Lines
) -> None:
    """In one line."""
    assert open_tracer(environ) is None
    assert [says in line["event"] for line in lines()] == [True]


def test_a_variable_that_the_sdk_cannot_read_is_no_reason_to_end(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """And its value is not shown."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-5")

    assert open_tracer(ENDPOINT) is None
    (line,) = lines()
    assert "refuses a variable" in line["event"] and "-5" not in str(line)


def test_the_service_is_phasesync_unless_a_variable_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the specification has it."""

    def service() -> object:
        tracer = OpenTelemetryTracer(InMemorySpanExporter())
        tracer.close(5)
        return tracer._provider.resource.attributes["service.name"]

    assert service() == "phasesync"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=secrets,team=x")
    assert service() == "secrets"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "eu-secrets")
    assert service() == "eu-secrets"


# --- the shape of a run


class Traced:
    """A world whose runs are traced."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.exporter = InMemorySpanExporter()
        self.tracer = OpenTelemetryTracer(self.exporter)
        world.context = replace(world.context, tracer=self.tracer)

    def spans(self) -> list[ReadableSpan]:
        """Return the spans that have ended, in the order of their beginnings."""
        self.tracer._provider.force_flush()
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)


@pytest.fixture
def traced(world: World) -> Iterator[Traced]:
    made = Traced(world)
    yield made
    made.tracer.close(5)


def test_a_run_is_one_trace_with_its_parts_in_their_order(traced: Traced) -> None:
    """And the run says what it was about and how it ended."""
    run = traced.world.run(Trigger.CHANGE)
    spans = traced.spans()
    root = spans[0]

    assert [span.name for span in spans] == ["run", "claim", "read", "observe", "plan", "apply", "record"]
    assert root.parent is None
    assert [span.parent == root.get_span_context() for span in spans[1:]] == [True] * 6
    assert dict(root.attributes or {}) == {
        "phasesync.trigger": "change",
        "phasesync.sync": "web",
        "phasesync.run": run.id,
        "phasesync.outcome": "applied",
        "phasesync.status": "in-sync",
        "phasesync.revision": 1,
        "phasesync.aws_calls": run.aws_calls,
        "phasesync.versions_written": 1,
        "phasesync.changes.create": 1,
        "cloud.region": traced.world.sync.region,
        "cloud.account.id": traced.world.sync.account,
    }
    assert root.status.status_code is StatusCode.UNSET
    assert dict(spans[4].attributes or {}) == {"phasesync.changes": 1, "phasesync.held": 0, "phasesync.delayed": 0}


def test_a_failed_run_has_the_class_of_its_error_and_no_text(traced: Traced) -> None:
    """Texts of errors may name keys."""
    traced.world.destinations.fail("create", error=PermissionDeniedError(f"no {NAME}", code="AccessDenied"))
    traced.world.run()
    root = traced.spans()[0]

    assert root.status.status_code is StatusCode.ERROR
    assert (root.attributes or {})["error.type"] == "PermissionDeniedError"
    assert (root.attributes or {})["phasesync.code"] == "AccessDenied"
    assert not root.status.description and not root.events


def test_a_part_that_an_exception_ends_has_its_class_and_no_text(traced: Traced) -> None:
    """Neither text nor frames."""
    with pytest.raises(ZeroDivisionError), traced.tracer.span("read"):
        raise ZeroDivisionError("kanarienvogel")
    (span,) = traced.spans()

    assert (span.attributes or {})["error.type"] == "ZeroDivisionError"
    assert span.status.status_code is StatusCode.ERROR
    assert not span.events and "kanarienvogel" not in span.to_json()


def test_a_request_to_aws_belongs_to_the_part_that_made_it(traced: Traced) -> None:
    """With when it was sent; one outside of a run is in no trace."""
    traced.tracer.aws_request("sts", "GetCallerIdentity", "ok", 0.1)
    with traced.tracer.span("observe"):
        traced.tracer.aws_request("secretsmanager", "DescribeSecret", "not-found", 0.25)
        traced.tracer.aws_request("secretsmanager", "DescribeSecret", "throttled", 0.01)
    spans = {(span.attributes or {}).get("phasesync.result"): span for span in traced.spans()}
    found, throttled, part = spans["not-found"], spans["throttled"], spans[None]

    assert len(spans) == 3
    assert found.name == "secretsmanager/DescribeSecret" and found.kind is SpanKind.CLIENT
    assert found.parent == part.get_span_context()
    assert ((found.end_time or 0) - (found.start_time or 0)) / 1e9 == pytest.approx(0.25)
    assert found.status.status_code is StatusCode.UNSET
    assert throttled.status.status_code is StatusCode.ERROR


def test_no_span_has_a_value_a_key_or_a_remote_name(traced: Traced) -> None:
    """Whatever the runs meet; the name of a sync is no secret."""
    world = traced.world
    world.edit(KANARIENVOGEL="kanarienvogel-value")
    world.run(Trigger.CHANGE)
    world.remote.objects.clear()
    world.destinations.fail("create", error=PermissionDeniedError(f"{NAME}: KANARIENVOGEL is kanarienvogel-value"))
    world.run()
    spans = traced.spans()
    text = "".join(span.to_json() for span in spans)

    assert len(spans) > 10
    assert "kanarienvogel" not in text.lower()
    assert NAME not in text
    traced.tracer._tracer.start_span(NAME).end()
    assert NAME in traced.spans()[-1].to_json(), "otherwise the search finds nothing"


# --- a collector that is gone


class Hanging(SpanExporter):
    """Takes a batch and does not come back, until the test ends."""

    def __init__(self) -> None:
        self.asked, self.released = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.released.wait(30)
        return SpanExportResult.FAILURE


@pytest.mark.usefixtures("lines")
def test_a_collector_that_hangs_holds_neither_a_run_nor_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its spans are lost."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    exporter = Hanging()
    tracer = OpenTelemetryTracer(exporter)
    try:
        world.context = replace(world.context, tracer=tracer)
        with tracer.span("run"):
            pass
        assert exporter.asked.wait(10)
        world.run()
        begun = time.monotonic()
        tracer.close(0.1)
        assert time.monotonic() - begun < 5
    finally:
        exporter.released.set()


def test_an_exporter_that_raises_disturbs_no_run_and_its_text_is_in_no_line(world: World, lines: Lines) -> None:
    """Texts of exceptions have URLs with passwords."""

    class Raising(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            raise ConnectionError("http://user:kanarienvogel@collector")

    tracer = OpenTelemetryTracer(Raising())
    world.context = replace(world.context, tracer=tracer)
    run = world.run()
    tracer.close(5)

    assert run.versions_written == 1
    assert [(line["level"], line.get("error")) for line in lines()] == [("warning", "ConnectionError")]
    assert "kanarienvogel" not in str(lines())


@pytest.mark.parametrize("gone", ["answers with an error", "does not answer"])
def test_a_collector_is_told_of_once_when_it_fails_and_once_when_it_works_again(
    gone: str, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """However many batches are lost meanwhile, and however many spans do not fit into the queue."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "2")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")

    def trace(count: int) -> None:
        for _ in range(count):
            with tracer.span("run"):
                pass
        tracer._provider.force_flush()

    with HttpReceiver() as collector:
        collector.status = 503 if gone == "answers with an error" else 200
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
        tracer = OpenTelemetryTracer(OTLPSpanExporter())
        if gone == "does not answer":
            collector.answers.clear()
        trace(1)
        trace(20)
        trace(1)
        told = lines()
        assert [line["level"] for line in told] == ["warning"], told
        assert "traces are lost until the collector takes them" in told[0]["event"]
        assert (told[0]["took_s"] >= 0.2) == (gone == "does not answer")

        collector.status = 200
        collector.answers.set()
        trace(1)
        assert [line["event"] for line in lines()[1:]] == ["the collector takes traces again"]
        tracer.close(5)


def test_the_module_names_no_type_of_opentelemetry_at_its_import() -> None:
    """It is imported by every daemon."""
    assert not [name for name in vars(tracing) if name.lower().startswith(("otel", "opentelemetry."))]
