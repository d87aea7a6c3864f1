"""Commands of `phasesync syncs` that look closely and change nothing: why, verify."""

from typing import TYPE_CHECKING, Any

import click

from phasesync.cli.failures import one_line
from phasesync.cli.invocation import with_application
from phasesync.cli.output import Output, instant, output_option
from phasesync.cli.sync_options import name_argument

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.explain import ObjectWhy
    from phasesync.engine.explanation import Explanation

_SHOWN = 20
"""So many remote objects are explained one by one."""


@click.command(short_help="Explain how a sync stands, and what a run would decide.")
@name_argument
@output_option
@with_application
def why(application: "Application", name: str, out: Output) -> None:
    """
    Explain how a sync stands and what a run would decide on each AWS secret, and from what. Writes nothing.

    \b
    Example:
      phasesync syncs why shop-production
    """
    explained = application.explainer.explain(name)
    if out.as_json:
        out.document(why_document(explained))
    else:
        _show_why(explained)


@click.command(short_help="Compare the values at AWS with the store's.")
@name_argument
@output_option
@with_application
def verify(application: "Application", name: str, out: Output) -> int:
    """
    Read the values at AWS and say whether they are what the store wants. Shows no value; exit 1 where one is not, 7
    where AWS did not let us read.

    Needs the right to read values, which nothing else here needs: phasesync aws policy SYNC --with-import.

    \b
    Example:
      phasesync syncs verify shop-production
    """
    from phasesync.cli.identity import tell_identity

    verified = application.verification.verify(name)
    tell_identity(application, application.credentials.get_by_id(verified.sync.credential_id), out)
    rows = [
        {"remote_name": one.remote_name, "result": str(one.result), "reason": one.reason} for one in verified.objects
    ]
    if out.as_json:
        out.document({"sync": verified.sync.name, "objects": rows})
    else:
        out.items(rows, ["remote_name", "result", "reason"], empty="there is nothing to compare")
    for hint in dict.fromkeys(one.hint for one in verified.objects if one.hint):
        out.say(f"hint: {hint}")
    if verified.undecided:
        return 7
    return 0 if verified.all_same else 1


def why_document(explained: "Explanation") -> dict[str, Any]:
    """Return an explanation as `syncs why -o json` prints it."""
    sync, run, problem = explained.sync, explained.last_run, explained.problem
    return {
        "sync": sync.name,
        "status": str(explained.status),
        "reasons": list(explained.reasons),
        "account": sync.account,
        "credential": {"name": sync.credential, "status": str(explained.credential)},
        "pending": sync.pending,
        "failures": sync.failures,
        "retry_at": sync.retry_at,
        "next_due_at": sync.next_due_at,
        "last_run": None
        if run is None
        else {
            "id": run.id,
            "outcome": str(run.outcome),
            "ended_at": run.ended_at,
            "error": None
            if run.error is None
            else {"class": run.error.cls, "message": run.error.message, "hint": run.error.hint},
        },
        "problem": None
        if problem is None
        else {"class": problem.cls, "message": problem.message, "hint": problem.hint},
        "objects": [_object_document(one) for one in explained.objects],
    }


def _object_document(one: "ObjectWhy") -> dict[str, Any]:
    return {
        "remote_name": one.remote_name,
        "reported": one.reported,
        "ownership": one.ownership,
        "evidence": list(one.evidence),
        "row": one.row,
        "decision": one.decision,
        "reason": one.reason,
        "held": one.held,
        "held_reason": one.held_reason,
        "delayed_until": one.delayed_until,
        "budget": {"used_24h": one.budget.used_24h, "left": one.budget.left, "next_at": one.budget.next_at},
        "differs": dict(one.differs),
        "grace_until": one.grace_until,
        "warning": one.warning,
        "repaired_24h": one.repaired_24h,
        "contested": one.contested,
    }


def _show_why(explained: "Explanation") -> None:
    from phasesync.core.explain import worth_showing

    click.echo(explained.sync.name)
    for line in explained.reasons:
        click.echo(f"  {one_line(line)}")
    run = explained.last_run
    if explained.problem is None and run is not None and run.error is not None and run.error.hint:
        click.echo(f"  hint: {one_line(run.error.hint)}")
    if explained.problem is not None:
        click.echo(f"  a run would end at once: {one_line(explained.problem.message)}")
        if explained.problem.hint:
            click.echo(f"  hint: {one_line(explained.problem.hint)}")
    every = len(explained.objects) <= _SHOWN
    shown = [one for one in explained.objects if every or worth_showing(one)][:_SHOWN]
    for one in shown:
        _show_object(one)
    if left := len(explained.objects) - len(shown):
        click.echo(f"\n... and {left} more AWS secrets: -o json has them all")


def _show_object(one: "ObjectWhy") -> None:
    lines = [
        ("AWS reports", one.reported),
        ("ownership", f"{one.ownership}: {'; '.join(one.evidence)}" if one.evidence else one.ownership),
        ("row", one.row),
        ("decision", f"{one.decision or 'none'}: {one.reason}"),
        ("held", f"{one.held}: {one.held_reason}" if one.held else None),
        ("delayed", f"until {instant(one.delayed_until)}, by the version budget" if one.delayed_until else None),
        ("differs", ", ".join(f"{what} (changed by {_who(who)})" for what, who in one.differs.items()) or None),
        ("deleted after", instant(one.grace_until) if one.grace_until else None),
        ("warning", one.warning),
        ("versions", _budget(one)),
        ("drift", f"repaired {_times(one.repaired_24h)} in 24 h" + (": contested" if one.contested else "")),
    ]
    click.echo(f"\n{one_line(one.remote_name)}")
    for title, text in lines:
        if text is not None and not (title == "drift" and not one.repaired_24h):
            click.echo(f"  {title:<14}{one_line(text)}")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _who(who: str) -> str:
    return "somebody else" if who == "outside" else "the sync's settings"


def _budget(one: "ObjectWhy") -> str:
    later = f", the next one after {instant(one.budget.next_at)}" if one.budget.next_at else ""
    return f"{one.budget.used_24h} written in 24 h, {one.budget.left} left at once{later}"
