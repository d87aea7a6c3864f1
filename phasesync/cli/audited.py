"""
Writes to the audit log what a command did, or was refused, that works without an open installation: backups, copies,
migrations.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from phasesync.cli.dry_run import is_dry_run
from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output
from phasesync.core.audit import AuditKind
from phasesync.errors import InvalidInputError, PhasesyncError

if TYPE_CHECKING:
    from phasesync.settings import Settings


P = ParamSpec("P")
R = TypeVar("R")


def with_refusals(command: Callable[P, R]) -> Callable[P, R]:
    """
    Have the refused and failed attempts of a command written, as those of commands `with_application` are.

    Only if the database and its key can be opened: otherwise there is no log to write to. Wrong usage is none of it.
    """

    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except InvalidInputError:
            raise
        except PhasesyncError as error:
            if not is_dry_run():
                _note_refused(error)
            raise

    return update_wrapper(wrapper, command)


def _note_refused(error: PhasesyncError) -> None:
    from phasesync.bootstrap import command_caller, open_application
    from phasesync.cli.refusals import write_refusals

    with (
        suppress(PhasesyncError),
        open_application(invocation().settings().settings, caller=command_caller(invocation().actor)) as application,
    ):
        write_refusals(application, {_DATABASE: error})


_DATABASE = "database"


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
            application.store.audit.add(action, _DATABASE, kind=kind, details=details)
    except PhasesyncError as error:
        out.warn(f"this is not in the audit log: {error.message}")
