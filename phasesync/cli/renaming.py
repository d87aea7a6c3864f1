"""Shows which names at AWS a rename changes, and asks before it does."""

from typing import TYPE_CHECKING

import click

from phasesync.cli.input import confirm
from phasesync.core.counted import counted

if TYPE_CHECKING:
    from phasesync.cli.output import Output
    from phasesync.engine.renaming import RenamePlan

_SHOWN = 20
"""Most remote objects that are shown one by one."""


def confirm_rename(plan: "RenamePlan", what: str, out: "Output", *, yes: bool, no_input: bool) -> None:
    """
    Show the remote names that change, and ask; ask nothing if none does.

    ConfirmationRequiredError, OperatorError: not confirmed.
    """
    if plan.objects and not out.as_json:
        shown = plan.objects[:_SHOWN]
        rows = [("sync", "old name", "new name"), *((each.sync, each.old, each.new) for each in shown)]
        widths = [max(len(row[n]) for row in rows) for n in range(2)]
        for sync, old, new in rows:
            click.echo(f"{sync:<{widths[0]}}  {old:<{widths[1]}}  {new}", err=True)
        if (more := len(plan.objects) - len(shown)) > 0:
            out.say(f"and {more:,} more")
    for note in plan.notes:
        out.note(note)
    if plan.objects:
        confirm(
            f"{what}; {counted(len(plan.objects), 'object')} at AWS will be written under new names",
            yes=yes,
            no_input=no_input,
        )


def renamed_document(plan: "RenamePlan | None") -> list[dict[str, str]]:
    """Return the remote names that change, as `apps update` and `envs update` print them."""
    return [] if plan is None else [{"sync": each.sync, "old": each.old, "new": each.new} for each in plan.objects]
