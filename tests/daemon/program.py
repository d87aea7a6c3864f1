"""
A daemon of fakes as a process of its own: `python -m tests.daemon.program SETTINGS.toml [SWITCH …]`.

Switches: `hang` (a run with a thread that never ends), `stuck-poll`. On stdout: what the fakes saw, one JSON document.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from phasesync.adapters.telemetry.logging import configure_logging
from phasesync.adapters.telemetry.metrics import Metrics
from phasesync.daemon.service import run_daemon
from phasesync.errors import PhasesyncError
from phasesync.settings import load_settings
from tests.daemon.fakes import World, a_claim


def main(config: str, *switches: str) -> int:
    world = World()
    loaded = load_settings(Path(config))
    configure_logging(level=loaded.settings.log.level, format="json", queued=True)
    if "hang" in switches:
        world.claims, world.hang_in_work = [a_claim()], True
        threading.Thread(target=threading.Event().wait).start()
    if "stuck-poll" in switches:
        world.hang_in_poll = True
    try:
        code = run_daemon(
            loaded=loaded,
            reload=lambda: load_settings(Path(config)),
            schema_status=world.schema_status,
            build=world.build,
            events=world,
            metrics=Metrics(version="test"),
        )
    except PhasesyncError as error:
        print(error.message)
        return error.exit_code
    print(json.dumps({"members": sorted(world.members), "claims": len(world.claims), "closed": world.closed}))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
