"""
Settings -> wired application. The one place that names concrete classes.

Nothing here decides anything, and nothing below it may import it.
"""

from phasesync.bootstrap.app import Application
from phasesync.bootstrap.open import (
    Initialised,
    find_instance_id,
    find_root_key,
    initialise_application,
    migrate_application,
    open_application,
    restore_application,
)

__all__ = [
    "Application",
    "Initialised",
    "find_instance_id",
    "find_root_key",
    "initialise_application",
    "migrate_application",
    "open_application",
    "restore_application",
]
