"""
Traces of runs by OpenTelemetry, if its standard variables ask for them; otherwise nothing of it is imported.

OTEL_TRACES_EXPORTER=otlp, or an endpoint in OTEL_EXPORTER_OTLP_ENDPOINT, switches them on; OTEL_SDK_DISABLED=true off.
Sampler, headers, limits and certificates are the SDK's own variables (OpenTelemetry specification, "Environment
Variable Specification"). Spans are exported by a thread of the SDK: a collector that is slow or gone costs spans, and
holds no run. An exception is noted as its class alone, since texts of exceptions may name keys.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final, cast

from phasesync import __version__
from phasesync.adapters.telemetry.logging import class_name, get_logger
from phasesync.errors import PhasesyncError
from phasesync.ports.tracing import Fact, Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span as OtelSpan

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_NAMES: Final = {
    # fact of a run -> attribute; the names of OpenTelemetry's semantic conventions where it has them
    "region": "cloud.region",
    "account": "cloud.account.id",
    "error": "error.type",
}
_WELL: Final = ("ok", "not-found")
"""Results of requests that are no failure of the run."""
_QUEUE: Final = logging.getLogger("opentelemetry.sdk._shared_internal")
"""The SDK's logger that says each minute that its queue is full."""


class OpenTelemetryTracer:
    """A tracer that hands its spans to an exporter. Safe to share between threads."""

    def __init__(self, exporter: "SpanExporter") -> None:
        """
        Args:
            exporter: takes spans in batches, in a thread of the SDK.
        """
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.version": __version__})
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "phasesync"}))
        # The end of the process must not wait for a collector; `close` does, within a limit.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(cast("SpanExporter", _ToldExporter(exporter))))
        self._tracer = self._provider.get_tracer("phasesync", __version__)

    def span(self, name: str, **facts: Fact) -> AbstractContextManager[Span]:
        """Return a part that begins and ends with the block; its parent is the one of this thread."""
        return self._span(name, facts)

    @contextmanager
    def _span(self, name: str, facts: Mapping[str, Fact]) -> Iterator[Span]:
        # Otherwise the SDK would note texts and frames of exceptions.
        with self._tracer.start_as_current_span(
            name, record_exception=False, set_status_on_exception=False
        ) as otel_span:
            span = _Span(otel_span)
            span.note(**facts)
            try:
                yield span
            except BaseException as error:
                kind = type(error).__name__ if isinstance(error, PhasesyncError) else class_name(error)
                span.note(error=kind)
                raise

    def aws_request(self, service: str, operation: str, result: str, took_s: float) -> None:
        """Note a request to AWS that has ended just now, if it belongs to a run; as `RequestReports` reports it."""
        from opentelemetry import trace

        if not trace.get_current_span().is_recording():
            return
        ended_at = time.time_ns()
        span = self._tracer.start_span(
            f"{service}/{operation}",
            kind=trace.SpanKind.CLIENT,
            start_time=ended_at - int(took_s * 1e9),
            attributes={
                "rpc.system": "aws-api",
                "rpc.service": service,
                "rpc.method": operation,
                "phasesync.result": result,
            },
        )
        if result not in _WELL:
            span.set_attribute("error.type", result)
            span.set_status(trace.StatusCode.ERROR)
        span.end(ended_at)

    def close(self, within_s: float) -> None:
        """Export what is left, for so long at most; spans that the collector does not take by then are lost."""
        thread = threading.Thread(target=self._provider.shutdown, name="close-traces", daemon=True)
        thread.start()
        thread.join(max(0.0, within_s))


class _ToldExporter:
    """
    Tells the log once that a collector takes no spans, and once that it takes them again.

    The loggers of the exporters are silent (`logging.py`): they write a line, or several, for each batch. Called by one
    thread at a time.
    """

    def __init__(self, exporter: "SpanExporter") -> None:
        self._exporter = exporter
        self._failing = False

    def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
        """Export a batch; an exception of the exporter counts as a failure, and its text is not looked at."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        begun = time.monotonic()
        error = None
        try:
            result = self._exporter.export(spans)
        except Exception as raised:  # noqa: BLE001 -- of a library: it costs this batch and nothing else
            result, error = SpanExportResult.FAILURE, class_name(raised)
        self._tell(result is not SpanExportResult.SUCCESS, round(time.monotonic() - begun, 1), error)
        return result

    def _tell(self, failing: bool, took_s: float, error: str | None) -> None:
        if failing == self._failing:
            return
        self._failing = failing
        log = get_logger("phasesync.traces")
        if failing:
            log.warning(
                "traces are lost until the collector takes them: check that it runs, OTEL_EXPORTER_OTLP_ENDPOINT and "
                "…_HEADERS",
                took_s=took_s,
                **({} if error is None else {"error": error}),
            )
        else:
            log.info("the collector takes traces again")
        _QUEUE.setLevel(logging.CRITICAL if failing else logging.NOTSET)

    def shutdown(self) -> None:
        """Close the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what the exporter keeps, within so many milliseconds."""
        return self._exporter.force_flush(timeout_millis)


class _Span:
    def __init__(self, span: "OtelSpan") -> None:
        self._span = span

    def note(self, **facts: Fact) -> None:
        """Set attributes; an error also sets the status."""
        from opentelemetry.trace import StatusCode

        for name, value in facts.items():
            if value is not None:
                self._span.set_attribute(_NAMES.get(name, f"phasesync.{name}"), value)
        if facts.get("error") is not None:
            self._span.set_status(StatusCode.ERROR)


def open_tracer(environ: Mapping[str, str]) -> OpenTelemetryTracer | None:
    """Return a tracer if the variables ask for one and it can be had; otherwise None, with a warning in the log."""
    if not is_asked_for(environ):
        return None
    log = get_logger("phasesync.traces")
    if problem := _unsupported(environ):
        log.warning(f"no traces: {problem}")
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        log.warning("no traces: OpenTelemetry is asked for and not installed: pip install 'phasesync[otel]'")
        return None
    try:
        return OpenTelemetryTracer(OTLPSpanExporter())
    except Exception as error:  # noqa: BLE001 -- of a library, for a variable that it cannot read; its text has the value
        log.warning("no traces: OpenTelemetry refuses a variable OTEL_*", error=class_name(error))
        return None


def is_asked_for(environ: Mapping[str, str]) -> bool:
    """Return whether the standard variables ask for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if exporter := environ.get("OTEL_TRACES_EXPORTER", "").strip().lower():
        return exporter != "none"
    return any(environ.get(name, "").strip() for name in _ENDPOINTS)


def _unsupported(environ: Mapping[str, str]) -> str | None:
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if exporter != "otlp":
        return "OTEL_TRACES_EXPORTER has to be otlp or none"
    for name in _PROTOCOLS:
        if protocol := environ.get(name, "").strip().lower():
            return None if protocol == "http/protobuf" else f"{name} has to be http/protobuf"
    return None
