"""`phasesync daemon`: keeps AWS in step, until a signal stops it."""

import os
from functools import partial

import click

from phasesync.cli.imports import no_collection
from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output, output_option


@click.command()
@output_option
def daemon(out: Output) -> int:
    """
    Keep AWS in step with the store, until SIGTERM or Ctrl-C. SIGHUP reads the settings again. Logs to stderr.

    \b
    Example:
      phasesync daemon
    """
    with no_collection("phasesync.daemon.service"):
        from phasesync import __version__
        from phasesync.adapters.telemetry.count_events import CountEvents
        from phasesync.adapters.telemetry.log_events import LogEvents
        from phasesync.adapters.telemetry.logging import configure_logging
        from phasesync.adapters.telemetry.metrics import Metrics
        from phasesync.adapters.telemetry.several_sinks import SeveralSinks
        from phasesync.adapters.telemetry.tracing import open_tracer
        from phasesync.bootstrap import schema_status
        from phasesync.daemon.build import build_components
        from phasesync.daemon.service import run_daemon
        from phasesync.settings import load_settings

    config = invocation().config
    loaded = load_settings(config)
    configure_logging(level=loaded.settings.log.level, format=loaded.settings.log.format, queued=True)
    metrics = Metrics(version=__version__)
    return run_daemon(
        loaded=loaded,
        reload=lambda: load_settings(config),
        schema_status=lambda: schema_status(loaded.settings),
        build=partial(build_components, tracer=open_tracer(os.environ)),
        events=SeveralSinks(LogEvents(), CountEvents(metrics)),
        metrics=metrics,
    )
