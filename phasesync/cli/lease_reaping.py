"""`phasesync leases reap`: users at AWS that carry our tag and that no lease wants."""

from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.input import confirm, confirmation_options
from phasesync.cli.invocation import invocation, with_application
from phasesync.cli.output import Output, output_option
from phasesync.cli.params import Name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from phasesync.bootstrap import Application
    from phasesync.engine.reaping import Stray

_WHY = {
    "left-over": "its lease has ended",
    "overdue": "no lease of this database, and its time is over",
    "unknown": "no lease of this database; left alone until the end that its tag names",
}


@click.command()
@click.option(
    "--credential", type=Name("credential"), help="Credential to look with. Default: those of all dynamic secrets."
)
@confirmation_options
@output_option
@with_application
def reap(application: "Application", credential: str | None, yes: bool, no_input: bool, out: Output) -> int:
    """
    Remove users at AWS that carry our tag and that no lease wants: shows them first. The daemon does it once a day.

    \b
    Example:
      phasesync leases reap --yes
    """
    from phasesync.cli.identity import tell_identity
    from phasesync.errors import OperatorError, PhasesyncError
    from phasesync.ports import Found

    looks = application.reaper.look(credential)
    failure: PhasesyncError | None = None
    for look in looks:
        if look.account is not None:
            tell_identity(application, application.credentials.get(look.credential), out)
        if look.error is not None:
            out.warn(f"{look.credential}: {look.error.message}")
            failure = look.error
    strays = [stray for look in looks for stray in look.strays]
    going = [stray for stray in strays if stray.goes]
    if not out.as_json:
        columns = ["user", "account", "lease", "max_expires_at", "fate", "why"]
        out.items(
            map(_document, strays), columns, empty="nothing to remove: no user at AWS is left of a lease that is over"
        )
    results: dict[str, str] = {}
    if going:
        users = "1 user" if len(going) == 1 else f"{len(going)} users"
        try:
            confirm(f"remove {users} with their keys", yes=yes, no_input=no_input)
        except OperatorError:
            if out.as_json:  # What would go is said in any case, as the table is.
                out.document(_listed(strays, {}))
            raise
        for stray, result in application.reaper.remove(going, actor=invocation().actor):
            if isinstance(result, PhasesyncError):
                out.warn(f"{stray.user.name}: {result.message}")
                failure = result
                results[stray.user.arn] = "failed"
            else:
                results[stray.user.arn] = "removed" if result is Found.REMOVED else "gone already"
                if result is Found.THEIRS:
                    results[stray.user.arn] = "left alone"
    removed = sum(result == "removed" for result in results.values())
    if going or out.as_json:
        out.done(f"removed {removed} of {len(going)}", _listed(strays, results))
    return 0 if failure is None else failure.exit_code


def _listed(strays: "Sequence[Stray]", results: "Mapping[str, str]") -> dict[str, Any]:
    items = [_document(stray) | {"result": results.get(stray.user.arn)} for stray in strays]
    return {"items": items, "next": None}


def _document(stray: "Stray") -> dict[str, Any]:
    return {
        "user": stray.user.name,
        "arn": stray.user.arn,
        "account": stray.account,
        "credential": stray.credential,
        "lease": stray.lease_id,
        "max_expires_at": stray.max_expires_at,
        "fate": str(stray.fate),
        "why": _WHY[str(stray.fate)],
    }
