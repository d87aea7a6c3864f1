"""
Settings -> wired application. The one place that names concrete classes.

Nothing here decides anything, and nothing below it may import it.
"""

from phasesync.bootstrap.app import Application
from phasesync.bootstrap.backups import (
    back_up_database,
    backup_at_hand,
    drill_backup,
    preview_restoration,
    read_backup_schedules,
    restore_database,
    verify_backup,
)
from phasesync.bootstrap.callers import command_caller, daemon_caller
from phasesync.bootstrap.open import (
    InitResult,
    check_migration,
    copy_database,
    initialise_installation,
    load_instance_id,
    migrate_database,
    open_application,
    preview_copy,
    preview_installation,
    preview_migration,
    schema_status,
    unretire_database,
)

__all__ = [
    "Application",
    "InitResult",
    "back_up_database",
    "backup_at_hand",
    "check_migration",
    "command_caller",
    "copy_database",
    "daemon_caller",
    "drill_backup",
    "initialise_installation",
    "load_instance_id",
    "migrate_database",
    "open_application",
    "preview_copy",
    "preview_installation",
    "preview_migration",
    "preview_restoration",
    "read_backup_schedules",
    "restore_database",
    "schema_status",
    "unretire_database",
    "verify_backup",
]
