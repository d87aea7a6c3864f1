"""`phasesync daemon`: keeps AWS in step, until told to stop."""

from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING

import click

from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output, output_option

if TYPE_CHECKING:
    from phasesync.daemon.build import Machinery
    from phasesync.daemon.parts import Parts
    from phasesync.settings.model import Settings
    from phasesync.store.migrate import SchemaStatus


@click.command()
@output_option
def daemon(out: Output) -> int:
    """
    Keep AWS in step with the store, until SIGTERM or Ctrl-C. SIGHUP reads the settings again. Logs to stderr.

    \b
    Example:
      phasesync daemon
    """
    from phasesync.adapters.telemetry.log_events import LogEvents
    from phasesync.adapters.telemetry.logging import configure_logging
    from phasesync.daemon.build import LIVE_SETTINGS, build_machinery
    from phasesync.daemon.parts import Parts
    from phasesync.daemon.service import run_daemon
    from phasesync.settings import load_settings
    from phasesync.store.migrate import status as schema_status

    asked = invocation()
    loaded = load_settings(asked.config)
    configure_logging(level=loaded.settings.log.level, format=loaded.settings.log.format, queued=True)
    events = LogEvents()
    working: list[Machinery] = []

    def look() -> "SchemaStatus":
        # A database that is open already is asked directly: a new connection each time would cost more.
        return working[-1].application.schema() if working else schema_status(loaded.settings.database_url)

    def build(current: "Callable[[], Settings]") -> "Parts":
        machinery = build_machinery(current, events)
        working.append(machinery)
        # Beside the start: the first edit after it should not wait for the SDK to load.
        Thread(target=machinery.application.clients.prepare, name="prepare-aws", daemon=True).start()
        return Parts(
            scheduler=machinery.scheduler,
            keeper=machinery.keeper,
            dispatcher=machinery.dispatcher,
            also_draining=(machinery.lease_dispatcher,),
            close=machinery.application.close,
            live=LIVE_SETTINGS,
            warnings=machinery.application.warnings,
        )

    return run_daemon(
        loaded=loaded,
        reload=lambda: load_settings(asked.config),
        look=look,
        build=build,
        events=events,
    )
