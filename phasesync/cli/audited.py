"""Writes to the audit log what a command did that works without an open installation: backups, copies, migrations."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output
from phasesync.core.audit import AuditKind
from phasesync.errors import PhasesyncError

if TYPE_CHECKING:
    from phasesync.settings import Settings


def note_done(
    settings: "Settings", action: str, *, kind: AuditKind = AuditKind.CHANGE, details: Mapping[str, Any], out: Output
) -> None:
    """
    Write that something was done to the database of some settings, or with it.

    It is done already, so a failure to write that, for want of the root key for example, is a warning.
    """
    from phasesync.bootstrap import command_caller, open_application

    try:
        with open_application(settings, caller=command_caller(invocation().actor)) as application:
            application.store.audit.add(action, "database", kind=kind, details=details)
    except PhasesyncError as error:
        out.warn(f"this is not in the audit log: {error.message}")
