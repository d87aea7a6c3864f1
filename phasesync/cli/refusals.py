"""
Writes attempts to the audit log that ended with an error, whatever the command: one place for all of them.

Commands that only read are left out, unless they reveal something. So are wrong usage, which ends before the database
is opened, and rehearsals.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from phasesync.cli.dry_run import is_dry_run
from phasesync.cli.streams import one_line, print_to_stderr, styled
from phasesync.core.audit import NAMES_IN_LOG, AuditKind, AuditOutcome
from phasesync.errors import ApprovalNeededError, Disposition, PhasesyncError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application

_NOUNS: Final = {
    "apps": "app",
    "envs": "environment",
    "secrets": "secret",
    "credentials": "credential",
    "syncs": "sync",
    "leases": "lease",
    "notifications": "notification",
    "keys": "key",
}
"""Groups of commands whose noun is a plural -> the noun in the audit log."""

_SINGLE: Final = {"apply": "project.apply", "run": "secret.run", "rebuild": "installation.rebuild"}
"""Commands without a group -> their action."""

_REVEALING: Final = frozenset({"secret.reveal", "secret.export", "sync.verify", "audit.export", "key.escrow"})
"""Actions of commands that change nothing, and whose failed attempts are written nevertheless."""

_OBJECTS: Final = ("environment", "name", "names", "sync", "dynamic", "credential", "lease", "lease_id", "app", "old")
"""Parameters that say what a command is about, the first that it has."""

_LONGEST: Final = 200
"""Characters of an object that somebody typed."""


def write_refusal(application: "Application", error: PhasesyncError) -> None:
    """Write that the command of this process was refused or failed. A failure to do so is a warning."""
    write_refusals(application, {_object_of(click.get_current_context()): error})


def write_refusals(application: "Application", errors: Mapping[str, PhasesyncError]) -> None:
    """Write the same of several objects of one command: name -> what was wrong with it."""
    context = click.get_current_context()
    action = action_of(context)
    details = _keys_of(context)
    writes = any(parameter.name == "dry_run" for parameter in context.command.params)
    if is_dry_run() or not errors or not (writes or action in _REVEALING):
        return
    try:
        with application.store.database.transaction():
            for name, error in errors.items():
                application.store.audit.add(
                    action,
                    name,
                    kind=AuditKind.REFUSAL,
                    outcome=_outcome_of(error),
                    details={"error": type(error).__name__, **details},
                )
    except PhasesyncError as failure:
        line = f"this attempt is not in the audit log: {one_line(failure.message)}"
        print_to_stderr(f"{styled('warning:', fg='yellow')} {line}")


def _outcome_of(error: PhasesyncError) -> AuditOutcome:
    if isinstance(error, ApprovalNeededError):
        return AuditOutcome.HELD
    return AuditOutcome.REFUSED if error.disposition is Disposition.HALT else AuditOutcome.FAILED


def action_of(context: click.Context) -> str:
    """Return the action of a command in the audit log: `secrets set` is `secret.set`."""
    *_, group, command = ["", *context.command_path.split(" ")]
    if not group or group == "phasesync":
        return _SINGLE.get(command, command)
    if (group, command) == ("secrets", "get") and context.params.get("reveal"):
        return "secret.reveal"
    if (group, command) == ("db", "backup") and (every := context.params.get("every")) is not None:
        return "db.unschedule-backup" if every == "off" else "db.schedule-backup"
    return f"{_NOUNS.get(group, group)}.{command}"


def _object_of(context: click.Context) -> str:
    """Return what a command is about, as it was typed; never a key of a secret, nor a remote name."""
    if context.command_path.endswith(" aws force-delete"):
        return _shown(context.params.get("credential"))
    for name in _OBJECTS:
        if context.params.get(name):
            return _shown(context.params[name])
    return "-"


def _keys_of(context: click.Context) -> dict[str, Any]:
    """Return the keys of secrets that a command was about, as a reveal has them; they are stored encrypted."""
    params = context.params
    keys = [params["key"]] if params.get("key") else list(params.get("keys") or ())
    if context.command_path.split(" ")[1:2] != ["secrets"] or not keys:
        return {}
    names = sorted(keys)
    return {"path": params.get("path"), "keys": names[:NAMES_IN_LOG], "count": len(names)}


def _shown(value: object) -> str:
    match value:
        case (str(app), str(environment)):
            text = f"{app}/{environment}"
        case list() | tuple():
            text = ", ".join(map(str, value))
        case _:
            text = str(value or "-")
    return one_line(text)[:_LONGEST]
