"""
Settings -> wired application. The one place that names concrete classes.

Nothing here decides anything, and nothing below it may import it.
"""

from phasesync.bootstrap.application import Application
from phasesync.bootstrap.machinery import LIVE_SETTINGS, Machinery, build_machinery
from phasesync.bootstrap.opening import (
    Initialised,
    find_instance_id,
    find_root_key,
    initialise_application,
    migrate_application,
    open_application,
    restore_application,
)

__all__ = [
    "LIVE_SETTINGS",
    "Application",
    "Initialised",
    "Machinery",
    "build_machinery",
    "find_instance_id",
    "find_root_key",
    "initialise_application",
    "migrate_application",
    "open_application",
    "restore_application",
]
